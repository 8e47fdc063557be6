"""What two texts have in common, for many pairs of texts at once: compiled.

The share of word n-grams that are new is that of `words.py` but for what a letter is: here accents and width make no
difference (`tokens.folding`), and "_" ends a word.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from mga.text.tokens import ALONE, IGNORED, Tokens, folding, mixed, string_buffers

_STEM_LETTERS = 5
_LIGHT_BYTES = 3  # a word of three letters is its own stem, and no keyword
_UNSPACED_WEIGHT = 2
_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Stems:
    """The words of some texts as `words.py` cuts them: unspaced scripts in pairs of characters.

    Text i has the entries from `offsets[i]` to `offsets[i + 1]` (int64) of `words` (uint64, hashes of whole words),
    `stems` (uint64, hashes of their first five letters) and `weights` (int32, what one occurrence counts as a keyword:
    its letters less three, 2 for a pair of characters, 0 for a number).
    """

    words: NDArray[np.uint64]
    stems: NDArray[np.uint64]
    weights: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def stems_of(texts: pa.Array, tokens: Tokens) -> Stems:
    """Stems of an Arrow array of strings whose `tokens` (words) are known."""
    data, offsets = string_buffers(texts)
    words, stems = np.empty(len(tokens.hashes), np.uint64), np.empty(len(tokens.hashes), np.uint64)
    weights, found = np.empty(len(tokens.hashes), np.int32), np.zeros(len(tokens) + 1, np.int64)
    count = _stems(
        data,
        offsets,
        folding(),
        tokens.hashes,
        tokens.offsets,
        tokens.starts,
        tokens.ends,
        words,
        stems,
        weights,
        found,
    )
    return Stems(words[:count], stems[:count], weights[:count], found)


def new_share(
    originals: tuple[NDArray[np.uint64], NDArray[np.int64]],
    of: NDArray[np.int64],
    rewrites: tuple[NDArray[np.uint64], NDArray[np.int64]],
) -> NDArray[np.float32]:
    """Share of the n-grams of rewrite i (as `tokens.ngrams_of` gives them) that original `of[i]` does not have
    (float32, 0–1); 0 for a rewrite without words."""
    share = np.zeros(len(of), np.float32)
    order = np.argsort(of, kind="stable")
    table = np.empty((_table_size(originals[1]), 2), np.uint64)
    _new_share(*originals, of, order, *rewrites, table, share)
    return share


def shared_grams(
    grams: NDArray[np.uint64], offsets: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Jaccard similarity and containment of the n-gram sets of the texts `left[i]` and `right[i]` (float64, 0–1).

    Containment is what they share over the smaller set (Broder 1997). Two texts without words are equal.
    """
    sets, bounds = _sets(grams, offsets)
    jaccard, containment = np.empty(len(left)), np.empty(len(left))
    _shared(sets, bounds, left, right, jaccard, containment)
    return jaccard, containment


def token_estimates(texts: pa.Array) -> NDArray[np.float32]:
    """Tokens of each text by the rule of `words.estimate_tokens` (float32, not rounded)."""
    data, offsets = string_buffers(texts)
    estimates = np.empty(len(texts), np.float32)
    _estimates(data, offsets, estimates)
    return estimates


def _table_size(offsets: NDArray[np.int64]) -> int:
    """Places of a hash table that stays half empty with any one text in it: a power of two."""
    longest = int(np.diff(offsets).max(initial=1))
    return int(1 << (2 * longest).bit_length())


@njit(nogil=True, cache=True)
def _stems(
    data: Any,
    offsets: Any,
    fold: Any,
    hashes: Any,
    token_offsets: Any,
    starts: Any,
    ends: Any,
    words: Any,
    stems: Any,
    weights: Any,
    found: Any,
) -> int:
    count = 0
    for text in range(len(offsets) - 1):
        base = offsets[text]
        previous_end = -1  # of a character that is a word by itself; -1 after any other word
        paired = False
        for token in range(token_offsets[text], token_offsets[text + 1]):
            at, end = base + starts[token], base + ends[token]
            if end - at <= _LIGHT_BYTES and data[at] < 0x80:
                words[count], stems[count], weights[count] = hashes[token], hashes[token], 0
                paired, previous_end = False, -1
                count += 1
                continue
            value = _STEP
            letters = 0
            number = True
            alone = False
            while at < end:
                code = np.uint32(data[at])
                if code < 0x80 and letters >= _STEM_LETTERS and not number:  # counts, and no more
                    letters += 1
                    at += 1
                    alone = False
                    continue
                size = 1
                if code >= 0x80:
                    size = 4 if code >= 0xF0 else 3 if code >= 0xE0 else 2
                    code &= np.uint32(0x7F >> size)
                    for k in range(1, size):
                        code = (code << np.uint32(6)) | (np.uint32(data[at + k]) & np.uint32(0x3F))
                at += size
                letter = fold[code]
                if letter == IGNORED:
                    continue
                letters += 1
                alone = letter >= ALONE
                if number:
                    number = 48 <= letter < 58
                if letters <= _STEM_LETTERS:
                    value = (value ^ np.uint64(letter)) * _STEP
            stem = mixed(value)
            if alone and previous_end == starts[token]:
                pair = mixed(hashes[token - 1] * _STEP + hashes[token])
                if not paired:
                    count -= 1  # the character before stands in this pair, not for itself
                words[count], stems[count], weights[count] = pair, pair, _UNSPACED_WEIGHT
                paired = True
            else:
                words[count], stems[count] = hashes[token], stem
                weights[count] = _UNSPACED_WEIGHT if alone else 0 if number else letters - 3
                paired = False
            previous_end = ends[token] if alone else -1
            count += 1
        found[text + 1] = count
    return count


@njit(nogil=True, cache=True, inline="always")
def _put(table: Any, mask: Any, owner: Any, value: Any) -> None:
    """Add a value to the owner's set. A place is taken when its second column names the owner."""
    place = value & mask
    while table[place, 1] == owner and table[place, 0] != value:
        place = (place + np.uint64(1)) & mask
    table[place, 0], table[place, 1] = value, owner


@njit(nogil=True, cache=True, inline="always")
def _has(table: Any, mask: Any, owner: Any, value: Any) -> bool:
    place = value & mask
    while table[place, 1] == owner:
        if table[place, 0] == value:
            return True
        place = (place + np.uint64(1)) & mask
    return False


@njit(nogil=True, cache=True)
def _new_share(
    known: Any, known_offsets: Any, of: Any, order: Any, grams: Any, offsets: Any, table: Any, share: Any
) -> None:
    mask = np.uint64(len(table) - 1)
    table[:, 1] = 0
    held = -1
    for row in order:
        original = of[row]
        owner = np.uint64(original + 1)
        if original != held:
            for at in range(known_offsets[original], known_offsets[original + 1]):
                _put(table, mask, owner, known[at])
            held = original
        new = 0
        for at in range(offsets[row], offsets[row + 1]):
            new += not _has(table, mask, owner, grams[at])
        total = offsets[row + 1] - offsets[row]
        share[row] = new / total if total else 0


@njit(nogil=True, cache=True)
def _sets(grams: Any, offsets: Any) -> tuple[Any, Any]:
    """Each text's different n-grams, sorted."""
    sets = np.empty_like(grams)
    bounds = np.zeros_like(offsets)
    count = 0
    for text in range(len(offsets) - 1):
        ordered = np.sort(grams[offsets[text] : offsets[text + 1]])
        for k in range(len(ordered)):
            if k == 0 or ordered[k] != ordered[k - 1]:
                sets[count] = ordered[k]
                count += 1
        bounds[text + 1] = count
    return sets[:count], bounds


@njit(nogil=True, cache=True)
def _shared(sets: Any, bounds: Any, left: Any, right: Any, jaccard: Any, containment: Any) -> None:
    for pair in range(len(left)):
        a, a_end = bounds[left[pair]], bounds[left[pair] + 1]
        b, b_end = bounds[right[pair]], bounds[right[pair] + 1]
        smaller, both = min(a_end - a, b_end - b), (a_end - a) + (b_end - b)
        shared = 0
        while a < a_end and b < b_end:
            if sets[a] == sets[b]:
                shared += 1
                a += 1
                b += 1
            elif sets[a] < sets[b]:
                a += 1
            else:
                b += 1
        jaccard[pair] = shared / (both - shared) if both else 1
        containment[pair] = shared / smaller if smaller else jaccard[pair]


@njit(nogil=True, cache=True)
def _estimates(data: Any, offsets: Any, estimates: Any) -> None:
    for text in range(len(offsets) - 1):
        ascii_letters = others = 0
        for at in range(offsets[text], offsets[text + 1]):
            if data[at] < 0x80:
                ascii_letters += 1
            elif data[at] >= 0xC0:
                others += 1
        estimates[text] = ascii_letters * 0.25 + others * 0.7 + 1
