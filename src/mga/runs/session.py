"""How fast a run went: a file in `sessions/` for each process that worked on it, rewritten while it works."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from mga.engines.client import Client
from mga.errors import StopError
from mga.records import Usage
from mga.store import Place, listed, read_json, write_json

WRITE_EVERY_S = 30.0


class SessionStats(BaseModel):
    """What processes spent and received. `cpu_seconds` are this process's own, all threads; an engine that runs in
    this process is part of them. `in_flight_seconds`: the time all requests were in flight, added up.
    """

    model_config = ConfigDict(frozen=True)

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    in_flight_seconds: float = 0.0
    reused: int = 0
    spent: Usage = Usage()

    def __add__(self, other: "SessionStats") -> "SessionStats":
        return SessionStats(
            seconds=self.seconds + other.seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            in_flight_seconds=self.in_flight_seconds + other.in_flight_seconds,
            reused=self.reused + other.reused,
            spent=self.spent + other.spent,
        )

    def __str__(self) -> str:
        """The rates in one line."""
        spent, seconds = self.spent, max(self.seconds, 1e-9)
        cached = spent.cached_tokens / spent.prompt_tokens if spent.prompt_tokens else 0.0
        generated = spent.generated_tokens / seconds
        return (
            f"{spent.requests / seconds:,.1f} requests/s · {generated:,.0f} generated tokens/s · "
            f"{spent.prompt_tokens / seconds:,.0f} prompt tokens/s, {cached:.0%} from cache · "
            f"{self.in_flight_seconds / seconds:,.1f} requests in flight · "
            f"{self.cpu_seconds / seconds:.0%} of a core in this process"
        )


class Session:
    """The session of this process. `write` puts down how far it is."""

    def __init__(self, folder: Place, clients: Sequence[Client]) -> None:
        self._clients = list(dict.fromkeys(clients))
        self._began = time.monotonic()
        self._cpu_before = time.process_time()
        self._started = datetime.now(UTC)
        self._path = folder / "sessions" / f"{self._started:%Y%m%dT%H%M%S.%f}-{os.getpid()}.json"

    @property
    def stats(self) -> SessionStats:
        """So far."""
        return SessionStats(
            seconds=time.monotonic() - self._began,
            cpu_seconds=time.process_time() - self._cpu_before,
            in_flight_seconds=sum(client.in_flight_s for client in self._clients),
            reused=sum(client.reused for client in self._clients),
            spent=sum((client.spent for client in self._clients), Usage()),
        )

    def write(self) -> None:
        """Rewrite the session's file, if anything was asked. A full disk is told of elsewhere."""
        stats = self.stats
        if not stats.spent.requests:
            return
        engines = [
            {"model": client.engine.model, "features": str(client.engine.features), "in_flight": client.places.limit}
            for client in self._clients
        ]
        started = self._started.isoformat(timespec="seconds")
        with suppress(StopError):
            write_json(self._path, {"started": started, **stats.model_dump(mode="json"), "engines": engines})


def all_sessions(folder: Place) -> SessionStats:
    """Of all processes that have worked on a run, added up."""
    paths = listed(folder / "sessions", "[!.]*.json")
    return sum((SessionStats.model_validate(read_json(path)) for path in paths), SessionStats())
