"""A study on the screen."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mga.budget.amounts import shown
from mga.study.settings import StudySettings


def differences_table(record: Mapping[str, Any]) -> Table:
    """Each measure at the end of training, strategy by strategy."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "strategy", "minus the first", "95% interval", "seeds", "which is"):
        table.add_column(column, justify="right" if column in ("minus the first", "seeds") else "left")
    for row in record["differences"]:
        interval = "" if row["low"] is None else f"{row['low']:+.4f} … {row['high']:+.4f}"
        says = "not to be told" if row["says"] == "open" else row["says"]
        measure = f"{row['size']} · {row['measure']}"
        table.add_row(measure, row["strategy"], f"{row['difference']:+.4f}", interval, str(row["seeds"]), says)
    return table


def plan_table(settings: StudySettings) -> Table:
    """The trainings there will be."""
    table = Table(box=None, pad_edge=False)
    for column in ("training", "strategy", "sources", "tokens"):
        table.add_column(column, justify="right" if column == "tokens" else "left")
    for run in settings.runs():
        recipe = settings.recipe(run.strategy, run.seed, settings.tokenizer)
        names = ", ".join(source.name for source in recipe.source)
        table.add_row(run.name, run.strategy.strategy.value, names, shown(settings.budget))
    return table
