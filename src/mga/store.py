"""Files that exist whole or not at all: write beside, force to disk, rename."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mga.errors import InputError, StopError
from mga.records import Outcome

KEPT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source_id", pa.string()),
        ("chunk_id", pa.string()),
        ("genre", pa.string()),
        ("audience", pa.string()),
        ("score", pa.int8()),
        ("score_reason", pa.string()),
        ("expected_score", pa.float32()),
        ("n_tokens", pa.int32()),
        ("model", pa.string()),
        ("prompt", pa.string()),
        ("run", pa.string()),
        ("raw_text", pa.string()),
        ("cut_head", pa.string()),
        ("cut_tail", pa.string()),
    ]
)
"""`text` is the reply without what cleaning cut; cut_head + text + cut_tail is the reply. `raw_text` repeats for
the pairs of a document and costs almost nothing: Parquet's dictionary stores it once."""

DROPPED_SCHEMA = pa.schema([*KEPT_SCHEMA, ("reason", pa.string()), ("detail", pa.string())])


def outcome_row(outcome: Outcome, model: str, prompt: str, run: str) -> dict[str, Any]:
    """The flat row of an outcome; columns that do not apply are null."""
    document, pair, text, verdict = outcome.document, outcome.pair, outcome.reformulation, outcome.verdict
    return {
        "id": outcome.id,
        "text": text.text if text else None,
        "source_id": document.source_id,
        "chunk_id": document.chunk_id,
        "genre": pair.genre if pair else None,
        "audience": pair.audience if pair else None,
        "score": verdict.score if verdict else None,
        "score_reason": verdict.analysis if verdict else None,
        "expected_score": verdict.expected if verdict else None,
        "n_tokens": text.n_tokens if text else None,
        "model": model,
        "prompt": prompt,
        "run": run,
        "raw_text": document.text,
        "cut_head": (text.head or None) if text else None,
        "cut_tail": (text.tail or None) if text else None,
        "reason": outcome.reason,
        "detail": outcome.detail,
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Rows as one Parquet file, atomically; without rows, no file. Equal rows give equal bytes."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def write_json(path: Path, value: object) -> None:
    """A value as indented JSON with sorted keys, atomically."""
    write_atomically(path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """The file whole under its name, or StopError and no file."""
    beside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        committed(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StopError(f"Cannot write {path}: {error.strerror}. Make room or rights, then run again.") from error


def committed(beside: Path, path: Path) -> None:
    """Give a file written beside its place its name, when it lies on the disk."""
    _force(beside)
    beside.replace(path)
    _force(path.parent)


def _force(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises InputError when it cannot be read."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: {error}.") from error


def shard_files(folder: Path) -> list[Path]:
    """The Parquet shards in a folder of a run, in order."""
    return sorted(folder.glob("*.parquet"))


def read_rows(folder: Path, columns: Sequence[str] | None = None) -> Iterable[dict[str, Any]]:
    """All rows of a folder of a run in order, a batch in memory at a time."""
    for file in shard_files(folder):
        for batch in pq.ParquetFile(file).iter_batches(1024, columns=columns):
            yield from batch.to_pylist()
