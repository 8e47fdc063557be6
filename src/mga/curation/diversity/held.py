"""What is held of a corpus of any size, to measure how diverse it is: figures of its rows, and some of its texts.

Both are chosen by a seeded hash of the original that a row was written from, so siblings stay together, and which are
held depends neither on the order of the rows nor on the number of threads.

- Rows: all, up to ROWS. Of more, those of half of the originals, of a quarter, … as many as fit.
- Texts: those of ORIGINALS originals, with these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray

from mga.curation.diversity.overlap import new_share, token_estimates
from mga.curation.diversity.spread import HLL_REGISTERS, gram_registers
from mga.data.columns import can_hold_ids
from mga.data.corpus_files import Batch, Corpus, is_parquet, ordered
from mga.data.documents import InputFile
from mga.errors import InputError
from mga.text.tokens import Tokens, mixed, ngrams_of, string_buffers, tokens_of
from mga.text.words import keyword_coverage

COVERAGE_ROWS = 256
"""Of a piece of the corpus; keywords are found in Python, all else is compiled."""
ROWS = 1_000_000
ORIGINALS = 2_000
SIBLINGS = 10
"""Texts held of one original, at most."""
TEXT_BYTES = 8_000
"""Of a held text, so much of its beginning."""

LABELS = ("genre", "audience")
NEW_GRAMS = (1, 3, 5)
DISTINCT_GRAMS = (1, 2, 3)
_ORIGIN_IDS = ("chunk_id", "source_id")
_ORIGIN_KEYS = (*_ORIGIN_IDS, "raw_text")
_LEVELS = 16
ROWS_AT_ONCE = 128
"""So few that the words of a piece stay in the processor's cache, and that the allocator uses their memory again."""
_MOST = (1 << 64) - 1
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIGURES = np.dtype(
    [
        ("position", np.int64),
        ("origin", np.uint64),
        ("original", np.uint64),
        ("order", np.uint64),
        *((name, np.int32) for name in (*LABELS, "group")),
        ("words", np.int32),
        ("original_words", np.int32),
        ("length_ratio", np.float32),
        ("coverage", np.float32),
        *((f"new_{n}", np.float32) for n in NEW_GRAMS),
    ]
)


@dataclass(slots=True)
class Names:
    """Different strings, numbered as they come; null is −1."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, values: pa.Array) -> NDArray[np.int32]:
        """The number of each value of an Arrow array of strings."""
        coded = values.dictionary_encode()
        known = [self.numbers.setdefault(name, len(self.numbers)) for name in coded.dictionary.to_pylist()]
        places = coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        numbers: NDArray[np.int32] = np.array([*known, -1], np.int32)[places]
        return numbers

    def keep(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """Forget all names but those of these numbers; returns the new numbers of the same names."""
        used = np.unique(numbers[numbers >= 0])
        names = list(self.numbers)
        self.numbers = {names[old]: new for new, old in enumerate(used)}
        return np.where(numbers >= 0, np.searchsorted(used, numbers), -1).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Texts:
    """The held texts, by original: `texts[i]` was written from `originals[of[i]]`.

    `rows` (int64) are their places among the held rows. `originals` is None where the corpus has none.
    """

    texts: pa.Array
    of: NDArray[np.int64]
    rows: NDArray[np.int64]
    originals: pa.Array | None


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of a corpus of `rows` rows, `without_text` of which were left out.

    `figures` is a structured array with an entry for each held row, in the corpus's order; `names` are those of the
    numbers in it. Rows of the share `share` of all originals are held. `registers` and `original_registers` (uint8,
    a row for each of DISTINCT_GRAMS) have seen the n-grams of the held rows' texts and originals.
    """

    rows: int
    without_text: int
    share: float
    figures: NDArray[Any]
    names: dict[str, list[str]]
    texts: Texts
    registers: NDArray[np.uint8]
    original_registers: NDArray[np.uint8]


def hold(corpus: Corpus, by: str | None, seed: int, workers: int) -> Held:
    """Read a corpus once. `by` is a column to group by.

    Raises InputError when a file lacks the texts, none has `by`, or there is no text at all.
    """
    wanted = list(dict.fromkeys([corpus.text_key, *_ORIGIN_KEYS, *LABELS, *([by] if by else [])]))
    columns = {file.url: corpus.present(file, wanted) for file in corpus.files if is_parquet(file) or by}
    if by and not any(by in names for names in columns.values()):
        there = sorted({name for file in corpus.files for name in corpus.columns(file)})
        raise InputError(f"No file has the column {by!r} of --by; there are: {', '.join(there)}.")
    gathered = _Gathered(seed)

    def jobs() -> Iterator[tuple[int, Batch]]:
        for number, file in enumerate(corpus.files):
            of_file = (
                [n for n in wanted if n in columns[file.url] or n == corpus.text_key] if is_parquet(file) else wanted
            )
            for batch in corpus.batches(file, of_file):
                yield number, batch

    def work(job: tuple[int, Batch]) -> list[_Piece]:
        number, batch = job
        columns = _columns(batch, corpus.files[number], corpus.text_key, by)
        first = (number << 40) + batch.first
        return [
            _measured(columns.slice(at, ROWS_AT_ONCE), first + at, seed, gathered.level, gathered.limit)
            for at in range(0, columns.num_rows, ROWS_AT_ONCE)
        ]

    for pieces in ordered(work, jobs(), workers):
        for piece in pieces:
            gathered.add(piece)
    if not gathered.figures:
        raise InputError(f"{', '.join(corpus.given)}: no row has text in {corpus.text_key!r}; choose with --text-key.")
    return gathered.held()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Figures of some rows with text whose originals were within the level, and their texts within the limit."""

    rows: int
    without_text: int
    figures: NDArray[Any]
    labels: pa.RecordBatch
    texts: list["_Text"]
    registers: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Text:
    origin: int
    order: int
    position: int
    text: bytes
    original: bytes


class _Gathered:
    """What is held so far. `level` and `limit` say which originals' rows and texts are still wanted."""

    def __init__(self, seed: int) -> None:
        self.level = 0
        self.limit = _MOST
        self.figures: list[NDArray[Any]] = []
        self._seed = seed
        self._rows = self._without_text = self._held = 0
        self._names = {name: Names() for name in (*LABELS, "group")}
        self._texts: dict[int, list[_Text]] = {}
        self._originals: dict[int, bytes] = {}
        self._registers = np.zeros((2, len(DISTINCT_GRAMS), _LEVELS, HLL_REGISTERS), np.uint8)

    def add(self, piece: _Piece) -> None:
        """Take over what is still wanted of a piece."""
        self._rows += piece.rows
        self._without_text += piece.without_text
        within = piece.figures["origin"] <= _bound(self.level)
        figures, labels = piece.figures[within], piece.labels.filter(pa.array(within))
        for name, names in self._names.items():
            figures[name] = names.number(labels.column(name))
        if len(figures):
            self.figures.append(figures)
            self._held += len(figures)
        np.maximum(self._registers, piece.registers, out=self._registers)
        self._add_texts(piece.texts)
        while self._held > ROWS and self.level < _LEVELS - 1:
            self._thin()

    def _thin(self) -> None:
        """Forget half of the originals."""
        self.level += 1
        figures = np.concatenate(self.figures)
        figures = figures[figures["origin"] <= _bound(self.level)]
        for name, names in self._names.items():
            figures[name] = names.keep(figures[name])
        self.figures, self._held = [figures], len(figures)

    def _add_texts(self, texts: Sequence[_Text]) -> None:
        for text in texts:
            if text.origin <= self.limit:
                self._originals[text.origin] = self._originals.get(text.origin) or text.original
                siblings = self._texts.setdefault(text.origin, [])
                siblings.append(replace(text, original=b""))
                if len(siblings) > 2 * SIBLINGS:
                    _fewest(siblings)
        if len(self._texts) > 1.25 * ORIGINALS:
            self.limit = sorted(self._texts)[ORIGINALS - 1]
            self._texts = {origin: held for origin, held in self._texts.items() if origin <= self.limit}
            self._originals = {origin: self._originals[origin] for origin in self._texts}

    def held(self) -> Held:
        figures = np.concatenate(self.figures)
        for name, names in self._names.items():
            figures[name] = names.keep(figures[name])
        origins = [origin for origin in sorted(self._texts)[:ORIGINALS] if origin <= _bound(self.level)]
        for origin in origins:
            _fewest(self._texts[origin])
        texts = [text for origin in origins for text in self._texts[origin]]
        of = np.repeat(np.arange(len(origins)), [len(self._texts[origin]) for origin in origins])
        originals = [self._originals[origin].decode() or None for origin in origins]
        registers = self._registers[:, :, self.level :].max(axis=2)
        return Held(
            self._rows,
            self._without_text,
            0.5**self.level,
            figures,
            {name: list(names.numbers) for name, names in self._names.items()},
            Texts(
                pa.array([text.text.decode() for text in texts], pa.large_string()),
                of,
                np.searchsorted(figures["position"], [text.position for text in texts]),
                pa.array(originals, pa.large_string()) if any(originals) else None,
            ),
            registers[0],
            registers[1],
        )


def _fewest(siblings: list[_Text]) -> None:
    """Leave SIBLINGS texts of an original: those that come first in the order of hashes."""
    siblings.sort(key=lambda text: text.order)
    del siblings[SIBLINGS:]


def _bound(level: int) -> np.uint64:
    """The highest hash of an original that is held at a level."""
    return np.uint64(_MOST >> level)


def _columns(batch: Batch, file: InputFile, text_key: str, by: str | None) -> pa.RecordBatch:
    """The columns text, original, origin, genre, audience, group of a batch, as strings; null where there is none."""

    def column(name: str) -> pa.Array:
        if not batch.has(name):
            return pa.nulls(batch.rows.num_rows, pa.large_string())
        if name in _ORIGIN_IDS and can_hold_ids(batch.column(name).type):
            return batch.ids(name)
        try:
            return batch.column(name).cast(pa.large_string())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            kind = batch.column(name).type
            raise InputError(f"{file.name}: {name!r} holds {kind}, which is no label; leave it out.") from None

    return pa.RecordBatch.from_arrays(
        [
            batch.column(text_key),
            column("raw_text"),
            pc.coalesce(*(column(name) for name in _ORIGIN_KEYS)),
            *(column(name) for name in LABELS),
            column(by) if by else pa.nulls(batch.rows.num_rows, pa.large_string()),
        ],
        ["text", "original", "origin", *LABELS, "group"],
    )


def _measured(columns: pa.RecordBatch, first: int, seed: int, level: int, limit: int) -> _Piece:
    """Figures of neighbouring rows, of which the first stands at the position `first` of the corpus."""
    positions = first + np.arange(columns.num_rows)
    salt = np.uint64(seed)
    order = _salted(positions.astype(np.uint64), salt)
    origins = np.where(_is_given(columns.column("origin")), _hashed(columns.column("origin"), salt), order)
    has_text = _is_given(pc.utf8_trim_whitespace(columns.column("text")))
    chosen = np.flatnonzero(has_text & (origins <= _bound(level)))
    columns, origins, order, positions = (
        columns.take(pa.array(chosen)),
        origins[chosen],
        order[chosen],
        positions[chosen],
    )
    figures = np.zeros(len(chosen), _FIGURES)
    figures["position"], figures["origin"], figures["order"] = positions, origins, order
    registers = np.zeros((2, len(DISTINCT_GRAMS), _LEVELS, HLL_REGISTERS), np.uint8)
    levels = np.minimum(_leading_zeros(origins), _LEVELS - 1)
    tokens = tokens_of(columns.column("text"))
    figures["words"] = np.diff(tokens.offsets)
    _register(tokens, levels, registers[0])
    _compare(columns, tokens, levels, figures, registers[1])
    return _Piece(
        len(has_text),
        int((~has_text).sum()),
        figures,
        columns.select([*LABELS, "group"]),
        _texts(columns, figures, limit),
        registers,
    )


def _compare(
    columns: pa.RecordBatch, tokens: Tokens, levels: NDArray[np.int64], figures: NDArray[Any], registers: Any
) -> None:
    """Fill in the figures on texts beside their originals; NaN where there is none."""
    texts, originals = columns.column("text"), columns.column("original").dictionary_encode()
    different = originals.dictionary
    known = _is_given(columns.column("original"))
    of = originals.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    for name in ("length_ratio", "coverage", *(f"new_{n}" for n in NEW_GRAMS)):
        figures[name] = np.nan
    if not known.any():
        return
    theirs = tokens_of(different)
    _, first = np.unique(of[known], return_index=True)
    original_levels = np.zeros(len(different), np.int64)
    original_levels[of[known][first]] = levels[known][first]
    _register(theirs, original_levels, registers)
    figures["original"] = np.where(known, _hashed(different, np.uint64(0))[of], 0)
    figures["original_words"] = np.where(known, np.diff(theirs.offsets)[of], 0)
    ratio = token_estimates(texts) / token_estimates(different)[of]
    figures["length_ratio"] = np.where(known, ratio, np.nan)
    figures["coverage"] = _coverage(texts, different, of, known)
    for n in NEW_GRAMS:
        share = new_share(ngrams_of(theirs, n), of, ngrams_of(tokens, n))
        figures[f"new_{n}"] = np.where(known, share, np.nan)


def _coverage(
    texts: pa.Array, originals: pa.Array, of: NDArray[np.int64], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Keyword coverage of COVERAGE_ROWS rows spread evenly over those that have an original; NaN elsewhere."""
    coverage = np.full(len(texts), np.nan, np.float32)
    rows = np.flatnonzero(known)
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(COVERAGE_ROWS, len(rows))).astype(np.int64))
    for row in rows[chosen].tolist():
        coverage[row] = keyword_coverage(originals[int(of[row])].as_py(), texts[row].as_py())
    return coverage


def _register(tokens: Tokens, levels: NDArray[np.int64], registers: NDArray[np.uint8]) -> None:
    for place, n in enumerate(DISTINCT_GRAMS):
        gram_registers(*ngrams_of(tokens, n), levels, registers[place])


def _texts(columns: pa.RecordBatch, figures: NDArray[Any], limit: int) -> list[_Text]:
    return [
        _Text(
            int(figures["origin"][row]),
            int(figures["order"][row]),
            int(figures["position"][row]),
            _beginning(columns.column("text")[row].as_py()),
            _beginning(columns.column("original")[row].as_py() or ""),
        )
        for row in np.flatnonzero(figures["origin"] <= np.uint64(limit)).tolist()
    ]


def _beginning(text: str) -> bytes:
    return text.encode()[:TEXT_BYTES].decode("utf-8", "ignore").encode()


def _is_given(values: pa.Array) -> NDArray[np.bool_]:
    """Whether each is a string that is not empty."""
    given: NDArray[np.bool_] = pc.fill_null(pc.greater(pc.binary_length(values), 0), False).to_numpy(
        zero_copy_only=False
    )
    return given


def _hashed(values: pa.Array, salt: np.uint64) -> NDArray[np.uint64]:
    data, offsets = string_buffers(values)
    hashes = np.empty(len(values), np.uint64)
    _hash_strings(data, offsets, salt, hashes)
    return hashes


def _leading_zeros(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Zero bits before the first that is not: the highest level at which an original is held."""
    _, bits = np.frexp(hashes.astype(np.float64))
    return np.maximum(64 - bits.astype(np.int64), 0)


@njit(nogil=True, cache=True)
def _salted(values: Any, salt: Any) -> Any:
    return mixed(mixed(salt + _STEP) ^ values)


@njit(nogil=True, cache=True)
def _hash_strings(data: Any, offsets: Any, salt: Any, hashes: Any) -> None:
    start = mixed(salt + _STEP)
    for row in range(len(offsets) - 1):
        value = start
        for at in range(offsets[row], offsets[row + 1]):
            value = (value ^ np.uint64(data[at])) * _STEP
        hashes[row] = mixed(value)
