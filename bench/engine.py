"""The embedded engine beside llama.cpp: does a whole expansion keep the pace of its bare decoding?

    python bench/engine.py [INPUT] [--documents 12] [--skip-defaults]

In one run, on the same weights with the same settings:

1. `mga expand` on the documents, with its journal, schemas, sampling, cleaning and Parquet.
2. llama.cpp alone on the same work: the same prompts and as many tokens for each as the expansion had generated, all
   handed over at once, greedily, without schemas, nothing read, waited for or written. A driver that loses nothing
   takes as long.
3. llama.cpp's batched decode: every sequence with a document as its prompt, all decoding at once, greedily. Prompts are
   read before, so no driver of this job comes near it.
4. The same expansion through xllamacpp's own server with nothing set but the model, and with the weights as they are
   shipped: what one has who knows nothing of its settings. And its batched decode alone, as in 3.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from driving import prepare, spent, timed
from rich.console import Console

from mga.config import MODEL_SETTINGS, ExpandConfig, load_config
from mga.engines import choose
from mga.engines.engine import Engine, Reply, Request
from mga.engines.llamacpp.embedded_model import EMBEDDED_MODELS, download
from mga.engines.llamacpp.engine import LlamaCppEngine
from mga.records import Usage
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.monitoring.session import SessionStats, all_sessions
from mga.runs.run import Run

MODEL = "smollm2-135m"
SEQUENCES, DECODED = 8, 256  # decoded at once; tokens of each
ENDLESS = {"temperature": 0.0, "ignore_eos": True}
DEFAULT_SERVER = f"""
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {{"{MODEL}"}}
params.verbosity = -1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


class Recorder(LlamaCppEngine):
    """The engine, remembering what it was asked and how many tokens it generated for it."""

    asked: ClassVar[list[tuple[Request, int]]] = []

    async def ask(self, request: Request) -> Reply:
        reply = await super().ask(request)
        self.asked.append((request, reply.generated_tokens))
        return reply


@contextmanager
def engine_for_llamacpp(opened: Callable[..., LlamaCppEngine]) -> Iterator[None]:
    """Expansions use another engine under the scheme `llamacpp:`."""
    usual = choose._ENGINES["llamacpp"]
    choose._ENGINES["llamacpp"] = lambda _uri, rest, _concurrency: opened(rest)
    try:
        yield
    finally:
        choose._ENGINES["llamacpp"] = usual


def expansion(config: ExpandConfig) -> SessionStats:
    """The public command's own function; loading the model is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        asyncio.run(expand(config, run, Progress(Console(stderr=True), quiet=True)))
        return all_sessions(run.folder)


async def alone(asked: Sequence[tuple[Request, int]]) -> tuple[float, Usage]:
    """Seconds and tokens of llama.cpp for requests with a known number of tokens to generate."""
    engine = LlamaCppEngine(MODEL)
    try:
        await engine.start()
        requests = [
            replace(request, max_tokens=max(1, tokens), sampling=ENDLESS, schema=None, top_logprobs=0)
            for request, tokens in asked
        ]
        seconds, replies = await timed(engine, requests)
        return seconds, spent(replies)
    finally:
        await engine.close()


async def batched_decode(engine: Engine, config: ExpandConfig, source: str) -> tuple[float, float]:
    """Prompt tokens per second, and generated tokens per second of `SEQUENCES` requests at once, each without the
    other."""
    try:
        await engine.start()
        work = await prepare(engine, config, source, SEQUENCES)
        read = [Request(f"{i} {d.text}", 1, 0, "judge", f"{i}", ENDLESS) for i, d in enumerate(work.documents)]
        seconds, replies = 0.0, []
        for request in read:
            took, [reply] = await timed(engine, [request])
            seconds, replies = seconds + took, [*replies, reply]
        used = spent(replies)
        prompt_rate = (used.prompt_tokens - used.cached_tokens) / seconds
        seconds, replies = await timed(engine, [replace(request, max_tokens=DECODED) for request in read])
        return prompt_rate, spent(replies).generated_tokens / seconds
    finally:
        await engine.close()


@contextmanager
def default_server(weights: Path) -> Iterator[str]:
    """The address of xllamacpp's server with nothing set but the model, in a process of its own."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", DEFAULT_SERVER, str(weights)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdin and server.stdout
        try:
            address = next(line for line in server.stdout if line.startswith("http")).strip()
            yield f"{address}/v1"
        finally:
            server.stdin.close()


def with_defaults(config: ExpandConfig, source: str, weights: Path) -> tuple[SessionStats, float, float]:
    """The same expansion by the same recipe, through xllamacpp's server as it comes; and its rates alone."""
    with default_server(weights) as address:
        uri = f"{address}#{MODEL}"
        MODEL_SETTINGS[uri] = MODEL_SETTINGS[f"llamacpp:{MODEL}"]
        stats = expansion(config.model_copy(update={"engine": uri}))
        return stats, *asyncio.run(batched_decode(choose.choose_engine(uri), config, source))


def row(name: str, seconds: float, used: Usage, beside: float) -> None:
    """A row of the table: seconds, rates, and the rate of generated tokens beside mga's."""
    computed = used.prompt_tokens - used.cached_tokens
    rate = used.generated_tokens / seconds
    print(f"| {name} | {seconds:.0f} | {computed / seconds:,.0f} | {rate:,.1f} | {rate / beside:.2f} |", flush=True)


def measure(source: str, documents: int, defaults: bool) -> None:
    """The table."""
    config = load_config(None, {"engine": f"llamacpp:{MODEL}", "input": [source], "limit": documents})
    engine = LlamaCppEngine(MODEL)
    prompt_rate, decode_rate = asyncio.run(batched_decode(engine, config, source))
    assert engine.settings is not None
    print("settings: " + ", ".join(f"{name} {value}" for name, value in engine.settings) + "\n")
    print("| | seconds | computed prompt tokens/s | generated tokens/s | × mga expand |")
    print("|---|---|---|---|---|")
    with engine_for_llamacpp(Recorder):
        ours = expansion(config)
    rate = ours.spent.generated_tokens / ours.seconds
    row("mga expand", ours.seconds, ours.spent, rate)
    row("llama.cpp alone, the same prompts and tokens", *asyncio.run(alone(Recorder.asked)), rate)
    decode = f"{decode_rate:,.1f} | {decode_rate / rate:.2f}"
    print(f"| llama.cpp's batched decode, prompts read before | – | {prompt_rate:,.0f} | {decode} |", flush=True)
    if defaults:
        with tempfile.TemporaryDirectory() as folder:
            shipped = download(EMBEDDED_MODELS[MODEL], Path(folder))
            stats, read, decoded = with_defaults(config, source, shipped)
            row("the same through xllamacpp's server as it comes", stats.seconds, stats.spent, rate)
            beside = f"{decoded:,.1f} | {decoded / rate:.2f}"
            print(f"| its batched decode, prompts read before | – | {read:,.0f} | {beside} |")
            print(f"\nBatched decode beside its defaults: {decode_rate / decoded:.2f} ×.")
    cached = ours.spent.cached_tokens / ours.spent.prompt_tokens
    print(f"\n{ours.spent.requests:,} requests, {cached:.0%} of {ours.spent.prompt_tokens:,} prompt tokens from cache.")


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", default="examples/sample.jsonl")
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--skip-defaults", action="store_true", help="not (4)")
    arguments = parser.parse_args()
    measure(arguments.input, arguments.documents, not arguments.skip_defaults)


if __name__ == "__main__":
    main()
