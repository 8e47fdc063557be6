"""Who works on which shard, when workers may die at any time and clocks may be wrong.

A worker claims a shard by creating a file that only one can create. While it lives, it beats: it rewrites its own file
with a growing number. A worker whose number has not grown for `LEASE_S` seconds of the watcher's own clock is taken
for dead, and so is one that was killed on the watcher's machine: its shards are claimed again, in the next
generation of the claim, which again only one can create. Clocks of different machines are never compared.

A worker taken for dead may only have been stopped. It may go on with its shard; publishing, which only one can win
(`run.py`), decides whose result counts.
"""

import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
from filelock import FileLock, Timeout
from upath import UPath

from mga.errors import StopError
from mga.store import create, write_json

LEASE_S = 60.0
BEAT_EVERY_S = 10.0


@dataclass(slots=True)
class _Seen:
    """The last beat of another worker, and when it was new here."""

    beat: int
    at: float


class Claims:
    """The claims of one worker on the shards of a run. `name` is this worker's."""

    def __init__(self, folder: UPath, lease_s: float = LEASE_S, now: Callable[[], float] = time.monotonic) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._claims = folder / "claims"
        self._workers = folder / "workers"
        self._lease_s = lease_s
        self._now = now
        self._beat = 0
        self._held: dict[int, int] = {}  # shard → generation
        self._seen: dict[str, _Seen] = {}
        self._alive: FileLock | None = None

    def begin(self) -> None:
        """Show this worker to the others."""
        if isinstance(self._workers, Path):
            self._workers.mkdir(parents=True, exist_ok=True)
            self._alive = FileLock(str(self._workers / f"{self.name}.lock"))
            self._alive.acquire()
        self.beat()

    def beat(self) -> None:
        """Say that this worker lives; every `BEAT_EVERY_S` seconds, from a thread that nothing else holds up."""
        self._beat += 1
        write_json(self._workers / f"{self.name}.json", {"beat": self._beat, "host": socket.gethostname()})

    def take(self, shard: int) -> bool:
        """Claim a shard that nobody holds, or whose holder is dead. False: somebody else works on it."""
        generation, holder = self._last(shard)
        if holder is not None and not self._is_dead(holder):
            return False
        if not create(self._file(shard, generation + 1), orjson.dumps({"worker": self.name})):
            return False
        self._held[shard] = generation + 1
        return True

    def give_back(self, shard: int) -> None:
        """The shard is published, or this worker stops before it is."""
        generation = self._held.pop(shard, None)
        if generation is not None:
            with suppress(FileNotFoundError):
                self._file(shard, generation).unlink()

    def forget(self, shard: int) -> None:
        """Delete what claims of dead workers are left of a published shard."""
        for path in self._claims.glob(f"{shard:05}.*.json"):
            with suppress(FileNotFoundError):
                path.unlink()

    def end(self) -> None:
        """Leave: everything held is given back, and the others see it at once."""
        for shard in list(self._held):
            self.give_back(shard)
        with suppress(FileNotFoundError, StopError):
            (self._workers / f"{self.name}.json").unlink()
        if self._alive is not None:
            self._alive.release()
            (self._workers / f"{self.name}.lock").unlink(missing_ok=True)

    def _file(self, shard: int, generation: int) -> UPath:
        return self._claims / f"{shard:05}.{generation}.json"

    def _last(self, shard: int) -> tuple[int, str | None]:
        """The latest generation of a shard's claim and who holds it; 0 and nobody when there is none."""
        generations = {int(path.name.split(".")[1]): path for path in self._claims.glob(f"{shard:05}.*.json")}
        if not generations:
            return 0, None
        last = max(generations)
        try:
            return last, str(orjson.loads(generations[last].read_bytes())["worker"])
        except FileNotFoundError:  # given back a moment ago
            return last, None

    def _is_dead(self, worker: str) -> bool:
        if worker == self.name:
            return False
        try:
            beat = int(orjson.loads((self._workers / f"{worker}.json").read_bytes())["beat"])
        except FileNotFoundError:
            return True  # it has left
        if self._was_killed_here(worker):
            return True
        seen = self._seen.get(worker)
        if seen is None or seen.beat != beat:
            self._seen[worker] = _Seen(beat, self._now())
            return False
        return self._now() - seen.at > self._lease_s

    def _was_killed_here(self, worker: str) -> bool:
        """A worker of this machine holds a lock as long as its process lives."""
        lock = self._workers / f"{worker}.lock"
        if self._alive is None or not worker.startswith(f"{socket.gethostname()}-") or not lock.exists():
            return False
        try:
            with FileLock(str(lock), timeout=0):
                return True
        except Timeout:
            return False
