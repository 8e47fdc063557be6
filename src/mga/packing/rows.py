"""Documents into sequences of one length.

concatenate: one after the other, cut wherever a sequence ends. best-fit (Ding et al. 2024, arXiv 2404.10830): only
documents longer than a sequence are cut; pieces, longest first, go to the sequence with the least room that is enough.
"""

from bisect import bisect_left, insort
from itertools import pairwise

import numpy as np
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
    """The sequence each piece goes to, and how many sequences there are. Pieces of one length keep their order.

    Pieces of one length are placed together: where one has gone, the next goes too while there is room, since that room
    is now the least that is enough.
    """
    order = np.argsort(-lengths, kind="stable")
    where = np.empty(len(lengths), np.int64)
    rooms: list[int] = []  # of sequences that are not full, in order
    having: dict[int, list[int]] = {}  # the sequences with a room
    count = 0

    def leave(some: list[int], room: int) -> None:
        if room and some:
            if room not in having:
                insort(rooms, room)
            having.setdefault(room, []).extend(some)

    bounds = np.flatnonzero(np.diff(lengths[order], prepend=-1, append=-1))
    for first, end in pairwise(bounds.tolist()):
        length = int(lengths[order[first]])
        while first < end:
            at = bisect_left(rooms, length)
            room = rooms[at] if at < len(rooms) else sequence
            fitting = room // length
            wanted = -(-(end - first) // fitting)
            if room < sequence:
                held = having[room]
                chosen = held[-wanted:]
                del held[-wanted:]
                if not held:
                    del having[room], rooms[at]
            else:
                chosen = list(range(count, count + wanted))
                count += wanted
            placed = min(fitting * len(chosen), end - first)
            where[order[first : first + placed]] = np.repeat(chosen, fitting)[:placed]
            in_last = placed - fitting * (len(chosen) - 1)
            leave(chosen[:-1], room - fitting * length)
            leave(chosen[-1:], room - in_last * length)
            first += placed
    return where, count
