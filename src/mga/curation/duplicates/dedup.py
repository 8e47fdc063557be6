"""`mga dedup`: exact and near-duplicates go, the best of each kind stays, and every removal names what it was like.

Five passes, each continued where it was stopped; what they leave for the next lies in the stage's scratch folder:

1. sign    every text → a fingerprint of its characters and MinHash band hashes (`texts.py`, `minhash.py`)
2. band    texts that are equal, white space and Unicode form apart, count as one; those that share a band hash are
           candidates (`bands.py`)
3. gather  the candidates are read again, and their exact shingle sets laid down batch by batch
4. judge   each candidate is compared with the kept texts of its buckets, best first (`verify.py`)
5. write   kept/ and dropped/

Texts to compare with that are never removed (originals, other corpora) come before all others in rank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mga.curation.duplicates.bands import Groups, batches_of, shared_buckets
from mga.curation.duplicates.minhash import FIVE_WORDS, LEAST_THRESHOLD, Shingle, banding_for, shingle_sets, shingles_of
from mga.curation.duplicates.row_values import ORIGINAL, SCORES, SOURCES
from mga.curation.duplicates.spill import Columns, column, large_column, pieces
from mga.curation.duplicates.texts import NO_PLACE, PIECE, Texts, Wanted, band_name
from mga.curation.duplicates.verify import Candidates, judge
from mga.curation.stage import Counts, Stage, reasons_of
from mga.data.corpus_files import Batch, Corpus, ordered
from mga.errors import InputError

Say = Callable[[str], None]
KEEP = ("score", "longest", "first")
"""Which of two duplicates stays; ties fall to the longer (of `first` not), then to the first."""

LEAST_MEMORY = 512 << 20
BYTES_A_TEXT = 72
"""Memory for each text whatever the settings: fingerprint, rank, leader, group."""
_READER_BYTES = 256 << 20
_ENTRY_BYTES = 96


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as a duplicate and which one stays. Those that are None follow the corpus's columns."""

    threshold: float = 0.8
    shingle: Shingle = FIVE_WORDS
    keep: str | None = None
    keep_siblings: bool = False
    originals: bool | None = None

    def __post_init__(self) -> None:
        if not LEAST_THRESHOLD <= self.threshold <= 1:
            raise InputError(f"--threshold {self.threshold} is not between {LEAST_THRESHOLD} and 1.")
        if self.keep is not None and self.keep not in KEEP:
            raise InputError(f"--keep {self.keep} is none of {', '.join(KEEP)}.")


class Ranked(NamedTuple):
    """Texts by number, and the different ones among them by place: rank order, best first.

    `leader_of` and `place_of` (uint32, one a text; no place for what is not the first of its kind), `leaders`
    (uint32, one a place).
    """

    leader_of: NDArray[np.uint32]
    place_of: NDArray[np.uint32]
    leaders: NDArray[np.uint32]


class Decided(NamedTuple):
    """For each place: the place of the kept text it goes for (uint32), how similar, whether the texts are equal."""

    goes_for: NDArray[np.uint32]
    similarity: NDArray[np.float32]
    exact: NDArray[np.bool_]


def dedup(
    corpus: Corpus,
    out: Path,
    rules: Rules,
    against: Corpus | None = None,
    memory: int = 2 << 30,
    workers: int = 1,
    only_report: bool = False,
    say: Say = lambda line: None,
) -> Counts:
    """Write the corpus without duplicates into a folder; returns the counts.

    `memory` is in bytes. Raises InputError for settings that do not fit the corpus, StopError when the disk is full.
    """
    work = Dedup(corpus, out, rules, against, memory, workers, only_report, say)
    with work.stage.work():
        return work.stage.finish() if work.stage.is_complete else work.run()


class Dedup:
    """The passes over one corpus. `say` gets a line as each begins."""

    def __init__(
        self,
        corpus: Corpus,
        out: Path,
        rules: Rules,
        against: Corpus | None,
        memory: int,
        workers: int,
        only_report: bool,
        say: Say,
    ) -> None:
        if memory < LEAST_MEMORY:
            raise InputError(f"--memory is too little; give at least {LEAST_MEMORY >> 20}MB.")
        self.rules = rules
        self.memory = memory
        self.workers = workers
        self.say = say
        columns = [corpus.present(file, (*SCORES, *SOURCES, ORIGINAL)) for file in corpus.files]
        self.keep = rules.keep or ("score" if _has(columns, SCORES) else "first")
        originals = _has(columns, [ORIGINAL]) if rules.originals is None else rules.originals
        _check(columns, self.keep, originals, rules.keep_siblings)
        settings = {
            "shingle": f"{rules.shingle.unit}:{rules.shingle.n}",
            "threshold": rules.threshold,
            "keep": self.keep,
            "siblings": "keep" if rules.keep_siblings else "remove",
            "originals": originals,
            "against": against.fingerprint if against else None,
            "id_key": corpus.id_key,
        }
        self.stage = Stage(out, "dedup", corpus, settings, only_report)
        self.banding = banding_for(rules.threshold)
        wanted = Wanted(rules.shingle, self.banding, self.keep == "score", rules.keep_siblings, originals)
        self.texts = Texts(corpus, columns, against, wanted, self.stage.scratch / "signed")

    @property
    def _readers(self) -> int:
        """Threads that read and write files: each needs its share of the memory."""
        return max(1, min(self.workers, self.memory // _READER_BYTES))

    def run(self) -> Counts:
        """All passes that are not done."""
        self.say("reading")
        self.texts.sign(self._readers)
        self._check_memory()
        ranked = self._rank()
        self.say(f"{len(self.texts):,} texts, {len(ranked.leaders):,} different ones: looking for candidates")
        self._band(ranked)
        self._gather(ranked)
        self.say("comparing")
        decided = self._judge(ranked)
        self.say("writing")
        self._write(ranked, decided)
        return self.stage.finish({"banding": {"bands": self.banding.bands, "rows": self.banding.rows}})

    def _check_memory(self) -> None:
        needed = LEAST_MEMORY + len(self.texts) * BYTES_A_TEXT
        if needed > self.memory:
            raise InputError(
                f"{len(self.texts):,} texts need --memory {-(-needed >> 20) + 1}MB at least; run the same command "
                "again with that much."
            )

    # 2. band

    def _rank(self) -> Ranked:
        lengths = self.texts.column("length", np.int32)
        order = np.flatnonzero(lengths >= 0).astype(np.uint32)
        if self.keep != "first":
            keys = [np.where(np.arange(len(lengths)) < self.texts.references, np.iinfo(np.int32).min, -lengths)[order]]
            if self.keep == "score":
                keys.append(-self.texts.column("score", np.float32, np.inf)[order])
            order = order[np.lexsort(keys)]
        leader_of = np.arange(len(lengths), dtype=np.uint32)
        leader_of[order] = self._leaders(order)
        leaders = order[leader_of[order] == order]
        place_of = np.full(len(lengths), NO_PLACE, np.uint32)
        place_of[leaders] = np.arange(len(leaders), dtype=np.uint32)
        return Ranked(leader_of, place_of, leaders)

    def _leaders(self, order: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """For each of the texts in order of rank the first that is equal (and, with siblings kept, of its source)."""
        first, other = (self.texts.column(name, np.uint64)[order] for name in ("fingerprint", "fingerprint2"))
        if self.rules.keep_siblings:
            sources = self.texts.column("source", np.uint64, 0)[order]
            by = np.lexsort((sources, first))
        else:
            by = np.argsort(first, kind="stable")
        same = np.zeros(len(order), np.bool_)
        same[1:] = (first[by][1:] == first[by][:-1]) & (other[by][1:] == other[by][:-1])
        if self.rules.keep_siblings:
            same[1:] &= (sources[by][1:] == sources[by][:-1]) & (sources[by][1:] != 0)
        begins = np.flatnonzero(~same)
        found = np.empty(len(order), np.uint32)
        found[by] = np.repeat(order[by[begins]], np.diff(np.append(begins, len(order))))
        return found

    def _band(self, ranked: Ranked) -> None:
        folder = self.stage.scratch / "bands"
        todo = [band for band in range(self.banding.bands) if not (folder / band_name(band)).exists()]
        share = max(LEAST_MEMORY // 4, self.memory - LEAST_MEMORY - len(self.texts) * 16) // self.workers

        def find(band: int) -> None:
            with Columns(folder / band_name(band)) as columns:
                hashes = partial(self.texts.band, band, ranked.place_of)
                for buckets, members in shared_buckets(hashes, len(ranked.leaders), share):
                    columns.add({"bucket": buckets, "member": members})

        for _ in ordered(find, todo, self.workers):
            pass

    # 3. gather

    def _gather(self, ranked: Ranked) -> None:
        folder = self.stage.scratch / "candidates"
        if folder.exists():
            return
        batch_of = self._batches(ranked)
        with Columns(folder) as columns:
            columns.add({"batches": np.array([batch_of.max(initial=-1) + 1], np.int64)})
            for buckets, members in self._bucket_pieces():
                for batch, chosen in _split(batch_of[members]):
                    columns.add({f"bucket-{batch}": buckets[chosen], f"member-{batch}": members[chosen]})
            work = partial(self._sets, batch_of)
            for found in ordered(work, self.texts.again(ranked.place_of, batch_of), self._readers):
                for one in found:
                    columns.add(one)

    def _batches(self, ranked: Ranked) -> NDArray[np.int32]:
        groups = Groups(len(ranked.leaders))
        entries = np.zeros(len(ranked.leaders), np.int64)
        for buckets, members in self._bucket_pieces():
            groups.join(buckets, members)
            entries += np.bincount(members, minlength=len(entries))
        sizes = np.maximum(
            self.texts.column("length", np.int32)[ranked.leaders].astype(np.int64) - self.rules.shingle.n + 1, 1
        )
        sizes = sizes * 8 + entries * _ENTRY_BYTES
        share = (self.memory - LEAST_MEMORY // 2) // (2 * self.workers)
        even = int(sizes[entries > 0].sum()) // (4 * self.workers)
        judged = ranked.leaders >= self.texts.references
        return batches_of(groups.roots(), judged, sizes, min(share, max(even, 1 << 20)))

    def _bucket_pieces(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint32]]]:
        """Buckets, numbered through all bands, and members; a bucket may go on in the next piece."""
        for band in range(self.banding.bands):
            folder = self.stage.scratch / "bands" / band_name(band)
            both = (pieces(folder, name, np.uint32, PIECE) for name in ("bucket", "member"))
            for buckets, members in zip(*both, strict=True):
                yield buckets.astype(np.int64) | (band << 32), members

    def _sets(
        self, batch_of: NDArray[np.int32], given: tuple[NDArray[np.uint32], pa.Array]
    ) -> list[dict[str, NDArray[Any]]]:
        places, texts = given
        hashes, offsets = shingle_sets(shingles_of(texts, self.rules.shingle))
        counts = np.diff(offsets)
        return [
            {
                f"place-{batch}": places[chosen],
                f"count-{batch}": counts[chosen],
                f"hash-{batch}": hashes if len(chosen) == len(places) else _picked(hashes, offsets, chosen),
            }
            for batch, chosen in _split(batch_of[places])
        ]

    # 4. judge

    def _judge(self, ranked: Ranked) -> Decided:
        gathered, folder = self.stage.scratch / "candidates", self.stage.scratch / "judged"
        batches = range(int(column(gathered, "batches", np.int64)[0]))
        references = int(np.count_nonzero(ranked.leaders < self.texts.references))
        sources = self.texts.column("source", np.uint64, 0)[ranked.leaders] if self.rules.keep_siblings else None

        def work(batch: int) -> None:
            candidates, places = _load(gathered, batch, references, sources, self.memory)
            goes_for, similarity = judge(candidates, self.rules.threshold)
            goes = np.flatnonzero(goes_for >= 0)
            with Columns(folder / str(batch)) as columns:
                pairs = {"place": places[goes], "goes_for": places[goes_for[goes]]}
                columns.add({**pairs, "similarity": similarity[goes]})

        for _ in ordered(work, (batch for batch in batches if not (folder / str(batch)).exists()), self.workers):
            pass
        goes_for = np.full(len(ranked.leaders), NO_PLACE, np.uint32)
        similarity = np.ones(len(ranked.leaders), np.float32)
        for batch in batches:
            places = column(folder / str(batch), "place", np.uint32)
            goes_for[places] = column(folder / str(batch), "goes_for", np.uint32)
            similarity[places] = column(folder / str(batch), "similarity", np.float32)
        return Decided(goes_for, similarity, self._equal(ranked, goes_for))

    def _equal(self, ranked: Ranked, goes_for: NDArray[np.uint32]) -> NDArray[np.bool_]:
        equal: NDArray[np.bool_] = goes_for != NO_PLACE
        goes = np.flatnonzero(equal)
        for name in ("fingerprint", "fingerprint2"):
            values = self.texts.column(name, np.uint64)
            equal[goes] &= values[ranked.leaders[goes]] == values[ranked.leaders[goes_for[goes]]]
        return equal

    # 5. write

    def _write(self, ranked: Ranked, decided: Decided) -> None:
        found = [
            np.unique(target[goes])
            for begin in range(self.texts.references, len(self.texts), PIECE)
            for goes, target, _, _ in [self._verdicts(begin, min(PIECE, len(self.texts) - begin), ranked, decided)]
        ]
        targets = np.unique(np.concatenate(found)) if found else np.empty(0, np.uint32)
        names = self.texts.names(targets)

        def stated(number: int) -> Iterator[tuple[Batch, pa.Array, pa.Array]]:
            base = self.texts.base(number)
            for batch in self.stage.corpus.batches(self.stage.corpus.files[number]):
                rows = batch.rows.num_rows
                goes, target, similarity, exact = self._verdicts(base + batch.first, rows, ranked, decided)
                at = np.flatnonzero(goes)
                named = names.take(pa.array(np.searchsorted(targets, target[at]))).to_pylist()
                why = {
                    row: (self._reason(other, is_exact), f"{name}, Jaccard {found:.3f}")
                    for row, other, is_exact, name, found in zip(
                        at.tolist(), target[at].tolist(), exact[at], named, similarity[at], strict=True
                    )
                }
                yield batch, *reasons_of(rows, why)

        for _ in ordered(lambda number: self.stage.write(number, stated(number)), self.stage.todo(), self._readers):
            pass

    def _verdicts(
        self, first: int, count: int, ranked: Ranked, decided: Decided
    ) -> tuple[NDArray[np.bool_], NDArray[np.uint32], NDArray[np.float32], NDArray[np.bool_]]:
        """For `count` texts from number `first` on: whether each goes, for which text, how similar, equal or not."""
        numbers = np.arange(first, first + count, dtype=np.uint32)
        leaders = ranked.leader_of[numbers]
        target = leaders.copy()
        # With siblings kept, texts have a leader of their own source only, and stay when it stays.
        goes = np.zeros(count, np.bool_) if self.rules.keep_siblings else leaders != numbers
        similarity, exact = np.ones(count, np.float32), np.ones(count, np.bool_)
        places = ranked.place_of[leaders]
        at = np.flatnonzero(places != NO_PLACE)
        at = at[decided.goes_for[places[at]] != NO_PLACE]
        goes[at] = True
        target[at] = ranked.leaders[decided.goes_for[places[at]]]
        similarity[at], exact[at] = decided.similarity[places[at]], decided.exact[places[at]]
        return goes, target, similarity, exact

    def _reason(self, target: int, is_exact: bool) -> str:
        if target >= self.texts.references:
            return "exact_duplicate" if is_exact else "near_duplicate"
        return "near_copy_of_original" if self.texts.part_of(target).is_original else "in_other_corpus"


def _has(columns: Sequence[Sequence[str]], names: Sequence[str]) -> bool:
    """Whether any file has one of the columns."""
    return any(name in of_file for of_file in columns for name in names)


def _check(columns: Sequence[Sequence[str]], keep: str, originals: bool, keep_siblings: bool) -> None:
    if keep == "score" and not _has(columns, SCORES):
        raise InputError(f"No file has a column {' or '.join(SCORES)}; choose --keep longest or --keep first.")
    if originals and not _has(columns, [ORIGINAL]):
        raise InputError(f"No file has a column {ORIGINAL} with the originals; name them with --against instead.")
    if keep_siblings and not _has(columns, SOURCES):
        raise InputError(f"No file has a column {' or '.join(SOURCES)}, so --siblings keep has no meaning here.")


def _load(
    gathered: Path, batch: int, references: int, sources: NDArray[np.uint64] | None, memory: int
) -> tuple[Candidates, NDArray[np.uint32]]:
    """A batch's candidates in order of rank, and their places."""
    places, counts = column(gathered, f"place-{batch}", np.uint32), column(gathered, f"count-{batch}", np.int64)
    order = np.argsort(places)
    starts = (np.cumsum(counts) - counts)[order]
    places = places[order]
    members = np.searchsorted(places, column(gathered, f"member-{batch}", np.uint32))
    candidates = Candidates(
        large_column(gathered, f"hash-{batch}", np.uint64, memory // 4),
        starts,
        counts[order],
        column(gathered, f"bucket-{batch}", np.int64),
        members.astype(np.int64),
        int(np.searchsorted(places, references)),
        np.empty(0, np.uint64) if sources is None else sources[places],
    )
    return candidates, places


def _split(batches: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each batch named, and where it is named; -1 is left out."""
    if len(batches) and batches.min() == batches.max():
        if batches[0] >= 0:
            yield int(batches[0]), np.arange(len(batches))
        return
    order = np.argsort(batches, kind="stable")
    named, begins = np.unique(batches[order], return_index=True)
    for batch, chosen in zip(named.tolist(), np.split(order, begins[1:]), strict=True):
        if batch >= 0:
            yield batch, chosen


def _picked(values: NDArray[np.uint64], offsets: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The values of some texts, one text after the other."""
    return np.concatenate([values[offsets[i] : offsets[i + 1]] for i in chosen.tolist()])
