"""One shard: a run of input rows, expanded as one unit that is published whole."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate, count, takewhile

from pydantic import BaseModel, ConfigDict

from mga.data.reading import Row
from mga.expand.flow import Kit, expand_document
from mga.records import Document, Outcome, Problem, Usage
from mga.scores import Scores
from mga.text.chunks import chunk

FIRST_SHARD_ROWS = 8

_Expanded = tuple[Document, list[Outcome] | None]


@dataclass(frozen=True, slots=True)
class Shard:
    """Input rows by their place in the whole input; `rows` are documents and problems in order."""

    index: int
    rows: tuple[Row, ...]


class ShardStats(BaseModel):
    """What a shard adds to the totals. `rows = documents + problems`; `chunks × pairs = sum of outcomes`. `no_verdict`:
    texts that the judge was asked about, and no score came."""

    model_config = ConfigDict(frozen=True)

    documents: int = 0
    chunks: int = 0
    source_tokens: int = 0
    kept_tokens: int = 0
    outcomes: dict[str, int] = {}
    reasons: dict[str, int] = {}
    cuts: dict[str, int] = {}
    scores: dict[str, int] = {}
    no_verdict: int = 0
    problems: tuple[Problem, ...] = ()
    usage: dict[str, Usage] = {}

    @property
    def judging(self) -> Scores:
        """What the judge has said. Shards of earlier versions count only the texts dropped for want of a verdict."""
        return Scores.of(self.scores, max(self.no_verdict, self.reasons.get("no_verdict", 0)))

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


class Cut:
    """How an input of so many rows is cut into shards of `size` rows. The first are small (8, 16, 32, … rows), so that
    the first results show early. Which rows a shard has depends on nothing else, so every worker cuts alike."""

    def __init__(self, rows: int, size: int) -> None:
        small = accumulate(takewhile(lambda n: n < size, (FIRST_SHARD_ROWS << i for i in count())), initial=0)
        self._small = [start for start in small if start < rows]
        self._rows, self._size = rows, size

    def __len__(self) -> int:
        if not self._small:
            return 0
        return len(self._small) - 1 + -(-(self._rows - self._small[-1]) // self._size)

    def __getitem__(self, index: int) -> range:
        """The rows of a shard, numbered over the whole input."""
        start, stop = self._start(index), self._start(index + 1)
        return range(start, min(stop, self._rows))

    def _start(self, index: int) -> int:
        beyond = index - (len(self._small) - 1)
        return self._small[index] if beyond < 0 else self._small[-1] + beyond * self._size


async def expand_shard(
    shard: Shard,
    kit: Kit,
    places: asyncio.Semaphore,
    admitted: asyncio.Event,
    stopping: asyncio.Event,
    watch: Callable[[Document, list[Outcome]], None],
) -> tuple[list[Outcome], ShardStats] | None:
    """All outcomes of a shard in input order, and its figures; None when stopped before all were let in.

    `places` bounds chunks in flight over all shards. `admitted` is set when the last document has been
    let in, so that the next shard can fill the places that become free.
    """
    documents = [row for row in shard.rows if isinstance(row, Document)]

    async def expand_chunk(part: Document) -> list[Outcome]:
        """In a place already taken, which it gives back."""
        try:
            outcomes = await expand_document(part, kit)
        finally:
            places.release()
        watch(part, outcomes)
        return outcomes

    async def expand_next_chunk(part: Document) -> list[Outcome] | None:
        return await expand_chunk(part) if await _let_in(places, stopping) else None

    async def expand_source(document: Document) -> list[_Expanded]:
        try:
            first, *others = await chunk(document, kit.limits.document, kit.recipe.count_tokens)
        except BaseException:
            places.release()
            raise
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(expand_chunk(first))]
            more = [group.create_task(expand_next_chunk(part)) for part in others]
        return [(part, task.result()) for part, task in zip([first, *others], [*tasks, *more], strict=True)]

    tasks: list[asyncio.Task[list[_Expanded]]] = []
    try:
        async with asyncio.TaskGroup() as group:
            for document in documents:
                if not await _let_in(places, stopping):
                    break
                tasks.append(group.create_task(expand_source(document)))
            admitted.set()
    finally:
        admitted.set()
    expanded = [part for task in tasks for part in task.result()]
    finished = [(part, outcomes) for part, outcomes in expanded if outcomes is not None]
    if len(tasks) < len(documents) or len(finished) < len(expanded):
        return None
    outcomes = [outcome for _, ended in finished for outcome in ended]
    problems = tuple(row for row in shard.rows if isinstance(row, Problem))
    return outcomes, _stats(len(documents), [part for part, _ in finished], outcomes, problems)


async def _let_in(places: asyncio.Semaphore, stopping: asyncio.Event) -> bool:
    """Take a place when one is free; False, and no place, when nothing new is to begin."""
    await places.acquire()
    if stopping.is_set():
        places.release()
        return False
    return True


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
        no_verdict=sum(_lacks_verdict(outcome) for outcome in outcomes),
        problems=problems,
    )


def _lacks_verdict(outcome: Outcome) -> bool:
    """Whether a text had passed cleaning and its judge gave no score, or failed."""
    failed = outcome.status == "failed" and outcome.reformulation is not None
    return outcome.verdict is None and (failed or outcome.reason == "no_verdict")


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
