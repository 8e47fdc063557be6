"""Names in folders that version 0.1.0 has written, as they are today. Whoever reads rows or records comes by here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mga.data.store import Place, read_json

_COLUMNS = {"cut_head": "stripped_prefix", "cut_tail": "stripped_suffix"}
_REASONS = {"model_phrases": "boilerplate", "model_pattern": "corpus_boilerplate"}
_TASKS = {"writer": "generator"}
_BY_REASON = ("reasons", "drops", "open_reasons")
_OURS = {"id", "text", "source_id", "chunk_id", "raw_text", "prompt", "run", *_COLUMNS}
"""What tells rows of a run from a stranger's that have a column of that name."""


def read_record(path: Place) -> Any:
    """A JSON file of a run or a stage, under today's names. Raises InputError like `read_json`."""
    return todays_record(read_json(path))


def todays_record(record: Any) -> Any:
    """What a JSON file of a run, a session or a stage says, under today's names."""
    if not isinstance(record, dict):
        return record
    named = {"command" if key == "verb" and "command" not in record else key: value for key, value in record.items()}
    for key in named.keys() & {*_BY_REASON}:
        if isinstance(named[key], dict):
            named[key] = {_REASONS.get(reason, reason): count for reason, count in named[key].items()}
    for key in named.keys() & {"before", "counts"}:
        named[key] = todays_record(named[key])
    if isinstance(named.get("engines"), list):
        named["engines"] = [_todays_engine(engine) for engine in named["engines"]]
    return named


def _todays_engine(engine: Any) -> Any:
    if not isinstance(engine, Mapping) or engine.get("task") not in _TASKS:
        return engine
    return {**engine, "task": _TASKS[engine["task"]]}


def row_batches(parquet: pq.ParquetFile, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Batches of at most so many rows of a Parquet file, under today's names, in which `columns` are given too."""
    is_first = _is_first(parquet.schema_arrow)
    written = {new: old for old, new in _COLUMNS.items()} if is_first else {}
    wanted = None if columns is None else [written.get(name, name) for name in columns]
    for batch in parquet.iter_batches(rows, columns=wanted):
        yield _renamed(batch) if is_first else batch


def todays_schema(schema: pa.Schema) -> pa.Schema:
    """A file's columns as `row_batches` names them."""
    if not _is_first(schema):
        return schema
    return pa.schema([field.with_name(_COLUMNS.get(field.name, field.name)) for field in schema])


def todays_rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Whole rows of any Parquet file; those of a run of 0.1.0 under today's names."""
    return _renamed(batch) if _is_first(batch.schema) else batch


def _is_first(schema: pa.Schema) -> bool:
    return set(schema.names) >= _OURS


def _renamed(batch: pa.RecordBatch) -> pa.RecordBatch:
    batch = batch.rename_columns([_COLUMNS.get(name, name) for name in batch.schema.names])
    if (at := batch.schema.get_field_index("reason")) >= 0:
        reasons = [_REASONS.get(reason, reason) for reason in batch.column(at).to_pylist()]
        batch = batch.set_column(at, "reason", pa.array(reasons, pa.string()))
    return batch
