"""How long a fleet takes: a discrete-event simulation of workers that differ in speed, die and are replaced.

Shards lie in one queue; a worker takes the next one when it is free. A worker's speed is drawn once (log-normal, mean
1), its life is exponential. When it dies, the replies it had received are kept by the journal and what was in flight is
lost. Its shard is taken as `worker.py` takes it: when none is free any more, by a worker that has looked at the dead
one's heartbeat twice, a lease apart. The work ends with the last shard, so slow workers and late deaths cost most at
the end.
"""

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from mga.expand.shard import Cut

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
    """Rows of each shard, as a run cuts them: small ones first."""
    cut = Cut(rows, size)
    return [len(cut[index]) for index in range(len(cut))]


@dataclass(slots=True, eq=False)
class _Part:
    """Neighbouring shards taken as one: seconds at speed 1 that are left, and of them for a shard. `since`: when it was
    abandoned."""

    seconds: float
    shard_s: float
    since: float = 0.0

    @property
    def is_bulk(self) -> bool:
        """Whether these are several shards."""
        return self.seconds > 1.5 * self.shard_s


@dataclass(slots=True, eq=False)
class _Worker:
    """`watches`: since when it looks at the claims of others, which it does once no shard is free."""

    speed: float
    dies: float
    part: _Part | None = None
    began: float = 0.0
    watches: float = math.inf


def draw_worker(fleet: Fleet, rng: Random) -> tuple[float, float]:
    """Speed, and seconds of life, of the next worker that is started."""
    speed = math.exp(rng.gauss(-(fleet.spread**2) / 2, fleet.spread)) if fleet.spread else 1.0
    life = rng.expovariate(1 / fleet.lifetime_s) if math.isfinite(fleet.lifetime_s) else math.inf
    return speed, life


def workers_of(seed: int) -> Random:
    """What the workers of a course are drawn from, in the order in which they are started."""
    return Random(f"workers {seed}")


def simulate(job: Job, fleet: Fleet, seed: int) -> Simulated:
    """One course of events. The same seed gives the same course."""
    return _Course(job, fleet, seed).run()


class _Course:
    """The state of a simulation. An event is a time, a number for its order, and a worker that then is ready, has
    finished, dies, or (idle) looks around."""

    def __init__(self, job: Job, fleet: Fleet, seed: int) -> None:
        self._fleet, self._drawn = fleet, workers_of(seed)
        self._queue = deque(_parts(job, fleet.workers, Random(seed)))
        self._open = len(self._queue)
        self._abandoned: deque[_Part] = deque()  # the oldest first
        self._events: list[tuple[float, int, _Worker]] = []
        self._order = 0
        self._idle: set[_Worker] = set()
        self._deaths = 0
        self._redone = 0.0
        self._useful = 0.0  # seconds of workers, at their own speeds

    def run(self) -> Simulated:
        for _ in range(self._fleet.workers):
            self._start_worker(0.0)
        now = 0.0
        while self._open:
            now, _, worker = heapq.heappop(self._events)
            if worker.dies <= now:
                self._die(worker, now)
            elif worker.part is None:
                self._next(worker, now)
            elif now >= self._end(worker, worker.part):
                self._finish(worker, worker.part, now)
        time_of_all = now * self._fleet.workers
        return Simulated(now, self._useful / time_of_all if now else 1.0, self._deaths, self._redone)

    def _at(self, time: float, worker: _Worker) -> None:
        self._order += 1
        heapq.heappush(self._events, (time, self._order, worker))

    def _start_worker(self, now: float) -> None:
        speed, life = draw_worker(self._fleet, self._drawn)
        ready = now + self._fleet.start_s
        self._at(ready, _Worker(speed, ready + life))

    def _next(self, worker: _Worker, now: float) -> None:
        """Take the next shard, else an abandoned one that has been watched for a lease, else wait."""
        part = self._queue.popleft() if self._queue else self._watched(worker, now)
        if part is not None:
            self._idle.discard(worker)
            worker.part, worker.began = part, now
            self._at(min(worker.dies, self._end(worker, part)), worker)
            return
        if worker not in self._idle:
            self._idle.add(worker)
            if math.isfinite(worker.dies):
                self._at(worker.dies, worker)
        if self._abandoned:
            self._at(self._ready(worker), worker)

    def _watched(self, worker: _Worker, now: float) -> _Part | None:
        worker.watches = min(worker.watches, now)
        return self._abandoned.popleft() if self._abandoned and now >= self._ready(worker) else None

    def _ready(self, worker: _Worker) -> float:
        """When a worker knows that the oldest abandoned shard is one."""
        return max(worker.watches, self._abandoned[0].since) + self._fleet.lease_s

    def _end(self, worker: _Worker, part: _Part) -> float:
        around = self._fleet.between_s * max(1.0, part.seconds / part.shard_s)
        return worker.began + around + part.seconds / worker.speed

    def _finish(self, worker: _Worker, part: _Part, now: float) -> None:
        self._useful += part.seconds / worker.speed
        self._open -= 1
        worker.part = None
        self._next(worker, now)

    def _die(self, worker: _Worker, now: float) -> None:
        if worker.dies < 0:  # it has died already
            return
        self._deaths += 1
        self._idle.discard(worker)
        if (part := worker.part) is not None:
            done = part.seconds * (now - worker.began) / (self._end(worker, part) - worker.began)
            lost = min(done % part.shard_s, self._fleet.lost_s * worker.speed)
            self._redone += lost
            self._useful += (done - lost) / worker.speed
            self._abandon(_Part(part.seconds - done + lost, part.shard_s), now)
        worker.part, worker.dies = None, -1.0
        self._start_worker(now + self._fleet.replace_s)

    def _abandon(self, part: _Part, now: float) -> None:
        """The shard that was worked on; others taken with it were never claimed."""
        if part.is_bulk:
            others = math.ceil(part.seconds / part.shard_s) - 1
            self._queue.appendleft(_Part(others * part.shard_s, part.shard_s))
            self._open += 1
            part.seconds -= others * part.shard_s
        part.since = now
        self._abandoned.append(part)
        for idle in self._idle:
            self._at(now + self._fleet.lease_s, idle)


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
