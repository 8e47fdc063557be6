"""A plan as a table for people and as values for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import mean, median
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mga.planning.corpus_size import Figure
from mga.planning.forecast import Forecast, Prices, Work, advice, cost, storage


def shown(work: Work, found: Forecast, prices: Prices, notes: Sequence[str], device: str = "GPU") -> RenderableType:
    """The plan, and below it what to be careful of. `device` names what a fleet is counted in: GPU, or CPU machine."""
    table = Table(box=None, show_header=False, padding=(0, 2), pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold", style="dim")
    size, workers = work.size, found.fleet.workers
    low, middle, high = found.hours
    alone = work.generated.value / found.rate / 3600
    if size.files:
        files = "1 file" if size.files == 1 else f"{size.files:,} files"
        table.add_row("corpus", _bytes(size.bytes), f"{files}, {size.sampled:,} rows looked at")
    table.add_row("rows", _count(size.rows.value), _range(size.rows))
    table.add_row("documents", _count(size.documents.value), _range(size.documents))
    table.add_row("chunks", _count(size.chunks.value), _range(size.chunks))
    table.add_row("document tokens", _count(work.tokens.value), _range(work.tokens))
    table.add_row("requests", _count(work.requests.value), _range(work.requests))
    cached = f"{work.cached:.0%} from cache" if work.cached else ""
    table.add_row("prompt tokens", _count(work.prompt_tokens.value), _range(work.prompt_tokens, cached))
    table.add_row("generated tokens", _count(work.generated.value), _range(work.generated))
    growth = work.kept.value / work.tokens.value
    table.add_row("tokens kept", _count(work.kept.value), _range(work.kept, f"{growth:.2f} × the documents"))
    table.add_row(f"tokens/s and {device}", f"{found.rate:,.1f}", "generated")
    table.add_row()
    table.add_row(f"{device}s", f"{found.gpus:,}", f"{workers:,} worker{'s' * (workers != 1)}")
    each = f"{work.shards / workers:,.1f} a worker, {_duration(alone * 3600 * workers / found.gpus / work.shards)} each"
    table.add_row("shards", f"{work.shards:,}", f"of {work.shard_size:,} rows; {each}")
    table.add_row("hours", _hours(middle), f"{_hours(low)} to {_hours(high)} in {len(found.runs)} simulated runs")
    table.add_row(f"{device} hours", _hours(found.gpus * middle), f"{_hours(alone)} of them work, if nothing failed")
    deaths = [run.deaths for run in found.runs]
    redone = mean(run.redone_s for run in found.runs) / 3600
    note = f"{min(deaths):,} to {max(deaths):,}; {_hours(redone)} worker hours done again"
    table.add_row("worker deaths", f"{median(deaths):,.0f}", note)
    folder, journals = storage(work, found)
    table.add_row("storage", _bytes(folder), f"the run folder; {_bytes(journals)} more of journals while it works")
    if prices != Prices():
        least, usual, most = cost(work, found, prices)
        table.add_row("cost", f"{usual:,.0f}", f"{least:,.0f} to {most:,.0f}")
    lines = [Text(note, style="yellow") for note in [*notes, *advice(work, found)]]
    return Group(table, *lines)


def as_values(work: Work, found: Forecast, prices: Prices) -> dict[str, Any]:
    """The same figures, unrounded."""
    folder, journals = storage(work, found)
    values = asdict(work) | {
        "shards": work.shards,
        "gpus": found.gpus,
        "workers": found.fleet.workers,
        "tokens_per_second_and_gpu": found.rate,
        "hours": dict(zip(("low", "median", "high"), found.hours, strict=True)),
        "gpu_hours_of_work": work.generated.value / found.rate / 3600,
        "deaths": median(run.deaths for run in found.runs),
        "run_folder_bytes": folder,
        "journal_bytes": journals,
    }
    if prices != Prices():
        values["cost"] = dict(zip(("low", "median", "high"), cost(work, found, prices), strict=True))
    return values


def _range(figure: Figure, note: str = "") -> str:
    low, high = map(_count, figure.bounds)
    span = f"{low} to {high}" if figure.error else ""
    return "; ".join(filter(None, (span, note)))


def _count(value: float) -> str:
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= size * 0.99995:
            return f"{value / size:,.2f} {name}"
    return f"{value:,.0f}"


def _bytes(value: float) -> str:
    for size, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= size * 0.9995:
            return f"{value / size:,.1f} {name}"
    return f"{value / 1e3:,.0f} kB"


def _hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
