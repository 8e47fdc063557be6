"""How long a fleet takes: a discrete-event simulation of workers that differ in speed, die and are replaced.

Shards lie in one queue; a worker takes the next one when it is free. A worker's speed is drawn once (log-normal, mean
1), its life is exponential. When it dies, the replies it had received are kept by the journal, what was in flight is
lost, and its shard is taken again once the lease of the claim has run out (`claims.py`). The work ends with the last
shard, so slow workers and late deaths cost most at the end.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, takewhile
from random import Random

from mga.expand.shard import FIRST_SHARD_ROWS

PARTS_PER_WORKER = 4


@dataclass(frozen=True, slots=True)
class Fleet:
    """Times in seconds. `spread`: standard deviation of the logarithm of speeds. `lifetime_s`: mean time to a worker's
    death. `replace_s`: from a death to the start of another worker, `start_s`: from its start to its first request.
    `lost_s`: how much of its last work a death loses. `between_s`: what a worker spends around each shard.
    """

    workers: int
    spread: float = 0.0
    lifetime_s: float = math.inf
    start_s: float = 0.0
    replace_s: float = 0.0
    lease_s: float = 0.0
    lost_s: float = 0.0
    between_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Job:
    """Rows in shards. `row_s`: seconds of a worker of speed 1 for a row; `row_spread`: their standard deviation, in
    means."""

    rows: int
    shard_size: int
    row_s: float
    row_spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Simulated:
    """`wall_s`: from the start of the first workers to the end of the last shard. `busy`: share of all workers' time
    until then that went into work that counts. `redone_s`: seconds of work done again."""

    wall_s: float
    busy: float
    deaths: int
    redone_s: float


def shard_rows(rows: int, size: int) -> list[int]:
    """Rows of each shard, as `mga.expand.shard.shards` cuts them: small ones first."""
    growing = takewhile(lambda n: n < size, (FIRST_SHARD_ROWS << i for i in range(64)))
    sizes: list[int] = []
    for wanted in growing:
        if rows > 0:
            sizes.append(min(wanted, rows))
            rows -= wanted
    full, rest = divmod(max(rows, 0), size)
    return sizes + [size] * full + [rest] * bool(rest)


@dataclass(slots=True)
class _Part:
    """Neighbouring shards taken as one: seconds at speed 1 that are left, and of them for a shard."""

    seconds: float
    shard_s: float


@dataclass(slots=True)
class _Worker:
    speed: float
    dies: float
    part: _Part | None = None
    began: float = 0.0


def simulate(job: Job, fleet: Fleet, seed: int) -> Simulated:
    """One course of events. The same seed gives the same course."""
    return _Course(job, fleet, Random(seed)).run()


class _Course:
    """The state of a simulation. Events are (time, order, what happens, worker or part)."""

    def __init__(self, job: Job, fleet: Fleet, rng: Random) -> None:
        self._fleet, self._rng = fleet, rng
        self._queue = deque(_parts(job, fleet.workers, rng))
        self._open = len(self._queue)
        self._work = sum(part.seconds for part in self._queue)
        self._events: list[tuple[float, int, _Worker | _Part]] = []
        self._order = 0
        self._idle: deque[_Worker] = deque()
        self._deaths = 0
        self._redone = 0.0
        self._useful = 0.0  # seconds of workers, at their own speeds

    def run(self) -> Simulated:
        for _ in range(self._fleet.workers):
            self._start_worker(0.0)
        now = 0.0
        while self._open:
            now, _, thing = heapq.heappop(self._events)
            if isinstance(thing, _Part):  # its lease has run out
                self._queue.appendleft(thing)
                if self._idle:
                    self._next(self._idle.popleft(), now)
            elif thing.part is None:
                self._next(thing, now)
            elif thing.dies <= now:
                self._die(thing, thing.part, now)
            else:
                self._finish(thing, now)
        time_of_all = now * self._fleet.workers
        return Simulated(now, self._useful / time_of_all if now else 1.0, self._deaths, self._redone)

    def _at(self, time: float, thing: _Worker | _Part) -> None:
        self._order += 1
        heapq.heappush(self._events, (time, self._order, thing))

    def _start_worker(self, now: float) -> None:
        fleet, rng = self._fleet, self._rng
        ready = now + fleet.start_s
        speed = math.exp(rng.gauss(-(fleet.spread**2) / 2, fleet.spread)) if fleet.spread else 1.0
        life = rng.expovariate(1 / fleet.lifetime_s) if math.isfinite(fleet.lifetime_s) else math.inf
        self._at(ready, _Worker(speed, ready + life))

    def _next(self, worker: _Worker, now: float) -> None:
        """Take a part, or wait for one. A worker that has died while it waited is replaced."""
        if worker.dies <= now:
            self._deaths += 1
            self._start_worker(max(now - self._fleet.start_s, worker.dies + self._fleet.replace_s))
            return
        if not self._queue:
            self._idle.append(worker)
            return
        worker.part, worker.began = self._queue.popleft(), now
        self._at(min(worker.dies, self._end(worker, worker.part)), worker)

    def _end(self, worker: _Worker, part: _Part) -> float:
        around = self._fleet.between_s * max(1.0, part.seconds / part.shard_s)
        return worker.began + around + part.seconds / worker.speed

    def _finish(self, worker: _Worker, now: float) -> None:
        assert worker.part is not None
        self._useful += worker.part.seconds / worker.speed
        self._open -= 1
        worker.part = None
        self._next(worker, now)

    def _die(self, worker: _Worker, part: _Part, now: float) -> None:
        self._deaths += 1
        done = part.seconds * (now - worker.began) / (self._end(worker, part) - worker.began)
        lost = min(done % part.shard_s, self._fleet.lost_s * worker.speed)
        self._redone += lost
        self._useful += (done - lost) / worker.speed
        self._at(now + self._fleet.lease_s, _Part(part.seconds - done + lost, part.shard_s))
        self._start_worker(now + self._fleet.replace_s)


def _parts(job: Job, workers: int, rng: Random) -> Iterator[_Part]:
    """The shards in order. Many shards a worker are taken several at once, a quarter of a worker's share of what is
    left: fewer events, and single shards at the end, where they matter."""
    sizes = shard_rows(job.rows, job.shard_size)
    ends = [0, *accumulate(sizes)]
    at = 0
    while at < len(sizes):
        together = max(1, (len(sizes) - at) // (PARTS_PER_WORKER * workers))
        rows = ends[at + together] - ends[at]
        seconds = rows * job.row_s * max(0.05, rng.gauss(1.0, job.row_spread / math.sqrt(rows)))
        yield _Part(seconds, seconds / together)
        at += together
