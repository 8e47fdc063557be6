"""Carry a run in this process: from the input to the last shard, through Ctrl-C and errors."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from mga.config import ExpandConfig
from mga.documents import InputFile, Row, count_rows, find_files, fingerprint, read
from mga.engines.choose import choose_engine
from mga.engines.client import Client
from mga.engines.engine import Engine
from mga.engines.journal import Journal
from mga.errors import InputError, MgaError
from mga.events import event
from mga.expand.flow import Kit
from mga.expand.limits import Limits, measure_limits
from mga.expand.recipe import Recipe
from mga.expand.shard import Shard, ShardStats, expand_shard, shards
from mga.records import Document, Outcome, Problem
from mga.runs.progress import Progress
from mga.runs.run import CONTINUE, LOGS, Identity, Run
from mga.runs.watch import Watch, Watching

GRACE_S = 5.0
SYNC_EVERY_S = 1.0
PROBLEMS_SHOWN = 100


class InterruptedRunError(MgaError):
    """Stopped by the user. Everything received is kept."""


async def expand(config: ExpandConfig, run: Run, progress: Progress, watching: Watching | None = None) -> ShardStats:
    """Begin or continue a run and carry it to its end; returns the run's totals.

    Raises InputError and StopError with everything received kept, InterruptedRunError after Ctrl-C.
    """
    files = [file for file in find_files(config.input) if not _lies_in(file, run.folder)]
    if not files:
        raise InputError(f"All of the input lies in the run folder {run.folder}; name other files.")
    run.lock()
    try:
        async with Watch(watching, progress.say) as watch:
            async with _engines(config, run.folder / LOGS, progress) as (writer, judge):
                recipe = Recipe(config, writer.count_tokens, _context(writer.engine, judge.engine))
                limits = await measure_limits(recipe)
                identity = Identity(
                    config.deciding(), fingerprint(files), writer.engine.model, judge.engine.model, recipe.prompts
                )
                run.begin(config, recipe, identity, _rows_to_do(config, files))
                watch.begin(run.folder, run.record(), [writer, judge])
                work = _Work(config, run, files, writer, judge, recipe, limits, progress, watch)
                await _interruptible(work)
            return run.complete()
    finally:
        run.release()


@asynccontextmanager
async def _engines(config: ExpandConfig, logs: Path, progress: Progress):  # type: ignore[no-untyped-def]
    """The writing and the judging client, started; the same one twice when there is no other judge."""

    def open_client(uri: str, task: str) -> Client:
        return Client(choose_engine(uri, config.concurrency, logs / task, progress.say))

    writer = open_client(config.engine, "writer")
    other = config.judge_engine
    judge = open_client(other, "judge") if other and config.judge != "none" else writer
    clients = [writer] if judge is writer else [writer, judge]
    try:
        for client in clients:
            await client.engine.start()
            progress.say(f"engine: {client.engine.model}: {client.engine.features}")
        yield writer, judge
    finally:
        for client in clients:
            await client.engine.close()
            event("engine closed", model=client.engine.model)


def _lies_in(file: InputFile, folder: Path) -> bool:
    """Whether an input file is one that the run itself has written: a run may lie inside its input folder."""
    return isinstance(file.fs, LocalFileSystem) and Path(file.url).resolve().is_relative_to(folder.resolve())


def _rows_to_do(config: ExpandConfig, files: list[InputFile]) -> int | None:
    """Rows a run will read, for the progress bar; with a limit, the documents it stops at."""
    rows = count_rows(files)
    return rows if rows is None or config.limit is None else min(rows, config.limit)


def _context(*engines: Engine) -> int | None:
    known = [engine.context for engine in engines if engine.context is not None]
    return min(known, default=None)


@dataclass
class _Work:
    """One process's work on a run."""

    config: ExpandConfig
    run: Run
    files: list[InputFile]
    writer: Client
    judge: Client
    recipe: Recipe
    limits: Limits
    progress: Progress
    watch: Watch

    def __post_init__(self) -> None:
        self.stopping = asyncio.Event()
        self._journals: set[Journal] = set()
        self._problems_shown = 0

    async def carry(self) -> None:
        """All open shards, the next one let in as soon as the last one's documents are."""
        places = asyncio.Semaphore(self.writer.engine.documents_in_flight)
        done = self.run.done()
        self.progress.start(self.run.record()["rows"], self.run.stats(), self.config.pairs, [self.writer, self.judge])
        try:
            async with asyncio.TaskGroup() as both:
                syncing = both.create_task(self._sync())  # its failure ends the work
                try:
                    async with asyncio.TaskGroup() as group:
                        for shard in shards(self._rows(), self.config.shard_size, done):
                            admitted = asyncio.Event()
                            group.create_task(self._one_shard(shard, places, admitted))
                            await admitted.wait()
                            if self.stopping.is_set():
                                break
                finally:
                    syncing.cancel()
        finally:
            self.progress.stop()
            for journal in self._journals:
                journal.close()

    async def _one_shard(self, shard: Shard, places: asyncio.Semaphore, admitted: asyncio.Event) -> None:
        journal = self.run.journal(shard.index)
        self._journals.add(journal)
        kit = Kit(
            write=partial(self.writer.ask, journal=journal),
            judge=partial(self.judge.ask, journal=journal),
            recipe=self.recipe,
            limits=self.limits,
        )
        result = await expand_shard(shard, kit, places, admitted, self.stopping, self._finished)
        if result is not None:
            self.run.publish(shard.index, *result, journal)
            self.watch.closed(shard.index, result[1])
            self._journals.discard(journal)

    def _finished(self, document: Document, outcomes: list[Outcome]) -> None:
        self.progress.outcomes(document, outcomes)
        self.watch.finished(document, outcomes)

    def _rows(self) -> Iterator[Row]:
        """The input, every problem said once in a line, and refused when it holds no document at all."""
        first: Problem | None = None
        documents = 0
        config = self.config
        for row in read(self.files, config.text_key, config.id_key, config.limit):
            if isinstance(row, Problem):
                first = first or row
                self._show(row)
            else:
                documents += 1
            yield row
        if not documents:
            raise InputError(f"The input holds no document. {first or 'It has no rows'}.")

    def _show(self, problem: Problem) -> None:
        self._problems_shown += 1
        self.watch.skipped(problem)
        if self._problems_shown <= PROBLEMS_SHOWN:
            self.progress.say(f"skipped: {problem}")
        elif self._problems_shown == PROBLEMS_SHOWN + 1:
            self.progress.say(f"skipped: more rows; all are listed in {self.run.folder / 'shards'}")

    async def _sync(self) -> None:
        """Force journals to the disk."""
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            for journal in list(self._journals):
                await asyncio.to_thread(journal.sync)


async def _interruptible(work: _Work) -> None:
    """Carry the work. The first Ctrl-C lets in nothing new and grants what is in flight a few seconds."""
    loop = asyncio.get_running_loop()
    carrying = asyncio.create_task(work.carry())

    def interrupt() -> None:
        if work.stopping.is_set():
            carrying.cancel()
            return
        work.stopping.set()
        work.progress.say(f"stopping: finishing what can be finished in {GRACE_S:.0f} seconds …")
        loop.call_later(GRACE_S, carrying.cancel)

    with _signals(loop, interrupt):
        try:
            await carrying
        except asyncio.CancelledError:
            if not work.stopping.is_set():
                raise
        except BaseExceptionGroup as group:
            raise _first(group) from group
    if work.stopping.is_set():
        raise InterruptedRunError(f"Stopped. Every reply received is kept in {work.run.folder}; {CONTINUE}.")


class _signals:  # noqa: N801 - reads as a statement
    """SIGINT and SIGTERM call a function while the block runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        self._loop, self._call = loop, call

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
                self._loop.add_signal_handler(number, self._call)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError, RuntimeError, ValueError):
                self._loop.remove_signal_handler(number)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error behind a group: one of ours if there is one, since it has a sentence for people."""
    ours, others = group.split(MgaError)
    chosen: BaseException | None = ours or others
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen or group
