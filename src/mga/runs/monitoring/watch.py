"""One worker, watched while it works: it counts what it does, and tells of it in its session file, in metrics and
in its log. Whoever looks reads these; nothing of the work waits for them.
"""

import asyncio
import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any

from mga.data.store import Place, delete, write_json
from mga.engines.client import Client
from mga.engines.latency import ServerState
from mga.errors import InputError, MgaError, StopError, TryAgainError
from mga.events import event
from mga.expand.shard import ShardStats
from mga.records import Document, Outcome, Problem, Usage
from mga.runs.monitoring.logs import RunLog, listening, log_to
from mga.runs.monitoring.metrics import RunCollector, RunInfo, served, write_textfile
from mga.runs.monitoring.session import SESSIONS, EngineFigures, Recent, ServerFigures, SessionFile
from mga.runs.run import LOGS

LOOK_EVERY_S = 1.0
RECENT_S = 30
WRITE_EVERY_S = 5.0  # the session file
WRITE_EVERY_REMOTE_S = 15.0  # on an object store, where every write is paid for
METRICS_FILE_EVERY_S = 5.0
PROGRESS_EVERY_S = 60.0  # in the log
LOG_EVERY_REMOTE_S = 60.0
SKIPPED_LOGGED = 100
STATES = ("kept", "dropped", "failed")
TASKS = ("generator", "judge")


@dataclass(frozen=True, slots=True)
class Watching:
    """Where to tell of a run, besides its folder. Port 0 takes a free port."""

    metrics_port: int | None = None
    metrics_address: str = "127.0.0.1"
    metrics_file: Path | None = None
    log_file: Path | None = None


@dataclass(frozen=True, slots=True)
class _Sample:
    """The counts at one moment."""

    at: float
    documents: float
    spent: Usage
    answers: list[list[list[int]]]  # engines × servers × buckets of latency.BOUNDS_S


class Watch:
    """What one worker does. A context, entered before anything that takes long; `begin` once the folder is ours.

    Entering raises InputError when the port, the metrics file or the log file cannot be had.
    """

    def __init__(self, watching: Watching | None = None, say: Callable[[str], None] = lambda line: None) -> None:
        self._watching = watching or Watching()
        self._say = say
        self._log = RunLog()
        self._open = ExitStack()
        self._place: Place | None = None
        self._run = RunInfo()
        self._clients: Sequence[Client] = ()
        self._telling: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._ended = self._session_due = False
        self._documents = self._closed_documents = 0.0
        self._shards = 0
        self._outcomes, self._closed_outcomes = Counter(dict.fromkeys(STATES, 0)), Counter[str]()
        self._drops, self._failures = Counter[str](), Counter[str]()
        self._closed_reasons, self._skipped, self._errors_told = Counter[str](), Counter[str](), Counter[str]()
        self._samples: deque[_Sample] = deque(maxlen=RECENT_S + 1)
        self._began = time.monotonic()
        self._cpu_before = time.process_time()
        self._started = datetime.now(UTC)
        self.name = f"{self._started:%Y%m%dT%H%M%S.%f}-{socket.gethostname()}-{os.getpid()}"

    async def __aenter__(self) -> "Watch":
        watching = self._watching
        logs = [self._log] if watching.log_file is None else [self._log, log_to(watching.log_file)]
        self._open.enter_context(listening(*logs))
        try:
            if watching.metrics_file is not None:
                self._write_metrics(watching.metrics_file)
            if watching.metrics_port is not None:
                collector = RunCollector(self.figures, lambda: self._run)
                address = self._open.enter_context(served(collector, watching.metrics_address, watching.metrics_port))
                self._say(f"metrics: {address}")
                event("metrics served", address=address)
        except BaseException:
            self._open.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop.set()
            if self._telling is not None:
                await self._telling
            self._ended = True
            if error is None:
                event("work done", **self._progress())
            else:
                event("work stopped", _level(error), **_told(error), **self._progress())
            if self._telling is not None:
                await asyncio.to_thread(self._tell, at_last=True)
            if error is None and not self.figures().did_something:
                await asyncio.to_thread(self._log.discard)
        finally:
            self._open.close()

    def begin(self, folder: Place, record: Mapping[str, Any], clients: Sequence[Client]) -> None:
        """The run's folder is ours: session file and log go into it from now on. `record` is its run.json."""
        identity = record["identity"]
        mga = record["versions"].get("mga", "")
        run = self._run = RunInfo(record["run"], identity["model"], identity["judge_model"], mga, record["rows"])
        self._clients = list(dict.fromkeys(clients))
        self._place = folder
        self._began, self._cpu_before = time.monotonic(), time.process_time()  # loading a model is not work
        self._log.begin(folder / LOGS / f"{self.name}.jsonl")
        event("work begun", run=run.id, rows=run.rows, host=socket.gethostname(), pid=os.getpid())
        for task, client in zip(TASKS, self._clients, strict=False):
            event("engine ready", task=task, model=client.engine.model, features=str(client.engine.features))
        self._telling = asyncio.create_task(self._keep_telling())

    def finished(self, document: Document, outcomes: Sequence[Outcome]) -> None:
        """A chunk has its outcomes."""
        self._documents += 1 / document.chunks
        for outcome in outcomes:
            self._outcomes[outcome.status] += 1
            if outcome.reason:
                (self._drops if outcome.status == "dropped" else self._failures)[outcome.reason] += 1

    def skipped(self, problem: Problem) -> None:
        """An input row cannot be used."""
        self._skipped[problem.kind] += 1
        if self._skipped.total() <= SKIPPED_LOGGED:
            event("row skipped", logging.WARNING, file=problem.file, row=problem.row, kind=problem.kind)

    def closed(self, shard: int, stats: ShardStats, published: bool = True) -> None:
        """A shard is published, by this worker or (`published` false) by another one first."""
        self._closed_documents += stats.documents
        self._closed_outcomes.update(stats.outcomes)
        self._closed_reasons.update(stats.reasons)
        self._shards += published
        self._session_due = True  # or its documents count twice for whoever looks
        said = "shard published" if published else "shard published by another worker"
        event(said, shard=shard, documents=stats.documents, outcomes=stats.outcomes, reasons=stats.reasons)

    def figures(self) -> SessionFile:
        """All of it now. May be called from any thread: what is read while it changes is copied in one step."""
        clients = self._clients
        states = [client.servers() for client in clients]
        now = self._sample(states)
        before = self._samples[0] if self._samples else None
        drops, failures = dict(self._drops), dict(self._failures)
        return SessionFile(
            seconds=now.at - self._began,
            cpu_seconds=time.process_time() - self._cpu_before,
            in_flight_seconds=sum(client.in_flight_s for client in clients),
            reused=sum(client.reused for client in clients),
            spent=now.spent,
            started=self._started.isoformat(timespec="seconds"),
            heard=datetime.now(UTC).isoformat(timespec="seconds"),
            heard_every_s=self._write_every_s,
            ended=self._ended,
            host=socket.gethostname(),
            pid=os.getpid(),
            documents=self._documents,
            shards=self._shards,
            outcomes=dict(self._outcomes),
            drops=drops,
            failures=failures,
            skipped=dict(self._skipped),
            open_documents=max(0.0, round(self._documents - self._closed_documents, 6)),
            open_outcomes=_less(dict(self._outcomes), self._closed_outcomes),
            open_reasons=_less(drops | failures, self._closed_reasons),
            recent=_recent(now, before),
            engines=[
                _engine(*engine, before.answers[i] if before else [])
                for i, engine in enumerate(zip(TASKS, clients, states, strict=False))
            ],
        )

    def _sample(self, states: Sequence[Sequence[ServerState]]) -> _Sample:
        answers = [[list(server.latency.counts) for server in servers] for servers in states]
        spent = sum((client.spent for client in self._clients), Usage())
        return _Sample(time.monotonic(), self._documents, spent, answers)

    @property
    def _write_every_s(self) -> float:
        return WRITE_EVERY_S if isinstance(self._place, Path) else WRITE_EVERY_REMOTE_S

    async def _keep_telling(self) -> None:
        looked = 0
        while not self._stop.is_set():
            self._samples.append(self._sample([client.servers() for client in self._clients]))
            await asyncio.to_thread(self._tell, seconds=looked * LOOK_EVERY_S)
            looked += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), LOOK_EVERY_S)

    def _tell(self, seconds: float = 0.0, at_last: bool = False) -> None:
        """Write what is due. A full disk, or a store that is away for long, is told of where results are written."""
        assert self._place is not None

        def due(every_s: float) -> bool:
            return at_last or seconds % every_s < LOOK_EVERY_S

        if self._session_due or due(self._write_every_s):
            self._session_due = False
            with suppress(StopError):
                self._write_session(self._place / SESSIONS / f"{self.name}.json")
        if self._watching.metrics_file is not None and due(METRICS_FILE_EVERY_S):
            with suppress(InputError):
                self._write_metrics(self._watching.metrics_file)
        if seconds and due(PROGRESS_EVERY_S):
            event("progress", **self._progress())
        if due(LOG_EVERY_REMOTE_S):
            with suppress(StopError):
                self._log.upload()

    def _write_session(self, path: Place) -> None:
        figures = self.figures()
        if self._ended and not figures.did_something:
            delete(path)
        else:
            write_json(path, figures.model_dump(mode="json"))

    def _write_metrics(self, path: Path) -> None:
        labels = {"run": self._run.id, "worker": f"{socket.gethostname()}-{os.getpid()}"}
        write_textfile(path, RunCollector(self.figures, lambda: self._run, labels))

    def _progress(self) -> dict[str, object]:
        """What the log says now and then. Errors are those since the last time."""
        figures = self.figures()
        errors = sum((Counter(engine.errors) for engine in figures.engines), Counter[str]())
        fresh, self._errors_told = errors - self._errors_told, errors
        recent = max(figures.recent.seconds, 1e-9)
        return {
            "documents": round(figures.documents, 2),
            "shards": figures.shards,
            "outcomes": figures.outcomes,
            "errors": dict(fresh),
            "in_flight": sum(engine.taken for engine in figures.engines),
            "waiting": sum(engine.waiting for engine in figures.engines),
            "generated_tokens": figures.spent.generated_tokens,
            "generated_tokens_per_s": round(figures.recent.spent.generated_tokens / recent, 1),
        }


def _recent(now: _Sample, before: _Sample | None) -> Recent:
    if before is None:
        return Recent()
    spent = Usage(*(new - old for new, old in zip(astuple(now.spent), astuple(before.spent), strict=True)))
    return Recent(seconds=now.at - before.at, documents=now.documents - before.documents, spent=spent)


def _engine(
    task: str, client: Client, servers: Sequence[ServerState], before: Sequence[Sequence[int]]
) -> EngineFigures:
    return EngineFigures(
        task=task,
        model=client.engine.model,
        features=str(client.engine.features),
        in_flight=client.places.limit,
        taken=client.places.taken,
        waiting=client.places.waiting,
        reused=client.reused,
        spent=client.spent,
        errors=dict(client.errors),
        servers=[_server(server, earlier) for server, earlier in zip_longest(servers, before[: len(servers)])],
    )


def _server(server: ServerState, before: Sequence[int] | None) -> ServerFigures:
    answers = list(server.latency.counts)
    return ServerFigures(
        name=server.name,
        state=server.state,
        in_flight=server.in_flight,
        outages=server.outages,
        seconds=round(server.latency.seconds, 3),
        answers=answers,
        recent_answers=[new - old for new, old in zip(answers, before, strict=True)] if before else answers,
    )


def _less(counts: Mapping[str, int], taken: Mapping[str, int]) -> dict[str, int]:
    return {name: count - taken.get(name, 0) for name, count in counts.items() if count > taken.get(name, 0)}


def _level(error: BaseException) -> int:
    """What has to be put right is an error; that somebody has stopped the work is none."""
    by_somebody = isinstance(error, MgaError) and not isinstance(error, InputError | StopError)
    return logging.WARNING if by_somebody or not isinstance(error, Exception) else logging.ERROR


def _told(error: BaseException) -> dict[str, object]:
    """An error's class, and its sentence where that is ours: what a server has said may quote a document."""
    told: dict[str, object] = {"error": type(error).__name__}
    if isinstance(error, MgaError) and not any(isinstance(cause, TryAgainError) for cause in _causes(error)):
        told["message"] = str(error)
    return told


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
