"""What it costs to measure diversity: keyword coverage, and the command on a generated run.

    python bench/diversity.py SOURCE.parquet [--rows 200000] [--labels 1000000]

SOURCE has a column `text`. Rewrites are generated from it: some words of the original, some of another text.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mga.cli.options import threads
from mga.curation.diversity.labels import kinds_of
from mga.curation.diversity.overlap import stems_of
from mga.text.tokens import tokens_of
from mga.text.words import keyword_coverage

ORIGINAL, REWRITE = 3000, 2000
ROWS_A_FILE = 20_000

Result = TypeVar("Result")


def pairs(texts: list[str]) -> tuple[list[str], list[str]]:
    """An original and a rewrite from each text."""
    rng = random.Random(0)
    originals = [text[:ORIGINAL] for text in texts]
    return originals, [rewrite(text, rng.choice(texts), rng) for text in originals]


def rewrite(original: str, other: str, rng: random.Random) -> str:
    own, start = rng.randrange(REWRITE), rng.randrange(1000)
    return original[start : start + own] + " " + other[: REWRITE - own]


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """CPU seconds of this thread, and what came of the work."""
    started = time.thread_time()
    result = work()
    return time.thread_time() - started, result


def write_run(texts: list[str], rows: int, folder: Path) -> Path:
    """A run's folder with five rewrites of each original, and as many different pairs as rows."""
    rng = random.Random(1)
    lexicon = sorted({word for text in texts[::10] for word in text.split() if word.isalpha() and len(word) > 4})
    (folder / "kept").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    for first in range(0, rows, ROWS_A_FILE):
        table = pa.Table.from_pylist(
            [row(number, texts, lexicon, rng) for number in range(first, min(first + ROWS_A_FILE, rows))]
        )
        pq.write_table(table, folder / "kept" / f"{first:09}.parquet", compression="zstd")
    return folder


def row(number: int, texts: list[str], lexicon: list[str], rng: random.Random) -> dict[str, str]:
    document = number // 5
    original = texts[document % len(texts)][:ORIGINAL]
    return {
        "text": rewrite(original, rng.choice(texts), rng),
        "source_id": f"{document}",
        "chunk_id": f"{document}-0",
        "genre": "a " + " ".join(rng.choices(lexicon, k=3)),
        "audience": "A " + " ".join(rng.choices(lexicon, k=7)),
        "raw_text": original,
    }


def measure_verb(run: Path, rows: int) -> None:
    code = "import typer; from mga.cli.diversity import diversity; typer.run(diversity)"
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(run)], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    spent = time.monotonic() - started
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = sum(file.stat().st_size for file in run.rglob("*.parquet"))
    print("| mga diversity, rows | MB of Parquet | seconds | rows/s | peak MB |")
    print("|---|---|---|---|---|")
    print(f"| {rows:,} | {size / 1e6:,.0f} | {spent:.1f} | {rows / spent:,.0f} | {peak_mb:,.0f} |\n", flush=True)


def measure_labels(texts: list[str], count: int) -> None:
    rng = random.Random(2)
    lexicon = sorted({word for text in texts[::10] for word in text.split() if word.isalpha()})
    labels = list({"A " + " ".join(rng.choices(lexicon, k=rng.randint(4, 10))) for _ in range(count)})
    reference = pa.array(texts[:2000], pa.large_string())
    ordinary = stems_of(reference, tokens_of(reference))
    kinds_of(labels[:100], np.ones(100, np.int64), ordinary, 2)
    started = time.monotonic()
    found = kinds_of(labels, np.ones(len(labels), np.int64), ordinary, threads(None))
    spent = time.monotonic() - started
    print("| different labels | clusters | of them alone | seconds |")
    print("|---|---|---|---|")
    print(f"| {len(labels):,} | {len(found.leaders):,} | {found.alone:,} | {spent:.1f} |")


def main() -> None:
    """Read the flags and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SOURCE.parquet")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--labels", type=int, default=1_000_000)
    arguments = parser.parse_args()
    texts = pq.read_table(arguments.source, columns=["text"])["text"].to_pylist()
    slow, _ = timed(lambda: list(map(keyword_coverage, *pairs(texts))))
    print(f"keyword coverage: {len(texts) / slow:,.0f} pairs/s on one core")
    with tempfile.TemporaryDirectory() as folder:
        measure_verb(write_run(texts, arguments.rows, Path(folder) / "run"), arguments.rows)
    measure_labels(texts, arguments.labels)


if __name__ == "__main__":
    main()
