"""How sure a model is, and how far that is justified: entropy, and expected calibration error (Guo et al. 2017)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


def calibration_figures(
    top_probability: NDArray[np.float32], ranks: NDArray[np.int32], entropy: NDArray[np.float32]
) -> dict[str, Any]:
    """Of the likeliest token at every place: how probable the model thought it, and how often it was the right one.

    ece: mean over tokens of |accuracy − confidence| in BINS equal bins of confidence; confidence, accuracy (shares);
    overconfidence: their difference; entropy (nats, mean); bins: tokens, confidence, accuracy of each (null: empty).
    """
    right = ranks == 1
    bins = np.minimum((top_probability * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    confidence = np.bincount(bins, top_probability, minlength=BINS) / np.maximum(counts, 1)
    accuracy = np.bincount(bins, right, minlength=BINS) / np.maximum(counts, 1)
    total = max(len(ranks), 1)
    return {
        "ece": float((counts * np.abs(accuracy - confidence)).sum() / total),
        "confidence": float(top_probability.mean(dtype=np.float64)),
        "accuracy": float(right.mean()),
        "overconfidence": float(top_probability.mean(dtype=np.float64) - right.mean()),
        "entropy": float(entropy.mean(dtype=np.float64)),
        "bins": [
            {"tokens": int(n), "confidence": float(c) if n else None, "accuracy": float(a) if n else None}
            for n, c, a in zip(counts, confidence, accuracy, strict=True)
        ],
    }
