"""What it saves to put the document first: the 11 requests of a document, document-first against genre-first.

    python bench/prefix.py [INPUT] [--documents 4] [--characters 3000] [--sequences 4] [--tokens 64]

The same requests to the embedded model twice, each time with an empty cache: one for pairs, five rewrites, five
verdicts about each document. Document-first is how mga asks. Genre-first has the same words in the other order, the
instructions before the document, as is common. Short documents are joined to the given length; replies are cut at so
many tokens, in both alike.
"""

import argparse
import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from driving import Work, prepare, spent

from mga.config import load_config
from mga.engines.engine import Reply, Request
from mga.engines.llamacpp.engine import LlamaCppEngine
from mga.expand.judge import judge_request
from mga.expand.pairs import draw_seeds, pairs_request
from mga.expand.reformulate import rewrite_request
from mga.records import Document, Reformulation, Usage

PAIRS = 5
END = "</document>"


def document_first(request: Request) -> Request:
    """As it is."""
    return request


def genre_first(request: Request) -> Request:
    """The same prompt with the document, and what introduces it, at the end."""
    head, end, rest = request.prompt.partition(END)
    return replace(request, prompt=f"{rest.strip()}\n\n{head}{end}")


async def ask_all(work: Work, engine: LlamaCppEngine, order: Callable[[Request], Request], tokens: int) -> list[Reply]:
    """All requests about all documents, as many documents at once as the engine has sequences."""
    places = asyncio.Semaphore(engine.documents_in_flight)

    async def ask(request: Request) -> Reply:
        return await engine.ask(order(replace(request, max_tokens=min(tokens, request.max_tokens))))

    async def one(document: Document) -> list[Reply]:
        recipe, limits = work.recipe, work.limits
        async with places:
            pairs = await ask(pairs_request(document, recipe, PAIRS))
            seeds = draw_seeds(document, recipe, PAIRS, 0)
            rewrites = await asyncio.gather(*(ask(rewrite_request(document, p, recipe, limits)) for p in seeds))
            texts = [Reformulation(reply.text, reply.generated_tokens) for reply in rewrites]
            verdicts = await asyncio.gather(*(ask(judge_request(document, text, recipe)) for text in texts))
            return [pairs, *rewrites, *verdicts]

    return [reply for replies in await asyncio.gather(*map(one, work.documents)) for reply in replies]


async def measure(given: argparse.Namespace, order: Callable[[Request], Request]) -> tuple[float, Usage]:
    """Seconds and tokens with a fresh engine."""
    # Pairs in one request, as for every model that is not tiny: 11 requests a document.
    settings = {"engine": "llamacpp:smollm2-135m", "pairing": {"recipe": "together", "seeds": False}}
    config = load_config(None, settings)
    engine = LlamaCppEngine("smollm2-135m", given.sequences)
    try:
        await engine.start()
        work = await prepare(engine, config, given.input, given.documents, given.characters)
        began = time.monotonic()
        replies = await ask_all(work, engine, order, given.tokens)
        return time.monotonic() - began, spent(replies)
    finally:
        await engine.close()


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", default="examples/sample.jsonl")
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--characters", type=int, default=3000)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    arguments = parser.parse_args()
    print("| order | requests | prompt tokens | computed | from cache | generated | seconds |")
    print("|---|---|---|---|---|---|---|")
    seconds = []
    for order in (genre_first, document_first):
        took, use = asyncio.run(measure(arguments, order))
        seconds.append(took)
        computed = use.prompt_tokens - use.cached_tokens
        row = [order.__name__.replace("_", "-"), f"{use.requests:,}", f"{use.prompt_tokens:,}", f"{computed:,}"]
        row += [f"{use.cached_tokens / use.prompt_tokens:.0%}", f"{use.generated_tokens:,}", f"{took:.1f}"]
        print("| " + " | ".join(row) + " |", flush=True)
    print(f"\nDocument-first is {seconds[0] / seconds[1]:.2f} times as fast.")


if __name__ == "__main__":
    main()
