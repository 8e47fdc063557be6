"""From trainings and their scores to curves, differences with intervals over seeds, and what may be said of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mga.stats import LEVEL, mean

FEWEST_SEEDS = 3
LOWER_IS_BETTER = ("loss", "bits_per_byte")

Row = Mapping[str, Any]
"""strategy, size, seed, tokens, measure, value: one figure of one checkpoint."""


def lower_is_better(measure: str) -> bool:
    """Whether a measure falls when the model gets better."""
    return measure.rpartition(" ")[2] in LOWER_IS_BETTER


def curves(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """For each size, measure and strategy: mean over seeds at each number of tokens, with its interval."""
    groups: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for row in rows:
        at = groups.setdefault((row["size"], row["measure"], row["strategy"]), {})
        at.setdefault(row["tokens"], []).append(row["value"])
    found = []
    for (size, measure, strategy), points in groups.items():
        most = max(map(len, points.values()))
        kept = {tokens: values for tokens, values in sorted(points.items()) if len(values) == most}
        bands = [mean(values) for values in kept.values()]
        ends = {"low": [band.low for band in bands], "high": [band.high for band in bands]}
        curve = {"tokens": [*kept], "mean": [band.value for band in bands], **ends, "seeds": most}
        found.append({"size": size, "measure": measure, "strategy": strategy, **curve})
    return found


def differences(rows: Sequence[Row], first: str) -> list[dict[str, Any]]:
    """At the end of training: each strategy minus the first, seed by seed (the same seed is the same weights at the
    beginning), mean and interval; `says` is better, worse, or open when the interval holds 0 or seeds are too few."""
    last: dict[tuple[str, str, str], dict[int, Row]] = {}
    for row in rows:
        of = last.setdefault((row["size"], row["measure"], row["strategy"]), {})
        if row["seed"] not in of or row["tokens"] > of[row["seed"]]["tokens"]:
            of[row["seed"]] = row
    found = []
    for (size, measure, strategy), mine in last.items():
        base = last.get((size, measure, first), {})
        seeds = sorted(mine.keys() & base.keys())
        if strategy == first or not seeds:
            continue
        values = [mine[seed]["value"] - base[seed]["value"] for seed in seeds]
        found_ = mean(values)
        low, high = found_.low, found_.high
        sign = -1 if lower_is_better(measure) else 1
        says = "open"
        if low is not None and high is not None and len(seeds) >= FEWEST_SEEDS and (low > 0 or high < 0):
            says = "better" if sign * found_.value > 0 else "worse"
        figures = {"difference": found_.value, "low": low, "high": high, "seeds": len(seeds), "says": says}
        found.append({"size": size, "measure": measure, "strategy": strategy, "against": first, **figures})
    return found


def reading(found: Sequence[Mapping[str, Any]], strategies: Sequence[str]) -> list[str]:
    """What the differences say, a sentence for each strategy and size; no more than the intervals carry."""
    sentences = []
    sizes = dict.fromkeys(row["size"] for row in found)
    for size in sizes:
        for strategy in strategies[1:]:
            mine = [row for row in found if (row["size"], row["strategy"]) == (size, strategy)]
            if not mine:
                continue
            seeds = min(row["seeds"] for row in mine)
            parts = []
            for word in ("better", "worse", "open"):
                names = [row["measure"] for row in mine if row["says"] == word]
                if names:
                    parts.append(f"{'inconclusive' if word == 'open' else word}: {', '.join(names)}")
            few = f" {seeds} seeds are too few for a claim." if seeds < FEWEST_SEEDS else ""
            sentences.append(f"{size}, {strategy} against {strategies[0]} ({seeds} seeds): {'; '.join(parts)}.{few}")
    count = sum(row["low"] is not None for row in found)
    if count > 1:
        wrong = count * (1 - LEVEL)
        sentences.append(
            f"These are {count} intervals of 95%: if nothing differed, about {wrong:.1f} of them would leave out 0."
        )
    return sentences
