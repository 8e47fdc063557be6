"""What two shares differ by when both models have worked on the same documents, and what that allows to say.

Texts of one document succeed and fail together, so a document is the unit: its difference d, student less teacher,
lies in [−1, 1]. The interval is that of `stats.paired_difference`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import NormalDist
from typing import Literal

from mga import stats

Z_POWER_80 = NormalDist().inv_cdf(0.8)

Verdict = Literal["non-inferior", "worse", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Difference:
    """Student less teacher over so many documents, with its 95% interval, and what it says against a margin.

    `needed` is how many documents would show non-inferiority (or, beyond the margin, that it is worse) in four of five
    such comparisons, if the difference and its spread are as they look; None where no number would.
    """

    mean: float
    low: float
    high: float
    documents: int
    verdict: Verdict
    needed: int | None


def difference(of_documents: Sequence[float], margin: float) -> Difference:
    """The mean of the documents' differences against a margin: non-inferior when the whole interval lies above
    −margin, worse when all of it lies below."""
    count = len(of_documents)
    found = stats.paired_difference(of_documents)
    error, half = found.error or 0.0, found.half or 0.0
    low, high = max(-1.0, found.value - half), min(1.0, found.value + half)
    verdict: Verdict = "non-inferior" if low > -margin else "worse" if high < -margin else "cannot tell"
    mean = sum(of_documents) / count if count else 0.0
    return Difference(mean, low, high, count, verdict, _needed(mean, error**2 * (count + 2), margin))


def _needed(mean: float, variance: float, margin: float) -> int | None:
    distance = abs(mean + margin)
    return ceil(variance * ((stats.Z + Z_POWER_80) / distance) ** 2) if distance > 1e-9 else None
