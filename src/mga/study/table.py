"""A study on the screen."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mga.mixture.amounts import shown
from mga.packing.tokenizer import load_tokenizer
from mga.pretrain.model import count_parameters, flops_per_token, llama_config
from mga.study.settings import Size, StudySettings


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


def plan_table(settings: StudySettings, speed: float | None) -> Table:
    """The trainings there will be, with their FLOPs; with `speed`, FLOPs a second that are reached, hours."""
    numbers = ("tokens", "parameters", "FLOPs", "hours")
    columns = ["training", "strategy", "sources", *numbers[: 3 if speed is None else 4]]
    table = Table(box=None, pad_edge=False, show_footer=True)
    costs = {size.name: _costs(settings, size) for size in settings.size}
    total = sum(costs[run.size.name][1] for run in settings.runs())
    footers = {"training": f"{len(settings.runs())} trainings", "FLOPs": f"{total:.2e}"}
    footers |= {"hours": f"{total / speed / 3600:,.2f}"} if speed else {}
    for column in columns:
        table.add_column(column, footers.get(column, ""), justify="right" if column in numbers else "left")
    for run in settings.runs():
        recipe = settings.recipe(run.strategy, run.seed, settings.tokenizer)
        names = ", ".join(source.name for source in recipe.source)
        parameters, flops = costs[run.size.name]
        hours = [] if speed is None else [f"{flops / speed / 3600:,.2f}"]
        cells = [shown(settings.budget), shown(parameters), f"{flops:.2e}", *hours]
        table.add_row(run.name, run.strategy.strategy.value, names, *cells)
    return table


def _costs(settings: StudySettings, size: Size) -> tuple[int, float]:
    """Parameters of a model, and the FLOPs of its training, forward and backward."""
    if settings.tokenizer.startswith("train:"):
        vocabulary = int(settings.tokenizer.removeprefix("train:"))
    else:
        vocabulary = load_tokenizer(settings.tokenizer, settings.pack.separator).vocabulary
    config = llama_config(size, vocabulary, settings.sequence)
    parameters = count_parameters(config)
    return parameters.total, flops_per_token(config, parameters, settings.sequence) * settings.budget
