"""The texts that deduplication looks at: a corpus's own, originals of a run, other corpora.

Each is read once and leaves numbers on disk: its length, fingerprint and band hashes, and what decides its rank. From
then on a text is its number. Those that are never removed have the first numbers.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mga.curation.duplicates.minhash import Banding, Shingle, band_hashes, shingles_of
from mga.curation.duplicates.row_values import (
    ORIGINAL,
    SCORES,
    SOURCES,
    originals_of,
    scores_of,
    sources_of,
    strings_of,
)
from mga.curation.duplicates.spill import Columns, column, pieces, rows_in
from mga.data.corpus_files import Batch, Corpus, ordered
from mga.data.documents import InputFile

NO_PLACE = np.uint32(0xFFFFFFFF)
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be known of each text; scores, sources and originals of the corpus's own rows only."""

    shingle: Shingle
    banding: Banding
    scores: bool
    sources: bool
    originals: bool


class Part(NamedTuple):
    """The texts of one kind in one file, and where their columns are spilled."""

    corpus: Corpus
    number: int
    folder: Path
    is_original: bool = False

    @property
    def file(self) -> InputFile:
        """The file they stand in."""
        return self.corpus.files[self.number]

    def is_original_of(self, other: "Part") -> bool:
        """Whether these are the originals in the other's file."""
        return self.is_original and self.corpus is other.corpus and self.number == other.number

    def rows(self) -> NDArray[np.int64]:
        """The row of the file in which each stands (first)."""
        return column(self.folder, "row", np.int64) if self.is_original else np.arange(self.texts)

    @property
    def texts(self) -> int:
        """How many they are."""
        return rows_in(self.folder, "length", np.int32)


class Texts:
    """All texts, numbered from 0: originals, those of other corpora, the corpus's own.

    `columns` are the names of the columns of each of the corpus's files; `folder` is where numbers are spilled.
    """

    def __init__(
        self, corpus: Corpus, columns: Sequence[Sequence[str]], against: Corpus | None, wanted: Wanted, folder: Path
    ) -> None:
        self.corpus = corpus
        self.against = against
        self._columns = columns
        self._wanted = wanted
        files = range(len(corpus.files))
        self.parts = [Part(corpus, i, folder / f"originals-{i:05}", True) for i in files if wanted.originals]
        if against:
            self.parts += [Part(against, i, folder / f"against-{i:05}") for i in range(len(against.files))]
        self.parts += [Part(corpus, i, folder / f"texts-{i:05}") for i in files]

    @cached_property
    def bases(self) -> NDArray[np.int64]:
        """The number of each part's first text, and at the end the number of all texts."""
        return np.cumsum([0] + [part.texts for part in self.parts])

    def __len__(self) -> int:
        return int(self.bases[-1])

    @property
    def references(self) -> int:
        """Texts that are never removed; their numbers come first."""
        return self.base(0)

    def base(self, number: int) -> int:
        """The number of the first text in one of the corpus's own files."""
        return int(self.bases[len(self.parts) - len(self.corpus.files) + number])

    def part_of(self, text: int) -> Part:
        """Where a text stands."""
        return self.parts[int(np.searchsorted(self.bases, text, "right")) - 1]

    def sign(self, threads: int) -> None:
        """Read all files that were not, and spill what is wanted of their texts."""
        for corpus in (self.against, self.corpus):
            if corpus is None:
                continue
            todo = [part for part in self.parts if part.corpus is corpus and not part.is_original]
            batches = self._read([part for part in todo if not part.folder.exists()])
            for part, found in groupby(ordered(self._signed, batches, threads), itemgetter(0)):
                with ExitStack() as stack:
                    # The last to be left is the first here: a file counts as signed when its own texts are.
                    folders = [part.folder, *(one.folder for one in self.parts if one.is_original_of(part))]
                    writing = [stack.enter_context(Columns(folder)) for folder in folders]
                    for _, columns in found:
                        for one, more in zip(writing, columns, strict=False):
                            one.add(more)

    def _read(self, parts: Sequence[Part]) -> Iterator[tuple[Part, Batch | None]]:
        """The batches of each, and None after the last."""
        for part in parts:
            wanted = [part.corpus.text_key]
            if part.corpus is self.corpus:
                more = [name for name in SCORES if self._wanted.scores]
                more += [name for name in SOURCES if self._wanted.sources]
                more += [ORIGINAL] if self._wanted.originals else []
                wanted += [name for name in more if name in self._columns[part.number] and name not in wanted]
            yield from ((part, batch) for batch in part.corpus.batches(part.file, wanted))
            yield part, None

    def _signed(self, given: tuple[Part, Batch | None]) -> tuple[Part, list[dict[str, NDArray[Any]]]]:
        """Columns of a batch's texts, and of its originals if they are asked for."""
        part, batch = given
        if batch is None:
            return part, []
        texts = strings_of(batch, part.corpus.text_key, part.file)
        columns = self._hashed(texts)
        columns["length"][np.asarray(texts.is_null())] = -1
        if part.corpus is not self.corpus:
            return part, [columns]
        if self._wanted.scores:
            columns["score"] = scores_of(batch, part.file)
        if self._wanted.sources:
            columns["source"] = sources_of(batch, part.file)
        if not self._wanted.originals:
            return part, [columns]
        rows, originals = originals_of(batch, part.file)
        return part, [columns, {**self._hashed(originals), "row": rows + batch.first}]

    def _hashed(self, texts: pa.Array) -> dict[str, NDArray[Any]]:
        shingles = shingles_of(texts, self._wanted.shingle)
        bands = band_hashes(shingles, self._wanted.banding)
        first, other = shingles.fingerprints
        columns: dict[str, NDArray[Any]] = {"length": shingles.lengths, "fingerprint": first, "fingerprint2": other}
        return columns | {band_name(number): hashes for number, hashes in enumerate(bands)}

    def column(self, name: str, kind: type[np.generic], missing: float | None = None) -> NDArray[Any]:
        """A column of all texts; `missing` for parts that were not asked for it."""
        found = [
            np.full(part.texts, missing, kind)
            if missing is not None and not (part.folder / name).exists()
            else column(part.folder, name, kind)
            for part in self.parts
        ]
        return np.concatenate(found)

    def band(
        self, number: int, place_of: NDArray[np.uint32]
    ) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.uint32]]]:
        """Hashes of one band, a piece at a time, and the places of their texts; of texts that have one."""
        for part, base in zip(self.parts, self.bases, strict=False):
            at = base
            for hashes in pieces(part.folder, band_name(number), np.uint64, PIECE):
                places = place_of[at : at + len(hashes)]
                at += len(hashes)
                chosen = places != NO_PLACE
                yield hashes[chosen], places[chosen]

    def again(
        self, place_of: NDArray[np.uint32], batch_of: NDArray[np.int32]
    ) -> Iterator[tuple[NDArray[np.uint32], pa.Array]]:
        """Places of texts that are in a batch, in the order of the files, and the texts read again."""
        for part, base in zip(self.parts, self.bases, strict=False):
            places = place_of[base : base + part.texts]
            wanted = np.flatnonzero(places != NO_PLACE)
            wanted = wanted[batch_of[places[wanted]] >= 0]
            if len(wanted) == 0:
                continue
            rows, places = part.rows()[wanted], places[wanted]
            name = ORIGINAL if part.is_original else part.corpus.text_key
            for batch in part.corpus.batches(part.file, [name]):
                begin, end = np.searchsorted(rows, [batch.first, batch.first + batch.rows.num_rows])
                if end > begin:
                    texts = strings_of(batch, name, part.file)
                    yield places[begin:end], texts.take(pa.array(rows[begin:end] - batch.first))

    def names(self, targets: NDArray[np.uint32]) -> pa.Array:
        """What to call each text: its id, else its file and row; an original by its source."""
        names: list[pa.Array] = [pa.array([], pa.large_string())]
        for part, base, end in zip(self.parts, self.bases, self.bases[1:], strict=False):
            begin, stop = np.searchsorted(targets, [base, end])
            if stop > begin:
                names.append(pa.array(_names_in(part, part.rows()[targets[begin:stop] - base]), pa.large_string()))
        return pa.concat_arrays(names)


def band_name(number: int) -> str:
    """The column of a band's hashes."""
    return f"band-{number:02}"


def _names_in(part: Part, rows: NDArray[np.int64]) -> Iterator[str]:
    """Names of some rows (ascending) of a file."""
    wanted = ["source_id", part.corpus.id_key] if part.is_original else [part.corpus.id_key]
    key = next(iter(part.corpus.present(part.file, wanted)), None)
    kind = "original " if part.is_original else ""
    if key is None:
        yield from (f"{kind}{part.file.name} row {row}" for row in rows.tolist())
        return
    for batch in part.corpus.batches(part.file, [key]):
        begin, end = np.searchsorted(rows, [batch.first, batch.first + batch.rows.num_rows])
        ids = batch.ids(key).take(pa.array(rows[begin:end] - batch.first)).to_pylist()
        for row, given in zip(rows[begin:end].tolist(), ids, strict=True):
            yield f"{kind}{given if given is not None else f'{part.file.name} row {row}'}"
