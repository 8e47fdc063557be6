"""Results for people: a table on the screen, and scores over tokens as a picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from mga.evaluation.evaluate import score_of
from mga.evaluation.signals import LOWER_IS_BETTER, SMOOTH


def results_table(record: Mapping[str, Any]) -> Table:
    """A row a benchmark, a column a checkpoint: score ± standard error (where one is known), in %; the smooth signals
    below each."""
    results = record["results"]
    models = list(dict.fromkeys((row["run"], row["checkpoint"]) for row in results))
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for run, checkpoint in models:
        table.add_column(checkpoint if run == checkpoint else f"{run}\n{checkpoint}", justify="right")
    held = {(row["run"], row["checkpoint"], row["task"], row["metric"]): row for row in results}
    for task in dict.fromkeys(row["task"] for row in results):
        shots = next(row["shots"] for row in results if row["task"] == task)
        for metric in (score_of(task), "acc_norm", *SMOOTH):
            cells = [held.get((*model, task, metric)) for model in models]
            if any(cells):
                name = f"{task} ({metric}, {shots} shots)" if metric == score_of(task) else f"  {metric}"
                table.add_row(name, *("" if cell is None else _cell(cell, metric) for cell in cells))
    averages = {(row["run"], row["checkpoint"]): row for row in record["averages"]}
    table.add_row("average of scores", *(_cell(averages[model], "acc") for model in models))
    return table


def _cell(row: Mapping[str, Any], metric: str) -> str:
    scale, digits = (1, 3) if metric in (*LOWER_IS_BETTER, "margin") else (100, 1)
    error = "" if row["stderr"] is None else f" ± {scale * row['stderr']:.{digits}f}"
    return f"{scale * row['value']:.{digits}f}{error}"


def draw(record: Mapping[str, Any], path: Path) -> bool:
    """Scores over tokens, a line a run, with bands of one standard error; False where no run has two checkpoints."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    points = [row for row in record["averages"] if row["tokens"] is not None]
    runs = [run for run in dict.fromkeys(row["run"] for row in points) if sum(row["run"] == run for row in points) > 1]
    if not runs:
        return False
    figures: list[tuple[str, list[Mapping[str, Any]], float]] = [("average of scores, %", points, 100.0)]
    for task in dict.fromkeys(row["task"] for row in record["results"]):
        for metric in ("probability_norm", "bits_per_byte"):
            rows = [row for row in record["results"] if (row["task"], row["metric"]) == (task, metric)]
            if rows:
                figures.append((f"{task}: {metric}", rows, 1.0))
    columns = min(len(figures), 3)
    height = -(-len(figures) // columns)
    figure, axes = pyplot.subplots(height, columns, figsize=(4.5 * columns, 3.2 * height), squeeze=False)
    for axis, (title, rows, scale) in zip(axes.flat, figures, strict=False):
        for run in runs:
            mine = sorted((row for row in rows if row["run"] == run), key=lambda row: row["tokens"])
            x = [row["tokens"] for row in mine]
            y = [scale * row["value"] for row in mine]
            band = [scale * (row["stderr"] or 0.0) for row in mine]
            axis.plot(x, y, label=run)
            low, high = ([a + sign * b for a, b in zip(y, band, strict=True)] for sign in (-1, 1))
            axis.fill_between(x, low, high, alpha=0.2)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("tokens", fontsize=8)
    for axis in axes.flat[len(figures) :]:
        axis.axis("off")
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    return True
