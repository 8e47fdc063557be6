"""Frequent phrases of any number of texts, in bounded memory: which runs of words stand in many texts, and where.

A phrase can only be frequent if all shorter ones in it are (Agrawal and Srikant 1994, "Fast algorithms for mining
association rules"). So three readings are enough, and nothing is kept of a text:

1. the shortest phrases (3 words anywhere, 2 at an edge) are counted in a table of hashed counters, which can only count
   too much (Park, Chen and Yu 1995, "An effective hash-based algorithm for mining association rules");
2. of the longer ones, those whose shortest ones are all frequent, likewise;
3. what is left is counted exactly.

A text counts once for a phrase, however often it has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from mga.text.tokens import Tokens, mixed, string_buffers

ANYWHERE, OPENING, CLOSING, ENDING = range(4)
"""Where a phrase stands: anywhere; first in the text; first in its last paragraph or sentence; last in the text."""
LONGEST = 12
SHORT, LONG, EXACT = range(3)
"""The three readings."""

_SALTS = np.array([0x51, 0xA7, 0x1C3, 0x3D9], np.uint64) * np.uint64(0xD6E8FEB86659FD93)
_STEP = np.uint64(0x9E3779B97F4A7C15)
BUCKET_BITS = 26
_MOST_COUNTED = 65_535
_ROOM = 1 << 20
_FARTHEST_CLOSING = 200
SOURCE_BITS = 512
EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Found:
    """Phrases in a batch of texts, each once a text: `keys` (uint64) name words and kind; `places` (int64) are text
    << 32 | word; `shapes` (uint8) are words × 4 + kind."""

    keys: NDArray[np.uint64]
    places: NDArray[np.int64]
    shapes: NDArray[np.uint8]


class Filter:
    """For each of 2ⁿ buckets, whether the phrases that fall into it may be frequent: a bit, 8 MB for n = 26."""

    def __init__(self, bucket_bits: int = BUCKET_BITS) -> None:
        self.shift = np.uint64(64 - bucket_bits)
        self._counters = np.zeros(1 << bucket_bits, np.uint16)
        self.bits = np.zeros(1, np.uint8)

    def add(self, keys: NDArray[np.uint64]) -> None:
        """Count keys."""
        _count(self._counters, keys, self.shift)

    def close(self, least: int) -> None:
        """Keep of the counters only which have come to `least`."""
        self.bits = np.packbits(self._counters >= min(least, _MOST_COUNTED), bitorder="little")
        self._counters = np.zeros(0, np.uint16)


def closing_words(texts: pa.Array, tokens: Tokens) -> NDArray[np.int32]:
    """Per text the number of the word that begins its last sentence, and its last paragraph: (texts, 2), -1 where that
    is the whole text or begins more than 200 words before the end."""
    data, offsets = string_buffers(texts)
    found = np.full((len(tokens), 2), -1, np.int32)
    _closing_words(data, offsets, tokens.offsets, tokens.starts, tokens.ends, found)
    return found


def phrases_in(
    tokens: Tokens, closings: NDArray[np.int32], reading: int, short: Filter, long: Filter, piece: int = 0
) -> Iterator[Found]:
    """What a reading counts of a batch, a part at a time.

    With `piece`, every phrase is looked for anywhere, and counts once in each piece of so many words.
    """
    longest = int(np.diff(tokens.offsets).max(initial=0))
    room = max(_ROOM, _most(longest, reading, piece))
    text = 0
    while text < len(tokens):
        keys = np.empty(room, np.uint64)
        exact = room if reading == EXACT else 0
        places, shapes = np.empty(exact, np.int64), np.empty(exact, np.uint8)
        text, count = _collect(
            tokens.hashes,
            tokens.offsets,
            closings,
            text,
            reading,
            piece,
            short.shift,
            short.bits,
            long.bits,
            keys,
            places,
            shapes,
        )
        yield Found(keys[:count].copy(), places[:count].copy(), shapes[:count].copy())


class Tally:
    """Exact counts of phrases: in texts, in pieces of the originals, and how many sources they are spread over.

    Sources are counted by which of 512 bits they set (linear counting). Entry i of every array is one phrase:
    `counts` (2, i): texts, originals; `kinds`, `lengths`; `words` (i, 12): hashes; `examples` (i, 3): places, -1: none.
    """

    def __init__(self) -> None:
        self._slots = np.full(1 << 12, -1, np.int32)
        self._keys = np.zeros(1 << 10, np.uint64)
        self.size = 0
        self.counts = np.zeros((2, 1 << 10), np.int64)
        self.kinds = np.zeros(1 << 10, np.uint8)
        self.lengths = np.zeros(1 << 10, np.uint8)
        self.words = np.zeros((1 << 10, LONGEST), np.uint64)
        self.examples = np.full((1 << 10, EXAMPLES), -1, np.int64)
        self._last_source = np.zeros(1 << 10, np.uint64)
        self._sources = np.zeros((1 << 10, SOURCE_BITS // 64), np.uint64)

    def add(self, found: Found, tokens: Tokens, sources: NDArray[np.uint64], batch: int) -> None:
        """Count phrases of texts. `sources` has a hash per text; `batch` becomes part of an example's place."""
        self._add(found, tokens, sources, batch, 0)

    def add_originals(self, found: Found, tokens: Tokens) -> None:
        """Count phrases in pieces of originals."""
        self._add(found, tokens, np.zeros(len(tokens), np.uint64), 0, 1)

    def _add(self, found: Found, tokens: Tokens, sources: NDArray[np.uint64], batch: int, side: int) -> None:
        done = 0
        while True:
            done, self.size = _tally(
                found.keys, found.places, found.shapes, tokens.hashes, tokens.offsets, sources, batch, side, done,
                self.size, self._slots, self._keys, self.counts, self.kinds, self.lengths, self.words, self.examples,
                self._last_source, self._sources,
            )  # fmt: skip
            if done == len(found.keys):
                return
            self._grow()

    def _grow(self) -> None:
        more = len(self._keys)
        for name in ("_keys", "kinds", "lengths", "_last_source"):
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros(more, getattr(self, name).dtype)]))
        self.counts = np.hstack([self.counts, np.zeros((2, more), np.int64)])
        self.words = np.vstack([self.words, np.zeros((more, LONGEST), np.uint64)])
        self.examples = np.vstack([self.examples, np.full((more, EXAMPLES), -1, np.int64)])
        self._sources = np.vstack([self._sources, np.zeros((more, SOURCE_BITS // 64), np.uint64)])
        self._slots = np.full(len(self._keys) * 4, -1, np.int32)
        _refill(self._slots, self._keys, self.size)

    def sources(self, entries: NDArray[np.int64]) -> NDArray[np.float64]:
        """Different sources of some entries, estimated; more than 2,000 count as 2,000."""
        bits = np.unpackbits(self._sources[entries].view(np.uint8), axis=1).sum(1)
        empty = np.maximum(SOURCE_BITS - bits, SOURCE_BITS * np.exp(-2000 / SOURCE_BITS))
        return np.asarray(-SOURCE_BITS * np.log(empty / SOURCE_BITS))


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """A hash of each text's bytes."""
    data, offsets = string_buffers(texts)
    hashes = np.empty(len(texts), np.uint64)
    _hash_texts(data, offsets, hashes)
    return hashes


def chosen_rows(first: int, rows: int, seed: int, share: float) -> NDArray[np.bool_]:
    """Which of the rows from `first` on are in the sample; the same whatever the batches are."""
    numbers = np.arange(first, first + rows, dtype=np.uint64)
    chosen = _mixed_all(numbers * _STEP + np.uint64(seed)) < np.uint64(min(share * 2.0**64, 2.0**64 - 2048))
    return np.asarray(chosen, np.bool_)


@njit(nogil=True, cache=True)
def _mixed_all(values: Any) -> Any:
    for i in range(len(values)):
        values[i] = mixed(values[i])
    return values


@njit(nogil=True, cache=True)
def _hash_texts(data: Any, offsets: Any, hashes: Any) -> None:
    for text in range(len(offsets) - 1):
        value = np.uint64(offsets[text + 1] - offsets[text])
        for at in range(offsets[text], offsets[text + 1]):
            value = (value ^ np.uint64(data[at])) * _STEP
            value ^= value >> np.uint64(29)
        hashes[text] = mixed(value)


@njit(nogil=True, cache=True)
def _count(counters: Any, keys: Any, shift: Any) -> None:
    for key in keys:
        bucket = key >> shift
        if counters[bucket] < _MOST_COUNTED:
            counters[bucket] += 1


@njit(nogil=True, cache=True, inline="always")
def _may_be(bits: Any, shift: Any, key: Any) -> Any:
    bucket = key >> shift
    return (bits[bucket >> np.uint64(3)] >> np.uint8(bucket & np.uint64(7))) & 1 != 0


@njit(nogil=True, cache=True)
def _most(length: int, reading: int, piece: int) -> int:
    """The most phrases a text of so many words can have in a reading."""
    each = 1 if reading == SHORT else LONGEST - 2
    edges = 4 * (1 if reading == SHORT else LONGEST - 1)
    return length * (each + edges) if piece else length * each + edges


@njit(nogil=True, cache=True)
def _collect(
    words: Any, offsets: Any, closings: Any, text: int, reading: int, piece: int,
    shift: Any, short: Any, long: Any, keys: Any, places: Any, shapes: Any,
) -> Any:  # fmt: skip
    longest = 0
    for i in range(text, len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    size = 16
    while size < 2 * min(_most(longest, reading, piece), len(keys)):
        size *= 2
    seen = np.zeros(size, np.uint64)
    seen_by = np.full(size, -1, np.int64)
    frequent = np.zeros(longest + 1, np.bool_)
    count = 0
    while text < len(offsets) - 1:
        first = offsets[text]
        length = offsets[text + 1] - first
        most = _most(length, reading, piece)
        if count + most > len(keys):
            break
        mask = 15
        while mask + 1 < 2 * most:
            mask = 2 * mask + 1
        if reading != SHORT:
            for at in range(length - 2):
                value = (words[first + at] * _STEP + words[first + at + 1]) * _STEP + words[first + at + 2]
                frequent[at] = _may_be(short, shift, mixed(value + _SALTS[ANYWHERE]))
        for kind in range(4):
            shortest = 3 if kind == ANYWHERE else 2
            begin, end = 0, length
            if piece == 0 and kind == OPENING:
                end = min(1, length)
            elif piece == 0 and kind == CLOSING:
                end = 2
            elif piece == 0 and kind == ENDING:
                begin = max(0, length - 1)
            for anchor in range(begin, end):
                at = anchor
                if piece == 0 and kind == CLOSING:
                    at = closings[text, anchor]
                    if at < 0 or (anchor == 1 and at == closings[text, 0]):
                        continue
                value, power = np.uint64(0), np.uint64(1)
                for n in range(1, LONGEST + 1):
                    if kind == ENDING:
                        if n > at + 1:
                            break
                        value += words[first + at + 1 - n] * power
                        power *= _STEP
                    else:
                        if at + n > length:
                            break
                        value = value * _STEP + words[first + at + n - 1]
                    if n < shortest:
                        continue
                    key = mixed(value + _SALTS[kind])
                    if n == shortest:
                        if reading != SHORT and not (frequent[at] if kind == ANYWHERE else _may_be(short, shift, key)):
                            break
                        if reading == LONG:
                            continue
                    elif (kind == ANYWHERE and not frequent[at + n - 3]) or (
                        reading == EXACT and not _may_be(long, shift, key)
                    ):
                        break
                    name = key if piece == 0 else mixed(key + np.uint64(at // piece))
                    slot = name & np.uint64(mask)
                    while seen_by[slot] == text and seen[slot] != name:
                        slot = (slot + np.uint64(1)) & np.uint64(mask)
                    if seen_by[slot] != text:
                        seen_by[slot] = text
                        seen[slot] = name
                        keys[count] = key
                        if reading == EXACT:
                            start = at + 1 - n if kind == ENDING else at
                            places[count] = text << 32 | start
                            shapes[count] = n * 4 + kind
                        count += 1
                    if reading == SHORT:
                        break
        text += 1
    return text, count


@njit(nogil=True, cache=True)
def _tally(
    found: Any, places: Any, shapes: Any, hashes: Any, offsets: Any, sources: Any, batch: int, side: int, done: int,
    size: int, slots: Any, keys: Any, counts: Any, kinds: Any, lengths: Any, words: Any, examples: Any,
    last_source: Any, bitmaps: Any,
) -> Any:  # fmt: skip
    mask = np.uint64(len(slots) - 1)
    for i in range(done, len(found)):
        key = found[i]
        slot = key & mask
        while slots[slot] >= 0 and keys[slots[slot]] != key:
            slot = (slot + np.uint64(1)) & mask
        entry = slots[slot]
        text = places[i] >> 32
        if entry < 0:
            if size == len(keys):
                return i, size
            entry = size
            size += 1
            slots[slot] = entry
            keys[entry] = key
            kinds[entry] = shapes[i] & 3
            lengths[entry] = shapes[i] >> 2
            start = offsets[text] + (places[i] & 0xFFFFFFFF)
            for k in range(lengths[entry]):
                words[entry, k] = hashes[start + k]
        counts[side, entry] += 1
        if side == 0:
            source = sources[text]
            bit = source >> np.uint64(55)
            bitmaps[entry, bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
            if examples[entry, EXAMPLES - 1] < 0 and (examples[entry, 0] < 0 or source != last_source[entry]):
                last_source[entry] = source
                for k in range(EXAMPLES):
                    if examples[entry, k] < 0:
                        examples[entry, k] = batch << 32 | text
                        break
    return len(found), size


@njit(nogil=True, cache=True)
def _refill(slots: Any, keys: Any, size: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for entry in range(size):
        slot = keys[entry] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = entry


@njit(nogil=True, cache=True)
def _closing_words(data: Any, offsets: Any, firsts: Any, starts: Any, ends: Any, found: Any) -> None:
    for text in range(len(firsts) - 1):
        base = offsets[text]
        for word in range(firsts[text + 1] - 1, max(firsts[text], firsts[text + 1] - _FARTHEST_CLOSING), -1):
            sentence, paragraph = _ends_between(data, base + ends[word - 1], base + starts[word])
            if sentence and found[text, 0] < 0:
                found[text, 0] = word - firsts[text]
            if paragraph and found[text, 1] < 0:
                found[text, 1] = word - firsts[text]
            if found[text, 0] >= 0 and found[text, 1] >= 0:
                break


@njit(nogil=True, cache=True)
def _ends_between(data: Any, at: int, end: int) -> Any:
    """Whether a sentence ends, and whether a paragraph ends, in the bytes between two words."""
    sentence = False
    paragraph = False
    while at < end:
        byte = data[at]
        two = np.uint32(byte) << 8 | (data[at + 1] if at + 1 < end else 0)
        three = two << 8 | (data[at + 2] if at + 2 < end else 0)
        stop = 1 if byte == 0x2E or byte == 0x21 or byte == 0x3F else 3 if three == 0xE280A6 else 0
        if stop:
            at += stop
            for _ in range(2):
                if at < end and (data[at] == 0x22 or data[at] == 0x27 or data[at] == 0x29 or data[at] == 0x5D):
                    at += 1
                elif at + 2 < end and data[at] == 0xE2 and data[at + 1] == 0x80 and data[at + 2] in (0x99, 0x9D):
                    at += 3
            sentence |= at < end and (data[at] <= 0x20 or data[at] == 0xC2)
            continue
        sentence |= three in (0xE38082, 0xEFBC81, 0xEFBC9F, 0xE0A5A4, 0xE0A5A5) or two == 0xD89F
        paragraph |= two == 0x0A0A or (three == 0x0A2D2D and at + 3 < end and data[at + 3] == 0x2D)
        at += 1
    return sentence, paragraph
