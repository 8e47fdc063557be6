"""The first anomalies of many documents, by where they sit: histograms, and whether they sit where chance puts them.

Chance alone does not fill a histogram of first anomalies evenly: a search from the start finds the early ones first.
What is found is therefore compared to what the same search finds in the same differences shifted circularly
(`positions.shifted_anomalies`), where places mean nothing.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mga import stats
from mga.collapse.positions import Rule, first_anomalies, normalised, shifted_anomalies

BINS = 20
_SIDES = ((1 - stats.LEVEL) / 2, (1 + stats.LEVEL) / 2)


def position_figures(
    differences: NDArray[Any],
    offsets: NDArray[np.int64],
    rule: Rule,
    edges: tuple[float, ...],
    circular_shifts: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Histograms of normalised positions: of all documents, then by bands of mean difference between `edges`.

    Per band: name, low and high (nats, null: open), documents, found, worse (share of the anomalies at which the second
    model is the worse one), bins (shares of the anomalies in BINS equal parts of the document), bins_low and bins_high
    (95%, Wilson's of each part), chance, chance_low and chance_high (shares under circular shift), mean and chance_mean
    (position in %), later (their difference in points, with later_low and later_high, Student's), p_later and
    p_different (of the circular_shifts). null where nothing is found or no circular shift was asked for.
    """
    positions = first_anomalies(differences, offsets, rule)
    found = normalised(positions, offsets)
    random = np.random.default_rng(seed)
    turned = [
        normalised(shifted_anomalies(differences, offsets, rule, random), offsets) for _ in range(circular_shifts)
    ]
    means = _means(differences, offsets)
    worse = _signs(differences, offsets, positions, rule)
    bounds = [None, *edges, None]
    bands = [(None, None), *pairwise(bounds)]
    return [_band(low, high, _between(means, low, high), found, worse, turned) for low, high in bands]


def profile(differences: NDArray[Any], offsets: NDArray[np.int64]) -> dict[str, Any]:
    """The mean difference in each of BINS equal parts of the documents, without any threshold.

    documents (those of at least BINS tokens), mean, low, high (95%, documents as units) of each part, and
    last_fifth: the mean difference in the last fifth less that before it, with low, high.
    """
    whole = np.flatnonzero(np.diff(offsets) >= BINS)
    if len(whole) < 2:
        return {"documents": len(whole), "mean": None, "low": None, "high": None, "last_fifth": None}
    parts = np.empty((len(whole), BINS))
    _parts(differences, offsets, whole, parts)
    found = [estimate(part) for part in parts.T]
    last = parts[:, -(BINS // 5) :].mean(1) - parts[:, : -(BINS // 5)].mean(1)
    return {
        "documents": len(whole),
        "mean": [one["value"] for one in found],
        "low": [one["low"] for one in found],
        "high": [one["high"] for one in found],
        "last_fifth": estimate(last),
    }


def estimate(values: NDArray[np.float64]) -> dict[str, float | int | None]:
    """Mean of independent values with Student's 95% interval, and their number."""
    if not len(values):
        return {"value": None, "low": None, "high": None, "n": 0}
    mean = stats.mean(values.tolist())
    return {"value": mean.value, "low": mean.low, "high": mean.high, "n": mean.n}


def _between(values: NDArray[np.float64], low: float | None, high: float | None) -> NDArray[np.bool_]:
    chosen = np.ones(len(values), np.bool_)
    if low is not None:
        chosen &= values > low
    if high is not None:
        chosen &= values <= high
    return chosen


def _band(
    low: float | None,
    high: float | None,
    chosen: NDArray[np.bool_],
    found: NDArray[np.float64],
    worse: NDArray[np.bool_],
    turned: list[NDArray[np.float64]],
) -> dict[str, Any]:
    mine = found[chosen]
    there = mine >= 0
    at = mine[there]
    figures: dict[str, Any] = {
        "name": _name(low, high),
        "low": low,
        "high": high,
        "documents": len(mine),
        "found": len(at),
        "worse": float(worse[chosen][there].mean()) if len(at) else None,
    }
    keys = ("bins", "bins_low", "bins_high", "chance", "chance_low", "chance_high", "mean", "chance_mean")
    figures |= dict.fromkeys((*keys, "later", "later_low", "later_high", "p_later", "p_different"))
    if not len(at):
        return figures
    shares = _shares(at)
    bands = [stats.wilson(share * len(at), len(at)) for share in shares.tolist()]
    mean = stats.mean(at.tolist())
    figures["bins"] = shares.tolist()
    figures["bins_low"], figures["bins_high"] = [band.low for band in bands], [band.high for band in bands]
    figures["mean"] = mean.value
    by_chance = [values[chosen] for values in turned]
    by_chance = [values[values >= 0] for values in by_chance]
    by_chance = [values for values in by_chance if len(values)]
    if not by_chance:
        return figures
    chance = np.array([_shares(values) for values in by_chance])
    figures["chance"] = chance.mean(0).tolist()
    figures["chance_low"], figures["chance_high"] = np.quantile(chance, _SIDES, axis=0).tolist()
    chance_means = np.array([values.mean() for values in by_chance])
    expected = float(chance_means.mean())
    later = mean.value - expected
    figures["chance_mean"], figures["later"] = expected, later
    if mean.low is not None and mean.high is not None:
        figures["later_low"], figures["later_high"] = mean.low - expected, mean.high - expected
    circular_shifts = len(chance_means)
    figures["p_later"] = float((1 + (chance_means >= at.mean()).sum()) / (1 + circular_shifts))
    figures["p_different"] = float((1 + (np.abs(chance_means - expected) >= abs(later)).sum()) / (1 + circular_shifts))
    return figures


def _name(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "all"
    if low is None:
        return f"≤ {high:g}"
    return f"> {low:g}" if high is None else f"{low:g} to {high:g}"


def _shares(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.bincount(np.minimum((positions * BINS / 100).astype(np.int64), BINS - 1), minlength=BINS)
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def _means(differences: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    lengths = np.diff(offsets)
    if len(differences) == 0:
        return np.zeros(len(lengths))
    sums = np.add.reduceat(differences.astype(np.float64), np.minimum(offsets[:-1], len(differences) - 1))
    return np.where(lengths > 0, sums, 0) / np.maximum(lengths, 1)


def _signs(
    differences: NDArray[Any], offsets: NDArray[np.int64], positions: NDArray[np.int64], rule: Rule
) -> NDArray[np.bool_]:
    """Whether the mean of the window at each first anomaly is above 0; False where there is none."""
    signs = np.zeros(len(positions), np.bool_)
    for document in np.flatnonzero(positions >= 0):
        first, end = offsets[document], offsets[document + 1]
        window = max(int(rule.share * (end - first)), 1)
        start = first + positions[document]
        signs[document] = differences[start : start + window].sum() > 0
    return signs


@njit(nogil=True, cache=True, parallel=True)
def _parts(differences: Any, offsets: Any, documents: Any, parts: Any) -> None:
    bins = parts.shape[1]
    for row in prange(len(documents)):
        first = offsets[documents[row]]
        n = offsets[documents[row] + 1] - first
        for part in range(bins):
            start, end = part * n // bins, (part + 1) * n // bins
            total = 0.0
            for i in range(start, end):
                total += differences[first + i]
            parts[row, part] = total / (end - start)
