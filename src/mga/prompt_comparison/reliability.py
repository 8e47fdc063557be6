"""What a judge's scores are worth: whether they tell a document's own text from another's, and whether they repeat.

- AUC: the chance that a faithful text scores higher than an unrelated one, ties counted half; 0.5 is a coin. Its
  interval takes the texts beside one document as dependent (`stats.auc`). By it a judge is fit, unfit, or too few
  documents were asked about to say (inconclusive).
- Krippendorff's alpha (ordinal) of repeated judgements of the same text: 1 agreement, 0 chance.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import krippendorff
import numpy as np
from sklearn.metrics import roc_auc_score

from mga import stats
from mga.prompt_comparison.judging import Judgement
from mga.prompt_comparison.questions import Kind

Answer = Literal["fit", "unfit", "inconclusive"]

# What an AUC is good for when all of its interval lies above. 0.9: of ten such choices one is wrong. 0.7: a mean over
# many texts still orders variants that differ. Above 0.5: it has seen something.
DECIDES, RANKS, CHANCE = 0.9, 0.7, 0.5
# Krippendorff's own advice (Content Analysis, 2004, ch. 11): rely on 0.8, be careful down to 0.667.
RELIABLE, TENTATIVE = 0.8, 0.667


def reliability(judgements: Sequence[Judgement], min_score: int) -> dict[str, Any]:
    """All figures on a judge; `answer` is whether it is fit, unfit or inconclusive (None without verdicts), and
    `statement` says in plain words what for."""
    found: dict[str, Any] = {
        "planted": _separation(judgements, "planted", min_score),
        "corrupted": _separation(judgements, "corrupted", min_score),
        "swapped": _separation(judgements, "swapped", min_score),
        "repeated": _agreement(judgements, min_score),
    }
    found["answer"] = found["planted"] and found["planted"]["answer"]
    found["statement"] = _statement(found, min_score)
    return found


def _separation(judgements: Sequence[Judgement], kind: Kind, min_score: int) -> dict[str, Any] | None:
    """How well faithful and unrelated texts are told apart; None without verdicts on both."""
    asked = [judgement for judgement in judgements if judgement.kind == kind]
    if kind == "corrupted":  # beside the same texts with their facts right
        asked += [judgement for judgement in judgements if judgement.kind == "planted" and judgement.faithful]
    told = [judgement for judgement in asked if judgement.score is not None]
    faithful = np.array([bool(judgement.faithful) for judgement in told])
    if len(set(faithful.tolist())) < 2:
        return None
    scores = np.array([judgement.score for judgement in told], np.float64)
    numbers = {name: place for place, name in enumerate(dict.fromkeys(j.document for j in told))}
    value, *ends = stats.auc(scores.tolist(), faithful.tolist(), [numbers[judgement.document] for judgement in told])
    expected = np.array([np.nan if j.expected is None else j.expected for j in told], np.float64)
    return {
        "pairs": len(asked),
        "no_verdict": len(asked) - len(told),
        "faithful": int(faithful.sum()),
        "unrelated": int((~faithful).sum()),
        "documents": len(numbers),
        "auc": value,
        "interval": ends,
        "answer": _answer(*ends),
        "auc_expected": None if np.isnan(expected).any() else float(roc_auc_score(faithful, expected)),
        "mean_faithful": float(scores[faithful].mean()),
        "mean_unrelated": float(scores[~faithful].mean()),
        "faithful_dropped": float((scores[faithful] < min_score).mean()),
        "unrelated_kept": float((scores[~faithful] >= min_score).mean()),
    }


def _agreement(judgements: Sequence[Judgement], min_score: int) -> dict[str, Any] | None:
    """How far repeated judgements of the same text agree; None without a text that has two verdicts."""
    of: defaultdict[str, list[int]] = defaultdict(list)
    for judgement in judgements:
        if judgement.kind == "repeated" and judgement.score is not None:
            of[judgement.text_id].append(judgement.score)
    several = [scores for scores in of.values() if len(scores) > 1]
    if not several:
        return None
    most = max(map(len, several))
    table = np.array([[*scores, *[np.nan] * (most - len(scores))] for scores in several]).T
    different = len(set(table[~np.isnan(table)].tolist())) > 1
    kept = [[score >= min_score for score in scores] for scores in several]
    return {
        "texts": len(several),
        "judgements_each": most,
        "alpha": float(krippendorff.alpha(table, level_of_measurement="ordinal")) if different else None,
        "same_score": float(np.mean([len(set(scores)) == 1 for scores in several])),
        "same_decision": float(np.mean([len(set(of_text)) == 1 for of_text in kept])),
    }


def _answer(low: float, high: float) -> Answer:
    """What an AUC's interval allows to say: fit where all of it is good enough, unfit where none of it is."""
    if low >= RANKS:
        return "fit"
    return "unfit" if high < RANKS else "inconclusive"


def _statement(found: dict[str, Any], min_score: int) -> str:
    planted, repeated = found["planted"], found["repeated"]
    if planted is None:
        return "The judge gave no verdicts on planted pairs: nothing can be said of its scores."
    low, high = planted["interval"]
    said = f"AUC {planted['auc']:.2f} ({low:.2f} to {high:.2f}) on {planted['faithful']:,} faithful and "
    said += f"{planted['unrelated']:,} unrelated texts. "
    if low >= DECIDES:
        said += (
            f"The judge is fit to drop single texts that have lost their document: with a least score of {min_score} "
            f"it keeps {planted['unrelated_kept']:.0%} of the unrelated and drops {planted['faithful_dropped']:.0%} "
            "of the faithful."
        )
    elif low >= RANKS:
        said += "The judge is fit to compare variants by their averages, not to decide on single texts."
        said += f" {_more(planted, DECIDES, 'whether it could')}" if high >= DECIDES else ""
    elif high >= RANKS:
        said += (
            f"Inconclusive: a judge is fit to compare variants from {RANKS} on, unfit below, and this may be either. "
            f"{_more(planted, RANKS, 'which')} Until then drop no texts by its scores."
        )
    elif low > CHANCE:
        said += "The judge is unfit, hardly better than chance: only large differences of averages mean anything."
    else:
        said += (
            "The judge is fit for nothing: its scores do not tell a document's own text from another's. Do not drop "
            "texts by them, and read no score table above."
        )
    if wrong := found["corrupted"]:
        low, high = wrong["interval"]
        said += f" Of texts with wrong numbers and names it keeps {wrong['unrelated_kept']:.0%}: facts it "
        said += "sees" if low >= RANKS else "does not see" if high < RANKS else "may or may not see"
        said += f" (AUC {wrong['auc']:.2f}, {low:.2f} to {high:.2f})."
    if repeated is None:
        return said
    if repeated["alpha"] is None:
        return f"{said} Asked again it always gave the same score, to every text."
    alpha = repeated["alpha"]
    how = "reliably" if alpha >= RELIABLE else "tolerably" if alpha >= TENTATIVE else "not reliably"
    return f"{said} Drawn again, its scores repeat {how} (alpha {alpha:.2f})."


def _more(planted: dict[str, Any], threshold: float, what: str) -> str:
    """How many documents would tell, if the AUC and its spread are as they look: an interval narrows with the root of
    their number."""
    low, high = planted["interval"]
    auc, documents = planted["auc"], planted["documents"]
    half = auc - low if auc >= threshold else high - auc
    apart = abs(auc - threshold)
    if apart < 0.01 or half <= apart:
        return f"More documents (--judged) would tell {what}."
    needed = float(f"{documents * (half / apart) ** 2:.2g}")
    return f"About {needed:,.0f} documents (--judged) would tell {what}, if it is as it looks."
