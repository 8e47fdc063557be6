"""Where a variant's texts lie beside the originals, in an embedding, as figures.

Vectors have length 1. All figures but `closeness` take one text of each document, so that variants with more texts of
a document are comparable. x are the originals, y the texts.

closeness   (cos(y, own x) − b) / (1 − b), with b the mean cosine of different originals: 1 for a copy of the own
            document, 0 for a text that has no more to do with it than another document has
own_nearest share of texts whose nearest original is their own
coverage    share of originals that have a text within the distance of their k-th nearest original (Naeem et al. 2020)
density     mean number of such neighbourhoods that a text lies in, over k (the same; above 1: in the thick of them)
outside     share of texts in no original's neighbourhood (one less precision, Kynkäänniemi et al. 2019)
mmd         squared maximum mean discrepancy of x and y, RBF kernel of the median distance (Gretton et al. 2012,
            biased), and its p-value when each text changes places with its own document at random: small p, another
            distribution
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

NEIGHBOURS = 5
PERMUTATIONS = 999

# Half of the way from the own document to any other one. Of a mixed corpus a document's first sentence alone is at
# 0.60, its bare keywords at 0.61, other documents at 0 (docs/performance.md).
SHIFTS_BELOW = 0.5


def overlap(
    originals: Vectors, texts: Vectors, of: Sequence[int], firsts: Sequence[int], seed: int = 0
) -> dict[str, Any]:
    """The figures of one variant: text i, at `texts[i]`, was written from `originals[of[i]]`; `firsts` are the places
    of one text of each document."""
    x, owners = originals.astype(np.float64), np.asarray(of)
    cosines = texts.astype(np.float64) @ x.T
    base = other_cosine(originals)
    closeness = (cosines[np.arange(len(owners)), owners] - base) / (1 - base)
    y, own = texts[np.asarray(firsts)].astype(np.float64), owners[np.asarray(firsts)]
    k = min(NEIGHBOURS, len(x) - 1)
    radius = np.sort(_distances(x, x), axis=1)[:, k]  # the nearest of each is itself
    inside = _distances(x, y) <= radius[:, None] + 1e-9
    discrepancy, p = mmd(x[own], y, seed)
    return {
        "texts": len(texts),
        "documents": len(y),
        "closeness": float(closeness.mean()),
        "closeness_quartiles": [float(q) for q in np.quantile(closeness, (0.25, 0.5, 0.75))],
        "own_nearest": float((cosines[np.asarray(firsts)].argmax(1) == own).mean()),
        "neighbours": k,
        "coverage": float(inside.any(1).mean()),
        "density": float(inside.sum() / (k * len(y))),
        "outside": float((~inside.any(0)).mean()),
        "mmd": discrepancy,
        "mmd_p": p,
    }


def other_cosine(originals: Vectors) -> float:
    """Mean cosine of two different originals."""
    n = len(originals)
    sums = originals.astype(np.float64).sum(0)
    return float((sums @ sums - n) / (n * (n - 1)))


def place(figures: dict[str, Any], stays_from: float) -> str:
    """In words. `stays_from` is the closeness of the originals' own texts with a third of their sentences left out."""
    if figures["closeness"] < SHIFTS_BELOW:
        return "shifts away"
    if figures["closeness"] >= stays_from:
        return "stays close"
    return "extends while overlapping"


def mmd(x: NDArray[np.float64], y: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Squared MMD of paired samples (n × dimensions each), and its p-value under changes of places within pairs."""
    n = len(x)
    both = np.concatenate([x, y])
    squared = _distances(both, both) ** 2
    upper = squared[np.triu_indices(2 * n, 1)]
    scale = float(np.median(upper[upper > 0])) if (upper > 0).any() else 1.0
    kernel = np.exp(-squared / scale)
    rng = np.random.default_rng(seed)
    signs = np.ones((PERMUTATIONS + 1, n))
    signs[1:] = rng.choice((-1.0, 1.0), (PERMUTATIONS, n))
    weights = np.concatenate([signs, -signs], axis=1) / n
    values = ((weights @ kernel) * weights).sum(1)
    return float(max(values[0], 0.0)), float((values >= values[0] - 1e-12).mean())


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances of unit vectors (len(a) × len(b))."""
    return np.sqrt(np.maximum(2 - 2 * (a @ b.T), 0))
