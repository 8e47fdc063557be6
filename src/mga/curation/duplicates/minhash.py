"""Shingles of texts, and MinHash band hashes of them: equal for texts that share most shingles, seldom for others.

Sketches are made as in Dahlgaard, Knudsen and Thorup, "Fast Similarity Sketching" (FOCS 2017): every shingle falls
into one bin and the smallest of a bin counts; bins still empty are filled by further rounds. It estimates as well as
one hash function a bin, for short texts too, and costs a long text one hash a shingle.
"""

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray

from mga.errors import InputError
from mga.text.tokens import Unit, mixed, ngrams_of, string_buffers, tokens_of

LEAST_RECALL = 0.98
LEAST_THRESHOLD = 0.5
_MOST_ROWS = 8
_LAST_MARK = 0x30000
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
    least one. `lengths` (int32) are tokens. `fingerprints` (2 × texts, uint64) are equal for equal texts, white space
    and Unicode form (NFC) apart.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    fingerprints: NDArray[np.uint64]


def shingles_of(texts: pa.Array, shingle: Shingle) -> Shingles:
    """Shingles of an Arrow array of strings. A text without a token has one, which stands for its characters.

    Of a text with so few shingles that one that differs makes it another text (under 2n - 1 tokens), symbols that carry
    a meaning count too: `C#` and `C++`, `a < b` and `a > b`, 1.5 and 15 share no shingle.
    """
    tokens = tokens_of(texts, shingle.unit)
    hashes, offsets = ngrams_of(tokens, shingle.n)
    lengths = np.diff(tokens.offsets).astype(np.int32)
    fingerprints = fingerprints_of(texts)
    _add_symbols(hashes, offsets, lengths, 2 * shingle.n - 1, *string_buffers(texts))
    if len(bare := np.flatnonzero(lengths == 0)):
        hashes = np.insert(hashes, offsets[bare], fingerprints[0, bare])
        offsets = offsets + np.concatenate(([0], np.cumsum(lengths == 0)))
    return Shingles(hashes, offsets, lengths, fingerprints)


def fingerprints_of(texts: pa.Array) -> NDArray[np.uint64]:
    """Two hashes of each text (2 × texts, uint64) that are equal for texts that are, once composed (NFC) and with each
    run of white space as one space and none at the ends. Null counts as empty."""
    found = np.empty((2, len(texts)), np.uint64)
    data, bounds = string_buffers(texts)
    composed = np.zeros(len(texts), np.bool_)
    _fingerprints(data, bounds, _uncomposed(), found, composed)
    if len(rest := np.flatnonzero(composed)):
        data, bounds = string_buffers(pc.utf8_normalize(texts.take(pa.array(rest)).cast(pa.large_string()), "NFC"))
        again, none = np.empty((2, len(rest)), np.uint64), np.zeros(len(rest), np.bool_)
        _fingerprints(data, bounds, _uncomposed(), again, none)
        found[:, rest] = again
    return found


@cache
def _uncomposed() -> NDArray[np.bool_]:
    """For every code point: whether a text that holds it may not be composed."""
    table = np.zeros(sys.maxunicode + 1, np.bool_)
    for code in range(0x300, _LAST_MARK):
        character = chr(code)
        table[code] = unicodedata.combining(character) or not unicodedata.is_normalized("NFC", character)
    table[0x1161:0x1176] = table[0x11A8:0x11C3] = True  # what Hangul syllables end with
    return table


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
def _code(data: Any, at: int, end: int) -> Any:
    """The code point at a byte, 0 for what is no UTF-8 as far as can be told at once, and the bytes it takes."""
    byte = np.uint32(data[at])
    if byte < 0x80:
        return byte, 1
    size = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2
    if byte < 0xC2 or byte >= 0xF5 or at + size > end:
        return np.uint32(0), 1
    code = byte & np.uint32(0x7F >> size)
    for k in range(1, size):
        code = (code << np.uint32(6)) | np.uint32(data[at + k] & 0x3F)
    return code, size


@njit(nogil=True, cache=True, inline="always")
def _is_space(code: Any) -> Any:
    """Whether a code point is white space (Unicode's White_Space, and the separators U+001C to U+001F)."""
    if code < 0x80:
        return code == 32 or 9 <= code <= 13 or 28 <= code <= 31
    if code in (0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000):
        return True
    return 0x2000 <= code <= 0x200A


@njit(nogil=True, cache=True)
def _fingerprints(data: Any, bounds: Any, uncomposed: Any, found: Any, composed: Any) -> None:
    for text in range(len(bounds) - 1):
        first, other = _STEP, _OTHER_STEP
        at, end = bounds[text], bounds[text + 1]
        begun = gap = False
        while at < end:
            code, size = _code(data, at, end)
            if _is_space(code):
                gap = begun
                at += size
                continue
            if code >= 0x300 and code < len(uncomposed) and uncomposed[code]:
                composed[text] = True
            if gap:
                first = (first ^ np.uint64(32)) * _STEP
                other = (other + np.uint64(32)) * _OTHER_STEP
                gap = False
            begun = True
            for k in range(at, at + size):
                first = (first ^ np.uint64(data[k])) * _STEP
                first ^= first >> np.uint64(29)
                other = (other + np.uint64(data[k])) * _OTHER_STEP
                other ^= other >> np.uint64(31)
            at += size
        found[0, text] = mixed(first)
        found[1, text] = mixed(other)


@njit(nogil=True, cache=True, inline="always")
def _is_alphanumeric(byte: Any) -> Any:
    return byte >= 0x80 or 48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122


@njit(nogil=True, cache=True)
def _add_symbols(grams: Any, offsets: Any, lengths: Any, fewer: int, data: Any, bounds: Any) -> None:
    """Mix the symbols of each text of fewer tokens into its shingles.

    Symbols are # $ % & * + / < = > @ \\ ^ | ~ and, within numbers or beside what is no letter, - and . and ,; of others
    those from U+2190 to U+22FF (arrows, operators), × and ÷. Sentence marks, quotes and brackets are none.
    """
    for text in range(len(lengths)):
        if lengths[text] == 0 or lengths[text] >= fewer:
            continue
        value = np.uint64(0)
        at, end = bounds[text], bounds[text + 1]
        while at < end:
            code, size = _code(data, at, end)
            counts = (
                code in (35, 36, 37, 38, 42, 43, 47, 60, 61, 62, 64, 92, 94, 124, 126, 0xD7, 0xF7)
                or 0x2190 <= code <= 0x22FF
            )
            if code in (44, 45, 46):
                digits = at > bounds[text] and 48 <= data[at - 1] <= 57 and at + 1 < end and 48 <= data[at + 1] <= 57
                letters = at > bounds[text] and _is_alphanumeric(data[at - 1])
                counts = digits or (code == 45 and not letters)
            if counts:
                value = mixed((value ^ np.uint64(code)) * _OTHER_STEP)
            at += size
        if value != 0:
            for k in range(offsets[text], offsets[text + 1]):
                grams[k] = mixed(grams[k] ^ value)


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
