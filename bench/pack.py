"""How fast texts are counted and packed, beside the tokenizers library alone, all cores, in one run.

    python bench/pack.py CORPUS.parquet [--tokenizer tokenizer.json] [--megabytes 100] [--rounds 3] [--epochs 1]

Without a tokenizer a byte-level BPE of 16,000 tokens is trained on the corpus first. The corpus (column `text`) is
repeated to the size wanted. `library` is encode_batch_fast on texts in memory, in lists of 2 MB, with the library's own
threads; `with ids` also fetches them as an array, without which nothing can be done with them. `count` and `pack`
are the commands' own functions: reading Parquet, starting processes, and for `pack` so many epochs shuffled, packed
into sequences of 8,192 and written, files forced to disk. MB are of text in UTF-8, each text once. Every round
measures all. On a machine that others use, read the CPU seconds (of all processes).
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def corpus_of(source: Path, folder: Path, megabytes: int) -> tuple[Path, list[str]]:
    """A Parquet file of about so many MB of text, and its texts."""
    given = [text for text in pq.read_table(source, columns=["text"]).column("text").to_pylist() if text]
    size = sum(len(text.encode()) for text in given)
    texts = (given * (megabytes * 1_000_000 // size + 1))[: len(given) * megabytes * 1_000_000 // size]
    path = folder / "corpus.parquet"
    pq.write_table(pa.table({"id": [f"d{i}" for i in range(len(texts))], "text": texts}), path)
    return path, texts


def trained(texts: list[str], path: Path) -> Path:
    """A tokenizer trained on some of the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=16_000, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts[:2000], trainer)
    made.save(str(path))
    return path


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    given = parser.parse_args()

    from mga.cli.options import threads
    from mga.data.corpus_files import open_corpus
    from mga.mixture.recipe import load_recipe
    from mga.packing.count import count
    from mga.packing.pack import pack
    from mga.packing.tokenizer import cut, load_tokenizer

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path, texts = corpus_of(given.corpus, folder, given.megabytes)
        tokenizer = load_tokenizer(str(given.tokenizer or trained(texts, folder / "tokenizer.json")))
        size = sum(len(text.encode()) for text in texts) / 1e6
        lists = list(cut(texts, 2 << 20))
        workers = threads(None)
        unique = count(open_corpus([path]), tokenizer, workers).unique
        budget = given.epochs * unique
        recipe = load_recipe("paper-styles", {"budget": budget, "source": [{"name": "corpus", "paths": [str(path)]}]})

        def library() -> None:
            for some in lists:
                tokenizer._encoder.encode_batch_fast(some, add_special_tokens=False)

        def with_ids() -> None:
            for some in lists:
                tokenizer.encode(some)

        def packing() -> None:
            shutil.rmtree(folder / "out", ignore_errors=True)
            pack(recipe, tokenizer, folder / "out", workers, lambda line: None)

        measured: dict[str, Callable[[], object]] = {
            "library": library,
            "library with ids": with_ids,
            "mga budget count": lambda: count(open_corpus([path]), tokenizer, workers),
            f"mga budget pack, epochs: {given.epochs}": packing,
        }
        seconds: dict[str, list[float]] = {name: [] for name in measured}
        cpu: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(given.rounds):
            for name, work in measured.items():
                began, spent = time.monotonic(), sum(os.times()[:4])
                work()
                cpu[name].append(sum(os.times()[:4]) - spent)
                seconds[name].append(time.monotonic() - began)
                print(f"  {name}: {seconds[name][-1]:.1f} s, {cpu[name][-1]:.1f} CPU-s", file=sys.stderr)
    print(f"{size:,.0f} MB of text, {unique:,} tokens, {workers} processes, median of {given.rounds} rounds\n")
    print(
        "| | MB/s | CPU-s per 100 MB | speed × library | speed × library with ids | CPU × library with ids |\n"
        "|---|---|---|---|---|---|"
    )
    for name, all_ in seconds.items():
        ratios = [np.median(np.array(seconds[base]) / np.array(all_)) for base in ("library", "library with ids")]
        work_ = statistics.median(cpu[name])
        relative = work_ / statistics.median(cpu["library with ids"])
        speed = f"{size / statistics.median(all_):.1f} | {work_ / size * 100:.1f}"
        print(f"| {name} | {speed} | {ratios[0]:.2f} | {ratios[1]:.2f} | {relative:.2f} |")


if __name__ == "__main__":
    main()
