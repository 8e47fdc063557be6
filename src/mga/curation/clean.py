"""A run cleaned again with other thresholds: what it would have kept, as far as no model need be asked.

A run's rows hold every reply whole, so the rules of `expand/clean.py` can look again at all texts that were written.
Rows that ended for a reason of the model's (no pair, no whole reply, no verdict) stay as they are. The rules are
regular expressions and sets of words in Python, so shards are cleaned in processes rather than threads.
"""

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from mga.config import CleaningRules, load_config
from mga.curation.stage import Counts, Stage
from mga.data.corpus_files import Batch, Corpus
from mga.data.documents import InputFile, fingerprint
from mga.data.first_version import row_batches
from mga.data.outcomes import DROPPED_SCHEMA, KEPT_SCHEMA, write_rows
from mga.data.published import check_published
from mga.data.store import read_json, write_json
from mga.errors import InputError, StopError
from mga.expand.boilerplate import Phrases, phrases_of
from mga.expand.clean import clean
from mga.expand.judge import is_judged
from mga.records import Document, Drop, Reformulation
from mga.runs.run import Run

Unjudged = Literal["drop", "keep"]
Row = dict[str, Any]

NOT_BY_RULES = ("repeated_pair", "invalid_pairs", "cut_off", "empty_reply", "no_verdict")
"""Reasons of a run's drops that are neither a rule of cleaning nor a score: only a model could change them."""
PARTS = ("kept", "dropped", "failed")
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """What a row is decided by. `judge` (which rewrites were judged) and `translated` (into another language than the
    document's) are the run's own."""

    rules: CleaningRules
    min_score: int
    judge: str | float
    translated: bool
    unjudged: Unjudged = "drop"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the result, with prints of files in place of their names."""
        phrases = phrases_of(self.rules)
        patterns = phrases.patterns.fingerprint if self.rules.patterns else None
        cleaning = self.rules.model_dump(mode="json") | {"phrases": phrases.fingerprint, "patterns": patterns}
        return {"cleaning": cleaning, "min_score": self.min_score, "unjudged": self.unjudged}


@dataclass(frozen=True, slots=True)
class Figures:
    """A run's rows that were kept or dropped, as the run had them (`before`) and by the new rules (`after`), and the
    tokens of those kept. The `failed` rows are in neither; they stay what they were."""

    before: Counts = field(default_factory=Counts)
    after: Counts = field(default_factory=Counts)
    failed: int = 0
    tokens_before: int = 0
    tokens_after: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(
            self.before + other.before,
            self.after + other.after,
            self.failed + other.failed,
            self.tokens_before + other.tokens_before,
            self.tokens_after + other.tokens_after,
        )

    def as_json(self) -> dict[str, Any]:
        tokens = {"failed": self.failed, "tokens_before": self.tokens_before, "tokens_after": self.tokens_after}
        return {"before": self.before.as_json(), "counts": self.after.as_json(), **tokens}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Figures":
        before, after = Counts.from_json(value["before"]), Counts.from_json(value["counts"])
        return cls(before, after, value["failed"], value["tokens_before"], value["tokens_after"])


def policy_of(
    record: Mapping[str, Any], config: Path | None, flags: Mapping[str, Any], unjudged: Unjudged = "drop"
) -> Policy:
    """The run's own thresholds (`record` is its run.json), over them those of a TOML file ([cleaning] and min_score),
    over them the flags.

    Other settings in the file must be valid and decide nothing here. Raises InputError that names the setting.
    """
    held = record["config"]
    given = load_config(config, flags).model_dump(include={"cleaning", "min_score"}, exclude_unset=True)
    cleaning = held["cleaning"] | given.get("cleaning", {})
    settings = load_config(None, {"cleaning": cleaning, "min_score": given.get("min_score", held["min_score"])})
    return Policy(settings.cleaning, settings.min_score, held["judge"], bool(held["language"]), unjudged)


def clean_again(
    run: Path,
    out: Path,
    policy: Policy,
    workers: int = 1,
    only_report: bool = False,
    watch: Callable[[int, int], None] = lambda done, shards: None,
) -> Figures:
    """Clean the finished shards of a run by a policy into the folder `out`, in so many processes.

    `watch` is told how many shards are done, of how many. The same call again continues where it was stopped.
    Raises InputError when the run has no finished shard, when its files do not hold the rows it has counted, and when
    `out` holds something else; StopError when a file cannot be written.
    """
    check_published(run)
    shards = tuple(sorted(Run(run).done()))
    if not shards:
        raise InputError(f"{run} has no finished shard yet.")
    work = _Work(run, shards, out, policy, policy.settings | {"texts": _texts_print(run, shards)}, only_report)
    stage = work.stage
    with stage.work():
        if not stage.is_complete:
            todo = stage.todo()
            watch(len(shards) - len(todo), len(shards))
            for done, _ in enumerate(_each(work, todo, workers), len(shards) - len(todo) + 1):
                watch(done, len(shards))
            stage.finish(work.figures().as_json())
    return Figures.from_json(read_json(out / "stage.json"))


def decided(row: Row, document: Document, policy: Policy, phrases: Phrases) -> Row:
    """A run's row as these rules have it: kept with a null reason, or dropped.

    A row whose cut changes keeps its score, and one that a rule drops keeps it too. `n_tokens` of a reply that was
    cut is estimated from the share that was left.
    """
    if row.get("reason") in NOT_BY_RULES:
        return row
    cleaned = clean(document, _reply(row), policy.rules, phrases, policy.translated)
    if isinstance(cleaned, Drop):
        return row | _written(cleaned.written or _reply(row)) | {"reason": cleaned.reason, "detail": cleaned.detail}
    before = row.get("reason")
    row = row | _written(cleaned.reformulation) | {"reason": None, "detail": None}
    if row["score"] is None:
        if policy.unjudged == "drop" and is_judged(row["id"], policy.judge):
            detail = f"passes these rules; the run had dropped it as {before}, unjudged"
            return row | {"reason": "unjudged", "detail": detail}
    elif row["score"] < policy.min_score:
        return row | {"reason": "low_score", "detail": f"score {row['score']} is below {policy.min_score}"}
    return row


def _reply(row: Row) -> Reformulation:
    """What the model wrote, whole."""
    reply = (row["stripped_prefix"] or "") + row["text"] + (row["stripped_suffix"] or "")
    return Reformulation(reply, round(row["n_tokens"] * len(reply) / len(row["text"])))


def _written(text: Reformulation) -> Row:
    parts = {"stripped_prefix": text.head or None, "stripped_suffix": text.tail or None}
    return {"text": text.text, "n_tokens": text.n_tokens, **parts}


def by_document(kept: Sequence[Row], dropped: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows of each document, those that were kept first, documents in the order of the input.

    Where none of a document's rows were kept, and none dropped of its neighbour's, either may come first.
    """
    first, second = ([list(group) for _, group in groupby(rows, _document_of)] for rows in (kept, dropped))
    ahead = Counter(_document_of(group[0]) for group in first)
    waiting = deque(first)
    for group in second:
        while ahead[_document_of(group[0])]:
            rows = waiting.popleft()
            ahead[_document_of(rows[0])] -= 1
            if _document_of(rows[0]) == _document_of(group[0]):
                yield rows + group
                break
            yield rows
        else:
            yield group
    yield from waiting


def _document_of(row: Row) -> tuple[str, str, str]:
    return row["source_id"], row["chunk_id"], row["raw_text"]


@dataclass(frozen=True)
class _Work:
    """A run, and how and where it is cleaned: what a process must know to clean a shard."""

    run: Path
    shards: tuple[int, ...]
    out: Path
    policy: Policy
    settings: Mapping[str, Any]
    only_report: bool

    @cached_property
    def stage(self) -> Stage:
        """The folder written, with a file for each shard. A shard's record in the run stands for its files."""
        records = (self.run / "shards" / f"{shard:05}.json" for shard in self.shards)
        files = tuple(_local(path, f"{path.stem}.parquet") for path in records)
        return Stage(self.out, "clean", Corpus((str(self.run),), files), self.settings, self.only_report)

    def clean(self, number: int) -> None:
        """Clean the shard of this number in `shards`, and write it."""
        shard = self.shards[number]
        kept, dropped, failed = self._rows(shard)
        phrases = phrases_of(self.policy.rules)
        rows: list[Row] = []
        for group in by_document(kept, dropped):
            document = Document(group[0]["source_id"], group[0]["raw_text"], "")
            rows += [decided(row, document, self.policy, phrases) for row in group]
        before = Counts(len(rows), len(kept), Counter(row["reason"] for row in dropped))
        stay = [row for row in rows if row.get("reason") is None]
        after = Counts(len(rows), len(stay), Counter(row["reason"] for row in rows if row.get("reason")))
        figures = Figures(before, after, len(failed), _tokens(kept), _tokens(stay))
        write_json(self._figures_path(number), figures.as_json())
        if not self.only_report:
            write_rows(self.out / "failed" / f"{shard:05}.parquet", failed, DROPPED_SCHEMA)
        self.stage.write(number, _batches(rows))

    def figures(self) -> Figures:
        """The figures of all shards together."""
        paths = (self._figures_path(number) for number in range(len(self.shards)))
        return sum((Figures.from_json(read_json(path)) for path in paths), Figures())

    def _figures_path(self, number: int) -> Path:
        return self.stage.scratch / f"{number:05}.json"

    def _rows(self, shard: int) -> list[list[Row]]:
        """A shard's rows: kept, dropped, failed."""
        paths = (self.run / part / f"{shard:05}.parquet" for part in PARTS)
        return [_read(path) if path.exists() else [] for path in paths]


def _read(path: Path) -> list[Row]:
    try:
        with path.open("rb") as stream:
            return [row for batch in row_batches(pq.ParquetFile(stream), ROWS_AT_ONCE) for row in batch.to_pylist()]
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0].rstrip('.')}. Restore it.") from error


def _tokens(rows: Sequence[Row]) -> int:
    return sum(row["n_tokens"] for row in rows)


def _batches(rows: Sequence[Row]) -> Iterator[tuple[Batch, pa.Array, pa.Array]]:
    """Rows as the stage takes them: columns as a run's kept rows have them, reasons, details."""
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[first : first + ROWS_AT_ONCE]
        batch = pa.RecordBatch.from_pylist(
            [{name: row[name] for name in KEPT_SCHEMA.names} for row in some], KEPT_SCHEMA
        )
        reasons, details = (pa.array([row.get(name) for row in some], pa.string()) for name in ("reason", "detail"))
        yield Batch(first, batch), reasons, details


def _local(path: Path, name: str) -> InputFile:
    return InputFile(str(path.absolute()), name, path.stat().st_size, LocalFileSystem())


def _texts_print(run: Path, shards: Sequence[int]) -> str:
    """A print of the files that hold the shards' rows."""
    names = (f"{part}/{shard:05}.parquet" for shard in shards for part in PARTS)
    return fingerprint([_local(run / name, name) for name in names if (run / name).is_file()])


_work_here: _Work | None = None


def _each(work: _Work, numbers: Sequence[int], workers: int) -> Iterator[int]:
    """Clean the shards of these numbers, and yield the number of each when it is done."""
    workers = min(workers, len(numbers))
    if workers <= 1:
        for number in numbers:
            work.clean(number)
            yield number
        return
    bare = replace(work)  # without its stage, whose lock stays in this process
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_process, (bare,)) as pool:
        try:
            for done in as_completed([pool.submit(_clean_here, number) for number in numbers]):
                yield done.result()
        except BrokenProcessPool as error:
            raise StopError(
                "A process that cleaned a shard was ended, perhaps for want of memory: "
                "give the same command again, with fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_process(work: _Work) -> None:
    """End at once at Ctrl-C, and with the process that began this one: an unfinished shard is cleaned again."""
    global _work_here
    _work_here = work
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)


def _clean_here(number: int) -> int:
    assert _work_here is not None
    _work_here.clean(number)
    return number
