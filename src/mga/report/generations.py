"""The part of a page that comes from the JSON of `mga collapse-generations`: which detectors notice a collapse."""

from collections.abc import Mapping
from typing import Any

from mga.report.blocks import Block, Cell, Prose, Section, Share, Table

GOOD = 0.95
"""AUC from which a detector is called good."""


def detectors(record: Mapping[str, Any], number: int = 1, name: str = "") -> Section:
    """How well each detector tells collapsed models from healthy ones, the best first."""
    found = record["detectors"]
    generations = list(found[0]["auc_by_generation"])
    kinds = list(found[0]["auc_by_kind"])
    rows: list[list[Cell]] = []
    apart: list[list[Cell]] = []
    for row in found:
        aucs = [_auc(row["auc_by_generation"][generation]) for generation in generations]
        at = [None if row[key] is None else f"{row[key]:.0%}" for key in ("sensitivity", "false_alarms")]
        threshold = None if row["threshold"] is None else round(row["threshold"], 3)
        band = None if row["auc_low"] is None else f"{row['auc_low']:.2f}–{row['auc_high']:.2f}"
        rows.append([row["name"], _auc(row["auc"]), band, *aucs, threshold, *at])
        apart.append([row["name"], *(_auc(row["auc_by_kind"][kind]) for kind in kinds)])
    models: list[list[Cell]] = []
    for model in record["models"]:
        kind = f"generation {model['generation']}" if model["generation"] else model["kind"]
        seeds = ", ".join(f"{value:+.2f}" for value in model["by_seed"])
        models.append([model["name"], kind, f"{model['loss_difference']:+.3f}", seeds])
    good = [row["name"] for row in found if (row["auc"] or 0) >= GOOD]
    bad = [row["name"] for row in found if (row["auc"] or 0) < GOOD]
    words = f"AUC {GOOD} and more: {', '.join(good) or 'none'}. Below: {', '.join(bad) or 'none'}. "
    words += "AUC: how often a collapsed model has the higher value than a healthy one; 0.5 is a coin. "
    count = len(found[0]["auc_by_seed"])
    words += (
        f"Means over {count} seeds (other documents, other models), with the 95% interval of the mean."
        if count > 1
        else "One seed: its cases are parts of the same few models, and no interval can be given; use --seeds 3."
    )
    columns = ["", "all", "95%", *(f"generation {g}" for g in generations), "a sign above", "found", "false alarms"]
    blocks: list[Block] = [
        Prose(words),
        Table("AUC of collapsed models against healthy ones", columns, rows),
        Table("AUC of all collapsed models against each kind of healthy one", ["", *kinds], apart),
        Table(
            "Models: loss on real text against the first, nats per token",
            ["", "differs in", "loss", "of each seed"],
            models,
        ),
    ]
    ids = "" if number == 1 else f"-{number}"
    return Section(f"detectors{ids}", f"Detectors of collapse{f': {name}' if name else ''}", blocks)


def _auc(value: float | None) -> Cell:
    return None if value is None else Share(value, f"{value:.2f}")
