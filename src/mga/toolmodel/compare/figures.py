"""The figures of a comparison, from its run folders: the same folders give the same values.

version, stage, documents, margin, min_score
teacher, student   by side:
    scores         `Scores.as_values`, and `at_least_3`: of_asked and of_judged (share, low, high, of), as in the
                   paper's Table 1
    acceptable     of all that was asked for and could be judged: texts that cleaning drops and pairs that never came
                   are none (share, low, high, of)
    asked          documents × pairs; missing: why there was no text, by reason; no_verdict: not counted at all
    tokens (mean, estimated), length_ratio, novelty (share of word 3-grams that the document has not): means
    tokens_per_second   of its reformulations, with the judge at work beside; None where another model wrote
    pairs          of stage 1: wanted, pairs, requests, valid_at_once (share, low, high, of), tokens_per_second
difference         student less teacher in `acceptable`, by documents (`mga.toolmodel.compare.paired`): mean, low, high,
                   documents, verdict, needed
agreement          documents: student_better, alike, student_worse; texts (where both wrote for the same pairs): both,
                   only_teacher, only_student, neither
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from mga.records import Document
from mga.runs.monitoring.session import all_sessions
from mga.runs.run import Run
from mga.runs.texts import rows_of
from mga.scores import SCORES, Scores
from mga.stats import Share, clustered_share, wilson
from mga.text.words import copied_share, estimate_tokens
from mga.toolmodel.compare.paired import difference

VERSION = 1
_NOVELTY_WORDS = 3

Slot = tuple[str, str | None, str | None]
"""A document's text, and the pair that was written for (None: it never came)."""


def figures_of(
    runs: Mapping[Any, Path],
    sample: Sequence[Document],
    proposed: Mapping[Any, Mapping[str, Any]],
    stage: str,
    margin: float,
    min_score: int,
) -> dict[str, Any]:
    """All figures of finished runs over a sample."""
    rows = {side: rows_of(folder, sample) for side, folder in runs.items()}
    result: dict[str, Any] = {
        "version": VERSION,
        "stage": stage,
        "documents": len(sample),
        "margin": margin,
        "min_score": min_score,
        "difference": None,
        "agreement": None,
    }
    for side, folder in runs.items():
        writes = stage != "pairs" or side == "teacher"
        result[side] = _side(rows[side], min_score)
        result[side]["tokens_per_second"] = _writing_speed(folder) if writes else None
        result[side]["pairs"] = _pairs(proposed[side]) if side in proposed else None
    if "teacher" in runs:
        fates = {side: [(slot, fate) for row in rows[side] for slot, fate in _fate(row, min_score)] for side in runs}
        shares = {side: _by_document(of) for side, of in fates.items()}
        both = [document.text for document in sample if all(document.text in of for of in shares.values())]
        apart = [shares["student"][text] - shares["teacher"][text] for text in both]
        result["difference"] = asdict(difference(apart, margin))
        result["agreement"] = {
            "documents": {
                "student_better": sum(d > 0 for d in apart),
                "alike": sum(d == 0 for d in apart),
                "student_worse": sum(d < 0 for d in apart),
            },
            "texts": _same_texts(dict(fates["teacher"]), dict(fates["student"])) if stage == "reformulate" else None,
        }
    return result


def _fate(row: Mapping[str, Any], min_score: int) -> list[tuple[Slot, bool]]:
    """Whether a row is acceptable; nothing of a text without verdict, and of requests that an engine gave up."""
    slot = (row["raw_text"], row["genre"], row["audience"])
    if row["score"] is not None:
        return [(slot, row["score"] >= min_score)]
    unknown = row["reason"] in ("no_verdict", "engine_gave_up") or (row["reason"] == "request_refused" and row["text"])
    return [] if unknown else [(slot, False)]


def _side(rows: Sequence[Mapping[str, Any]], min_score: int) -> dict[str, Any]:
    scores = Counter(row["score"] for row in rows if row["score"] is not None)
    fates = [(slot[0], fate) for row in rows for slot, fate in _fate(row, min_score)]
    good = [(row["raw_text"], row["score"] >= 3) for row in rows if row["score"] is not None]
    asked = good + [(row["raw_text"], False) for row in rows if row["score"] is None and _was_asked(row)]
    missing = Counter(str(row["reason"]) for row in rows if row["score"] is None)
    written = [(row["raw_text"], row["text"]) for row in rows if row["score"] is not None]
    return {
        "scores": {
            **Scores({score: scores[score] for score in SCORES}, len(asked) - len(good)).as_values(),
            "at_least_3": {"of_asked": asdict(_share(asked)), "of_judged": asdict(_share(good))},
        },
        "acceptable": asdict(_share(fates)),
        "asked": len(rows),
        "no_verdict": len(rows) - len(fates),
        "missing": dict(sorted(missing.items())),
        "tokens": _mean([estimate_tokens(text) for _, text in written]),
        "length_ratio": _mean([estimate_tokens(text) / estimate_tokens(original) for original, text in written]),
        "novelty": _mean([1 - copied_share(original, text, _NOVELTY_WORDS) for original, text in written]),
    }


def _was_asked(row: Mapping[str, Any]) -> bool:
    """Whether a text without a score had come as far as the judge."""
    return row["reason"] == "no_verdict" or bool(row["reason"] in ("engine_gave_up", "request_refused") and row["text"])


def _share(held: Sequence[tuple[str, bool]]) -> Share:
    """The share of good texts, the texts of a document (its text comes first) as one cluster."""
    clusters: defaultdict[str, list[bool]] = defaultdict(list)
    for document, is_good in held:
        clusters[document].append(is_good)
    return clustered_share([(sum(of), len(of)) for of in clusters.values()])


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _by_document(fates: Sequence[tuple[Slot, bool]]) -> dict[str, float]:
    """The share of acceptable texts of each document that has any known."""
    held: defaultdict[str, list[bool]] = defaultdict(list)
    for (text, _, _), fate in fates:
        held[text].append(fate)
    return {text: fmean(of) for text, of in held.items()}


def _same_texts(teacher: Mapping[Slot, bool], student: Mapping[Slot, bool]) -> dict[str, int]:
    cells = Counter((teacher[slot], student[slot]) for slot in teacher.keys() & student.keys() if slot[1] is not None)
    return {
        "both": cells[True, True],
        "only_teacher": cells[True, False],
        "only_student": cells[False, True],
        "neither": cells[False, False],
    }


def _writing_speed(run: Path) -> float | None:
    used = Run(run).stats().usage.get("reformulate")
    seconds = all_sessions(run).seconds
    return used.generated_tokens / seconds if used and seconds else None


def _pairs(proposed: Mapping[str, Any]) -> dict[str, Any]:
    seconds, generated = proposed["seconds"], proposed["spent"]["generated_tokens"]
    return {
        **{key: proposed[key] for key in ("model", "wanted", "pairs", "requests")},
        "valid_at_once": asdict(wilson(proposed["valid_at_once"], proposed["documents"])),
        "tokens_per_second": generated / seconds if generated and seconds else None,
    }
