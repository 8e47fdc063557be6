"""Outcomes as rows of Parquet files: the columns that a run's folders have."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mga.data.first_version import row_batches
from mga.data.store import Place, delete, write_atomically
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
        ("stripped_prefix", pa.string()),
        ("stripped_suffix", pa.string()),
    ]
)
"""`text` is the reply without what cleaning cut; stripped_prefix + text + stripped_suffix is the reply. `raw_text`
repeats for the pairs of a document and costs almost nothing: Parquet's dictionary stores it once."""

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
        "stripped_prefix": (text.head or None) if text else None,
        "stripped_suffix": (text.tail or None) if text else None,
        "reason": outcome.reason,
        "detail": outcome.detail,
    }


def write_rows(path: Place, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Rows as one Parquet file, atomically; without rows, no file. Equal rows give equal bytes."""
    if not rows:
        delete(path)
        return
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def shard_files(folder: Place) -> list[Place]:
    """The Parquet shards in a folder of a run, in order."""
    return sorted(folder.glob("*.parquet"))


def read_rows(folder: Place, columns: Sequence[str] | None = None) -> Iterable[dict[str, Any]]:
    """All rows of a folder of a run in order, a batch in memory at a time."""
    for file in shard_files(folder):
        with file.open("rb") as stream:
            for batch in row_batches(pq.ParquetFile(stream), 1024, columns):
                yield from batch.to_pylist()
