"""Scores that grow smoothly while accuracy still is chance, from the same log-likelihoods.

With the log-likelihood ℓ of each choice in nats, and its length in bytes of UTF-8 b:

probability        exp ℓ(right) / Σ exp ℓ
probability_norm   the same with ℓ / b, so that long choices are not worse for being long
bits_per_byte      −ℓ(right) / (b(right) · ln 2); lower is better
margin             ℓ(right) / b(right) − the greatest ℓ / b of the wrong ones, in nats a byte
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SMOOTH = ("probability", "probability_norm", "bits_per_byte", "margin")
LOWER_IS_BETTER = ("bits_per_byte",)


def smooth(loglikelihoods: Sequence[float], lengths: Sequence[int], right: int) -> dict[str, float]:
    """The four scores of an item with two or more choices. Lengths are bytes, at least 1."""
    each = np.asarray(loglikelihoods, np.float64)
    per_byte = each / np.asarray(lengths, np.float64)
    wrong = np.delete(per_byte, right)
    return {
        "probability": _softmax(each)[right],
        "probability_norm": _softmax(per_byte)[right],
        "bits_per_byte": float(-per_byte[right] / math.log(2)),
        "margin": float(per_byte[right] - wrong.max()) if len(wrong) else 0.0,
    }


def _softmax(values: NDArray[np.float64]) -> list[float]:
    weights = np.exp(values - values.max())
    return [float(weight) for weight in weights / weights.sum()]
