"""Shingles of texts, and MinHash band hashes of them: equal for texts that share most shingles, seldom for others.

Sketches are made as in Dahlgaard, Knudsen and Thorup, "Fast Similarity Sketching" (FOCS 2017): every shingle falls
into one bin and the smallest of a bin counts; bins still empty are filled by further rounds. It estimates as well as
one hash function a bin, for short texts too, and costs a long text one hash a shingle.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from mga.errors import InputError
from mga.text.tokens import Unit, mixed, ngrams_of, string_buffers, tokens_of

LEAST_RECALL = 0.98
LEAST_THRESHOLD = 0.5
_MOST_ROWS = 8
_STEP, _OTHER_STEP = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class Shingle:
    """What similarity is counted in: runs of `n` words or letters."""

    unit: Unit
    n: int

    @classmethod
    def parse(cls, given: str) -> "Shingle":
        """`words:5` or `characters:12`. Raises InputError for anything else."""
        unit, _, n = given.partition(":")
        if unit not in ("words", "characters") or not n.isdecimal() or not 1 <= int(n) <= 100:
            raise InputError(f"--shingle {given} is neither words:N nor characters:N with N from 1 to 100.")
        return cls("word" if unit == "words" else "character", int(n))


FIVE_WORDS = Shingle("word", 5)


@dataclass(frozen=True, slots=True)
class Banding:
    """A pair is a candidate when all `rows` values of one of the `bands` agree."""

    bands: int
    rows: int

    def recall(self, jaccard: float) -> float:
        """Share of pairs of that similarity that become candidates: 1 - (1 - J^rows)^bands."""
        return float(1 - (1 - jaccard**self.rows) ** self.bands)


def banding_for(threshold: float) -> Banding:
    """The bands that find at least LEAST_RECALL of pairs at the threshold and as few as possible below it.

    0.8 gives 16 bands of 6 rows: 0.992 at 0.8, 0.99999 at 0.9, and 1 in 5 million at 0.05.
    """
    for bands in (16, 32, 64):
        rows = max(r for r in range(1, _MOST_ROWS + 1) if Banding(bands, r).recall(threshold) >= LEAST_RECALL)
        if rows >= 4:
            break
    return Banding(bands, rows)


@dataclass(frozen=True, slots=True)
class Shingles:
    """Shingles of some texts, one text after the other.

    `hashes` (uint64) of all; text i has those from `offsets[i]` to `offsets[i + 1]` (int64), repeats included, and at
    least one. `lengths` (int32) are tokens. `fingerprints` (2 × texts, uint64) are equal for equal token sequences.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    fingerprints: NDArray[np.uint64]


def shingles_of(texts: pa.Array, shingle: Shingle) -> Shingles:
    """Shingles of an Arrow array of strings. A text without a token has one, which stands for its bytes."""
    tokens = tokens_of(texts, shingle.unit)
    hashes, offsets = ngrams_of(tokens, shingle.n)
    lengths = np.diff(tokens.offsets).astype(np.int32)
    fingerprints = np.empty((2, len(tokens)), np.uint64)
    _fingerprints(tokens.hashes, tokens.offsets, *string_buffers(texts), fingerprints)
    if len(bare := np.flatnonzero(lengths == 0)):
        hashes = np.insert(hashes, offsets[bare], fingerprints[0, bare])
        offsets = offsets + np.concatenate(([0], np.cumsum(lengths == 0)))
    return Shingles(hashes, offsets, lengths, fingerprints)


def band_hashes(shingles: Shingles, banding: Banding) -> NDArray[np.uint64]:
    """Band hashes (bands × texts, uint64)."""
    found = np.empty((banding.bands, len(shingles.lengths)), np.uint64)
    _band_hashes(shingles.hashes, shingles.offsets, banding.rows, found)
    return found


def shingle_sets(shingles: Shingles) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Each text's different shingles in ascending order (uint64), and where each text's begin (int64)."""
    hashes, counts = shingles.hashes.copy(), np.zeros(len(shingles.offsets), np.int64)
    _sets(hashes, shingles.offsets, counts)
    offsets = np.cumsum(counts)
    return hashes[: offsets[-1]].copy(), offsets


def string_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """A hash (uint64) of each string's bytes; 0 for null."""
    data, offsets = string_buffers(texts)
    found = np.empty(len(texts), np.uint64)
    _string_hashes(data, offsets, found)
    found[np.asarray(texts.is_null())] = 0
    return found


@njit(nogil=True, cache=True)
def _fingerprints(hashes: Any, offsets: Any, data: Any, bounds: Any, found: Any) -> None:
    for text in range(len(offsets) - 1):
        first, other = _STEP, _OTHER_STEP
        for at in range(offsets[text], offsets[text + 1]):
            first = mixed(first ^ hashes[at])
            other = (other + hashes[at]) * _OTHER_STEP
        if offsets[text] == offsets[text + 1]:
            for at in range(bounds[text], bounds[text + 1]):
                first = mixed(first + np.uint64(data[at]))
                other = (other ^ np.uint64(data[at])) * _OTHER_STEP
        found[0, text] = first
        found[1, text] = mixed(other)


@njit(nogil=True, cache=True)
def _string_hashes(data: Any, bounds: Any, found: Any) -> None:
    for text in range(len(bounds) - 1):
        value = _STEP
        for at in range(bounds[text], bounds[text + 1]):
            value = (value ^ np.uint64(data[at])) * _OTHER_STEP
        found[text] = mixed(value)


@njit(nogil=True, cache=True)
def _band_hashes(grams: Any, offsets: Any, rows: int, found: Any) -> None:
    bands = found.shape[0]
    bins = bands * rows
    least = np.empty(bins, np.uint64)
    filled_in = np.empty(bins, np.int32)
    for text in range(len(offsets) - 1):
        filled_in[:] = -1
        empty = bins
        turn = 0
        while empty > 0:
            salt = mixed(np.uint64(turn) * _STEP)
            for at in range(offsets[text], offsets[text + 1]):
                value = mixed(grams[at] ^ salt)
                # From the bins-th round on a bin has a round of its own, so that all get filled.
                place = (
                    turn - bins
                    if turn >= bins
                    else np.int64(((value >> np.uint64(32)) * np.uint64(bins)) >> np.uint64(32))
                )
                if filled_in[place] < 0:
                    filled_in[place] = turn
                    least[place] = value
                    empty -= 1
                elif filled_in[place] == turn and value < least[place]:
                    least[place] = value
            turn += 1
        for band in range(bands):
            value = np.uint64(band)
            for row in range(rows):
                value = mixed((value ^ least[band * rows + row]) * _STEP)
            found[band, text] = value


@njit(nogil=True, cache=True)
def _sets(grams: Any, offsets: Any, counts: Any) -> None:
    out = 0
    for text in range(len(offsets) - 1):
        ordered = np.sort(grams[offsets[text] : offsets[text + 1]])
        for k in range(len(ordered)):
            if k == 0 or ordered[k] != ordered[k - 1]:
                grams[out] = ordered[k]
                out += 1
                counts[text + 1] += 1
