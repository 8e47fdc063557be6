"""What may betray a collapsed model, as one number each, larger meaning more suspicious; and how well each one does.

All compare a model with a healthy reference: on the losses of the same real documents, or on samples that continue
the same beginnings.
"""

from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mga import stats
from mga.collapse.calibration import calibration_figures
from mga.collapse.histogram import profile
from mga.collapse.kinds import rare_excess
from mga.collapse.memorisation import auc
from mga.collapse.positions import Rule, first_anomalies, normalised
from mga.collapse.samples import variety_of
from mga.collapse.verdict import DIVERSITY, ENTROPY_FALL, OVERCONFIDENCE, RARE_EXCESS, TAIL_COVERAGE
from mga.scoring.model import TokenScores

THRESHOLDS: dict[str, float] = {
    "rare tokens lose more": RARE_EXCESS,
    "overconfidence": OVERCONFIDENCE,
    "entropy falls": ENTROPY_FALL,
    "samples: fewer pairs of words": 1 - DIVERSITY,
    "samples: Vendi score falls": 1 - DIVERSITY,
    "samples: rare words missing": 1 - TAIL_COVERAGE,
}
"""Those that the verdict raises a sign for. The others have none: their value depends on the models."""


def of_losses(
    tokens: NDArray[np.int32], offsets: NDArray[np.int64], reference: TokenScores, model: TokenScores
) -> dict[str, float | None]:
    """Values from the scores of the same real documents."""
    differences = model.loss - reference.loss
    mean = float(differences.mean(dtype=np.float64))
    sure = [calibration_figures(s.top_probability, s.rank, s.entropy) for s in (reference, model)]
    excess = rare_excess(differences, tokens, offsets)
    positions = normalised(first_anomalies(differences, offsets, Rule()), offsets)
    last = profile(differences, offsets)["last_fifth"]
    return {
        "validation loss": mean,
        "rare tokens lose more": excess and excess["value"],
        "overconfidence": sure[1]["overconfidence"] - sure[0]["overconfidence"],
        "calibration error": sure[1]["ece"] - sure[0]["ece"],
        "entropy falls": 1 - sure[1]["entropy"] / sure[0]["entropy"] if mean >= 0 else 0.0,
        "first anomaly late": float(positions[positions >= 0].mean()) if (positions >= 0).any() else None,
        "last fifth is worse": last["value"] if last else None,
        "spread of differences": float(differences.std(dtype=np.float64)),
    }


def of_texts(human: list[str], reference: list[str], model: list[str]) -> dict[str, float | None]:
    """Values from samples that continue the same beginnings."""
    sets = {"human": pa.array(human), "real": pa.array(reference), "synt": pa.array(model)}
    found = variety_of(sets)
    real, synt = found["real"], found["synt"]

    def falls(key: str) -> float | None:
        return 1 - synt[key] / real[key] if real[key] and synt[key] is not None else None

    return {
        "samples: fewer words": falls("distinct_1"),
        "samples: fewer pairs of words": falls("distinct_2"),
        "samples: Vendi score falls": falls("vendi"),
        "samples: rare words missing": falls("tail_coverage"),
        "samples: self-BLEU rises": synt["self_bleu"] - real["self_bleu"] if real["self_bleu"] is not None else None,
        "samples: compress better": synt["compression"] / real["compression"] - 1,
    }


def table_of(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How well each detector tells collapsed from healthy, the best first.

    A case has generation (0: healthy), kind, values, and the seed of its models. Cases are compared with cases of their
    seed; an AUC is the mean over seeds. Per detector: name; auc of all collapsed cases against all healthy ones, that
    of each seed (auc_by_seed) and the 95% interval of their mean (auc_low, auc_high; null of one seed);
    auc_by_generation; auc_by_kind: against each kind of healthy model; threshold, sensitivity and false_alarms at it
    (null where the verdict raises no sign for it).
    """
    rows = [_row(name, cases) for name in cases[0]["values"]]
    return sorted(rows, key=lambda row: -(row["auc"] or 0))


def _row(name: str, cases: list[dict[str, Any]]) -> dict[str, Any]:
    healthy = [case for case in cases if case["generation"] == 0]
    collapsed = [case for case in cases if case["generation"] > 0]
    generations = sorted({case["generation"] for case in collapsed})
    kinds = dict.fromkeys(case["kind"] for case in healthy)
    threshold = THRESHOLDS.get(name)
    by_seed = _aucs(name, collapsed, healthy)
    mean, low, high = _over_seeds(by_seed)
    return {
        "name": name,
        "auc": mean,
        "auc_low": low,
        "auc_high": high,
        "auc_by_seed": by_seed,
        "auc_by_generation": {
            str(g): _mean(_aucs(name, [case for case in collapsed if case["generation"] == g], healthy))
            for g in generations
        },
        "auc_by_kind": {
            kind: _mean(_aucs(name, collapsed, [case for case in healthy if case["kind"] == kind])) for kind in kinds
        },
        "threshold": threshold,
        "sensitivity": _share_above(_values(name, collapsed), threshold),
        "false_alarms": _share_above(_values(name, healthy), threshold),
    }


def _over_seeds(by_seed: list[float]) -> tuple[float | None, float | None, float | None]:
    """Mean over seeds and its interval; of one seed there is none."""
    if len(by_seed) > 1:
        return stats.bounded_mean(by_seed)
    return (by_seed[0] if by_seed else None), None, None


def _values(name: str, cases: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.asarray([case["values"][name] for case in cases if case["values"][name] is not None])


def _aucs(name: str, collapsed: list[dict[str, Any]], healthy: list[dict[str, Any]]) -> list[float]:
    """The AUC within each seed that has cases of both."""
    found = []
    for seed in dict.fromkeys(case["seed"] for case in collapsed):
        both = [_values(name, [case for case in some if case["seed"] == seed]) for some in (collapsed, healthy)]
        if len(both[0]) and len(both[1]):
            found.append(auc(*both))
    return found


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _share_above(values: NDArray[np.float64], threshold: float | None) -> float | None:
    return None if threshold is None or not len(values) else float((values > threshold).mean())
