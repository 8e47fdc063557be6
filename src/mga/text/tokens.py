"""Words of many texts at once, as 64-bit hashes: compiled, in any script, straight from Arrow's buffers.

What `words.py` does for one text with regular expressions, this does for millions. Case, width, accents, Unicode form
and invisible characters make no difference. A word is a run of letters, marks and digits; in scripts written without
spaces every character is a word.
"""

import sys
import threading
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

Unit = Literal["word", "character"]

SEPARATOR, IGNORED, ALONE, JOINS = 0, 1, 1 << 31, 1 << 30
"""What the folding table says of a character that is no letter of its own: it ends a word, or it is not seen.
ALONE is a flag on a letter that is a word by itself, JOINS on one that may be a part of the letter before it: a vowel
or final consonant of Hangul, a voicing mark of kana, a nukta."""

_UNSPACED = ("CJK UNIFIED", "CJK COMPAT", "HIRAGANA", "KATAKANA", "THAI", "LAO ", "KHMER", "MYANMAR", "IDEOGRAPHIC")
_INVISIBLE = {0x00AD, 0x034F, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10)}
_ACCENTS = range(0x0300, 0x0370)
_LAST_LETTER = 0x33480
_MIX, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)


_kept = threading.local()


@dataclass(frozen=True, slots=True)
class Tokens:
    """The words of some texts, one text after the other.

    `hashes` (uint64) of all words; text i has those from `offsets[i]` to `offsets[i + 1]` (int64). Word k stands at
    the bytes `starts[k]` to `ends[k]` (int32) of its own text's UTF-8.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def tokens_of(texts: pa.Array, unit: Unit = "word") -> Tokens:
    """The words (or letters) of an Arrow array of strings; null has none. Bytes that are no UTF-8 separate words."""
    data, offsets = string_buffers(texts)
    most = int(offsets[-1] - offsets[0]) // (2 if unit == "word" else 1) + len(texts)
    hashes, starts, ends = _room(most)
    found = np.zeros(len(texts) + 1, np.int64)
    count = _tokenize(data, offsets, folding(), joining(), unit == "character", hashes, starts, ends, found)
    return Tokens(hashes[:count].copy(), found, starts[:count].copy(), ends[:count].copy())


def _room(words: int) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    """Arrays for so many words at least, this thread's own and used again: fresh memory costs more than to fill it."""
    arrays: tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]] | None = getattr(_kept, "arrays", None)
    if arrays is None or len(arrays[0]) < words:
        arrays = _kept.arrays = np.empty(words, np.uint64), np.empty(words, np.int32), np.empty(words, np.int32)
    return arrays


def ngrams_of(tokens: Tokens, n: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all runs of n words (uint64), and where each text's begin (int64, one more than texts).

    The k-th n-gram of a text begins at its k-th word. A text of fewer words has one n-gram, of all its words.
    """
    offsets = np.zeros(len(tokens) + 1, np.int64)
    lengths = np.diff(tokens.offsets)
    np.cumsum(np.where(lengths >= n, lengths - n + 1, np.minimum(lengths, 1)), out=offsets[1:])
    hashes = np.empty(offsets[-1], np.uint64)
    _ngrams(tokens.hashes, tokens.offsets, n, hashes, offsets)
    return hashes, offsets


def string_buffers(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Bytes and offsets (int64, one more than texts) of an Arrow array of strings of any kind; null is empty."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        texts = texts.cast(pa.large_string())
    if texts.null_count:
        texts = texts.fill_null("")
    _, bounds, data = texts.buffers()
    kind = np.int32 if pa.types.is_string(texts.type) else np.int64
    if bounds is None or len(texts) == 0:
        return np.zeros(1, np.uint8), np.zeros(len(texts) + 1, np.int64)
    offsets = np.frombuffer(bounds, kind, len(texts) + 1, texts.offset * np.dtype(kind).itemsize)
    held = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
    held.flags.writeable = False  # writable or not, one type: compiled once
    return held, offsets.astype(np.int64)


@cache
def folding() -> NDArray[np.uint32]:
    """For every code point: SEPARATOR, IGNORED, or the letter it counts as, perhaps with ALONE."""
    table = np.zeros(sys.maxunicode + 1, np.uint32)
    for code in range(_LAST_LETTER):
        character = chr(code)
        kind = unicodedata.category(character)
        if code in _INVISIBLE or code in _ACCENTS:
            table[code] = IGNORED
        elif kind[0] in "LMN":
            folded = _folded(character)
            name = unicodedata.name(folded, "")
            table[code] = ord(folded) | (ALONE if name.startswith(_UNSPACED) else 0)
    joining = np.array(sorted({*range(0x1161, 0x1176), *range(0x11A8, 0x11C3), *(pair[1] for pair in _pairs())}))
    table[np.isin(table & np.uint32(ALONE - 1), joining) & (table > IGNORED)] |= np.uint32(JOINS)
    return table


@cache
def _pairs() -> dict[tuple[int, int], int]:
    """Letters that are written as one character or as two, by the two (Unicode's canonical decompositions; accents,
    which are not seen, and Hangul, which is computed, apart)."""
    found = {}
    for code in range(_LAST_LETTER):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<") and (mark := int(parts[1], 16)) not in _ACCENTS:
            found[int(parts[0], 16), mark] = code
    return found


@cache
def joining() -> NDArray[np.uint32]:
    """The pairs of letters that are one (pairs × 3, uint32): first, mark, whole, in order; letters as `folding` has
    them."""
    table = folding()
    rows = {(int(table[a]), int(table[b]), int(table[whole])) for (a, b), whole in _pairs().items()}
    return np.array(sorted(rows), np.uint32)


@njit(nogil=True, cache=True)
def joined(letter: Any, mark: Any, pairs: Any) -> Any:
    """The letter that a letter and a JOINS letter after it are together, 0 where they are none."""
    first, second = letter & np.uint32(JOINS - 1), mark & np.uint32(JOINS - 1)
    if 0x1100 <= first < 0x1113 and 0x1161 <= second < 0x1176:
        return np.uint32(0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28)
    if 0xAC00 <= first < 0xD7A4 and (first - 0xAC00) % 28 == 0 and 0x11A8 <= second < 0x11C3:
        return np.uint32(first + second - 0x11A7)
    low, high = 0, len(pairs)
    while low < high:
        middle = (low + high) // 2
        if pairs[middle, 0] < letter or (pairs[middle, 0] == letter and pairs[middle, 1] < mark):
            low = middle + 1
        else:
            high = middle
    if low < len(pairs) and pairs[low, 0] == letter and pairs[low, 1] == mark:
        return pairs[low, 2]
    return np.uint32(0)


def _folded(character: str) -> str:
    """The one character it counts as: compatible, case-folded, without accents."""
    for fold in (lambda c: unicodedata.normalize("NFKC", c), str.casefold, _without_accents, str.lower):
        other = fold(character)
        if len(other) == 1:
            character = other
    return character


def _without_accents(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    return parts[0] if all(ord(mark) in _ACCENTS for mark in parts[1:]) else character


@njit(nogil=True, cache=True, inline="always")
def mixed(value: Any) -> Any:
    """A 64-bit value whose bits all depend on all bits of the given one (splitmix64's finaliser)."""
    value = (value ^ (value >> np.uint64(30))) * _MIX
    value = (value ^ (value >> np.uint64(27))) * _MIX2
    return value ^ (value >> np.uint64(31))


@njit(nogil=True, cache=True)
def _tokenize(
    data: Any, offsets: Any, fold: Any, pairs: Any, single: bool, hashes: Any, starts: Any, ends: Any, found: Any
) -> int:
    count = 0
    for text in range(len(offsets) - 1):
        first, end = offsets[text], offsets[text + 1]
        at = first
        value = before = np.uint64(0)
        previous = np.uint32(0)  # the last letter, while nothing but what is not seen has come after it
        inside = False
        while at < end:
            here = at
            byte = np.uint32(data[at])
            if byte < 0x80:
                code = byte
                at += 1
            else:
                size = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2
                code = np.uint32(0)
                if 0xC2 <= byte < 0xF5 and at + size <= end:
                    code = byte & np.uint32(0x7F >> size)
                    for k in range(1, size):
                        more = np.uint32(data[at + k])
                        if more & 0xC0 != 0x80:
                            code = np.uint32(0)
                            break
                        code = (code << np.uint32(6)) | (more & np.uint32(0x3F))
                    if code < (0x10000 if size == 4 else 0x800 if size == 3 else 0x80):  # longer than need be: no UTF-8
                        code = np.uint32(0)
                at += size if code != 0 else 1
            letter = fold[code] if code <= 0x10FFFF else np.uint32(SEPARATOR)
            if letter == IGNORED:
                continue
            if letter & JOINS and previous != 0 and letter != SEPARATOR:
                whole = joined(previous, letter, pairs)
                if whole != 0:
                    previous = whole
                    value = (before ^ np.uint64(whole)) * _STEP
                    if not inside:  # a word by itself
                        hashes[count - 1] = mixed(value)
                        ends[count - 1] = at - first
                    continue
            alone = letter >= ALONE or (single and letter != SEPARATOR)
            if inside and (letter == SEPARATOR or alone):
                hashes[count] = mixed(value)
                ends[count] = here - first
                count += 1
                inside = False
            if letter == SEPARATOR:
                previous = np.uint32(0)
                continue
            if not inside:
                starts[count] = here - first
                inside = True
                value = _STEP
            previous, before = letter, value
            value = (value ^ np.uint64(letter)) * _STEP
            if alone:
                hashes[count] = mixed(value)
                ends[count] = at - first
                count += 1
                inside = False
                continue
            while at < end and data[at] < 0x80 and fold[data[at]] != SEPARATOR:  # the rest of most words
                previous, before = fold[data[at]], value
                value = (value ^ np.uint64(previous)) * _STEP
                at += 1
        if inside:
            hashes[count] = mixed(value)
            ends[count] = end - first
            count += 1
        found[text + 1] = count
    return count


@njit(nogil=True, cache=True)
def _ngrams(hashes: Any, offsets: Any, n: int, grams: Any, gram_offsets: Any) -> None:
    leaving = np.uint64(1)
    for _ in range(n):
        leaving *= _STEP
    for text in range(len(offsets) - 1):
        value = np.uint64(0)
        out = gram_offsets[text]
        first, end = offsets[text], offsets[text + 1]
        for at in range(first, end):
            value = value * _STEP + hashes[at]
            if at - first >= n:
                value -= hashes[at - n] * leaving
            if at - first >= n - 1 or at == end - 1:
                grams[out] = mixed(value)
                out += 1
