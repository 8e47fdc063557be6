"""What benchmarks of the embedded engine share: documents with their token counts, and requests sent by the dozen."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mga.config import ExpandConfig
from mga.data.documents import find_files
from mga.data.reading import read
from mga.engines.engine import Engine, Reply, Request
from mga.expand.limits import Limits, measure_limits
from mga.expand.recipe import Recipe
from mga.records import Document, Usage


@dataclass(frozen=True, slots=True)
class Work:
    """Documents, and what is needed to make requests about them."""

    documents: Sequence[Document]
    recipe: Recipe
    limits: Limits


async def prepare(engine: Engine, config: ExpandConfig, source: str, count: int, characters: int = 0) -> Work:
    """The first documents of an input, counted by the engine's tokenizer; short ones are joined to `characters`."""
    recipe = Recipe(config, engine.count_tokens, engine.context)
    limits = await measure_limits(recipe)
    documents: list[Document] = []
    text = ""
    while len(documents) < count:
        for row in read(find_files([source])):
            if isinstance(row, Document) and len(documents) < count:
                text = f"{text}\n\n{row.text}".strip()
                if len(text) >= characters:
                    tokens = await engine.count_tokens(text)
                    assert tokens <= limits.document, f"{row.source_id} is too long for this benchmark"
                    name = f"{row.source_id}-{len(documents)}"
                    documents.append(replace(row, source_id=name, text=text, n_tokens=tokens))
                    text = ""
    return Work(documents, recipe, limits)


async def timed(engine: Engine, requests: Sequence[Request]) -> tuple[float, list[Reply]]:
    """Seconds and replies of requests that are all sent at once."""
    began = time.monotonic()
    replies = await asyncio.gather(*map(engine.ask, requests))
    return time.monotonic() - began, list(replies)


def spent(replies: Sequence[Reply]) -> Usage:
    """What replies cost together."""
    return Usage(
        len(replies),
        sum(reply.prompt_tokens for reply in replies),
        sum(reply.cached_tokens for reply in replies),
        sum(reply.generated_tokens for reply in replies),
    )
