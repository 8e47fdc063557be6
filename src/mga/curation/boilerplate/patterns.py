"""The boilerplate of a corpus: what stands in far more of its texts than in the originals, proposed for review.

A phrase is proposed when it opens a text, begins its last paragraph or sentence, ends it, or stands anywhere in it, and

- enough texts have it (`min_share`, `min_texts`), from enough different sources (`min_sources`, and at least half as
  many as if the texts that have it were drawn at random), so that no document's own words are taken for the model's;
- the log-odds ratio of its share of texts over its share of the originals, with an informative Dirichlet prior (Monroe,
  Colaresi and Quinn 2008, "Fightin' Words: Lexical Feature Selection and Evaluation for Identifying the Content of
  Political Conflict", equations 16 and 22), is at least log(`min_ratio`), and `min_z` standard deviations.

Each different original counts in pieces as long as a mean text, so the shares compare; and a phrase is looked for
anywhere in them, also one proposed as an opening. Without originals the prior is alone: as many texts, of which every
phrase is in `min_share` × 2. Then a phrase must also have five words or more, and nothing is proposed to be cut.

The proposed action is careful, since a frequent phrase may be a good one ("Once upon a time"). Only an opening or
closing that speaks of the task itself (rewriting, the original text, …) is proposed to be cut. All else is `ignore`,
and dropping, which costs whole texts, is for a person to choose.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex
from numpy.typing import NDArray

from mga.curation.boilerplate.mining import (
    BUCKET_BITS,
    CLOSING,
    ENDING,
    EXACT,
    LONG,
    SHORT,
    Filter,
    Found,
    Tally,
    chosen_rows,
    closing_words,
    phrases_in,
    text_hashes,
)
from mga.curation.boilerplate.selection import Candidate, reviewable
from mga.data.corpus_files import Corpus, is_parquet, ordered
from mga.data.documents import InputFile
from mga.data.reading import count_rows
from mga.errors import InputError
from mga.expand.boilerplate import load_phrases
from mga.expand.corpus_boilerplate import Action, Pattern, Where
from mga.text.tokens import Tokens, string_buffers, tokens_of

SOURCE_KEY = "source_id"
PRIOR_WEIGHT = 0.1
"""The prior counts as a tenth of the originals."""
_SPREAD = 0.5
_MOST_SOURCES = 1000
_ALONE_WORDS = 5
_ALONE_SHARE = 2
_CONTEXT = 60

_TASK = regex.compile(
    r"\b(re-?writ|re-?word|rephras|reformulat|paraphras|(revised|adapted|rewritten) (text|version)|target audience|"
    r"original (text|document|passage|article)|(provided|given|above) (text|document|passage)|as (you )?requested|"
    r"language model|umgeschrieb|umformul|überarbeitete fassung|réécri|reformul|texte original|reescri|texto original|"
    r"riscritt|riformul|testo originale)|改写|重写|改编|原文|書き直|書き換え|リライト|पुनर्ल|إعادة (ال)?(صياغة|كتابة)",
    regex.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a phrase must reach to be proposed. `sample` texts are read, drawn by `seed`."""

    sample: int = 1_000_000
    seed: int = 0
    min_share: float = 0.0005
    min_texts: int = 10
    min_z: float = 3.0
    min_ratio: float = 4.0
    min_sources: int = 10


@dataclass(frozen=True, slots=True)
class Mined:
    """Proposals, clearest first within each place, and what they were counted on. `pieces` of originals, as long as a
    text; 0 without originals."""

    patterns: tuple[Pattern, ...]
    texts: int
    rows: int
    originals: int
    pieces: int
    frequent: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A seeded sample of a corpus, read the same way as often as needed."""

    corpus: Corpus
    share: float
    seed: int

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The chosen rows with some of the columns, as large strings; every batch with its number. A column that a
        Parquet file lacks is left out, unless it is the text."""
        number = 0
        for index, file in enumerate(self.corpus.files):
            present = self._present(file, columns)
            for batch in self.corpus.batches(file, present):
                rows = pa.RecordBatch.from_arrays([_as_text(batch.column(name)) for name in present], present)
                if self.share < 1:
                    seed = (self.seed + 1) * 1_000_003 + index
                    rows = rows.filter(pa.array(chosen_rows(batch.first, batch.rows.num_rows, seed, self.share)))
                yield number, rows
                number += 1

    def _present(self, file: InputFile, columns: Sequence[str]) -> list[str]:
        text_key = self.corpus.text_key
        held = self.corpus.present(file, columns) if is_parquet(file) else columns
        return [name for name in dict.fromkeys(columns) if name == text_key or name in held]


def reading_of(corpus: Corpus, sample: int, seed: int) -> tuple[Reading, int]:
    """A sample of about so many rows, and how many rows there are."""
    rows = sum(count_rows(corpus.files, corpus.text_key))
    return Reading(corpus, min(1.0, sample / rows) if rows else 1.0, seed), rows


def mine(
    corpus: Corpus,
    originals: Corpus | None,
    original_key: str,
    limits: Thresholds,
    workers: int,
    tell: Callable[[str], None] = lambda line: None,
) -> Mined:
    """Propose the boilerplate of a corpus. Originals are a corpus of their own, or the column `original_key` of
    this one where it is there.

    Raises InputError when there are no texts or a file cannot be read.
    """
    reading, rows = reading_of(corpus, limits.sample, limits.seed)
    bucket_bits = min(BUCKET_BITS, max(16, (8 * corpus.bytes).bit_length()))
    short, long, tally = Filter(bucket_bits), Filter(bucket_bits), Tally()
    tell("reading 1 of 3: short phrases")
    texts, words = _fill(reading, SHORT, short, short, workers)
    if texts == 0:
        raise InputError(f"No row of {corpus.given[0]} has a text with words in it in {corpus.text_key!r}.")
    least = max(limits.min_texts, int(np.ceil(limits.min_share * texts)))
    short.close(least)
    tell("reading 2 of 3: longer phrases")
    _fill(reading, LONG, short, long, workers)
    long.close(least)
    tell("reading 3 of 3: exact counts")
    counting = _Counting(short, long, tally, max(1, round(words / texts)))
    counting.read(reading, None if originals else original_key, workers)
    if originals:
        counting.read_originals(reading_of(originals, limits.sample, limits.seed)[0], originals.text_key, workers)
    frequent = np.flatnonzero(tally.counts[0, : tally.size] >= least)
    chosen = reviewable(_candidates(tally, frequent, texts, counting, limits))
    patterns = _with_examples(chosen, reading, texts, bool(counting.pieces))
    return Mined(patterns, texts, rows, counting.originals, round(counting.pieces), len(frequent))


def require_originals(corpus: Corpus, key: str | None) -> None:
    """Raises InputError when a column that was asked for by name is in no file."""
    if key and not any(corpus.present(file, [key]) for file in corpus.files):
        raise InputError(f"No file of {corpus.given[0]} has a column {key!r}; name another with --original-key.")


def _fill(reading: Reading, stage: int, short: Filter, filled: Filter, workers: int) -> tuple[int, int]:
    """Count a reading's phrases into a filter; returns texts that have words, and words."""

    def work(item: tuple[int, pa.RecordBatch]) -> tuple[Tokens, list[Found]]:
        texts = item[1].column(reading.corpus.text_key)
        tokens = tokens_of(texts)
        return tokens, list(phrases_in(tokens, closing_words(texts, tokens), stage, short, filled))

    texts = words = 0
    for tokens, parts in ordered(work, reading.batches([reading.corpus.text_key]), workers):
        for found in parts:
            filled.add(found.keys)
        texts += int(np.count_nonzero(np.diff(tokens.offsets)))
        words += len(tokens.hashes)
    return texts, words


Counted = tuple[Tokens, list[Found]]


class _Counting:
    """The third reading. `pieces` of originals have been counted, of so many different `originals`."""

    def __init__(self, short: Filter, long: Filter, tally: Tally, piece: int) -> None:
        self._short, self._long, self._tally, self._piece = short, long, tally, piece
        self._seen: set[int] = set()
        self._sources = np.zeros(1 << 22, np.bool_)
        self._words = 0

    @property
    def originals(self) -> int:
        return len(self._seen)

    @property
    def pieces(self) -> float:
        return self._words / self._piece

    @property
    def sources(self) -> float:
        """Different sources of the texts, estimated by linear counting."""
        empty = max(1, int(np.count_nonzero(~self._sources)))
        return -len(self._sources) * log(empty / len(self._sources))

    def read(self, reading: Reading, original_key: str | None, workers: int) -> None:
        """Count phrases of the texts, and of the originals beside them."""
        text_key = reading.corpus.text_key
        columns = [text_key, SOURCE_KEY, *([original_key] if original_key else [])]

        def items() -> Iterator[tuple[int, pa.Array, pa.Array | None, NDArray[np.uint64]]]:
            for number, rows in reading.batches(columns):
                has_original = original_key in rows.schema.names
                new = self._new(rows.column(original_key)) if has_original else None
                yield number, rows.column(text_key), new, _sources_of(rows, number)

        def work(item: tuple[int, pa.Array, pa.Array | None, NDArray[np.uint64]]) -> tuple[int, Any, Counted, Any]:
            number, texts, new, sources = item
            return number, sources, self._found(texts), self._found(new, self._piece) if new is not None else None

        for number, sources, (tokens, parts), originals in ordered(work, items(), workers):
            self._sources[sources >> np.uint64(42)] = True
            for found in parts:
                self._tally.add(found, tokens, sources, number)
            if originals:
                self._add_originals(originals)

    def read_originals(self, reading: Reading, key: str, workers: int) -> None:
        """Count phrases of a corpus of originals."""
        batches = (self._new(rows.column(key)) for _, rows in reading.batches([key]))
        for counted in ordered(lambda texts: self._found(texts, self._piece), batches, workers):
            self._add_originals(counted)

    def _found(self, texts: pa.Array, piece: int = 0) -> Counted:
        tokens = tokens_of(texts)
        closings = np.zeros((0, 2), np.int32) if piece else closing_words(texts, tokens)
        return tokens, list(phrases_in(tokens, closings, EXACT, self._short, self._long, piece))

    def _add_originals(self, counted: Counted) -> None:
        tokens, parts = counted
        self._words += len(tokens.hashes)
        for found in parts:
            self._tally.add_originals(found, tokens)

    def _new(self, texts: pa.Array) -> pa.Array:
        """The texts not seen before, each once."""
        different = texts.drop_null().unique()
        hashes = text_hashes(different).tolist()
        new = [at for at, value in enumerate(hashes) if value not in self._seen]
        self._seen.update(hashes)
        return different.take(pa.array(new, pa.int64()))


def _sources_of(rows: pa.RecordBatch, number: int) -> NDArray[np.uint64]:
    """A hash of each row's source; without sources, of its place."""
    places = np.arange(rows.num_rows, dtype=np.int64) + (number << 32)
    names = pa.array(places).cast(pa.large_string())
    if SOURCE_KEY in rows.schema.names:
        names = pc.fill_null(rows.column(SOURCE_KEY), names)
    return text_hashes(names)


def _as_text(values: pa.Array) -> pa.Array:
    """Values as large strings; lists and structures, which name no source and are no text, as nulls."""
    if pa.types.is_nested(values.type):
        return pa.nulls(len(values), pa.large_string())
    return values if pa.types.is_large_string(values.type) else values.cast(pa.large_string())


def log_odds(
    texts: NDArray[np.float64], of_texts: float, originals: NDArray[np.float64], of_originals: float, prior: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds ratio of each phrase's share of the texts over that of the originals, and its z-score.

    The prior counts as `prior` times the originals and has the phrase's share in both together (Monroe, Colaresi and
    Quinn 2008: equation 16 for the ratio, 19 for its variance, 22 for z).
    """
    weight = prior * of_originals
    expected = weight * (texts + originals) / (of_texts + of_originals)
    ratio = _log_odds(texts + expected, of_texts + weight) - _log_odds(originals + expected, of_originals + weight)
    return ratio, ratio / np.sqrt(1 / (texts + expected) + 1 / (originals + expected))


def log_odds_alone(
    texts: NDArray[np.float64], of_texts: float, share: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same without originals: in their place stands a prior of as many texts, with every phrase at one share."""
    expected = np.full(len(texts), of_texts * share)
    ratio = _log_odds(texts, of_texts) - _log_odds(expected, of_texts)
    return ratio, ratio / np.sqrt(1 / texts + 1 / expected)


def _log_odds(count: NDArray[np.float64], of: float) -> NDArray[np.float64]:
    return np.asarray(np.log(count / np.maximum(of - count, 0.5)))


def _candidates(
    tally: Tally, frequent: NDArray[np.int64], texts: int, counting: _Counting, limits: Thresholds
) -> list[Candidate]:
    count = tally.counts[0, frequent].astype(np.float64)
    held = tally.counts[1, frequent].astype(np.float64)
    pieces = counting.pieces
    if pieces:
        ratio, z = log_odds(count, texts, held, pieces, PRIOR_WEIGHT)
    else:
        ratio, z = log_odds_alone(count, texts, min(_ALONE_SHARE * limits.min_share, 0.5))
    passed = (ratio >= log(limits.min_ratio)) & (z >= limits.min_z)
    if not pieces:
        passed &= tally.lengths[frequent] >= _ALONE_WORDS
    of = counting.sources
    at_random = of * -np.expm1(-count / of)
    wanted = np.maximum(limits.min_sources, _SPREAD * np.minimum(at_random, _MOST_SOURCES))
    passed &= tally.sources(frequent) >= wanted
    clarity = count / texts / ((held + 0.5) / max(pieces, 1.0))
    return [
        Candidate(
            int(tally.kinds[entry]),
            tuple(tally.words[entry, : tally.lengths[entry]].tolist()),
            int(count[i]),
            float(held[i] / pieces) if pieces else 0.0,
            float(z[i]),
            float(clarity[i]),
            tuple(place for place in tally.examples[entry].tolist() if place >= 0),
        )
        for i, entry in zip(np.flatnonzero(passed), frequent[passed], strict=True)
    ]


def _with_examples(
    candidates: Sequence[Candidate], reading: Reading, texts: int, has_originals: bool
) -> tuple[Pattern, ...]:
    """The candidates as patterns, with what the texts say there."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for number, one in enumerate(candidates):
        for place in one.places:
            wanted.setdefault(place >> 32, []).append((place & 0xFFFFFFFF, number))
    quotes: list[list[_Quote]] = [[] for _ in candidates]
    for batch, rows in reading.batches([reading.corpus.text_key]) if wanted else ():
        column = rows.column(reading.corpus.text_key)
        for row, number in wanted.pop(batch, ()):
            quotes[number].append(_quote(column.slice(row, 1), candidates[number]))
        if not wanted:
            break
    found: dict[tuple[str, ...], Pattern] = {}
    for one, said in zip(candidates, quotes, strict=True):
        pattern = Pattern(
            said[0].phrase,
            one.where,
            _action(one.where, said) if has_originals else "ignore",
            one.texts,
            _rounded(one.texts / texts),
            _rounded(one.originals) if has_originals else None,
            round(one.z, 1),
            tuple(quote.shown for quote in said),
        )
        if pattern.key not in found or found[pattern.key].texts < one.texts:  # type: ignore[operator]
            found[pattern.key] = pattern
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Quote:
    before: str
    phrase: str
    after: str

    @property
    def shown(self) -> str:
        head = f"…{self.before[-_CONTEXT:]}" if len(self.before) > _CONTEXT else self.before
        tail = f"{self.after[:_CONTEXT]}…" if len(self.after) > _CONTEXT else self.after
        return f"{head}{self.phrase}{tail}"


def _quote(text: pa.Array, one: Candidate) -> _Quote:
    """The phrase as a text has it, with what stands around it."""
    tokens = tokens_of(text)
    data, offsets = string_buffers(text)
    n = len(one.words)
    hashes = tokens.hashes.tolist()
    starts = range(len(hashes) - n, -1, -1) if one.kind in (CLOSING, ENDING) else range(len(hashes) - n + 1)
    start = next((i for i in starts if tuple(hashes[i : i + n]) == one.words), None)
    if start is None:
        raise InputError("The files changed while they were read; run again when they stay as they are.")
    written = data[offsets[0] : offsets[1]].tobytes()
    begin, end = int(tokens.starts[start]), int(tokens.ends[start + n - 1])
    before, phrase, after = (
        " ".join(f"|{part.decode('utf-8', 'replace')}|".split())[1:-1]
        for part in (written[:begin], written[begin:end], written[end:])
    )
    return _Quote(before, phrase.strip(), after)


def _action(where: Where, said: Sequence[_Quote]) -> Action:
    """What is proposed: to cut what speaks of the task at an edge, else to leave the decision to a person."""
    if where == "anywhere":
        return "ignore"
    remarks = load_phrases().openings if where == "opening" else load_phrases().closings
    speaks = _TASK.search(said[0].phrase) or all(remarks.match(f"{q.phrase}{q.after}".replace("’", "'")) for q in said)
    return "cut" if speaks else "ignore"


def _rounded(share: float) -> float:
    return float(f"{share:.3g}")
