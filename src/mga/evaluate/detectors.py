"""What may betray a collapsed model, as one number each, larger meaning more suspicious; and how well each one does.

All compare a model with a healthy reference: on the losses of the same real documents, or on own texts that continue
the same beginnings.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mga.evaluate.calibration import calibration_figures
from mga.evaluate.histogram import profile
from mga.evaluate.kinds import by_frequency
from mga.evaluate.memorisation import auc
from mga.evaluate.own_texts import variety_of
from mga.evaluate.positions import Rule, first_anomalies, normalised
from mga.evaluate.scoring import TokenScores
from mga.evaluate.verdict import DIVERSITY, ENTROPY_FALL, OVERCONFIDENCE, RARE_EXCESS, TAIL_COVERAGE, pooled

THRESHOLDS: dict[str, float] = {
    "rare tokens lose more": RARE_EXCESS,
    "overconfidence": OVERCONFIDENCE,
    "entropy falls": ENTROPY_FALL,
    "own texts: fewer pairs of words": 1 - DIVERSITY,
    "own texts: Vendi score falls": 1 - DIVERSITY,
    "own texts: rare words missing": 1 - TAIL_COVERAGE,
}
"""Those that the verdict raises a sign for. The others have none: their value depends on the models."""


def of_losses(
    tokens: NDArray[np.int32], offsets: NDArray[np.int64], reference: TokenScores, model: TokenScores
) -> dict[str, float | None]:
    """Values from the scores of the same real documents."""
    differences = model.loss - reference.loss
    mean = float(differences.mean(dtype=np.float64))
    sure = [calibration_figures(s.top_probability, s.rank, s.entropy) for s in (reference, model)]
    rows = by_frequency(differences, tokens, offsets)
    rare, frequent = pooled(rows[:4]), pooled(rows[4:])
    positions = normalised(first_anomalies(differences, offsets, Rule()), offsets)
    last = profile(differences, offsets)["last_fifth"]
    return {
        "validation loss": mean,
        "rare tokens lose more": rare[0] - frequent[0] if rare and frequent else None,
        "overconfidence": sure[1]["overconfidence"] - sure[0]["overconfidence"],
        "calibration error": sure[1]["ece"] - sure[0]["ece"],
        "entropy falls": 1 - sure[1]["entropy"] / sure[0]["entropy"] if mean >= 0 else 0.0,
        "first anomaly late": float(positions[positions >= 0].mean()) if (positions >= 0).any() else None,
        "last fifth is worse": last["value"] if last else None,
        "spread of differences": float(differences.std(dtype=np.float64)),
    }


def of_texts(human: list[str], reference: list[str], model: list[str]) -> dict[str, float | None]:
    """Values from own texts that continue the same beginnings."""
    sets = {"human": pa.array(human), "real": pa.array(reference), "synt": pa.array(model)}
    found = variety_of(sets)
    real, synt = found["real"], found["synt"]

    def falls(key: str) -> float | None:
        return 1 - synt[key] / real[key] if real[key] and synt[key] is not None else None

    return {
        "own texts: fewer words": falls("distinct_1"),
        "own texts: fewer pairs of words": falls("distinct_2"),
        "own texts: Vendi score falls": falls("vendi"),
        "own texts: rare words missing": falls("tail_coverage"),
        "own texts: self-BLEU rises": synt["self_bleu"] - real["self_bleu"] if real["self_bleu"] is not None else None,
        "own texts: compress better": synt["compression"] / real["compression"] - 1,
    }


def table_of(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How well each detector tells collapsed from healthy, the best first.

    A case has generation (0: healthy), kind and values. Per detector: name; auc of all collapsed cases against all
    healthy ones, and auc_by_generation; auc_by_kind: against each kind of healthy model; threshold, sensitivity and
    false_alarms at it (null where the verdict raises no sign for it).
    """
    rows = [_row(name, cases) for name in cases[0]["values"]]
    return sorted(rows, key=lambda row: -(row["auc"] or 0))


def _row(name: str, cases: list[dict[str, Any]]) -> dict[str, Any]:
    def of(chosen: list[dict[str, Any]]) -> NDArray[np.float64]:
        return np.asarray([case["values"][name] for case in chosen if case["values"][name] is not None])

    healthy = [case for case in cases if case["generation"] == 0]
    collapsed = [case for case in cases if case["generation"] > 0]
    generations = sorted({case["generation"] for case in collapsed})
    threshold = THRESHOLDS.get(name)
    return {
        "name": name,
        "auc": _auc(of(collapsed), of(healthy)),
        "auc_by_generation": {
            str(g): _auc(of([case for case in collapsed if case["generation"] == g]), of(healthy)) for g in generations
        },
        "auc_by_kind": {
            kind: _auc(of(collapsed), of([case for case in healthy if case["kind"] == kind]))
            for kind in dict.fromkeys(case["kind"] for case in healthy)
        },
        "threshold": threshold,
        "sensitivity": _share_above(of(collapsed), threshold),
        "false_alarms": _share_above(of(healthy), threshold),
    }


def _auc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float | None:
    return auc(higher, lower) if len(higher) and len(lower) else None


def _share_above(values: NDArray[np.float64], threshold: float | None) -> float | None:
    return None if threshold is None or not len(values) else float((values > threshold).mean())
