"""Rows to look at: of a run's folder, or of one that a command on whole corpora has written from anything."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mga.data.documents import JSONL_ENDINGS, PARQUET_ENDINGS, decompressed
from mga.data.first_version import read_record, row_batches
from mga.data.store import Place, exists, listed
from mga.errors import InputError

AT_ONCE = 256


def stage_record(folder: Place) -> dict[str, Any] | None:
    """What stage.json says in a folder that a command on whole corpora has written; None when there is none."""
    path = folder / "stage.json"
    if not exists(path):
        return None
    record = read_record(path)
    if not isinstance(record, dict) or not {"command", "settings"} <= record.keys():
        raise InputError(f"{folder} holds a stage.json that is not of mga.")
    return record


def stage_counts(folder: Place, stage: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of all files, or of those that are done."""
    if "counts" in stage:
        return dict(stage["counts"])
    parts = [read_record(path) for path in listed(folder / "parts", "*.json")]
    reasons = sum((Counter(part["reasons"]) for part in parts), Counter[str]())
    return {"reasons": reasons, **{name: sum(part[name] for part in parts) for name in ("rows", "kept")}}


def row_files(folder: Place) -> list[Place]:
    """The files with rows in kept/, dropped/ or failed/, in order."""
    files = (path for path in folder.rglob("*") if path.name.endswith(PARQUET_ENDINGS + JSONL_ENDINGS))
    return sorted(path for path in files if path.is_file())


def rows_in(folder: Place) -> Iterator[dict[str, Any]]:
    """All rows of such a folder in order, some in memory at a time. Raises InputError for a damaged file."""
    for file in row_files(folder):
        with readable(file):
            if file.name.endswith(PARQUET_ENDINGS):
                with file.open("rb") as stream:
                    for batch in row_batches(pq.ParquetFile(stream), AT_ONCE):
                        yield from batch.to_pylist()
            else:
                with file.open("rb") as stream:
                    yield from (row for row in map(orjson.loads, decompressed(stream)) if isinstance(row, dict))


@contextmanager
def readable(file: Place) -> Iterator[None]:
    """Turns what reading a damaged file raises into an InputError that names it."""
    try:
        yield
    except (OSError, EOFError, ValueError, zstandard.ZstdError, pa.ArrowException) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"{file} cannot be read: {what}. Restore it, or make it again.") from error
