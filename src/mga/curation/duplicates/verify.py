"""Which texts of some groups go: each is compared, set by set, with the kept ones it shares a bucket with.

Texts come in order of rank, so the better one of two stays. A text goes only for a kept text whose exact Jaccard
similarity reaches the threshold: never for an estimate, and never because both resemble a third. A bucket is searched
through its kept texts alone, so a thousand copies in one cost a thousand comparisons, not half a million.

Many texts that share a form and differ in the rest crowd buckets without being duplicates. Then rare shingles take the
place of buckets: two sets of Jaccard similarity t share one of the n - ⌈tn⌉ + 1 rarest shingles of each (Chaudhuri,
Ganti and Kaushik, "A Primitive Operator for Similarity Joins", ICDE 2006), and a form's are not among them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mga.curation.duplicates.bands import Groups

STAYS = -1
CROWDED = 100
"""Comparisons a text of a group, on average, from which its buckets are not searched on."""
_MOST_COUNTER_BITS = 26
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Texts in order of rank, numbered from 0.

    Text i's shingles are `counts[i]` (int64) ascending ones of `hashes` (uint64) from `starts[i]` (int64) on.
    `members` (int64) are texts beside the `buckets` (int64) they are in. The first `references` texts always stay.
    Texts of one `sources` number (uint64) other than 0 are not compared; empty means all are.
    """

    hashes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    buckets: NDArray[np.int64]
    members: NDArray[np.int64]
    references: int
    sources: NDArray[np.uint64]


def judge(candidates: Candidates, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each text the best-ranked kept text it is a near-duplicate of, or STAYS; and their Jaccard similarity.

    What becomes of a group of texts, joined by shared buckets, does not depend on what others are judged with it.
    """
    groups = _groups(candidates)
    budget = CROWDED * np.bincount(groups, minlength=len(groups))
    kept_as, similarity = _judged(candidates, groups, budget, threshold)
    crowded = np.flatnonzero(budget[groups] < 0)
    if len(crowded):
        chosen = _by_rare_shingles(candidates, groups, crowded, threshold)
        own_groups, unlimited = groups[crowded], np.full(len(groups), np.iinfo(np.int64).max)
        found, similarity[crowded] = _judged(chosen, own_groups, unlimited, threshold)
        kept_as[crowded] = np.where(found >= 0, crowded[found], STAYS)
    return kept_as, similarity


def _groups(candidates: Candidates) -> NDArray[np.int64]:
    order = np.argsort(candidates.buckets)
    groups = Groups(len(candidates.starts))
    groups.join(candidates.buckets[order], candidates.members[order].astype(np.uint32))
    return groups.roots().astype(np.int64)


def _judged(
    candidates: Candidates, groups: NDArray[np.int64], budget: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The same by the buckets alone. `budget` are the comparisons left to each group; one that has spent more is
    below zero afterwards, and its texts are not judged."""
    texts = len(candidates.starts)
    order = np.argsort(candidates.members, kind="stable")
    _, buckets = np.unique(candidates.buckets[order], return_inverse=True)
    entries = np.zeros(texts + 1, np.int64)
    np.cumsum(np.bincount(candidates.members, minlength=texts), out=entries[1:])
    kept_as, similarity = np.full(texts, STAYS, np.int64), np.zeros(texts, np.float32)
    _judge(
        candidates.hashes,
        candidates.starts,
        candidates.counts,
        buckets.astype(np.int64),
        entries,
        candidates.references,
        candidates.sources,
        threshold,
        groups,
        budget,
        kept_as,
        similarity,
    )
    return kept_as, similarity


def _by_rare_shingles(
    candidates: Candidates, groups: NDArray[np.int64], chosen: NDArray[np.int64], threshold: float
) -> Candidates:
    """Some of the texts, with a bucket of a group for each shingle that is among the rarest of some of its texts."""
    starts, counts = candidates.starts[chosen], candidates.counts[chosen]
    occurrences = np.zeros(1 << min(_MOST_COUNTER_BITS, int(2 * counts.sum()).bit_length()), np.uint32)
    _count(candidates.hashes, starts, counts, occurrences)
    lengths, none = np.zeros(len(chosen), np.int64), np.empty(0, np.uint64)
    _rarest(candidates.hashes, starts, counts, occurrences, threshold, lengths, none)
    shingles = np.empty(lengths.sum(), np.uint64)
    _rarest(candidates.hashes, starts, counts, occurrences, threshold, lengths, shingles)
    members = np.repeat(np.arange(len(chosen)), lengths)
    return Candidates(
        candidates.hashes,
        starts,
        counts,
        (shingles ^ (groups[chosen][members].astype(np.uint64) * _ODD)).view(np.int64),
        members,
        int(np.searchsorted(chosen, candidates.references)),
        candidates.sources[chosen] if len(candidates.sources) else candidates.sources,
    )


@njit(nogil=True, cache=True)
def _count(hashes: Any, starts: Any, counts: Any, occurrences: Any) -> None:
    for text in range(len(starts)):
        for at in range(starts[text], starts[text] + counts[text]):
            occurrences[hashes[at] & np.uint64(len(occurrences) - 1)] += np.uint32(1)


@njit(nogil=True, cache=True)
def _rarest(
    hashes: Any, starts: Any, counts: Any, occurrences: Any, threshold: float, lengths: Any, shingles: Any
) -> None:
    # Any order that is the same for all texts will do, so that shingles may share a counter.
    out = 0
    for text in range(len(starts)):
        own = hashes[starts[text] : starts[text] + counts[text]]
        often = np.empty(len(own), np.uint32)
        for k in range(len(own)):
            often[k] = occurrences[own[k] & np.uint64(len(occurrences) - 1)]
        order = np.argsort(often, kind="mergesort")
        first = out
        for k in order[: len(own) - np.int64(np.ceil(threshold * len(own) - 1e-9)) + 1]:
            if often[k] > 1:
                if len(shingles) > 0:
                    shingles[out] = own[k]
                out += 1
        lengths[text] = out - first


@njit(nogil=True, cache=True)
def jaccard(one: Any, other: Any, threshold: float) -> float:
    """Jaccard similarity of two ascending arrays without repeats, or 0 when it does not reach the threshold."""
    total = len(one) + len(other)
    # |A ∩ B| / |A ∪ B| >= t as long as no more than this many shingles stand in one set only.
    spare = total - 2 * np.int64(np.ceil(threshold / (1 + threshold) * total - 1e-9))
    i = j = shared = 0
    while i < len(one) and j < len(other):
        if one[i] == other[j]:
            shared += 1
            i += 1
            j += 1
        else:
            spare -= 1
            if spare < 0:
                return 0.0
            if one[i] < other[j]:
                i += 1
            else:
                j += 1
    similarity = shared / (total - shared)
    return similarity if similarity >= threshold else 0.0


@njit(nogil=True, cache=True)
def _judge(
    hashes: Any,
    starts: Any,
    counts: Any,
    buckets: Any,
    entries: Any,
    references: int,
    sources: Any,
    threshold: float,
    groups: Any,
    budget: Any,
    kept_as: Any,
    similarity: Any,
) -> None:
    # Kept texts of each bucket in order of rank, as linked lists over the entries.
    head = np.full(len(buckets), -1, np.int64)
    tail = np.full(len(buckets), -1, np.int64)
    following = np.full(len(buckets), -1, np.int64)
    text_of = np.empty(len(buckets), np.int64)
    compared = np.full(len(starts), -1, np.int64)
    for text in range(len(starts)):
        if budget[groups[text]] < 0:
            continue
        best = len(starts)
        own = hashes[starts[text] : starts[text] + counts[text]]
        for entry in range(entries[text], entries[text + 1]):
            if text < references:
                break
            at = head[buckets[entry]]
            while at >= 0 and text_of[at] < best:
                other = text_of[at]
                at = following[at]
                if compared[other] == text or (
                    len(sources) > 0 and sources[text] != 0 and sources[text] == sources[other]
                ):
                    continue
                compared[other] = text
                budget[groups[text]] -= 1
                found = jaccard(own, hashes[starts[other] : starts[other] + counts[other]], threshold)
                if found > 0:
                    best = other
                    similarity[text] = found
        if best < len(starts):
            kept_as[text] = best
            continue
        for entry in range(entries[text], entries[text + 1]):
            text_of[entry] = text
            bucket = buckets[entry]
            if head[bucket] < 0:
                head[bucket] = entry
            else:
                following[tail[bucket]] = entry
            tail[bucket] = entry
