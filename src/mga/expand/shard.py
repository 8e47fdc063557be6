"""One shard: a run of input rows, expanded as one unit that is published whole."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from pydantic import BaseModel, ConfigDict

from mga.chunks import chunk
from mga.documents import Row
from mga.expand.flow import Kit, expand_document
from mga.records import Document, Outcome, Problem, Usage

FIRST_SHARD_ROWS = 8


@dataclass(frozen=True, slots=True)
class Shard:
    """Input rows by their place in the whole input; `rows` are documents and problems in order."""

    index: int
    rows: tuple[Row, ...]


class ShardStats(BaseModel):
    """What a shard adds to the totals. `rows = documents + problems`; `chunks × pairs = sum of outcomes`."""

    model_config = ConfigDict(frozen=True)

    documents: int = 0
    chunks: int = 0
    source_tokens: int = 0
    kept_tokens: int = 0
    outcomes: dict[str, int] = {}
    reasons: dict[str, int] = {}
    cuts: dict[str, int] = {}
    scores: dict[str, int] = {}
    problems: tuple[Problem, ...] = ()
    usage: dict[str, Usage] = {}

    def __add__(self, other: "ShardStats") -> "ShardStats":
        sums: dict[str, object] = {}
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                keys = sorted(mine.keys() | theirs.keys())
                zero = Usage() if name == "usage" else 0
                sums[name] = {key: mine.get(key, zero) + theirs.get(key, zero) for key in keys}
            else:
                sums[name] = mine + theirs
        return ShardStats.model_validate(sums)


def shards(rows: Iterable[Row], size: int, done: frozenset[int]) -> Iterator[Shard]:
    """The input cut into shards, without those that are done.

    The first shards are small (8, 16, 32, … rows up to `size`), so that the first results show early.
    """
    source = iter(rows)
    index, rows_wanted = 0, min(size, FIRST_SHARD_ROWS)
    while taken := tuple(islice(source, rows_wanted)):
        if index not in done:
            yield Shard(index, taken)
        index, rows_wanted = index + 1, min(size, rows_wanted * 2)


async def expand_shard(
    shard: Shard,
    kit: Kit,
    places: asyncio.Semaphore,
    admitted: asyncio.Event,
    stopping: asyncio.Event,
    watch: Callable[[Document, list[Outcome]], None],
) -> tuple[list[Outcome], ShardStats] | None:
    """All outcomes of a shard in input order, and its figures; None when stopped before all were let in.

    `places` bounds documents in flight over all shards. `admitted` is set when the last document has been
    let in, so that the next shard can fill the places that become free.
    """
    documents = [row for row in shard.rows if isinstance(row, Document)]

    async def expand_chunk(document: Document) -> list[Outcome]:
        try:
            outcomes = await expand_document(document, kit)
        finally:
            places.release()
        watch(document, outcomes)
        return outcomes

    tasks: list[asyncio.Task[list[Outcome]]] = []
    chunks: list[Document] = []
    try:
        async with asyncio.TaskGroup() as group:
            for document in documents:
                for part in await chunk(document, kit.limits.document, kit.recipe.count_tokens):
                    await places.acquire()
                    if stopping.is_set():
                        places.release()
                        break
                    chunks.append(part)
                    tasks.append(group.create_task(expand_chunk(part)))
                if stopping.is_set():
                    break
            else:
                admitted.set()
    finally:
        complete = admitted.is_set()
        admitted.set()
    if not complete:
        return None
    outcomes = [outcome for task in tasks for outcome in task.result()]
    problems = tuple(row for row in shard.rows if isinstance(row, Problem))
    return outcomes, _stats(len(documents), chunks, outcomes, problems)


def _stats(
    documents: int, chunks: list[Document], outcomes: list[Outcome], problems: tuple[Problem, ...]
) -> ShardStats:
    kept = [o for o in outcomes if o.status == "kept"]
    return ShardStats(
        documents=documents,
        chunks=len(chunks),
        source_tokens=sum(part.n_tokens for part in chunks),
        kept_tokens=sum(o.reformulation.n_tokens for o in kept if o.reformulation),
        outcomes=_counts(o.status for o in outcomes),
        reasons=_counts(o.reason for o in outcomes if o.reason),
        cuts=_counts(cut for o in outcomes for cut in o.cuts),
        scores=_counts(str(o.verdict.score) for o in outcomes if o.verdict),
        problems=problems,
    )


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
