"""The expansion as a step of a datatrove pipeline, between a reader and a writer of one's own.

    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import JsonlWriter
    from mga.runs.executors.datatrove import Expand

    LocalPipelineExecutor(
        [ParquetReader("corpus"), Expand("journal", engine="http://host:8000/v1#model"), JsonlWriter("out")],
        tasks=8, logging_dir="logs",
    ).run()

Needs `pip install 'mga[datatrove]'`. Without datatrove, `mga expand` does more: shards that workers share, totals that
add up, cards and reports.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Queue
from typing import Any

from datatrove.data import Document as DatatroveDocument
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers.disk_base import DiskWriter

from mga.config import load_config
from mga.engines.client import Client
from mga.engines.journal import Journal
from mga.events import event
from mga.expand.flow import Kit
from mga.expand.limits import measure_limits
from mga.expand.recipe import Recipe
from mga.expand.shard import Shard, expand_shard
from mga.records import Document, Outcome
from mga.runs.executors.local import context_of, open_clients
from mga.text.words import has_words

LOOK_EVERY_S = 0.2
SHARDS_AHEAD = 2  # expanded, and waiting for the step behind

_Finished = tuple[list[Outcome], dict[str, DatatroveDocument]]


class Expand(PipelineStep):  # type: ignore[misc]
    """Rewrites each document for several genres and audiences, and hands on the texts that are kept, with the
    document's metadata and `source_id`, `chunk_id`, `genre`, `audience`, `score`.

    `folder` (of this machine) keeps every reply received, so that a task that is run again pays for none twice; delete
    it when the pipeline is done. What is not kept goes to `exclusion_writer` with `reason` and `detail`. `settings` are
    those of `mga expand`: engine, pairs, variant, judge, cleaning={...}, ...

    A document's key is the task and its place among the task's documents: the same pipeline gives the same texts.
    """

    type = "✍️ - REWRITER"
    name = "mga expand"

    def __init__(self, folder: str, exclusion_writer: DiskWriter | None = None, **settings: Any) -> None:
        super().__init__()
        self.folder = folder
        self.exclusion_writer = exclusion_writer
        self.settings = settings
        load_config(None, settings)  # what is wrong is said here, not in every task

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """The kept texts of a task's documents, in order."""
        results: Queue[_Finished | BaseException | None] = Queue(SHARDS_AHEAD)
        stop = threading.Event()
        work = threading.Thread(target=self._work, args=(iter(data or ()), rank, results, stop), daemon=True)
        work.start()
        try:
            while (finished := results.get()) is not None:
                if isinstance(finished, BaseException):
                    raise finished
                outcomes, sources = finished
                for outcome in outcomes:
                    yield from self._handed_on(outcome, sources[outcome.document.position], rank)
        finally:
            stop.set()
            while work.is_alive():  # it may wait to put something down
                with suppress(Exception):
                    results.get(timeout=0.1)
            if self.exclusion_writer is not None:
                self.exclusion_writer.close()

    def _handed_on(self, outcome: Outcome, source: DatatroveDocument, rank: int) -> Iterator[DatatroveDocument]:
        """The text if it is kept; what is not is counted and written elsewhere."""
        self.stat_update(outcome.status)
        made = _document(outcome, source)
        if outcome.status == "kept":
            self.update_doc_stats(made)
            yield made
            return
        self.stat_update(f"{outcome.status}_{outcome.reason}")
        if self.exclusion_writer is not None:
            self.exclusion_writer.write(made, rank)

    def _work(self, data: Iterator[DatatroveDocument], rank: int, results: Queue[Any], stop: threading.Event) -> None:
        """In a thread with a loop of its own: expand, and put down results in order, then None or what went wrong."""
        try:
            asyncio.run(self._carry(data, rank, results, stop))
            ended: BaseException | None = None
        except BaseExceptionGroup as group:
            ended = group.exceptions[0]
        except BaseException as error:
            ended = error
        results.put(ended)

    async def _carry(
        self, data: Iterator[DatatroveDocument], rank: int, results: Queue[Any], stop: threading.Event
    ) -> None:
        config = load_config(None, self.settings)
        folder = Path(self.folder)
        say = partial(event, "engine says")
        async with open_clients(config, folder / "logs", lambda line: say(line=line)) as (generator, judge):
            recipe = Recipe(config, generator.count_tokens, context_of(generator.engine, judge.engine))
            limits = await measure_limits(recipe)
            places = asyncio.Semaphore(generator.engine.documents_in_flight)
            stopping = asyncio.Event()
            before: asyncio.Task[None] | None = None
            obeying = asyncio.create_task(_obey(stop, stopping))
            async with asyncio.TaskGroup() as group:
                index = first = 0
                while not stop.is_set() and (taken := await asyncio.to_thread(list, islice(data, config.shard_size))):
                    sources = {f"{rank}:{first + i}": document for i, document in enumerate(taken)}
                    first += len(taken)
                    journal = Journal(folder / f"{rank:05}-{index:05}.jsonl")
                    kit = _kit(generator, judge, journal, recipe, limits)
                    shard = Shard(index, tuple(self._usable(sources)))
                    admitted = asyncio.Event()
                    expanding = expand_shard(shard, kit, places, admitted, stopping, lambda *_: None)
                    before = group.create_task(_put_down(expanding, sources, before, results, journal, stop))
                    await admitted.wait()
                    index += 1
            obeying.cancel()

    def _usable(self, sources: dict[str, DatatroveDocument]) -> Iterator[Document]:
        for position, source in sources.items():
            if has_words(source.text):
                yield Document(str(source.id), source.text, position)
            else:
                self.stat_update("skipped_empty_text")


async def _obey(stop: threading.Event, stopping: asyncio.Event) -> None:
    """Let nothing new in when the step behind wants no more."""
    while not stop.is_set():  # noqa: ASYNC110 - an event of threads
        await asyncio.sleep(LOOK_EVERY_S)
    stopping.set()


async def _put_down(
    expanding: Any,
    sources: dict[str, DatatroveDocument],
    before: asyncio.Task[None] | None,
    results: Queue[Any],
    journal: Journal,
    stop: threading.Event,
) -> None:
    """A shard's outcomes, when those of the shard before are down."""
    finished = await expanding
    journal.close()
    if before is not None:
        await before
    if finished is not None and not stop.is_set():
        await asyncio.to_thread(results.put, (finished[0], sources))


def _kit(generator: Client, judge: Client, journal: Journal, recipe: Recipe, limits: Any) -> Kit:
    return Kit(
        write=partial(generator.ask, journal=journal),
        judge=partial(judge.ask, journal=journal),
        recipe=recipe,
        limits=limits,
    )


def _document(outcome: Outcome, source: DatatroveDocument) -> DatatroveDocument:
    document, pair, verdict = outcome.document, outcome.pair, outcome.verdict
    made = {
        "source_id": document.source_id,
        "chunk_id": document.chunk_id,
        "genre": pair.genre if pair else None,
        "audience": pair.audience if pair else None,
        "score": verdict.score if verdict else None,
    }
    if outcome.status != "kept":
        made |= {"reason": outcome.reason, "detail": outcome.detail}
    text = outcome.reformulation.text if outcome.reformulation else document.text
    return DatatroveDocument(text=text, id=outcome.id, metadata={**source.metadata, **made})
