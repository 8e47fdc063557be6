"""Checkpoints × benchmarks → one table. Read `evaluate` first: it is the table of contents.

evaluation.json               settings; with `results`, `averages` and `differences` once all is done
evaluation.parquet            the results, a row each        evaluation.svg   scores over tokens
items/RUN/CHECKPOINT/X.parquet   each item of benchmark X with its scores: done when it is there
own/items.jsonl               the items made of one's own texts
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mga import stats
from mga.checks import check_corpus
from mga.data.corpus_files import Corpus
from mga.data.output_folder import EVALUATION, open_output
from mga.data.store import committed
from mga.errors import InputError
from mga.evaluation.checkpoints import Checkpoint, find
from mga.evaluation.harness import Harness, ask, load_model
from mga.evaluation.own_text import write_items
from mga.evaluation.suites import METRICS, OWN, Benchmark, chosen
from mga.scoring.texts import texts_of

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How benchmarks are asked: examples before a question (None: the suite's), items of each task (None: all),
    rows a batch, device, seed of the own items."""

    shots: int | None = None
    limit: int | None = None
    batch: int | None = None
    device: str | None = None
    seed: int = 0


def evaluate(
    checkpoints: Sequence[Path],
    out: Path,
    tasks: Sequence[str],
    data: Path | None,
    own: Corpus | None,
    settings: Settings,
    say: Say,
) -> dict[str, Any]:
    """Ask models the items of benchmarks and write the folder `out`, or add to it what is not in it yet.

    `own` adds the benchmark of continuations, and bits per byte of those texts. Returns what evaluation.json holds.
    Raises InputError for what is no model, no benchmark or not there, and when `out` was asked otherwise.
    """
    models = find(checkpoints)
    identity = {"shots": settings.shots, "limit": settings.limit, "own": own.fingerprint if own else None}
    identity["seed"] = settings.seed
    versions = {name: version(name) for name in ("mga", "lm_eval", "transformers")}
    with open_output(out, EVALUATION, identity, {"versions": versions}) as folder:
        own_items = _own_items(out, own, settings) if own else None
        harness = Harness(tasks, data, own_items, out / ".datasets")
        benchmarks = chosen([*tasks, *([OWN] if own else [])], harness.names, settings.shots)
        if not benchmarks:
            raise InputError("Nothing to evaluate: name benchmarks with --tasks, or texts with --own.")
        _ask_all(models, benchmarks, harness, own, out, settings, say)
        shutil.rmtree(out / ".datasets", ignore_errors=True)
        figures = summary(out, models, benchmarks)
        _write_table(out, figures["results"])
        return folder.finish(figures)


def _own_items(out: Path, own: Corpus, settings: Settings) -> Path:
    path = out / "own" / "items.jsonl"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_items(_texts(own), path, settings.seed, settings.limit)
    return path


def _texts(corpus: Corpus) -> list[str]:
    check_corpus(corpus)
    return [text.text for text in texts_of(corpus, None, Counter())]


def _ask_all(
    models: Sequence[Checkpoint],
    benchmarks: Sequence[Benchmark],
    harness: Harness,
    own: Corpus | None,
    out: Path,
    settings: Settings,
    say: Say,
) -> None:
    open_ = [(model, [one for one in benchmarks if not items_file(out, model, one.name).exists()]) for model in models]
    wanted = {one.name: one for _, still in open_ for one in still}
    tasks = harness.load([*wanted.values()])
    for model, still in open_:
        if not still:
            continue
        loaded = load_model(model.path, settings.device, settings.batch)
        for one in still:
            rows = ask(loaded, tasks[one.name], settings.limit)
            table = pa.Table.from_pylist([{**row, "shots": one.shots} for row in rows])
            if one.name == OWN and own:
                per_byte = _bits_per_byte(loaded, _texts(own)[: settings.limit])
                table = table.replace_schema_metadata({"bits_per_byte": json.dumps(per_byte)})
            _write(table, items_file(out, model, one.name))
            say(f"{model.title} · {one.name}: {len(rows):,} items")
        del loaded


def _bits_per_byte(loaded: Any, texts: Sequence[str]) -> tuple[float, float | None, int]:
    """Of whole texts, long ones in windows: over all bytes; its standard error over texts; number of texts."""
    import numpy as np

    from mga.scoring.model import Scorer

    scorer = Scorer(loaded.model, loaded.tokenizer, None)
    begin = [] if scorer.prefix is None else [scorer.prefix]
    ids = [np.concatenate([begin, scorer.encode(text).ids]).astype(np.int32) for text in texts]
    losses = scorer.score(ids, scorer.context // 4)
    bits = [float(one.loss.sum(dtype=np.float64)) / math.log(2) for one in losses]
    found = stats.ratio(bits, [len(text.encode("utf-8", "surrogatepass")) for text in texts])
    return found.value, found.error, found.n


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.writing")
    pq.write_table(table, beside, compression="zstd")
    committed(beside, path)


def items_file(out: Path, model: Checkpoint, benchmark: str) -> Path:
    """Where the items of a benchmark lie, once a model was asked them."""
    return out / "items" / model.run / model.name / f"{benchmark}.parquet"


def summary(out: Path, models: Sequence[Checkpoint], benchmarks: Sequence[Benchmark]) -> dict[str, Any]:
    """All figures, from the items alone: results, averages over benchmarks, and differences between models."""
    results: list[dict[str, Any]] = []
    for model in models:
        about = {"run": model.run, "checkpoint": model.name, "step": model.step, "tokens": model.tokens}
        for one in benchmarks:
            table = pq.read_table(items_file(out, model, one.name))
            whole = (table.schema.metadata or {}).get(b"bits_per_byte")
            for metric in _metrics(table):
                figure = _figure(table.column(metric).to_pylist())
                if metric == "bits_per_byte" and whole:  # of the whole texts, not of the right continuations
                    value, error, count = json.loads(whole)
                    figure = _stated(stats.Estimate(value, error, count - 1, count))
                results.append({**about, "task": one.name, "metric": metric, **figure, "shots": one.shots})
    return {
        "results": results,
        "averages": _averages(results, models, [one.name for one in benchmarks]),
        "differences": _differences(out, models, benchmarks),
    }


def _figure(values: Sequence[float]) -> dict[str, Any]:
    """The mean over items as `_stated`. Right and wrong answers have Wilson's interval, and from it an error where all
    are right or all are wrong: a few items do not show that there is none."""
    found = _stated(stats.mean(values))
    if set(values) <= {0.0, 1.0}:
        share = stats.wilson(sum(values), len(values))
        found |= {"low": share.low, "high": share.high}
        found["stderr"] = found["stderr"] or (share.high - share.low) / 2 / stats.Z
    return found


def _stated(found: stats.Estimate) -> dict[str, Any]:
    """value, stderr, low, high (95%; null where nothing tells of the error), n: the items."""
    return {"value": found.value, "stderr": found.error, "low": found.low, "high": found.high, "n": found.n}


def _metrics(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in ("task", "item", "hash", "shots")]


def score_of(benchmark: str) -> str:
    """The metric that stands for a benchmark in tables and averages."""
    return METRICS.get(benchmark, "acc")


def _averages(results: list[dict[str, Any]], models: Sequence[Checkpoint], names: list[str]) -> list[dict[str, Any]]:
    """The mean of the benchmarks' scores, as the paper's tables have it; the errors of benchmarks are independent."""
    found = []
    for model in models:
        mine = [
            row
            for row in results
            if (row["run"], row["checkpoint"]) == (model.run, model.name) and row["metric"] == score_of(row["task"])
        ]
        value = sum(row["value"] for row in mine) / len(mine)
        known = [(row["stderr"] / len(mine), max(row["n"] - 1, 1)) for row in mine if row["stderr"] is not None]
        error = math.hypot(*(of for of, _ in known)) if len(known) == len(mine) else None
        average = _stated(stats.Estimate(value, error, stats.pooled_freedom(known), len(names)))
        about = {"run": model.run, "checkpoint": model.name, "step": model.step, "tokens": model.tokens}
        found.append({**about, **average, "benchmarks": average.pop("n")})
    return found


def _differences(out: Path, models: Sequence[Checkpoint], benchmarks: Sequence[Benchmark]) -> list[dict[str, Any]]:
    """The last checkpoint of each run against that of the first run, item by item."""
    last = {model.run: model for model in models}
    if len(last) < 2:
        return []
    first, *others = last.values()
    found = []
    for other in others:
        for one in benchmarks:
            before, after = (pq.read_table(items_file(out, model, one.name)) for model in (first, other))
            for metric in _metrics(before):
                both = zip(before.column(metric).to_pylist(), after.column(metric).to_pylist(), strict=True)
                difference = _stated(stats.mean([later - earlier for earlier, later in both]))
                names = {"run": other.run, "checkpoint": other.name, "against": f"{first.run}/{first.name}"}
                found.append({**names, "task": one.name, "metric": metric, **difference})
    return found


def _write_table(out: Path, results: list[dict[str, Any]]) -> None:
    _write(pa.Table.from_pylist(results), out / "evaluation.parquet")
