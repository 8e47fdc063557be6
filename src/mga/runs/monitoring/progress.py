"""Progress of long work: a live line on a terminal, a plain line every few seconds elsewhere."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mga.engines.client import Client
from mga.expand.shard import ShardStats
from mga.records import Document, Outcome
from mga.terminal import printable

PLAIN_EVERY_S = 5.0
LIVE_EVERY_S = 0.25


class Progress:
    """What has happened in a run, counted as outcomes arrive, and shown on a console."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._task: asyncio.Task[None] | None = None
        self._live: Live | None = None
        self._counts = {"kept": 0, "dropped": 0, "failed": 0}
        self._chunks_done = 0.0
        self._begun_with = 0.0
        self._documents: int | None = None
        self._clients: Sequence[Client] = ()
        self._started = time.monotonic()

    def start(self, documents: int | None, before: ShardStats, pairs: int, clients: Sequence[Client]) -> None:
        """Begin to show. `before` is what earlier work on this run has finished."""
        self._documents = documents
        self._counts |= before.outcomes
        self._begun_with = self._chunks_done = before.documents + len(before.problems)
        self._clients = list(dict.fromkeys(clients))
        self._started = time.monotonic()
        if self._quiet:
            return
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        self._task = asyncio.create_task(self._show())

    def stop(self) -> None:
        """Stop showing and leave the cursor on a clean line."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._live is not None:
            with suppress(Exception):
                self._live.stop()
            self._live = None

    def outcomes(self, document: Document, outcomes: list[Outcome]) -> None:
        """Count a finished chunk."""
        self._chunks_done += 1 / document.chunks
        for outcome in outcomes:
            self._counts[outcome.status] += 1

    def elsewhere(self, stats: ShardStats) -> None:
        """Count a shard that another process has finished."""
        rows = stats.documents + len(stats.problems)
        self._chunks_done += rows
        for status, count in stats.outcomes.items():
            self._counts[status] += count

    def say(self, line: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._console.print(Text(printable(line)), soft_wrap=True)

    def line(self) -> str:
        """The state in one line."""
        seconds = max(time.monotonic() - self._started, 1e-9)
        done = f"{self._chunks_done:,.0f}"
        of = f"/{self._documents:,}" if self._documents else ""
        speed = sum(client.spent.generated_tokens for client in self._clients) / seconds
        counts = " · ".join(f"{count:,} {status}" for status, count in self._counts.items())
        reused = sum(client.reused for client in self._clients)
        again = f" · {reused:,} replies reused" if reused else ""
        return f"{done}{of} documents · {counts} · {speed:,.0f} tokens/s{again} · {self._left(seconds)}"

    def _left(self, seconds: float) -> str:
        advance = self._chunks_done - self._begun_with
        if not self._documents or advance <= 0:
            return f"{duration(seconds)} so far"
        return f"{duration(seconds / advance * max(self._documents - self._chunks_done, 0))} left"

    async def _show(self) -> None:
        while True:
            if self._live is not None:
                self._live.update(self._bar())
                await asyncio.sleep(LIVE_EVERY_S)
            else:
                await asyncio.sleep(PLAIN_EVERY_S)
                self._console.print(Text(self.line()), soft_wrap=True)

    def _bar(self) -> Table:
        table = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._documents or 1, completed=self._chunks_done, width=24, pulse=not self._documents)
        table.add_row(bar, Text(self.line()))
        return table


def duration(seconds: float) -> str:
    """Seconds for people: 0:07, 2 h 05 min, 3 d 4 h."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes}:{rest:02}"
