"""Figures over seeds: their mean, and how far it can be trusted."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

LEVEL = 0.95


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean, and Student's interval of it at 95% (None of a single value)."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, None, None
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half
