"""Who works on which shard, when workers may die at any time and clocks may be wrong.

A worker claims a shard by creating a file that only one can create. While it lives, it sends a heartbeat: it rewrites
its own file with a growing number. A worker whose number has not grown for `LEASE_S` seconds of the watcher's own clock
is taken for dead, and so is one that was killed on the watcher's machine: its shards are claimed again, in the next
generation of the claim, which again only one can create. Clocks of different machines are never compared.

Before a worker asks anything it shows itself, with the run it works for. Who wants to give a folder other settings
claims the run itself (`RUN`), looks for workers of the run that is there, and makes way for them; a worker that finds
such a claim waits for its end and looks again. Each writes before it reads, so they cannot miss each other.

A worker taken for dead may only have been stopped. It may go on with its shard; publishing, which only one can win
(`run.py`), decides whose result counts.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import platformdirs
from filelock import FileLock, Timeout

from mga.data.store import Place, create, delete, listed, read, write_json
from mga.errors import StopError

RUN = -1  # in place of a shard
LEASE_S = 60.0
BEAT_EVERY_S = 10.0


@dataclass(slots=True)
class _Seen:
    """The last heartbeat of another worker, and when it was new here."""

    heartbeat: int
    at: float


class Claims:
    """The claims of one worker on the shards of a run. `name` is this worker's. Its threads may share it."""

    def __init__(
        self, folder: Place, run: str = "", lease_s: float = LEASE_S, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._claims = folder / "claims"
        self._workers = folder / "workers"
        self._run = run
        self._lease_s = lease_s
        self._now = now
        self._heartbeat = 0
        self._generations: dict[int, int] = {}  # shard → latest one seen, of anybody
        self._held: dict[int, int] = {}  # shard → generation
        self._holders: dict[tuple[int, int], str] = {}
        self._seen: dict[str, _Seen] = {}
        self._beating: set[str | None] = set()
        self._alive: FileLock | None = None
        self._ended = threading.Event()

    def begin(self) -> None:
        """Show this worker to the others, and send heartbeats from now on, in a thread that nothing else holds up."""
        lock = _lock(self._workers, self.name)
        self._alive = FileLock(str(lock), thread_local=False)
        while not self._alive.is_locked:
            lock.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # who completes the run removes the folder when it is empty
                self._alive.acquire()
        self.heartbeat()
        threading.Thread(target=self._keep_heartbeat, name="heartbeat", daemon=True).start()

    def heartbeat(self) -> None:
        """Say once that this worker lives."""
        self._heartbeat += 1
        shown = {"heartbeat": self._heartbeat, "host": _host(), "pid": os.getpid(), "run": self._run}
        write_json(self._workers / f"{self.name}.json", shown)

    def works_on(self, run: str) -> bool:
        """Whether another worker lives, or may live, that works on this run."""
        for path in listed(self._workers, "[!.]*.json"):
            if path.stem != self.name:
                with suppress(FileNotFoundError):  # it has left
                    shown = orjson.loads(read(path))
                    if shown.get("run", run) == run and not self._is_dead(path.stem):
                        return True
        return False

    def take_run(self) -> bool:
        """Claim the run itself, to give it other settings. False: somebody else has it."""
        self.look()
        return self.take(RUN)

    def give_run_back(self) -> None:
        """It has its settings."""
        self.give_back(RUN)

    def is_run_taken(self) -> bool:
        """Whether another worker is giving the run other settings."""
        self.look()
        generation = self._generations.get(RUN, 0)
        return bool(generation) and not self._is_dead(self._holder(RUN, generation))

    def look(self) -> frozenset[int]:
        """The shards that somebody has claimed, dead or alive; one listing."""
        generations: dict[int, int] = {}
        for path in listed(self._claims, "*.json"):
            shard, generation, _ = path.name.split(".")
            generations[int(shard)] = max(int(generation), generations.get(int(shard), 0))
        self._generations = generations
        return frozenset(generations)

    def take(self, shard: int) -> bool:
        """Claim a shard that nobody held at the last look, or whose holder is dead. False: somebody else has it."""
        generation = self._generations.get(shard, 0)
        if generation and not self._is_dead(self._holder(shard, generation)):
            return False
        if not create(self._file(shard, generation + 1), orjson.dumps({"worker": self.name})):
            return False
        self._held[shard] = self._generations[shard] = generation + 1
        return True

    def lives(self, shard: int) -> bool:
        """Whether the worker that holds a shard has been seen to send heartbeats."""
        return self._holder(shard, self._generations.get(shard, 0)) in self._beating

    def give_back(self, shard: int) -> None:
        """The shard is published, or this worker stops before it is. Claims of the dead on it go as well."""
        generation = self._held.pop(shard, 0)
        for each in range(1, generation + 1):
            delete(self._file(shard, each))

    def end(self) -> None:
        """Leave: everything held is given back, and the others see it at once."""
        self._ended.set()
        with suppress(StopError):
            for shard in list(self._held):
                self.give_back(shard)
            delete(self._workers / f"{self.name}.json")
        if self._alive is not None:
            self._alive.release()
            Path(self._alive.lock_file).unlink(missing_ok=True)

    def _keep_heartbeat(self) -> None:
        while not self._ended.wait(BEAT_EVERY_S):
            with suppress(StopError):  # a store that is away: the others may take this worker for dead, and rightly
                self.heartbeat()

    def _file(self, shard: int, generation: int) -> Place:
        return self._claims / f"{shard:05}.{generation}.json"

    def _holder(self, shard: int, generation: int) -> str | None:
        """Who made this claim; None when it was given back a moment ago."""
        if (shard, generation) not in self._holders:
            try:
                data = read(self._file(shard, generation))
            except FileNotFoundError:
                return None
            self._holders[shard, generation] = str(orjson.loads(data)["worker"])
        return self._holders[shard, generation]

    def _is_dead(self, worker: str | None) -> bool:
        if worker is None:
            return True  # it has given the shard back
        if worker == self.name:
            return False
        try:
            heartbeat = int(orjson.loads(read(self._workers / f"{worker}.json"))["heartbeat"])
        except FileNotFoundError:
            return True  # it has left
        if self._was_killed_here(worker):
            return True
        seen = self._seen.get(worker)
        if seen is None or seen.heartbeat != heartbeat:
            if seen is not None:
                self._beating.add(worker)
            self._seen[worker] = _Seen(heartbeat, self._now())
            return False
        return self._now() - seen.at > self._lease_s

    def _was_killed_here(self, worker: str) -> bool:
        return self._alive is not None and _has_ended_here(self._workers, worker)


def workers_at_work(folder: Place) -> int:
    """How many workers of a run seem to live. For people: it trusts the clocks."""
    fresh = []
    for path in listed(folder / "workers", "[!.]*.json"):
        with suppress(FileNotFoundError):  # left a moment ago
            if time.time() - path.stat().st_mtime < LEASE_S:
                fresh.append(path)
    return sum(not _has_ended_here(folder / "workers", path.stem) for path in fresh)


def _host() -> str:
    return socket.gethostname().replace(".", "-")


def _lock(workers: Place, worker: str) -> Path:
    """What a worker holds as long as its process lives; on this machine's disk if the run lies in an object store."""
    return (
        workers if isinstance(workers, Path) else platformdirs.user_cache_path("mga") / "workers"
    ) / f"{worker}.lock"


def _has_ended_here(workers: Place, worker: str) -> bool:
    """Whether a worker of this machine has ended."""
    lock = _lock(workers, worker)
    if not worker.startswith(f"{_host()}-") or not lock.exists():
        return False
    try:
        with FileLock(str(lock), timeout=0):
            return True
    except Timeout:
        return False
