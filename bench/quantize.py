"""Quantized models beside the original: perplexity, size, speed.

    python bench/quantize.py FOLDER [--input examples/sample.jsonl] [--out .bench-quantize] [--rounds 3]

Each scheme is made by `mga tool quantize`'s own functions (calibrated on three quarters of the documents, compared on
the rest; what lies in `--out` is not made again), and beside them `q4_0, rounded`: Q4_0 as llama.cpp has it without
calibration. Perplexity is torch's over the weights as they were read back; of GGUF files also llama.cpp's own, whose
products round activations, too. Speed is generated tokens per second of eight documents' rewrites at once: GGUF files
through llama.cpp beside F16, folders through transformers beside the original; every round runs all in turn, and the
ratio is the median of the rounds'.
"""

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import orjson
from losses import llama_losses

from mga.engines.choose import choose_engine
from mga.engines.engine import Request
from mga.scoring.model import load
from mga.toolmodel.quantize.calibration import Encoded, read_texts
from mga.toolmodel.quantize.gguf_file import write_gguf
from mga.toolmodel.quantize.perplexity import Comparison, Losses, comparison, load_gguf, losses_of
from mga.toolmodel.quantize.quantize import QuantizeSettings, encoded, quantize

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"
SCHEMES = ("w8a8", "q8_0", "q4_0")


def make(
    arguments: argparse.Namespace, settings: QuantizeSettings
) -> tuple[dict[str, tuple[Path, float]], dict[str, Comparison]]:
    """Every scheme's file or folder by its name, and the seconds it took with its comparison; and the comparisons."""
    made: dict[str, tuple[Path, float]] = {}
    compared: dict[str, Comparison] = {}
    for scheme in SCHEMES:
        out, began = arguments.out / scheme, time.monotonic()
        record = quantize(arguments.folder, scheme, out, [str(arguments.input)], settings, say)  # type: ignore[arg-type]
        made[scheme] = out / record["result"]["file"], time.monotonic() - began
        compared[scheme] = found = Comparison(**record["result"]["perplexity"])
        say(f"{scheme}: {found.change:+.2%} ({found.low:+.2%} to {found.high:+.2%})")
    for name, kind in (("f16", "f16"), ("q4_0, rounded", "q4_0")):
        began = time.monotonic()
        path = arguments.out / f"{name.replace(', ', '-')}.gguf"
        write_gguf(arguments.folder, path, kind)  # type: ignore[arg-type]
        made[name] = path, time.monotonic() - began
    return made, compared


def by_llamacpp(file: Path, texts: list[Encoded], vocabulary: int) -> Losses:
    losses = llama_losses(file, [text.ids for text in texts], vocabulary)
    parts = np.split(losses, np.cumsum([len(text.ids) - 1 for text in texts])[:-1])
    kept = [part[text.reply - 1 :] for part, text in zip(parts, texts, strict=True)]
    return Losses([float(part.sum()) for part in kept], [len(part) for part in kept])


async def speed(engine_uri: str, documents: list[str], tokens: int) -> float:
    """Generated tokens per second of one rewrite for each document, all at once."""
    engine = choose_engine(engine_uri, len(documents))
    await engine.start()
    try:
        asked = [
            Request(f"{text}\n\nRetell it for children.", tokens, i, "reformulate", str(i), {"temperature": 0.7})
            for i, text in enumerate(documents)
        ]
        began = time.monotonic()
        replies = await asyncio.gather(*map(engine.ask, asked))
        return sum(reply.generated_tokens for reply in replies) / (time.monotonic() - began)
    finally:
        await engine.close()


def speeds(made: dict[str, tuple[Path, float]], arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Median rate, and median ratio to the one without quantization, of each."""
    lines = arguments.input.read_bytes().splitlines()[: arguments.documents]
    documents = [str(orjson.loads(line)["text"])[:1500] for line in lines]
    uris = {"original": f"transformers:{arguments.folder}"}
    uris |= {n: f"{'transformers' if p.is_dir() else 'llamacpp'}:{p}" for n, (p, _) in made.items()}
    rates: dict[str, list[float]] = {name: [] for name in uris}
    for number in range(arguments.rounds):
        for name, uri in uris.items():
            rates[name].append(asyncio.run(speed(uri, documents, arguments.tokens)))
            say(f"round {number + 1}, {name}: {rates[name][-1]:,.0f} tokens/s")
    beside = {name: rates["original" if uri.startswith("transformers") else "f16"] for name, uri in uris.items()}
    return {
        name: (
            statistics.median(of),
            statistics.median(a / b for a, b in zip(of, beside[name], strict=True)),
        )
        for name, of in rates.items()
        if of
    }


def megabytes(made: Path) -> float:
    """Size of the weights."""
    files = made.glob("*.safetensors") if made.is_dir() else [made]
    return sum(file.stat().st_size for file in files) / 1e6


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--input", type=Path, default=SAMPLE)
    parser.add_argument("--out", type=Path, default=Path(".bench-quantize"))
    parser.add_argument("--calibration-samples", type=int, default=32)
    parser.add_argument("--eval-samples", type=int, default=16)
    parser.add_argument("--max-seq-len", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64, help="longest reply when speed is measured")
    arguments = parser.parse_args()
    settings = QuantizeSettings(
        arguments.calibration_samples, arguments.eval_samples, arguments.max_seq_len, accept_worse=True
    )
    texts = read_texts([str(arguments.input)], "text", arguments.calibration_samples, arguments.eval_samples)
    made, compared = make(arguments, settings)
    shown = encoded(arguments.folder, texts, settings, "held_out")
    scorer = load(str(arguments.folder))
    before, vocabulary = losses_of(scorer, shown), scorer.vocabulary
    del scorer
    print(f"{len(texts.calibration)} texts to calibrate, {len(shown)} to compare on: {sum(before.tokens):,} tokens")
    print("| | perplexity | change (95%) | by llama.cpp | MB | seconds to make |\n|---|---|---|---|---|---|")
    print(f"| original | {before.perplexity:.3f} | | | {megabytes(arguments.folder):.0f} | |", flush=True)
    for name, (path, seconds) in made.items():
        if name not in compared:
            compared[name] = comparison(before, losses_of(load_gguf(path, arguments.folder), shown))
        found = compared[name]
        llama = None if path.is_dir() else comparison(before, by_llamacpp(path, shown, vocabulary))
        by_llama = f"{llama.after:.3f} ({llama.change:+.2%})" if llama else ""
        print(f"| {name} | {found.after:.3f} | {found.change:+.2%} ({found.low:+.2%} to {found.high:+.2%})", end=" | ")
        print(f"{by_llama} | {megabytes(path):.0f} | {seconds:.0f} |", flush=True)
    print("| | tokens/s | × unquantized |\n|---|---|---|")
    for name, (rate, times) in speeds(made, arguments).items():
        print(f"| {name} | {rate:.0f} | {times:.2f} |")


if __name__ == "__main__":
    main()
