"""What two shares differ by when both models have worked on the same documents, and what that allows to say.

Texts of one document succeed and fail together, so a document is the unit: its difference d, student less teacher,
lies in [−1, 1]. The interval is the Wald interval of the mean of d after Agresti and Min (2005): half an observation is
added to each of the four cells of a paired table, which is two documents with Σd = 0 and Σd² = 1. Unlike a bootstrap
over documents it does not shrink to a point where few documents were seen and none differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

Z95 = 1.959964
Z_POWER_80 = 0.841621

Verdict = Literal["non-inferior", "worse", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95% interval of Wilson (1927); `of` observations."""

    share: float | None
    low: float
    high: float
    of: int


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


def wilson(successes: int, of: int) -> Share:
    """The share of successes. Of nothing everything is possible."""
    if not of:
        return Share(None, 0.0, 1.0, 0)
    share, squared = successes / of, Z95**2
    middle = (share + squared / (2 * of)) / (1 + squared / of)
    half = Z95 / (1 + squared / of) * sqrt(share * (1 - share) / of + squared / (4 * of**2))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), of)


def difference(of_documents: Sequence[float], margin: float) -> Difference:
    """The mean of the documents' differences against a margin: non-inferior when the whole interval lies above
    −margin, worse when all of it lies below."""
    count = len(of_documents)
    total = sum(of_documents)
    adjusted = total / (count + 2)
    variance = (sum(d * d for d in of_documents) + 1) / (count + 2) - adjusted**2
    half = Z95 * sqrt(variance / (count + 2))
    low, high = max(-1.0, adjusted - half), min(1.0, adjusted + half)
    verdict: Verdict = "non-inferior" if low > -margin else "worse" if high < -margin else "cannot tell"
    mean = total / count if count else 0.0
    return Difference(mean, low, high, count, verdict, _needed(mean, variance, margin))


def _needed(mean: float, variance: float, margin: float) -> int | None:
    distance = abs(mean + margin)
    return ceil(variance * ((Z95 + Z_POWER_80) / distance) ** 2) if distance > 1e-9 else None
