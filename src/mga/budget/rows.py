"""Documents into sequences of one length.

concatenate: one after the other, cut wherever a sequence ends. best-fit (Ding et al. 2024, arXiv 2404.10830): only
documents longer than a sequence are cut; pieces, longest first, go to the sequence with the least room that is enough.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def cut(lengths: NDArray[np.int64], sequence: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Documents that stand one after the other, cut into pieces of at most a sequence: their starts and lengths."""
    counts = -(-lengths // sequence)
    firsts = np.cumsum(lengths) - lengths
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(firsts, counts) + within * sequence
    ends = np.minimum(starts + sequence, np.repeat(firsts + lengths, counts))
    return starts, ends - starts


def best_fit(lengths: NDArray[np.int64], sequence: int) -> tuple[NDArray[np.int64], int]:
    """The sequence each piece goes to, and how many sequences there are. Pieces of one length keep their order."""
    order = np.argsort(-lengths, kind="stable")
    return _best_fit(lengths, order, sequence)  # type: ignore[no-any-return]


@njit(cache=True, nogil=True)
def _best_fit(lengths: Any, order: Any, sequence: int) -> Any:
    """Best-fit decreasing: stacks of sequences by the room they have, a tree that finds the least that is enough."""
    leaves = 1
    while leaves < sequence + 1:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.int64)  # how many sequences have their room below a node
    top = np.full(sequence + 1, -1, np.int64)  # of each room, the sequence put there last
    below = np.empty(len(lengths), np.int64)  # of each sequence, the one with the same room before it
    where = np.empty(len(lengths), np.int64)
    count = 0
    for at in range(len(order)):
        piece = order[at]
        length = lengths[piece]
        node = leaves + length
        found = tree[node] > 0
        while not found and node > 1:
            if node % 2 == 0 and tree[node + 1] > 0:
                node += 1
                found = True
                break
            node //= 2
        if found:
            while node < leaves:
                node = 2 * node if tree[2 * node] > 0 else 2 * node + 1
            room = node - leaves
            one = top[room]
            top[room] = below[one]
            while node >= 1:
                tree[node] -= 1
                node //= 2
        else:
            room = sequence
            one = count
            count += 1
        where[piece] = one
        left = room - length
        below[one] = top[left]
        top[left] = one
        node = leaves + left
        while node >= 1:
            tree[node] += 1
            node //= 2
    return where, count
