"""The embedded model by weight format: how fast it reads and writes, and how many of its rewrites are usable.

    python bench/embedded_model.py [INPUT] [--documents 4]

For the weights as shipped (Q4_1), as used (Q8_0) and one size smaller (Q4_0), in one run: prompt tokens per second
(every document once, nothing cached), generated tokens per second with all sequences busy, and the ends of two
rewrites a document by the recipe of `mga expand`: finished by themselves, and passed by cleaning.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mga.config import load_config
from mga.data.documents import find_files
from mga.data.reading import read
from mga.engines.engine import Reply
from mga.engines.llamacpp.embedded_model import EMBEDDED_MODELS, download, requantize
from mga.engines.llamacpp.engine import LlamaCppEngine
from mga.expand.clean import Cleaned, clean
from mga.expand.limits import measure_limits
from mga.expand.pairs import draw_seeds
from mga.expand.recipe import Recipe
from mga.expand.reformulate import rewrite_request
from mga.records import Document, Reformulation

REWRITES = 2


async def measure(name: str, path: Path, documents: Sequence[Document]) -> str:
    """One row of the table."""
    config = load_config(None, {"engine": "llamacpp:smollm2-135m"})
    engine = LlamaCppEngine(str(path))
    await engine.start()
    try:
        recipe = Recipe(config, engine.count_tokens, engine.context)
        limits = await measure_limits(recipe)
        counted = [replace(d, n_tokens=await engine.count_tokens(d.text)) for d in documents]
        requests = [
            (document, rewrite_request(document, pair, recipe, limits))
            for document in counted
            for pair in draw_seeds(document, recipe, REWRITES, 0)
        ]
        read_s, replies = await timed(engine.ask(replace(r, max_tokens=1)) for _, r in requests[::REWRITES])
        read_tokens = sum(reply.prompt_tokens - reply.cached_tokens for reply in replies)
        write_s, replies = await timed(engine.ask(request) for _, request in requests)
    finally:
        await engine.close()
    ended = [(document, r) for (document, _), r in zip(requests, replies, strict=True) if r.finish == "stop"]
    usable = [
        clean(document, Reformulation(r.text, r.generated_tokens), config.cleaning, recipe.phrases)
        for document, r in ended
    ]
    passed = sum(isinstance(result, Cleaned) for result in usable)
    written = sum(reply.generated_tokens for reply in replies)
    share = f"{len(ended)} and {passed} of {len(requests)}"
    return f"| {name} | {read_tokens / read_s:,.0f} | {written / write_s:,.0f} | {share} |"


async def timed(work: Iterable[Awaitable[Reply]]) -> tuple[float, list[Reply]]:
    """Seconds until all are done, and the replies."""
    started = time.monotonic()
    replies = await asyncio.gather(*work)
    return time.monotonic() - started, replies


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", default="examples/sample.jsonl")
    parser.add_argument("--documents", type=int, default=4)
    arguments = parser.parse_args()
    rows = read(find_files([arguments.input]), limit=arguments.documents)
    documents = [row for row in rows if isinstance(row, Document)]
    model = EMBEDDED_MODELS["smollm2-135m"]
    print("| weights | prompt tokens/s | generated tokens/s | rewrites that end, and pass cleaning |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        shipped = download(model, Path(folder))
        for name in ("Q4_1", "Q8_0", "Q4_0"):
            path = shipped
            if name != "Q4_1":
                path = Path(folder) / f"{name}.gguf"
                requantize(shipped, path, name)
            print(asyncio.run(measure(name, path, documents)), flush=True)


if __name__ == "__main__":
    main()
