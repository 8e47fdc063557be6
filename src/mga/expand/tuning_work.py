"""The requests that `mga tune-engine` times: rewrites of short texts, as an expansion asks for them."""

import tomllib
from itertools import cycle, islice
from pathlib import Path
from typing import Protocol

from mga.config import load_config
from mga.engines.engine import Request
from mga.expand.limits import measure_limits
from mga.expand.pairs import draw_seeds
from mga.expand.recipe import Recipe
from mga.expand.reformulate import rewrite_request
from mga.records import Document


class Counting(Protocol):
    """What the requests need of an engine that runs."""

    context: int | None

    async def count_tokens(self, text: str) -> int: ...


async def rewrite_requests(engine: Counting, count: int, *, uri: str) -> list[Request]:
    """So many rewrite requests, each about another document, for the engine of this URI."""
    recipe = Recipe(load_config(None, {"engine": uri}), engine.count_tokens, engine.context)
    limits = await measure_limits(recipe)
    path = Path(__file__).with_name("tuning_texts.toml")
    texts = islice(cycle(tomllib.loads(path.read_text(encoding="utf-8"))["texts"]), count)
    documents = [Document(f"text-{i}", f"{i}. {text}", f"{i}", n_tokens=100) for i, text in enumerate(texts)]
    return [rewrite_request(document, draw_seeds(document, recipe, 1, 0)[0], recipe, limits) for document in documents]
