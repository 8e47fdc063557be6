"""From band hashes to groups of texts that can be judged apart from all others.

Texts with an equal band hash share a bucket. Buckets that overlap form a group: no text outside it can be a candidate
for one inside. Groups only divide the work; whether a text goes is decided in `verify.py`, pair by pair.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Pieces = Callable[[], Iterator[tuple[NDArray[np.uint64], NDArray[np.uint32]]]]
BYTES_A_HASH = 44
"""Memory that sorting takes for each hash: the hash, its place, their order, and both in that order."""


def shared_buckets(pieces: Pieces, count: int, memory: int) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """Buckets with two members or more of one band: numbers of buckets (uint32), and beside each a member.

    `pieces` gives the band's hashes with their texts' places, `count` in all, as often as it is called. What would
    not fit in so many bytes is sorted by ranges of the hash, one after the other.
    """
    ranges = max(1, -(-count * BYTES_A_HASH // memory))
    first = 0
    for part in range(ranges):
        hashes, places = _in_range(pieces(), part, ranges)
        buckets, members = _buckets(hashes, places)
        yield buckets + np.uint32(first), members
        first += int(buckets[-1]) + 1 if len(buckets) else 0


def _in_range(
    pieces: Iterator[tuple[NDArray[np.uint64], NDArray[np.uint32]]], part: int, ranges: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    held = []
    for hashes, places in pieces:
        if ranges > 1:
            chosen = ((hashes >> np.uint64(32)) * np.uint64(ranges)) >> np.uint64(32) == part
            hashes, places = hashes[chosen], places[chosen]
        held.append((hashes, places))
    if not held:
        return np.empty(0, np.uint64), np.empty(0, np.uint32)
    return np.concatenate([hashes for hashes, _ in held]), np.concatenate([places for _, places in held])


def _buckets(hashes: NDArray[np.uint64], places: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    order = np.argsort(hashes)
    hashes = hashes[order]
    same = np.zeros(len(hashes) + 1, np.bool_)
    np.equal(hashes[1:], hashes[:-1], out=same[1:-1])
    chosen = np.flatnonzero(same[1:] | same[:-1])
    begins = ~same[:-1][chosen]
    return (np.cumsum(begins) - 1).astype(np.uint32), places[order[chosen]]


class Groups:
    """Texts joined by buckets they share, in memory of 4 bytes a text."""

    def __init__(self, texts: int) -> None:
        self._parents = np.arange(texts, dtype=np.uint32)
        self._last: tuple[NDArray[np.int64], NDArray[np.uint32]] | None = None

    def join(self, buckets: NDArray[np.int64], members: NDArray[np.uint32]) -> None:
        """All members of a bucket are of one group. A bucket may go on in the next call."""
        if self._last:
            buckets = np.concatenate([self._last[0], buckets])
            members = np.concatenate([self._last[1], members])
        _join(self._parents, buckets, members)
        self._last = buckets[-1:], members[-1:]

    def roots(self) -> NDArray[np.uint32]:
        """For each text the best-placed of its group."""
        _flatten(self._parents)
        return self._parents


def batches_of(
    roots: NDArray[np.uint32], judged: NDArray[np.bool_], sizes: NDArray[np.int64], most: int
) -> NDArray[np.int32]:
    """For each text the batch it is verified in, -1 for one that need not be: alone, or only among reference texts.

    A batch holds whole groups, of at most so many bytes together unless one group alone has more. `judged` are the
    texts that can go, `sizes` the bytes of each text's set.
    """
    members = np.bincount(roots, minlength=len(roots))
    judged_members = np.bincount(roots[judged], minlength=len(roots))
    total = np.bincount(roots, weights=sizes, minlength=len(roots))
    total[(members < 2) | (judged_members == 0)] = 0
    batch = np.full(len(roots), -1, np.int32)
    _pack(total, most, batch)
    return batch[roots]


@njit(nogil=True, cache=True)
def _root(parents: Any, text: Any) -> Any:
    while parents[text] != text:
        parents[text] = parents[parents[text]]
        text = parents[text]
    return text


@njit(nogil=True, cache=True)
def _join(parents: Any, buckets: Any, members: Any) -> None:
    for k in range(1, len(buckets)):
        if buckets[k] == buckets[k - 1]:
            one, other = _root(parents, members[k]), _root(parents, members[k - 1])
            if one < other:
                parents[other] = one
            else:
                parents[one] = other


@njit(nogil=True, cache=True)
def _flatten(parents: Any) -> None:
    for text in range(len(parents)):
        parents[text] = parents[parents[text]]


@njit(nogil=True, cache=True)
def _pack(total: Any, most: int, batch: Any) -> None:
    number, held = 0, 0.0
    for root in range(len(total)):
        if total[root] == 0:
            continue
        if held > 0 and held + total[root] > most:
            number += 1
            held = 0.0
        held += total[root]
        batch[root] = number
