"""Whether a model knows texts by heart.

Exact continuation (Carlini et al. 2023): shown PREFIX tokens of a document, the model writes the next CONTINUATION
exactly. A greedy continuation is exact if and only if each of its tokens is the likeliest after the true ones before
it, and their ranks are measured with the losses: nothing needs to be generated.

Seen against unseen: by how much the losses of training documents are lower than those of documents the model has not
seen, and how well one can tell the two apart by them (AUC; 0.5 is chance). Also by the mean of the highest fifth of a
document's losses (Min-K%, Shi et al. 2024), which tells more where only some passages are known.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mga import stats
from mga.collapse.histogram import estimate

PREFIX = 50
CONTINUATION = 50
MIN_K = 0.2


def continuation_figures(
    ranks: NDArray[np.int32], offsets: NDArray[np.int64], prefix: int = PREFIX, continuation: int = CONTINUATION
) -> dict[str, Any]:
    """spans: all that follow each other without overlap behind the prefix; exact: how many the model continues
    exactly; rate (null without spans); longest: the longest run of tokens that were the likeliest, in any document."""
    spans, exact, longest = _continuations(ranks, offsets, prefix, continuation)
    return {
        "prefix": prefix,
        "continuation": continuation,
        "spans": int(spans),
        "exact": int(exact),
        "rate": exact / spans if spans else None,
        "longest": int(longest),
    }


def seen_figures(losses: NDArray[Any], offsets: NDArray[np.int64], seen: NDArray[np.bool_]) -> dict[str, Any]:
    """How much lower the losses of seen documents are (documents × bool, both kinds present).

    difference (unseen − seen, nats, with its 95% interval), auc and auc_min_k.
    """
    means = np.add.reduceat(losses.astype(np.float64), offsets[:-1]) / np.diff(offsets)
    highest = np.empty(len(means))
    for i, (first, end) in enumerate(pairwise(offsets)):
        most = max(int(MIN_K * (end - first)), 1)
        highest[i] = np.partition(losses[first:end], -most)[-most:].mean()
    difference = stats.difference_of_means(means[~seen].tolist(), means[seen].tolist())
    return {
        "seen": estimate(means[seen]),
        "unseen": estimate(means[~seen]),
        "difference": {"value": difference.value, "low": difference.low, "high": difference.high},
        "auc": auc(means[~seen], means[seen]),
        "auc_min_k": auc(highest[~seen], highest[seen]),
    }


def auc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    """Chance that a value of `higher` is above one of `lower`, ties counting half (Mann and Whitney's U, scaled)."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left")
    equal = np.searchsorted(ordered, higher, "right") - below
    return float((below + equal / 2).sum() / (len(higher) * len(lower)))


@njit(nogil=True, cache=True)
def _continuations(ranks: Any, offsets: Any, prefix: int, continuation: int) -> tuple[int, int, int]:
    spans, exact, longest = 0, 0, 0
    for document in range(len(offsets) - 1):
        first, end = offsets[document], offsets[document + 1]
        run = 0
        for at in range(first, end):
            run = run + 1 if ranks[at] == 1 else 0
            longest = max(longest, run)
            behind = at + 1 - first - prefix
            if behind > 0 and behind % continuation == 0:
                spans += 1
                exact += run >= continuation
    return spans, exact, longest
