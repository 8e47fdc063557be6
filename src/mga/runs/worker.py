"""One process's work on a run: claim shards, expand them, publish them, until nothing is left to claim."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from functools import partial

from mga.config import ExpandConfig
from mga.data.documents import InputFile
from mga.data.reading import Reader, Row, Unchanged
from mga.engines.client import Client
from mga.errors import InputError
from mga.expand.flow import Kit
from mga.expand.limits import Limits
from mga.expand.recipe import Recipe
from mga.expand.shard import Shard, ShardStats, expand_shard
from mga.records import Document, Outcome, Problem
from mga.runs.claims import Claims
from mga.runs.journals import Journals
from mga.runs.monitoring.progress import Progress
from mga.runs.monitoring.watch import Watch
from mga.runs.run import Run

SYNC_EVERY_S = 1.0
LOOK_EVERY_S = 5.0  # at what others have claimed and published, as long as there is something to claim
WAIT_S = 0.3  # between looks, when there is nothing to claim
PROBLEMS_SHOWN = 100


class Worker:
    """Works on a run that has begun. `wait`: stay until the shards of others are done or can be taken from the dead.
    `only` is the one shard to do; `claims` have begun. `stopping`, once set, lets in nothing new."""

    def __init__(
        self,
        config: ExpandConfig,
        run: Run,
        files: Sequence[InputFile],
        clients: tuple[Client, Client],
        kit: tuple[Recipe, Limits],
        progress: Progress,
        watch: Watch,
        claims: Claims,
        unchanged: Unchanged,
        *,
        wait: bool,
        only: int | None = None,
    ) -> None:
        self.run = run
        self.progress = progress
        self._watch = watch
        self.stopping = asyncio.Event()
        self._config = config
        self._writer, self._judge = clients
        self._recipe, self._limits = kit
        self._wait = wait
        if only is not None and only >= len(run.cut):
            raise InputError(f"There is no shard {only}; {run.folder} has {len(run.cut):,}, from 0.")
        self._shards = range(len(run.cut)) if only is None else [only]
        self._reader = Reader(files, run.rows, config.text_key, config.id_key)
        self._claims = claims
        self._unchanged = unchanged
        self._journals = Journals(run.folder, self._claims.name)
        self._taken: set[int] = set()  # by this worker, published or not
        self._done = run.done()
        self._free: deque[int] = deque()
        self._held: list[int] = []  # by others
        self._look_at = self._pause_s = 0.0
        self._problems_shown = 0

    async def carry(self) -> None:
        """All shards that can be claimed, the next one let in as soon as the last one's documents are."""
        places = asyncio.Semaphore(self._writer.engine.documents_in_flight)
        clients = [self._writer, self._judge]
        self.progress.start(sum(self.run.rows), self.run.stats(), self._config.pairs, clients)
        try:
            async with asyncio.TaskGroup() as both:
                syncing = both.create_task(self._sync())  # its failure ends the work
                try:
                    async with asyncio.TaskGroup() as group:
                        while (shard := await self._next()) is not None:
                            admitted = asyncio.Event()
                            group.create_task(self._one_shard(shard, places, admitted))
                            await admitted.wait()
                finally:
                    syncing.cancel()
        finally:
            self.progress.stop()
            self._reader.close()
            self._journals.close()
            self._claims.end()

    async def _next(self) -> int | None:
        """A shard just claimed: a free one in order, else one whose worker has died; None when there is none."""
        while not self.stopping.is_set():
            if not self._free or time.monotonic() > self._look_at:
                await asyncio.to_thread(self._look)
            if self._free:
                shard = self._free.popleft()
                if await self._take(shard):
                    return shard
                # Somebody is quicker: of many workers that begin together, each goes on at a place of its own.
                self._free.rotate(random.randrange(len(self._free) + 1))
                continue
            for shard in self._held:
                if await self._take(shard):
                    return shard
            if all(self._claims.lives(shard) for shard in self._held) and not (self._wait and self._held):
                return None
            await asyncio.sleep(max(WAIT_S, self._pause_s))
        return None

    async def _take(self, shard: int) -> bool:
        """Claim a shard; a claim on one that somebody has published meanwhile is given back."""
        if not await asyncio.to_thread(self._claims.take, shard):
            return False
        if await asyncio.to_thread(self.run.is_done, shard):
            await asyncio.to_thread(self._claims.give_back, shard)
            return False
        self._taken.add(shard)
        return True

    def _look(self) -> None:
        """See what others have published and what they hold. Looks cost a twentieth of the time at most."""
        began = time.monotonic()
        claimed = self._claims.look()
        self._journals.look()
        done = self.run.done()
        for shard in sorted(done - self._done - self._taken):
            self.progress.elsewhere(self.run.stats_of(shard))
        self._done = done
        left = [shard for shard in self._shards if shard not in done and shard not in self._taken]
        self._free = deque(shard for shard in left if shard not in claimed)
        self._held = [shard for shard in left if shard in claimed]
        self._pause_s = 20 * (time.monotonic() - began)
        self._look_at = time.monotonic() + max(LOOK_EVERY_S, self._pause_s)

    async def _one_shard(self, index: int, places: asyncio.Semaphore, admitted: asyncio.Event) -> None:
        journal = await asyncio.to_thread(self._journals.open, index)
        kit = Kit(
            write=partial(self._writer.ask, journal=journal),
            judge=partial(self._judge.ask, journal=journal),
            recipe=self._recipe,
            limits=self._limits,
        )
        rows = self.run.cut[index]
        shard = Shard(index, tuple(await asyncio.to_thread(self._read, rows)))
        for row in shard.rows:
            if isinstance(row, Problem):
                self._show(row)
        result = await expand_shard(shard, kit, places, admitted, self.stopping, self._finished)
        if result is None:
            return
        outcomes, stats = result
        stats = stats.model_copy(update={"usage": journal.usage})
        await asyncio.to_thread(self._publish, index, outcomes, stats)

    def _read(self, rows: range) -> list[Row]:
        """A shard's rows, all of them, of files that are as they were when the rows were counted. Raises StopError."""
        try:
            found = list(self._reader.rows(rows.start, rows.stop))
        finally:
            self._unchanged.check(
                self._reader.files_of(rows.start, rows.stop)
            )  # says more than an error that comes of it
        return found

    def _publish(self, shard: int, outcomes: Sequence[Outcome], stats: ShardStats) -> None:
        published = self.run.publish(shard, self._claims.name, outcomes, stats)
        self._watch.closed(shard, stats, published)
        self._journals.remove(shard)
        self._claims.give_back(shard)

    def _finished(self, document: Document, outcomes: list[Outcome]) -> None:
        self.progress.outcomes(document, outcomes)
        self._watch.finished(document, outcomes)

    def _show(self, problem: Problem) -> None:
        self._problems_shown += 1
        self._watch.skipped(problem)
        if self._problems_shown <= PROBLEMS_SHOWN:
            self.progress.say(f"skipped: {problem}")
        elif self._problems_shown == PROBLEMS_SHOWN + 1:
            self.progress.say(f"skipped: more rows; all are listed in {self.run.folder / 'shards'}")

    async def _sync(self) -> None:
        """Force journals to the disk."""
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            await asyncio.to_thread(self._journals.sync)
