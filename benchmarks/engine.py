"""The embedded engine beside llama.cpp: does a whole expansion keep the pace of its bare decoding?

    python benchmarks/engine.py [INPUT] [--documents 8] [--skip-defaults]

In one run, on the same weights with the same settings:

1. `mga expand` on the documents, with its journal, schemas, cleaning and Parquet: generated tokens per second.
2. llama.cpp alone: every sequence with a document as its prompt, read one after the other (prompt tokens per second),
   then all decoding at once, greedily, past every end (generated tokens per second: its own batched decode).
3. What llama.cpp alone would take for the tokens of the expansion, at its rates of (2): prompt tokens that were not in
   the cache, and generated tokens. A driver that loses nothing takes as long.
4. xllamacpp's defaults, one sequence among them, with the weights as they are shipped: the same expansion.
"""

import argparse
import asyncio
import tempfile
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from driving import prepare, spent, timed
from rich.console import Console

from mga.config import MODEL_SETTINGS, ExpandConfig, load_config
from mga.engines import choose
from mga.engines.engine import Request
from mga.engines.llamacpp.embedded_model import EMBEDDED_MODELS, download
from mga.engines.llamacpp.engine import LlamaCppEngine
from mga.engines.llamacpp.settings import LlamaCppSettings
from mga.runs.on_this_machine import expand
from mga.runs.progress import Progress
from mga.runs.run import Run
from mga.runs.session import SessionStats, all_sessions

MODEL = "smollm2-135m"
DECODED = 128  # tokens a sequence
XLLAMACPP_DEFAULTS = {"sequences": 1, "batch": 512, "cache": "f16", "flash_attention": "auto", "speculation": "none"}


def expansion(config: ExpandConfig) -> SessionStats:
    """The public command's own function; loading the model is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        asyncio.run(expand(config, run, Progress(Console(stderr=True), quiet=True)))
        return all_sessions(run.folder)


async def alone(config: ExpandConfig, source: str, documents: int) -> tuple[LlamaCppSettings, float, float]:
    """Settings, and prompt and generated tokens per second of llama.cpp alone."""
    engine = LlamaCppEngine(MODEL)
    try:
        await engine.start()
        assert engine.settings is not None
        work = await prepare(engine, config, source, documents)
        sequences = engine.settings.sequences
        texts = islice(cycle(work.documents), sequences)
        read = [Request(f"{i} {d.text}", 1, 0, "judge", f"{i}", {"temperature": 0.0}) for i, d in enumerate(texts)]
        seconds, replies = 0.0, []
        for request in read:
            took, [reply] = await timed(engine, [request])
            seconds, replies = seconds + took, [*replies, reply]
        used = spent(replies)
        prompt_rate = (used.prompt_tokens - used.cached_tokens) / seconds
        endless = {"temperature": 0.0, "ignore_eos": True}
        seconds, replies = await timed(engine, [replace(r, max_tokens=DECODED, sampling=endless) for r in read])
        return engine.settings, prompt_rate, spent(replies).generated_tokens / seconds
    finally:
        await engine.close()


def with_defaults(config: ExpandConfig, weights: Path, settings: LlamaCppSettings) -> SessionStats:
    """The same expansion by the same recipe, with other weights and settings."""
    uri = f"llamacpp:{weights}"
    MODEL_SETTINGS[uri] = MODEL_SETTINGS[f"llamacpp:{MODEL}"]
    opened = choose._ENGINES["llamacpp"]
    choose._ENGINES["llamacpp"] = lambda _uri, rest, _concurrency: LlamaCppEngine(rest, settings=settings)
    try:
        return expansion(config.model_copy(update={"engine": uri}))
    finally:
        choose._ENGINES["llamacpp"] = opened


def row(name: str, prompt: float, generated: float, beside: float) -> None:
    """A row of the table: rates, and the rate of generated tokens beside mga's."""
    print(f"| {name} | {prompt:,.0f} | {generated:,.1f} | {generated / beside:.2f} |", flush=True)


def rates(stats: SessionStats) -> tuple[float, float]:
    """Computed prompt tokens and generated tokens per second."""
    computed = stats.spent.prompt_tokens - stats.spent.cached_tokens
    return computed / stats.seconds, stats.spent.generated_tokens / stats.seconds


def measure(source: str, documents: int, defaults: bool) -> None:
    """The table."""
    config = load_config(None, {"engine": f"llamacpp:{MODEL}", "input": [source], "limit": documents})
    settings, prompt_rate, decode_rate = asyncio.run(alone(config, source, documents))
    print("settings: " + ", ".join(f"{name} {value}" for name, value in settings) + "\n")
    print("| | computed prompt tokens/s | generated tokens/s | × mga expand |")
    print("|---|---|---|---|")
    ours = expansion(config)
    computed = ours.spent.prompt_tokens - ours.spent.cached_tokens
    ideal = computed / prompt_rate + ours.spent.generated_tokens / decode_rate
    generated = ours.spent.generated_tokens / ours.seconds
    row("mga expand", *rates(ours), generated)
    row("llama.cpp alone for the same tokens", computed / ideal, ours.spent.generated_tokens / ideal, generated)
    row("llama.cpp's batched decode, prompts read before", prompt_rate, decode_rate, generated)
    if defaults:
        with tempfile.TemporaryDirectory() as folder:
            shipped = download(EMBEDDED_MODELS[MODEL], Path(folder))
            stats = with_defaults(config, shipped, LlamaCppSettings.model_validate(XLLAMACPP_DEFAULTS))
            row("the same by xllamacpp's defaults, 1 sequence", *rates(stats), generated)
    print(
        f"\n{ours.spent.requests:,} requests, {ours.spent.cached_tokens / ours.spent.prompt_tokens:.0%} of "
        f"{ours.spent.prompt_tokens:,} prompt tokens from cache, {ours.spent.generated_tokens:,} generated, "
        f"{ours.seconds:.0f} s; llama.cpp alone would take {ideal:.0f} s for the same ({ideal / ours.seconds:.2f})."
    )


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", default="examples/sample.jsonl")
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--skip-defaults", action="store_true", help="not (4), which takes longest")
    arguments = parser.parse_args()
    measure(arguments.input, arguments.documents, not arguments.skip_defaults)


if __name__ == "__main__":
    main()
