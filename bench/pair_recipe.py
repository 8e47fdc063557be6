"""How many different (genre, audience) pairs does a model propose, by recipe?

    python bench/pair_recipe.py INPUT [--engine llamacpp:smollm2-135m] [--limit 40] [--recipe NAME ...]

Every recipe proposes pairs for the same documents. Pairs count as different by the rule of `mga expand`
(`pairing.near_identical`). Printed per recipe: the share of documents with at least four of five different pairs,
their spread, requests and generated tokens per document, seconds. Without --recipe, all recipes run.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from mga.config import load_config
from mga.data.documents import find_files
from mga.data.reading import read
from mga.engines.choose import choose_engine
from mga.engines.client import Client
from mga.engines.journal import Journal
from mga.expand.limits import measure_limits
from mga.expand.pairs import propose_pairs
from mga.expand.recipe import Recipe
from mga.records import Document, Pair
from mga.text.chunks import chunk

CALM = {"temperature": 0.7, "top_p": 0.95}
LIVELY = {"temperature": 1.0, "min_p": 0.05}
STEADY = {"temperature": 0.7, "min_p": 0.1, "repeat_penalty": 1.1, "repeat_last_n": 128}
RECIPES: dict[str, dict[str, Any]] = {
    "the engine's own": {},
    "together, temperature 0.7": {"recipe": "together", "seeds": False, "sampling": CALM},
    "together, temperature 1, min-p": {"recipe": "together", "seeds": False, "sampling": LIVELY},
    "together, seeds": {"recipe": "together", "seeds": True, "sampling": LIVELY},
    "one by one": {"recipe": "one-by-one", "seeds": False, "sampling": LIVELY},
    "one by one, seeds": {"recipe": "one-by-one", "seeds": True, "sampling": LIVELY},
    "one by one, seeds, steady": {"recipe": "one-by-one", "seeds": True, "sampling": STEADY},
}


async def measure(name: str, arguments: argparse.Namespace) -> str:
    """Propose pairs for every document by one recipe and sum up in a line."""
    config = load_config(None, {"engine": arguments.engine, "input": [arguments.input], "pairing": RECIPES[name]})
    client = Client(choose_engine(config.engine))
    await client.engine.start()
    try:
        recipe = Recipe(config, client.engine.count_tokens, client.engine.context)
        limits = await measure_limits(recipe)
        rows = read(find_files(config.input), limit=arguments.limit)
        documents = [row for row in rows if isinstance(row, Document)]
        places = asyncio.Semaphore(client.engine.documents_in_flight)
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder) / "journal.jsonl")

            async def propose(document: Document) -> list[Pair]:
                async with places:
                    part = (await chunk(document, limits.document, recipe.count_tokens))[0]
                    found = await propose_pairs(part, partial(client.ask, journal=journal), recipe)
                return [pair for pair in found if isinstance(pair, Pair)]

            started = time.monotonic()
            proposed = await asyncio.gather(*map(propose, documents))
            seconds = time.monotonic() - started
            journal.close()
    finally:
        await client.engine.close()
    if arguments.show:
        for pair in proposed[0]:
            print(f"    {pair.genre} / {pair.audience}")
    counts = Counter(map(len, proposed))
    enough = sum(count for pairs, count in counts.items() if pairs >= 4) / len(proposed)
    spread = " ".join(f"{pairs}:{counts[pairs]}" for pairs in sorted(counts, reverse=True))
    return (
        f"| {name} | {enough:.1%} | {spread} | {client.spent.requests / len(proposed):.1f} "
        f"| {client.spent.generated_tokens / len(proposed):,.0f} | {seconds:,.0f} |"
    )


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("--engine", default="llamacpp:smollm2-135m")
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--recipe", choices=RECIPES, action="append")
    parser.add_argument("--show", action="store_true", help="also print the first document's pairs")
    arguments = parser.parse_args()
    print("| recipe | ≥ 4 different pairs | pairs:documents | requests/doc | generated tokens/doc | seconds |")
    print("|---|---|---|---|---|---|")
    for name in arguments.recipe or RECIPES:
        print(asyncio.run(measure(name, arguments)), flush=True)


if __name__ == "__main__":
    main()
