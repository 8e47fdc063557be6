"""What can be seen of a run from outside: its folder is read again and again, and nothing in it is touched.

Finished shards never change and are read once. A worker's session file grows while it works; how long ago it was
written is told by this process's own clock once it has been seen to change, and by the worker's clock before that.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from mga.data.first_version import todays_record
from mga.data.published import check_shards
from mga.data.store import Place, read_json
from mga.errors import InputError, MgaError
from mga.records import Usage
from mga.runs.monitoring.session import SESSIONS, SessionFile
from mga.runs.run import no_run

SILENT_AFTER = 4  # times a session file is usually written
READERS = 16  # files of an object store at once


@dataclass
class Published:
    """Sums over finished shards. `rows` are the input's, unusable ones included."""

    shards: int = 0
    rows: int = 0
    kept_tokens: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, shard: Mapping[str, Any]) -> None:
        """Add what a finished shard's file says."""
        self.shards += 1
        self.rows += shard["documents"] + len(shard["problems"])
        self.kept_tokens += shard["kept_tokens"]
        self.outcomes.update(shard["outcomes"])
        self.reasons.update(shard["reasons"])


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker's session, and how many seconds ago it was heard (None: nobody can say)."""

    session: SessionFile
    heard_s: float | None

    @property
    def name(self) -> str:
        return f"{self.session.host or '?'}:{self.session.pid or '?'}"

    @property
    def works(self) -> bool:
        session, heard_s = self.session, self.heard_s
        return not session.ended and heard_s is not None and heard_s <= SILENT_AFTER * session.heard_every_s

    @property
    def is_silent(self) -> bool:
        """It has said neither that it ended nor anything else for a while: killed, stopped, or cut off."""
        return not self.session.ended and not self.works and self.heard_s is not None


@dataclass(frozen=True, slots=True)
class View:
    """A run at one moment. Counts of `outcomes` and `reasons` include the open shards of workers that work."""

    folder: str
    record: Mapping[str, Any]
    complete: bool
    published: Published
    workers: list[Worker]

    @property
    def working(self) -> list[Worker]:
        return [] if self.complete else [worker for worker in self.workers if worker.works]

    @property
    def documents(self) -> float:
        """Input rows that are dealt with."""
        return self.published.rows + sum(worker.session.open_documents for worker in self.working)

    @property
    def outcomes(self) -> Counter[str]:
        return sum((Counter(w.session.open_outcomes) for w in self.working), Counter(self.published.outcomes))

    @property
    def reasons(self) -> Counter[str]:
        return sum((Counter(w.session.open_reasons) for w in self.working), Counter(self.published.reasons))

    @property
    def errors(self) -> Counter[str]:
        """Failed attempts of all workers there have been, by class."""
        engines = (engine for worker in self.workers for engine in worker.session.engines)
        return sum((Counter(engine.errors) for engine in engines), Counter())

    @property
    def now(self) -> "Rates":
        """Of the last seconds, over all workers."""
        return sum((Rates.of(w.session.recent, w.session.recent.seconds) for w in self.working), Rates())

    @property
    def overall(self) -> "Rates":
        """Of all the time in which anybody worked."""
        seconds = _worked_s([worker.session for worker in self.workers])
        return sum((Rates.of(worker.session, seconds) for worker in self.workers), Rates())

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at the rate of the workers' sessions; None when it is inconclusive."""
        rows = self.record["rows"]
        rate = sum((Rates.of(w.session, w.session.seconds).documents for w in self.working), 0.0)
        return (rows - self.documents) / rate if rows and rate else None


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second."""

    documents: float = 0.0
    requests: float = 0.0
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    generated_tokens: float = 0.0

    @staticmethod
    def of(done: Any, seconds: float) -> "Rates":
        """Of what was done (a session, or its last seconds) in so many seconds."""
        if seconds <= 0:
            return Rates()
        spent: Usage = done.spent
        return Rates(
            done.documents / seconds,
            spent.requests / seconds,
            spent.prompt_tokens / seconds,
            spent.cached_tokens / seconds,
            spent.generated_tokens / seconds,
        )

    def __add__(self, other: "Rates") -> "Rates":
        return Rates(
            self.documents + other.documents,
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.generated_tokens + other.generated_tokens,
        )


class Look:
    """A run folder, looked at again and again by `now`."""

    def __init__(
        self,
        folder: Place,
        clock: Callable[[], float] = time.monotonic,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = folder
        self._clock, self._utc = clock, utc
        self._published = Published()
        self._shards_seen: set[str] = set()
        self._ended: dict[str, SessionFile] = {}
        self._changed: dict[str, tuple[float, float | None]] = {}  # its seconds, and when they were seen to grow

    def now(self) -> View:
        """The run as it is. Raises InputError when the folder holds no run, or cannot be read now."""
        try:
            return self._view()
        except MgaError:
            raise
        except Exception as error:  # every store has an SDK with errors of its own
            if isinstance(self._folder, Path):
                raise
            raise InputError(f"Cannot read {self._folder}: {error or type(error).__name__}.") from error

    def _view(self) -> View:
        path = self._folder / "run.json"
        try:
            record = read_json(path)
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise no_run(self._folder) from None
            raise
        if "identity" not in record:
            raise InputError(f"{self._folder} holds a run.json that is not of mga.")
        complete = (self._folder / "stats.json").exists()  # before the shards, which it comes after
        with ThreadPoolExecutor(READERS) as readers:
            new = {path.name: path for path in self._files("shards") if path.name not in self._shards_seen}
            for name, shard in zip(new, readers.map(_content, new.values()), strict=True):
                if shard is not None:
                    figures = todays_record(orjson.loads(shard))
                    check_shards(self._folder, [(int(name.removesuffix(".json")), figures)])
                    self._published.add(figures)
                    self._shards_seen.add(name)
            files = [path for path in self._files(SESSIONS) if path.name not in self._ended]
            sessions = dict(self._ended)
            for path, content in zip(files, readers.map(_content, files), strict=True):
                if content is not None:
                    sessions[path.name] = _session(path, content)
        self._ended = {name: session for name, session in sessions.items() if session.ended}
        workers = [Worker(session, self._heard_s(name, session)) for name, session in sorted(sessions.items())]
        return View(str(self._folder), record, complete, self._published, workers)

    def _files(self, folder: str) -> list[Place]:
        with suppress(FileNotFoundError):
            return sorted((self._folder / folder).glob("*.json"))
        return []

    def _heard_s(self, name: str, session: SessionFile) -> float | None:
        if not session.heard:
            return None
        seconds, at = self._changed.get(name, (session.seconds, None))
        if session.seconds != seconds:
            at = self._clock()
        self._changed[name] = (session.seconds, at)
        if at is not None:
            return self._clock() - at
        return max(0.0, (self._utc() - datetime.fromisoformat(session.heard)).total_seconds())


def _content(path: Place) -> bytes | None:
    """None when it has just been deleted."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error


def _session(path: Place, content: bytes) -> SessionFile:
    try:
        return SessionFile.model_validate(todays_record(orjson.loads(content)))
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: {error}.") from None
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {error.errors()[0]['msg']}.") from None


def _worked_s(sessions: list[SessionFile]) -> float:
    """Seconds in which at least one of the sessions went on."""
    spans = sorted(_span(session) for session in sessions if session.started)
    total, reached = 0.0, float("-inf")
    for begin, end in spans:
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _span(session: SessionFile) -> tuple[float, float]:
    begin = datetime.fromisoformat(session.started).timestamp()
    return begin, begin + session.seconds
