"""How fast `mga dedup` is, how much it finds, and what others take for the same.

    python bench/corpus_data.py SOURCE.parquet CORPUS --megabytes 500     first: the corpus, with its labels
    python bench/dedup.py CORPUS [--threads 1 --threads 2]                our command on all of it
    python bench/dedup.py CORPUS --peers [--documents 4000]               on the first so many documents: ours on
                                                                               one thread, and other tools on one core
    python bench/dedup.py CORPUS --quality                                recall and false removals by similarity
    python bench/dedup.py CORPUS --signatures-alone                       sketches alone, ours and rensa's
    python bench/dedup.py --signatures 10000000 [--memory 4GB]            that many short texts, made up

A row counts as a false removal when it is not planted, or is planted with a similarity under the threshold. Each
measurement is a process of its own; memory is the peak of its resident set. The other tools run in an environment of
their own:

    python -m venv .venv-peers/corpus
    .venv-peers/corpus/bin/pip install rensa==0.5.0 datasketch==2.0.0 'datatrove[processing]==0.10.1' pyarrow

datatrove: MinHash signatures, buckets, cluster and filter with its own settings (14 × 8), one task after the other.
datasketch and rensa are libraries of sketches: the loop around them here reads Parquet, splits words with a regular
expression, and asks and fills their index (96 values, 16 bands), without looking at the texts of the pairs it gives.
"""

import argparse
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

THRESHOLD = 0.8
BANDS, ROWS, SHINGLE = 16, 6, 5
PEERS_PYTHON = Path(__file__).parents[1] / ".venv-peers" / "corpus" / "bin" / "python"
MADE_UP_ROWS = 250_000
LIMIT_S = 3600


def ours(corpus: Path, out: Path, threads: int, memory: str) -> int:
    """The command's own function; returns the rows."""
    from mga.cli.dedup import size_of
    from mga.curation.duplicates.dedup import Rules, dedup
    from mga.data.corpus_files import open_corpus

    return dedup(
        open_corpus([corpus / "*.parquet"]),
        out,
        Rules(THRESHOLD),
        memory=size_of(memory),
        workers=threads,
        say=lambda line: print(f"  {time.process_time():.1f} CPU-s: {line}", file=sys.stderr),
    ).rows


def _removed(out: Path) -> set[str]:
    import pyarrow.parquet as pq

    return {i for file in (out / "dropped").glob("*") for i in pq.read_table(file, columns=["id"])["id"].to_pylist()}


def _rows(corpus: Path) -> Iterator[tuple[str, str]]:
    import pyarrow.parquet as pq

    for file in sorted(corpus.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(1000, columns=["id", "text"]):
            yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)


def _shingles(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))]


def datatrove(corpus: Path, out: Path, threads: int, memory: str) -> int:
    """Its four steps."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    config = MinhashConfig()
    signed, buckets, cluster = (str(out / name) for name in ("signed", "buckets", "cluster"))
    steps: list[tuple[int, list[Any]]] = [
        (1, [ParquetReader(str(corpus), glob_pattern="*.parquet"), MinhashDedupSignature(signed, config)]),
        (config.num_buckets, [MinhashDedupBuckets(signed, buckets, config=config)]),
        (1, [MinhashDedupCluster(buckets, cluster, config=config)]),
        (
            1,
            [
                ParquetReader(str(corpus), glob_pattern="*.parquet"),
                MinhashDedupFilter(cluster, exclusion_writer=ParquetWriter(str(out / "dropped"))),
                ParquetWriter(str(out / "kept")),
            ],
        ),
    ]
    for number, (tasks, pipeline) in enumerate(steps):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(out / f"logs{number}")).run()
    return sum(1 for _ in _rows(corpus))


def datasketch(corpus: Path, out: Path, threads: int, memory: str) -> int:
    """Its MinHash and index, in the usual loop."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    return _loop(
        corpus,
        out,
        lambda text: next(iter(MinHash.bulk([[s.encode() for s in _shingles(text)]], num_perm=BANDS * ROWS))),
        index.query,
        index.insert,
    )


def rensa(corpus: Path, out: Path, threads: int, memory: str) -> int:
    """Its RMinHash and index, in the same loop."""
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=THRESHOLD, num_perm=BANDS * ROWS, num_bands=BANDS)
    numbers = itertools.count()

    def sketch(text: str) -> Any:
        found = RMinHash(num_perm=BANDS * ROWS, seed=1)
        found.update(_shingles(text))
        return found

    return _loop(corpus, out, sketch, index.query, lambda name, found: index.insert(next(numbers), found))


def _loop(corpus: Path, out: Path, sketch: Any, query: Any, insert: Any) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: dict[str, list[tuple[str, str]]] = {"kept": [], "dropped": []}
    for name, text in _rows(corpus):
        found = sketch(text)
        goes = bool(query(found))
        if not goes:
            insert(name, found)
        rows["dropped" if goes else "kept"].append((name, text))
    for kind, chosen in rows.items():
        (out / kind).mkdir(parents=True)
        ids, texts = zip(*chosen, strict=True)
        pq.write_table(pa.table({"id": ids, "text": texts}), out / kind / "part.parquet", compression="zstd")
    return sum(len(chosen) for chosen in rows.values())


TOOLS = {"mga": ours, "datatrove": datatrove, "datasketch": datasketch, "rensa": rensa}


def run_inside(tool: str, corpus: Path, out: Path, threads: int, memory: str) -> None:
    """In a process of its own: do the work, print rows, seconds, peak MB and the removed ids."""
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a tool prints is none of ours
    started = time.monotonic()
    rows = TOOLS[tool](corpus, out, threads, memory)
    seconds = time.monotonic() - started
    # datatrove works in child processes.
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    json.dump([rows, seconds, peak], results)
    results.close()


def measure(tool: str, corpus: Path, out: Path, threads: int, memory: str = "2GB") -> tuple[int, float, float]:
    """Rows, seconds and peak MB of one tool, its imports included. Raises SystemExit with what it said if it fails."""
    python = Path(sys.executable) if tool == "mga" else PEERS_PYTHON
    command = [python, __file__, corpus, "--inside", tool, out, str(threads), "--memory", memory]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    said = None if tool == "mga" else subprocess.PIPE
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=said, timeout=LIMIT_S, env=env)  # noqa: S603
    if done.returncode:
        sys.exit(f"{tool} failed: {(done.stderr or b'').decode()[-2000:]}")
    rows, seconds, peak = json.loads(done.stdout)
    return rows, seconds, peak


def labels_of(corpus: Path, ids: set[str] | None = None) -> dict[str, dict[str, Any]]:
    """Planted duplicates by id; of those ids if given."""
    labels = [json.loads(line) for line in (corpus / "labels.jsonl").read_bytes().splitlines()]
    return {label["id"]: label for label in labels if "of" in label and (ids is None or label["id"] in ids)}


def found_of(labels: dict[str, dict[str, Any]], removed: set[str]) -> tuple[int, int, int]:
    """Planted duplicates at or over the threshold, those of them removed, and false removals.

    Either of a pair may be the one that goes.
    """
    pairs = {label["id"]: label["of"] for label in labels.values() if label["jaccard"] >= THRESHOLD}
    either = {**pairs, **{of: name for name, of in pairs.items()}}
    found = sum(name in removed or of in removed for name, of in pairs.items())
    return len(pairs), found, sum(name not in either for name in removed)


def compare(corpus: Path, runs: list[tuple[str, int]], memory: str) -> None:
    """A table of tools on the corpus."""
    labels = labels_of(corpus, {name for name, _ in _rows(corpus)})
    print("| tool | threads | documents | seconds | documents/s | peak MB | recall | false removals |")
    print("|---|---|---|---|---|---|---|---|")
    for tool, threads in runs:
        with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
            out = Path(folder) / "out"
            rows, seconds, peak = measure(tool, corpus, out, threads, memory)
            planted, found, false = found_of(labels, _removed(out))
        row = [tool, threads, f"{rows:,}", f"{seconds:.1f}", f"{rows / seconds:,.0f}", f"{peak:,.0f}"]
        row += [f"{found / planted:.4f} ({found:,} of {planted:,})", f"{false:,}"]
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def first_documents(corpus: Path, out: Path, count: int) -> Path:
    """A corpus of the first so many documents, with the same labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.mkdir()
    ids, texts = zip(*itertools.islice(_rows(corpus), count), strict=True)
    pq.write_table(pa.table({"id": ids, "text": texts}), out / "part-00000.parquet", compression="zstd")
    (out / "labels.jsonl").write_bytes((corpus / "labels.jsonl").read_bytes())
    return out


def quality(corpus: Path, memory: str) -> None:
    """A table of what is removed, by planted similarity."""
    labels = labels_of(corpus)
    with tempfile.TemporaryDirectory(dir=corpus.parent) as folder:
        rows, _, _ = measure("mga", corpus, Path(folder) / "out", 2, memory)
        removed = _removed(Path(folder) / "out")
    by_target: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for label in labels.values():
        by_target[label["kind"], label.get("target", 1.0)].append(label)
    print("| planted | Jaccard | pairs | removed | share |")
    print("|---|---|---|---|---|")
    for (kind, _), chosen in sorted(by_target.items(), key=lambda entry: (entry[0][1], entry[0][0] == "exact")):
        gone = sum(label["id"] in removed or label["of"] in removed for label in chosen)
        exact = [label["jaccard"] for label in chosen]
        between = f"{min(exact):.3f}–{max(exact):.3f}"
        print(f"| {kind} | {between} | {len(chosen):,} | {gone:,} | {gone / len(chosen):.4f} |")
    planted, found, false = found_of(labels, removed)
    print(f"\nAt {THRESHOLD} and over, {found:,} of {planted:,} planted pairs were found ({found / planted:.4f}); ")
    print(f"of {rows:,} documents {false:,} were removed without a planted pair at {THRESHOLD} or over.")


def signatures_alone(corpus: Path) -> None:
    """Sketches of the same shingles, handed over as one array; one thread each."""
    if Path(sys.executable) != PEERS_PYTHON:
        import numpy as np
        import pyarrow as pa

        from mga.curation.duplicates.minhash import FIVE_WORDS, Banding, band_hashes, shingles_of

        shingles = shingles_of(pa.array([text for _, text in itertools.islice(_rows(corpus), 5000)]), FIVE_WORDS)
        band_hashes(shingles, Banding(BANDS, ROWS))
        started = time.perf_counter()
        band_hashes(shingles, Banding(BANDS, ROWS))
        print(f"mga    {len(shingles.lengths) / (time.perf_counter() - started):>10,.0f} sketches/s")
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "hashes.npy", shingles.hashes)
            np.save(Path(folder) / "offsets.npy", shingles.offsets.astype(np.uint64))
            command = [PEERS_PYTHON, __file__, folder, "--signatures-alone"]
            subprocess.run(command, check=True, env={**os.environ, "RAYON_NUM_THREADS": "1"})  # noqa: S603
        return
    import numpy as np
    from rensa import RMinHash

    hashes, offsets = (np.load(corpus / name) for name in ("hashes.npy", "offsets.npy"))
    for method in ("digest_matrix_from_flat_token_hashes", "digest_matrix_from_flat_token_hashes_rho"):
        started = time.perf_counter()
        getattr(RMinHash, method)(hashes, offsets, BANDS * ROWS, 1)
        speed = (len(offsets) - 1) / (time.perf_counter() - started)
        print(f"rensa  {speed:>10,.0f} sketches/s, {method}")


def made_up(folder: Path, count: int) -> Path:
    """So many texts of 8 to 24 random words, each tenth a copy of the one nine before, every other copy with one
    word more (a Jaccard similarity of 4/5 to 20/21)."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    random = np.random.default_rng(7)
    words = pa.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("lt", "rn", "sk", "ve", "mp")])
    for begin in range(0, count, MADE_UP_ROWS):
        rows = min(MADE_UP_ROWS, count - begin)
        offsets = np.concatenate([[0], np.cumsum(random.integers(8, 25, rows))]).astype(np.int32)
        chosen = words.take(pa.array(random.integers(0, len(words), offsets[-1])))
        texts = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), chosen), " ")
        source = np.arange(rows)
        source[9::10] = source[0::10][: len(source[9::10])]
        more = pa.array(["", " more"]).take(pa.array((np.arange(rows) % 20 == 19).astype(np.int8)))
        texts = pc.binary_join_element_wise(texts.take(pa.array(source)), more, "")
        table = pa.table({"id": pa.array(np.arange(begin, begin + rows)), "text": texts})
        pq.write_table(table, folder / f"part-{begin // MADE_UP_ROWS:05}.parquet", compression="zstd")
    return folder


def many(count: int, memory: str, threads: int, folder: Path) -> None:
    """A row of the table for so many texts."""
    started = time.monotonic()
    corpus = folder / "corpus"
    corpus.mkdir()
    made_up(corpus, count)
    print(f"texts made in {time.monotonic() - started:.0f} s", file=sys.stderr)
    rows, seconds, peak = measure("mga", corpus, folder / "out", threads, memory)
    counts = json.loads((folder / "out" / "stage.json").read_bytes())["counts"]
    print("| texts | --memory | seconds | texts/s | peak MB | removed |")
    print("|---|---|---|---|---|---|")
    gone = ", ".join(f"{count:,} {reason}" for reason, count in counts["reasons"].items())
    print(f"| {rows:,} | {memory} | {seconds:.0f} | {rows / seconds:,.0f} | {peak:,.0f} | {gone} |")


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--peer", choices=sorted(TOOLS), action="append", help="with --peers: these alone")
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--signatures-alone", action="store_true")
    parser.add_argument("--signatures", type=int, metavar="N")
    parser.add_argument("--inside", nargs=3, metavar=("TOOL", "OUT", "THREADS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    threads = arguments.threads or [1, 2]
    if arguments.signatures:
        with tempfile.TemporaryDirectory() as folder:
            many(arguments.signatures, arguments.memory, max(threads), Path(folder))
    elif arguments.corpus is None:
        parser.error("name the corpus")
    elif arguments.inside:
        tool, out, count = arguments.inside
        run_inside(tool, arguments.corpus, Path(out), int(count), arguments.memory)
    elif arguments.quality:
        quality(arguments.corpus, arguments.memory)
    elif arguments.signatures_alone:
        signatures_alone(arguments.corpus)
    elif arguments.peers:
        with tempfile.TemporaryDirectory() as folder:
            some = first_documents(arguments.corpus, Path(folder) / "first", arguments.documents)
            compare(some, [(tool, 1) for tool in arguments.peer or TOOLS], arguments.memory)
    else:
        compare(arguments.corpus, [("mga", count) for count in threads], arguments.memory)


if __name__ == "__main__":
    main()
