"""Every interval that mga states: Student's for means, Wilson's for shares, with texts of one document as one cluster.

All have a level of 95%. The unit that was drawn is the one that counts: five texts of a document, or a thousand tokens
of it, succeed and fail together, so the error of a figure comes from what each document adds to it (linearisation:
Särndal, Swensson and Wretman 1992, §5.5; Binder 1983). With few units the quantile is Student's. Nothing here needs
more than the standard library; Student's quantile is SciPy's where SciPy is installed.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

LEVEL = 0.95
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
_FEW = 30
_MANY = 1_000  # degrees of freedom from which the first term of the expansion about the normal quantile is exact


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure from `n` independent units with its standard error (None where nothing tells of it: one unit, or units
    that are all equal) and that error's degrees of freedom."""

    value: float
    error: float | None
    freedom: float
    n: int

    @property
    def half(self) -> float | None:
        """Half the width of the 95% interval."""
        return None if self.error is None else t_quantile(self.freedom) * self.error

    @property
    def low(self) -> float | None:
        """The lower end of the 95% interval."""
        return None if self.half is None else self.value - self.half

    @property
    def high(self) -> float | None:
        """The upper end of the 95% interval."""
        return None if self.half is None else self.value + self.half


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95% interval; `of` observations. Of nothing everything is possible."""

    share: float | None
    low: float
    high: float
    of: int


@lru_cache(1024)
def t_quantile(freedom: float) -> float:
    """Half the width of Student's 95% interval, in standard errors; `freedom` is 1 or more, infinite for the normal."""
    if math.isinf(freedom):
        return Z
    try:
        from scipy.special import stdtrit
    except ImportError:
        return _t_quantile(max(1, math.floor(freedom)))
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _t_quantile(freedom: int) -> float:
    """The same without SciPy: bisection on the distribution of whole degrees of freedom (Abramowitz and Stegun 26.7.3
    and 26.7.4)."""
    if freedom > _MANY:
        return Z * (1 + (Z**2 + 1) / (4 * freedom))
    low, high = Z, 13.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _t_inside(middle, freedom) < LEVEL else (low, middle)
    return (low + high) / 2


def _t_inside(t: float, freedom: int) -> float:
    """The chance that Student's variable lies between −t and t."""
    angle = math.atan(t / math.sqrt(freedom))
    squared = math.cos(angle) ** 2
    if freedom % 2 == 0:
        term = total = 1.0
        for i in range(2, freedom, 2):
            term *= squared * (i - 1) / i
            total += term
        return math.sin(angle) * total
    total, term = 0.0, math.cos(angle)
    for i in range(1, freedom - 1, 2):
        total += term
        term *= squared * (i + 1) / (i + 2)
    return 2 / math.pi * (angle + math.sin(angle) * total)


def mean(values: Sequence[float]) -> Estimate:
    """The mean of independent values (at least one) with Student's interval."""
    n = len(values)
    middle = math.fsum(values) / n
    scale = max(map(abs, values)) / n
    return Estimate(middle, linearised([(value - middle) / n for value in values], scale), n - 1, n)


def bounded_mean(values: Sequence[float], low: float = 0.0, high: float = 1.0) -> tuple[float, float, float]:
    """The mean of independent values that lie from `low` to `high`, and its interval, cut there: Student's.

    Equal values would give an interval of no width: each end is then where the chance of so many values that are no
    farther from it falls to 5% (`least_of_perfect`).
    """
    found = mean(values)
    if found.low is not None and found.high is not None and found.low < found.high:
        return found.value, max(low, found.low), min(high, found.high)
    least = least_of_perfect(len(values))
    return found.value, low + (found.value - low) * least, high - (high - found.value) * least


def least_of_perfect(n: int) -> float:
    """What a share (or the mean of values in 0–1) may still be when n of n units are perfect: 0.05^(1/n), of which the
    rule of three, 1 − 3/n, is the approximation for many units (Jovanovic and Levy 1997)."""
    return float((1 - LEVEL) ** (1 / n))


def difference_of_means(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Mean of the first less mean of the second, independent of each other, with Welch's interval."""
    one, other = mean(first), mean(second)
    value, n = one.value - other.value, one.n + other.n
    if one.error is None or other.error is None:
        return Estimate(value, None, 1, n)
    error = math.hypot(one.error, other.error)
    return Estimate(value, error, pooled_freedom([(one.error, one.freedom), (other.error, other.freedom)]), n)


def pooled_freedom(errors: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of independent figures, from their errors and degrees of freedom (Welch 1947,
    Satterthwaite 1946). Infinite where all errors are 0."""
    total = sum(error**2 for error, _ in errors)
    parts = sum(error**4 / freedom for error, freedom in errors)
    return total**2 / parts if parts else math.inf


def ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Estimate:
    """Σ tops / Σ bottoms over independent units: the mean per token, by documents (Cochran 1977, §6.4).

    Σ bottoms is above 0.
    """
    below = math.fsum(bottoms)
    value = math.fsum(tops) / below
    influences = [(top - value * bottom) / below for top, bottom in zip(tops, bottoms, strict=True)]
    return Estimate(value, linearised(influences, max(map(abs, tops)) / below), len(tops) - 1, len(tops))


def linearised(influences: Sequence[float], scale: float = 1.0) -> float | None:
    """The standard error of a figure from what each independent unit adds to its deviation: √(m/(m−1) Σ influence²).

    None of fewer than two units, and of fewer than 30 where none deviates beyond rounding (beside `scale`, what a unit
    adds to the figure itself): a few equal units tell nothing of their spread.
    """
    m = len(influences)
    if m < 2 or max(map(abs, influences)) <= 1e-12 * scale:
        return None if m < _FEW else 0.0
    return math.sqrt(m / (m - 1) * math.fsum(influence * influence for influence in influences))


def wilson(successes: float, of: int) -> Share:
    """The share of successes in independent observations, with the interval of Wilson (1927)."""
    return _score_interval(successes / of, of, Z, of) if of else Share(None, 0.0, 1.0, 0)


def clustered_share(clusters: Sequence[tuple[int, int]]) -> Share:
    """The share of successes over clusters of (successes, observations): the texts of a document, the draws of a text.

    Wilson's interval of as many independent observations as would have the error of the clusters (`ratio`), with
    Student's quantile; never narrower than of all observations as if independent (Dean and Pagano 2015, modified
    Wilson). Where all clusters are alike, each is one observation.
    """
    held = [(float(successes), float(of)) for successes, of in clusters if of]
    count = int(sum(of for _, of in held))
    if len(held) == count:
        return wilson(sum(successes for successes, _ in held), count)
    found = ratio([successes for successes, _ in held], [of for _, of in held])
    if not found.error or not 0 < found.value < 1:
        quantile = Z if len(held) > 1 else t_quantile(1)
        return _score_interval(found.value, len(held), quantile, count)
    alike = found.value * (1 - found.value) / found.error**2
    by_cluster = _score_interval(found.value, alike, t_quantile(found.freedom), count)
    alone = wilson(sum(successes for successes, _ in held), count)
    return Share(found.value, min(by_cluster.low, alone.low), max(by_cluster.high, alone.high), count)


def _score_interval(share: float, observations: float, quantile: float, of: int) -> Share:
    squared = quantile**2 / observations
    middle = (share + squared / 2) / (1 + squared)
    half = quantile / (1 + squared) * math.sqrt((share * (1 - share) + squared / 4) / observations)
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), of)


def difference_of_shares(before: Share, after: Share) -> tuple[float, float, float]:
    """After less before, independent of each other, with its interval (Newcombe 1998, method 10)."""
    if before.share is None or after.share is None:
        return 0.0, -1.0, 1.0
    value = after.share - before.share
    low = math.hypot(after.share - after.low, before.high - before.share)
    high = math.hypot(after.high - after.share, before.share - before.low)
    return value, value - low, value + high


def paired_difference(by_unit: Sequence[float]) -> Estimate:
    """The mean of differences in −1…1 by unit, adjusted as a paired table is (Agresti and Min 2005): half an
    observation in each of its four cells is two units with Σd = 0 and Σd² = 1.

    `value` is the adjusted mean. Unlike a bootstrap over units its interval does not shrink to a point where few were
    seen and none differs.
    """
    n = len(by_unit) + 2
    adjusted = math.fsum(by_unit) / n
    variance = max(0.0, (math.fsum(d * d for d in by_unit) + 1) / n - adjusted**2)
    return Estimate(adjusted, math.sqrt(variance / n), n - 1, len(by_unit))


def auc(scores: Sequence[float], positive: Sequence[bool], clusters: Sequence[int]) -> tuple[float, float, float]:
    """The chance that a positive's score lies above another's, ties counted half, and its interval with the scores of a
    cluster (0, 1, …) as dependent (Obuchowski 1997). Both kinds are there.

    Each end lies at least as far from 0 and 1 as so many clusters without an error leave open (`least_of_perfect`).
    """
    above = [score for score, is_positive in zip(scores, positive, strict=True) if is_positive]
    below = [score for score, is_positive in zip(scores, positive, strict=True) if not is_positive]
    ordered_above, ordered_below = sorted(above), sorted(below)
    wins = [
        _share_below(ordered_below, score) if is_positive else 1 - _share_below(ordered_above, score)
        for score, is_positive in zip(scores, positive, strict=True)
    ]
    value = math.fsum(win for win, is_positive in zip(wins, positive, strict=True) if is_positive) / len(above)
    count = max(clusters) + 1
    influences = [0.0] * count
    for win, is_positive, cluster in zip(wins, positive, clusters, strict=True):
        influences[cluster] += (win - value) / (len(above) if is_positive else len(below))
    least = least_of_perfect(count)
    error = linearised(influences, 1 / count)
    if not error or not 0 < value < 1:
        return value, value * least, 1 - (1 - value) * least
    alike = value * (1 - value) / error**2
    found = _score_interval(value, alike, t_quantile(count - 1), len(scores))
    return value, min(found.low, least), max(found.high, 1 - least)


def _share_below(ordered: Sequence[float], score: float) -> float:
    """The share of sorted values below a score, equal ones counted half."""
    return (bisect_left(ordered, score) + bisect_right(ordered, score)) / 2 / len(ordered)
