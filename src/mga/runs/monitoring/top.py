"""A run on a terminal while it works: one frame, drawn again and again."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mga.engines.latency import quantile
from mga.errors import InputError
from mga.runs.monitoring.progress import duration
from mga.runs.monitoring.session import ServerFigures
from mga.runs.monitoring.status import Look, Rates, View, Worker
from mga.runs.run import CONTINUE
from mga.terminal import printable

WIDTH_OF_FILES = 140
LEAST_ROWS = 8  # of a table, however low the terminal
_OUTCOMES = ("kept", "dropped", "failed")
_BAD = "bold red"
_STYLES = {"working": "green", "ended": "dim", "not heard": _BAD, "up": "green", "away": _BAD, "refuses": _BAD}

Entry = TypeVar("Entry")


def follow(look: Look, console: Console, every_s: float) -> None:
    """Show the run until it is complete or the user has seen enough; the last frame stays."""
    view, problem = look.now(), ""
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while not view.complete:
                live.update(frame(view, console.height, problem), refresh=True)
                time.sleep(every_s)
                try:
                    view, problem = look.now(), ""
                except (InputError, OSError) as error:
                    problem = str(error)
    finally:
        console.print(frame(view, console.height, problem))


def frame(view: View, height: int, problem: str = "") -> RenderableType:
    """Everything on one page of about so many lines; long tables say how many rows they leave out."""
    rows = max(LEAST_ROWS, (height - 22) // 2)
    parts: list[RenderableType] = [_head(view), _bar(view), "", _rates(view), "", _counts(view)]
    if view.workers:
        parts += ["", _workers(view, rows)]
    if any(engine.servers for worker in view.working for engine in worker.session.engines):
        parts += ["", _servers(view, rows)]
    if problem:
        parts += ["", Text(f"Looked in vain: {printable(problem)}", style="bold red")]
    return Group(*parts)


def _head(view: View) -> Text:
    identity = view.record["identity"]
    head = Text(printable(view.folder), style="bold")
    head.append(f"   run {view.record['run']}   {printable(identity['model'])}", style="dim")
    if identity["judge_model"] != identity["model"]:
        head.append(f", judged by {printable(identity['judge_model'])}", style="dim")
    return head


def _bar(view: View) -> RenderableType:
    rows = view.record["rows"]
    documents = min(view.documents, rows) if rows else view.documents
    said = f"{documents:,.0f}"
    if rows:
        said += f" of {rows:,} documents · {documents / rows:.1%}"
    else:
        said += " documents"
    table = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(rows or 1, 1), completed=documents if rows else 0, width=24)
    table.add_row(bar, Text(f"{said} · {view.published.shards:,} shards · {_state(view)}"))
    return table


def _state(view: View) -> str:
    if view.complete:
        return "complete"
    if not view.working:
        return f"nobody works on it; {CONTINUE}"
    workers = f"{len(view.working)} worker{'s' if len(view.working) > 1 else ''}"
    left = f"{duration(view.left_s)} left" if view.left_s is not None else "time left unknown"
    return f"{workers} · {left}"


def _rates(view: View) -> Table:
    seconds = max((worker.session.recent.seconds for worker in view.working), default=0.0)
    table = _table("", "documents/h", "requests/s", "generated tokens/s", "prompt tokens/s", "from cache")

    def row(name: str, rates: Rates) -> None:
        cached = rates.cached_tokens / rates.prompt_tokens if rates.prompt_tokens else 0.0
        table.add_row(
            name,
            f"{3600 * rates.documents:,.0f}",
            f"{rates.requests:,.1f}",
            f"{rates.generated_tokens:,.0f}",
            f"{rates.prompt_tokens:,.0f}",
            f"{cached:.0%}",
        )

    if view.working:
        row(f"last {seconds:.0f} s", view.now)
    row("overall", view.overall)
    return table


def _counts(view: View) -> Table:
    table = Table.grid(padding=(0, 2))
    outcomes = view.outcomes
    total = outcomes.total()
    shares = (f"{outcomes[status]:,} {status} ({_share(outcomes[status], total)})" for status in _OUTCOMES)
    table.add_row("texts", " · ".join(shares))
    table.add_row("because", _listed(view.reasons))
    table.add_row("errors", _listed(view.errors))
    return table


def _workers(view: View, most: int) -> RenderableType:
    names = ("worker", "state", "silent", "documents", "per hour", "tokens/s", "in flight", "waiting")
    table = _table(*names, "errors", left=2)

    def row(worker: Worker) -> None:
        session, engines = worker.session, worker.session.engines
        now = Rates.of(session.recent, session.recent.seconds) if worker.works else Rates()
        in_flight = " + ".join(f"{engine.taken:,}/{engine.in_flight:,}" for engine in engines)
        table.add_row(
            Text(printable(worker.name)),
            _styled("working" if worker in view.working else "ended" if session.ended else "not heard"),
            duration(worker.heard_s) if worker.heard_s is not None else "",
            f"{session.documents:,.0f}",
            f"{3600 * now.documents:,.0f}",
            f"{now.generated_tokens:,.0f}",
            in_flight if worker.works else "",
            f"{sum(engine.waiting for engine in engines):,}" if worker.works else "",
            f"{sum(sum(engine.errors.values()) for engine in engines):,}",
        )

    by_state = sorted(view.workers, key=lambda worker: (not worker.works, not worker.is_silent, worker.heard_s or 0.0))
    return _cut(table, by_state, row, most)


def _servers(view: View, most: int) -> RenderableType:
    table = _table("replica", "asked by", "state", "in flight", "answers/s", "p50", "p95", "outages", left=3)
    found = [
        (worker, engine.task, server)
        for worker in view.working
        for engine in worker.session.engines
        for server in engine.servers
    ]

    def row(entry: tuple[Worker, str, ServerFigures]) -> None:
        worker, task, server = entry
        seconds = max(worker.session.recent.seconds, 1e-9)
        table.add_row(
            Text(printable(server.name)),
            Text(printable(f"{worker.name} {task}")),
            _styled(server.state),
            f"{server.in_flight:,}",
            f"{sum(server.recent_answers) / seconds:,.1f}",
            _seconds(quantile(server.recent_answers, 0.5)),
            _seconds(quantile(server.recent_answers, 0.95)),
            f"{server.outages:,}",
        )

    def slowest_first(entry: tuple[Worker, str, ServerFigures]) -> tuple[bool, float]:
        return entry[2].state == "up", -(quantile(entry[2].recent_answers, 0.95) or 0.0)

    return _cut(table, sorted(found, key=slowest_first), row, most)


def _cut(table: Table, entries: Sequence[Entry], row: Callable[[Entry], None], most: int) -> RenderableType:
    """The table with its first rows, and a line for those left out."""
    for entry in entries[:most]:
        row(entry)
    left_out = len(entries) - most
    return Group(table, Text(f"… and {left_out:,} more", style="dim")) if left_out > 0 else table


def _table(*names: str, left: int = 1) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i < left else "right", no_wrap=True)
    return table


def _styled(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, ""))


def _listed(counts: Mapping[str, int]) -> Text:
    """The largest first, all in one cell."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Text(" · ".join(f"{printable(name)} {count:,}" for name, count in ordered) or "none")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{1000 * seconds:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"
