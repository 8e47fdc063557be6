"""Carry a run in this process: from the input to the last shard, through Ctrl-C and errors."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from threading import Thread

import platformdirs
from fsspec.implementations.local import LocalFileSystem

from mga.config import ExpandConfig
from mga.data.documents import InputFile, find_files, fingerprint
from mga.data.reading import Unchanged, count_rows
from mga.data.store import Place, without_links
from mga.engines.choose import choose_engine
from mga.engines.client import Client
from mga.engines.engine import Engine
from mga.errors import InputError, InterruptedRunError, MgaError
from mga.events import event
from mga.expand.limits import measure_limits
from mga.expand.recipe import Recipe
from mga.expand.shard import ShardStats
from mga.interrupts import SIGNALS
from mga.runs.claims import Claims
from mga.runs.monitoring.progress import Progress
from mga.runs.monitoring.watch import Watch, Watching
from mga.runs.run import CONTINUE, LOGS, Identity, Run, refuse_secrets
from mga.runs.worker import Worker

GRACE_S = 5.0
HANGS_AFTER_S = 30.0  # a worker that was told to stop


async def expand(
    config: ExpandConfig,
    run: Run,
    progress: Progress,
    watching: Watching | None = None,
    *,
    wait: bool = True,
    only: int | None = None,
    helpers: int = 0,
) -> ShardStats | None:
    """Begin, continue or join a run and work until nothing is left to do; returns the run's totals, or None when
    others are still at work and `wait` is not set. `only` is the one shard to do. `helpers`: so many other processes
    on this machine take part until this one ends.

    Raises InputError and StopError with everything received kept, InterruptedRunError after Ctrl-C.
    """
    files = [file for file in find_files(config.input) if not _lies_in(file, run.folder)]
    if not files:
        raise InputError(f"All of the input lies in the run folder {run.folder}; name other files.")
    run.prepare()
    async with Watch(watching, progress.say) as watch, AsyncExitStack() as beside:
        async with open_clients(config, _logs(run.folder), progress.say) as (generator, judge):
            recipe = Recipe(config, generator.count_tokens, context_of(generator.engine, judge.engine))
            limits = await measure_limits(recipe)
            models = generator.engine.model, judge.engine.model
            unchanged = Unchanged(files)  # before the fingerprint is taken
            identity = Identity(config.deciding(), fingerprint(files), *models, recipe.prompts)
            claims = Claims(run.folder, identity.id)
            beside.callback(claims.end)
            claims.begin()

            def count() -> list[int]:
                rows = count_rows(files, config.text_key, config.id_key, config.limit)
                unchanged.check()
                return rows

            run.begin(config, recipe, identity, count, claims)
            watch.begin(run.folder, run.record(), [generator, judge])
            kit, clients = (recipe, limits), (generator, judge)
            worker = Worker(config, run, files, clients, kit, progress, watch, claims, unchanged, wait=wait, only=only)
            await beside.enter_async_context(_helped_by(config, run, helpers))
            await _interruptible(worker)
        if not run.is_complete():
            return None
        unchanged.check()
        stats = run.complete()
        run.leave()
    if helpers:
        run.leave()  # what one may have left that ended as it began
    return stats


async def expand_here(
    config: ExpandConfig, run: Run, workers: int, progress: Progress, watching: Watching | None = None
) -> ShardStats | None:
    """The same with so many processes on this machine: this one, which is watched, and others that take part until it
    ends. Raises InputError for settings that they cannot be handed."""
    if workers > 1:
        refuse_secrets(config)
    return await expand(config, run, progress, watching, helpers=workers - 1)


@asynccontextmanager
async def _helped_by(config: ExpandConfig, run: Run, helpers: int) -> AsyncIterator[None]:
    """Other processes on this machine work on a run that has begun, until the block ends, and no longer than this one
    lives."""
    if not helpers:
        yield
        return
    command = [sys.executable, "-m", "mga", "worker", str(run.folder), "--quiet", "--with-parent"]
    command += ["--submitted", run.submit(config)]
    logs = _logs(run.folder)
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_logs:
        others = []
        try:
            for number in range(1, helpers + 1):
                log = open_logs.enter_context((logs / f"worker-{number}.log").open("ab"))
                pipe = asyncio.subprocess.PIPE  # closes with us
                others.append(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=log, stderr=log))
            yield
        finally:
            for other in others:
                with suppress(ProcessLookupError):
                    other.terminate()
            await asyncio.gather(*map(_end_of, others))


async def _end_of(process: asyncio.subprocess.Process) -> None:
    """Wait for a worker that was told to stop; one that hangs is killed, which costs a run nothing."""
    try:
        await asyncio.wait_for(process.wait(), HANGS_AFTER_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def end_with_parent() -> None:
    """End this process as soon as the one that began it has ended, however that was: its end of a pipe closes then."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    Thread(target=wait, name="parent", daemon=True).start()


def _logs(folder: Place) -> Path:
    """Where servers of our own write their logs; they cannot append to an object store."""
    return folder / LOGS if isinstance(folder, Path) else platformdirs.user_log_path("mga") / folder.name


@asynccontextmanager
async def open_clients(config: ExpandConfig, logs: Path, say: Callable[[str], None]):  # type: ignore[no-untyped-def]
    """The writing and the judging client, started; the same one twice when there is no other judge."""

    def open_client(uri: str, task: str) -> Client:
        return Client(choose_engine(uri, config.concurrency, logs / task, say, config.sent_headers()))

    generator = open_client(config.engine, "generator")
    other = config.judge_engine
    judge = open_client(other, "judge") if other and config.judge not in ("none", 0) else generator
    clients = [generator] if judge is generator else [generator, judge]
    try:
        for client in clients:
            await client.engine.start()
            say(f"engine: {client.engine.model}: {client.engine.features}")
        yield generator, judge
    finally:
        for client in clients:
            await client.engine.close()
            event("engine closed", model=client.engine.model)


def _lies_in(file: InputFile, folder: Place) -> bool:
    """Whether an input file is one that the run itself has written: a run may lie inside its input folder."""
    if isinstance(folder, Path):
        return isinstance(file.fs, LocalFileSystem) and without_links(Path(file.url)).is_relative_to(
            without_links(folder)
        )
    return f"{file.url}/".startswith(f"{folder.path.rstrip('/')}/")


def context_of(*engines: Engine) -> int | None:
    """Tokens that fit into all of them; None where none says."""
    known = [engine.context for engine in engines if engine.context is not None]
    return min(known, default=None)


async def _interruptible(work: Worker) -> None:
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
    if work.stopping.is_set() and not work.run.is_complete():
        raise InterruptedRunError(f"Stopped. Every reply received is kept in {work.run.folder}; {CONTINUE}.")


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call a function while the block runs, and what they called before afterwards."""
    before = {}
    for number in SIGNALS:
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
            handler = signal.getsignal(number)
            loop.add_signal_handler(number, call)
            before[number] = handler
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error behind a group: one of ours if there is one, since it has a sentence for people."""
    ours, others = group.split(MgaError)
    chosen: BaseException | None = ours or others
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen or group
