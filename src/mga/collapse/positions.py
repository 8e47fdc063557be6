"""Where in a document one model begins to predict worse than another (paper, section on collapse; docs/collapse.md).

For the differences d of a document of n tokens: window w = max(share × n, 1) rounded down, μ and σ the mean and the
standard deviation (ddof 0) of d, and the first anomaly the smallest p for which the mean of d[p : p + w] passes
|μ| + kσ. Its normalised position is p / n × 100%; −1 where there is none.

How the mean of a window passes is read in three ways:

average   the absolute value of the window's mean: either model's degradation is found. The default, as in the paper
signed    the window's mean itself: only the second model's degradation
tokens    the mean of the tokens' absolute values. Random differences alone have a mean of 0.8σ, so it wants k > 1
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mga.errors import InputError

Reading = Literal["average", "signed", "tokens"]
READINGS: tuple[str, ...] = get_args(Reading)
_ROUNDING = 1e-10
"""A mean must pass the threshold by more than this share of the largest value: equal differences pass nothing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`share` of the document in a window, `k` standard deviations, and the reading of the absolute value.

    k = 1 by default. The paper names none. A step in the last fifth of a document, whatever its size, gives a window
    within it a mean of at most μ + 2σ, so k ≥ 2 can never see it; and with k = 1 a pure step is found at most two
    points early, when 60% of the window lie in it.
    """

    share: float = 0.05
    k: float = 1.0
    reading: Reading = "average"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"The window is a share of the document, above 0 and at most 1, not {self.share:g}.")
        if self.k < 0 or not np.isfinite(self.k):
            raise InputError(f"k counts standard deviations and is 0 or more, not {self.k:g}.")
        if self.reading not in READINGS:
            raise InputError(f"The absolute value is read as {', '.join(READINGS)}; not as {self.reading!r}.")


def first_anomalies(differences: NDArray[Any], offsets: NDArray[np.int64], rule: Rule) -> NDArray[np.int64]:
    """First anomaly of each document (int64 token index from 0, −1: none).

    Document i has the differences from `offsets[i]` to `offsets[i + 1]`; one without tokens has none. Raises InputError
    for a difference that is NaN or infinite.
    """
    if not np.isfinite(differences).all():
        raise InputError("A difference of losses is NaN or infinite.")
    return _search(differences, offsets, np.zeros(len(offsets) - 1, np.int64), rule)


def shifted_anomalies(
    differences: NDArray[Any], offsets: NDArray[np.int64], rule: Rule, random: np.random.Generator
) -> NDArray[np.int64]:
    """First anomalies when every document's differences are shifted circularly by a random number of tokens.

    The differences keep their values and their neighbours and lose their place in the document: what is found then is
    what the search finds where places mean nothing.
    """
    return _search(differences, offsets, random.integers(0, np.maximum(np.diff(offsets), 1)), rule)


def normalised(positions: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Positions as percentages of the document's tokens (0 to below 100); −1 where there is none."""
    return np.where(positions < 0, -1.0, positions / np.maximum(np.diff(offsets), 1) * 100)


def _search(
    differences: NDArray[Any], offsets: NDArray[np.int64], turns: NDArray[np.int64], rule: Rule
) -> NDArray[np.int64]:
    found = np.empty(len(offsets) - 1, np.int64)
    reading = READINGS.index(rule.reading)
    _first(differences, offsets.astype(np.int64), turns, rule.share, rule.k, reading, found)
    return found


@njit(nogil=True, cache=True, parallel=True)
def _first(differences: Any, offsets: Any, turns: Any, share: float, k: float, reading: int, found: Any) -> None:
    for document in prange(len(offsets) - 1):
        first, n = offsets[document], offsets[document + 1] - offsets[document]
        found[document] = -1
        if n == 0:
            continue
        total = 0.0
        largest = 0.0
        for i in range(first, first + n):
            total += differences[i]
            largest = max(largest, abs(differences[i]))
        mean = total / n
        squares = 0.0
        for i in range(first, first + n):
            squares += (differences[i] - mean) ** 2
        window = max(int(share * n), 1)
        threshold = (abs(mean) + k * np.sqrt(squares / n) + _ROUNDING * largest) * window
        turn = turns[document]
        held = 0.0
        for i in range(n):
            at = i + turn
            value = np.float64(differences[first + (at if at < n else at - n)])
            held += abs(value) if reading == 2 else value
            if i >= window:
                past = i - window + turn
                value = np.float64(differences[first + (past if past < n else past - n)])
                held -= abs(value) if reading == 2 else value
            if i >= window - 1 and (abs(held) if reading == 0 else held) > threshold:
                found[document] = i - window + 1
                break
