"""The part of a page that comes from the JSON of `mga study`: strategies compared at an equal budget."""

from collections.abc import Mapping
from typing import Any

from mga.report.blocks import Band, Block, Cell, Intervals, Lines, Prose, Section, Table

MAIN = ("acc", "probability_norm", "bits_per_byte", "loss")
"""Measures that are drawn, by their last word; the others are in the table."""


def study(record: Mapping[str, Any], number: int = 1, name: str = "") -> list[Section]:
    """What came out, the budgets, curves over tokens for each size, and all differences."""
    done, of = record["trainings"]["done"], record["trainings"]["of"]
    ids = "" if number == 1 else f"-{number}"
    title = f": {name}" if name else ""
    first: list[Block] = []
    if done < of:
        first.append(Prose(f"{done} of {of} trainings are done; what follows is of these."))
    first += [Prose(sentence) for sentence in record["reading"]] or [Prose("No two strategies can be compared yet.")]
    first.append(_budgets(record))
    sections = [Section(f"study{ids}", f"Strategies compared{title}", first)]
    for position, size in enumerate(dict.fromkeys(curve["size"] for curve in record["curves"])):
        sections.append(Section(f"study{ids}-{position}", f"{size}{title}", _of_size(record, size)))
    return sections


def _budgets(record: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = []
    for strategy, shares in record["plans"].items():
        for share in shares:
            unique, epochs = round(share["unique"]), round(share["epochs"], 2)
            rows.append([strategy, share["source"], unique, epochs, round(share["tokens"])])
    return Table("What the budget buys", ["strategy", "source", "unique tokens", "epochs", "tokens"], rows)


def _of_size(record: Mapping[str, Any], size: str) -> list[Block]:
    curves = [curve for curve in record["curves"] if curve["size"] == size]
    blocks: list[Block] = []
    for measure in dict.fromkeys(curve["measure"] for curve in curves):
        mine = [curve for curve in curves if curve["measure"] == measure]
        if measure.rpartition(" ")[2] in MAIN and max(len(curve["tokens"]) for curve in mine) > 1:
            bands = [Band(curve["low"], curve["mean"], curve["high"]) for curve in mine]
            seeds = mine[0]["seeds"]
            caption = f"{measure} over tokens: mean of {seeds} seeds, 95% interval"
            names, x = [curve["strategy"] for curve in mine], [curve["tokens"] for curve in mine]
            blocks.append(Lines(caption, "tokens", measure, names, x, bands))
    found = [row for row in record["differences"] if row["size"] == size]
    if not found:
        return blocks
    measures = [*dict.fromkeys(row["measure"] for row in found)]
    strategies = [*dict.fromkeys(row["strategy"] for row in found)]
    held = {(row["strategy"], row["measure"]): row for row in found}
    against = found[0]["against"]
    drawn = [measure for measure in measures if measure.rpartition(" ")[2] in MAIN]
    values = [
        Band(*([held.get((strategy, m), {}).get(key) for m in drawn] for key in ("low", "difference", "high")))
        for strategy in strategies
    ]
    blocks.append(Intervals(f"At the end: minus {against}, by seed, 95%", "", strategies, drawn, values))
    rows: list[list[Cell]] = [
        [m, strategy, _signed(row["difference"]), _range(row), row["seeds"], _WORDS[row["says"]]]
        for m in measures
        for strategy in strategies
        if (row := held.get((strategy, m)))
    ]
    columns = ["", "strategy", f"minus {against}", "95% interval", "seeds", "which is"]
    blocks.append(Table("All differences at the end of training", columns, rows))
    return blocks


_WORDS = {"better": "better", "worse": "worse", "open": "not to be told"}


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _range(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{_signed(row['low'])} … {_signed(row['high'])}"
