"""What the output folder of a command costs: reading Parquet with all columns and writing it, beside pyarrow alone.

    python bench/parquet.py CORPUS [--repeats 3] [--drop 10]

The same job on every Parquet file of a folder (CORPUS): read all columns, write them with zstd, so that file and folder
lie on the disk when it is done.

    pyarrow, whole file    read_table, write_table
    pyarrow, batches       iter_batches of 16 MB, filter where rows are dropped, ParquetWriter
    mga                    Corpus.batches and Stage.write, with a file per finished file and counts

Once nothing is dropped, once every tenth row (--drop 10: one row in ten) goes to another file. Each way runs in turn,
--repeats times, and the best time counts. The decision on a row costs nothing here. Rates are of bytes in memory.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mga.curation.stage import Stage
from mga.data.corpus_files import BATCH_BYTES, Batch, Corpus, open_corpus

Way = Callable[[list[Path], Path, int], None]


def whole_file(files: list[Path], out: Path, drop: int) -> None:
    """The shortest program one can write."""
    for path in files:
        table = pq.read_table(path)
        if drop:
            stays = _stays(0, table.num_rows, drop)
            _write(table.filter(pc.invert(stays)), out / "dropped" / path.name)
            table = table.filter(stays)
        _write(table, out / "kept" / path.name)


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")
    _force(path)


def in_batches(files: list[Path], out: Path, drop: int) -> None:
    """The shortest program whose memory does not grow with the file."""
    for path in files:
        source = pq.ParquetFile(path)
        targets = [
            _target(out / name / path.name, source.schema_arrow) for name in ("kept", "dropped")[: 2 if drop else 1]
        ]
        first = 0
        rows = max(64, BATCH_BYTES * source.metadata.num_rows // max(1, _bytes_of(source)))
        for batch in source.iter_batches(min(65_536, rows)):
            if drop:
                stays = _stays(first, batch.num_rows, drop)
                targets[0].write_batch(batch.filter(stays))
                targets[1].write_batch(batch.filter(pc.invert(stays)))
            else:
                targets[0].write_batch(batch)
            first += batch.num_rows
        for target in targets:
            target.close()
        for name in ("kept", "dropped")[: len(targets)]:
            _force(out / name / path.name)


def _target(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="zstd")


def by_stage(files: list[Path], out: Path, drop: int) -> None:
    """What a command does around its decisions."""
    corpus = open_corpus([str(path) for path in files])
    stage = Stage(out, "copy", corpus, {"drop": drop})
    with stage.work():
        for number in stage.todo():
            stage.write(number, _decided(corpus, number, drop))
        stage.finish()


def _decided(corpus: Corpus, number: int, drop: int) -> Iterator[tuple[Batch, pa.Array, pa.Array]]:
    for batch in corpus.batches(corpus.files[number]):
        rows = batch.rows.num_rows
        reasons = pa.nulls(rows, pa.string())
        if drop:
            reasons = pc.if_else(_stays(batch.first, rows, drop), pa.scalar(None, pa.string()), "tenth")
        yield batch, reasons, reasons


def _stays(first: int, rows: int, drop: int) -> pa.Array:
    return pa.array(np.arange(first, first + rows) % drop != 0)


def _force(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _bytes_of(source: pq.ParquetFile) -> int:
    return sum(source.metadata.row_group(i).total_byte_size for i in range(source.metadata.num_row_groups))


WAYS: dict[str, Way] = {"pyarrow, whole file": whole_file, "pyarrow, batches": in_batches, "mga": by_stage}


@dataclass(slots=True)
class Best:
    """The best of several times, in seconds."""

    wall: float = float("inf")
    cpu: float = float("inf")

    def take(self, wall: float, cpu: float) -> None:
        self.wall, self.cpu = min(self.wall, wall), min(self.cpu, cpu)


def measure(files: list[Path], drop: int, repeats: int) -> dict[str, Best]:
    """Best times of each way, which run in turn."""
    best = {name: Best() for name in WAYS}
    for _ in range(repeats):
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                wall, cpu = time.perf_counter(), time.process_time()
                way(files, Path(folder) / "out", drop)
                best[name].take(time.perf_counter() - wall, time.process_time() - cpu)
                check(files, Path(folder) / "out", drop)
    return best


def check(files: list[Path], out: Path, drop: int) -> None:
    """Whether the rows are those that were to be written."""
    for path in files:
        rows = pq.ParquetFile(path).metadata.num_rows
        kept = pq.ParquetFile(out / "kept" / path.name).metadata.num_rows
        if kept != rows - (-(-rows // drop) if drop else 0):
            raise SystemExit(f"{out}: {kept:,} of {rows:,} rows were kept, so the job was not the same.")


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder of Parquet files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--drop", type=int, default=10, help="one row in so many goes, in the second half of the table")
    arguments = parser.parse_args()
    files = sorted(arguments.corpus.glob("*.parquet"))
    if not files:
        parser.error(f"{arguments.corpus} holds no Parquet file")
    size = sum(_bytes_of(pq.ParquetFile(path)) for path in files)
    print(f"{len(files)} files, {size / 1e6:,.0f} MB in memory\n")
    print("| dropped | way | seconds | CPU-s | MB/s | MB/s and core | × pyarrow, batches |")
    print("|---|---|---|---|---|---|---|")
    for drop in (0, arguments.drop):
        best = measure(files, drop, arguments.repeats)
        for name, it in best.items():
            row = [f"1 in {drop}" if drop else "none", name, f"{it.wall:.2f}", f"{it.cpu:.2f}"]
            row += [f"{size / 1e6 / it.wall:,.0f}", f"{size / 1e6 / it.cpu:,.0f}"]
            print("| " + " | ".join([*row, f"{best['pyarrow, batches'].cpu / it.cpu:.2f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
