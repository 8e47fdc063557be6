"""Write a run's kept texts in another layout."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mga.errors import InputError
from mga.runs.run import Run
from mga.store import KEPT_SCHEMA, shard_files, write_rows

_META = ("chunk_id", "docid", "meta_extra", "source", "split", "genre", "audience", "raw_text")
MGACORPUS_SCHEMA = pa.schema(
    [("meta", pa.struct([(name, pa.string()) for name in _META])), ("content_split", pa.string())]
)
_PLAIN_SCHEMA = pa.schema([field for field in KEPT_SCHEMA if field.name not in ("raw_text", "cut_head", "cut_tail")])

Row = dict[str, Any]


def export(run: Run, schema: str, out: Path) -> int:
    """Write the kept rows of a run under `out`, a file per shard; returns the number of rows.

    Raises InputError for an unknown schema, a folder that is not empty, and a run without kept rows.
    """
    if schema not in SCHEMAS:
        raise InputError(f"Unknown schema {schema!r}; there are: {', '.join(SCHEMAS)}.")
    run.record()
    files = shard_files(run.folder / "kept")
    if not files:
        raise InputError(f"{run.folder} has no kept texts yet.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already and not an empty folder; choose another place.")
    if out.resolve().is_relative_to(run.folder.resolve()):
        raise InputError(f"{out} lies in the run itself; choose another place.")
    layout, convert = SCHEMAS[schema]
    rows = 0
    for file in files:
        converted = [convert(row) for row in pq.read_table(file).to_pylist()]
        write_rows(out / file.name, converted, layout)
        rows += len(converted)
    return rows


def _mgacorpus(row: Mapping[str, Any]) -> Row:
    extra = {name: row[name] for name in ("id", "score", "model", "prompt", "run")}
    meta = {
        "chunk_id": row["chunk_id"],
        "docid": row["source_id"],
        "meta_extra": orjson.dumps(extra).decode(),
        "source": row["model"],
        "split": "train",
        "genre": row["genre"],
        "audience": row["audience"],
        "raw_text": row["raw_text"],
    }
    return {"meta": meta, "content_split": row["text"]}


def _plain(row: Mapping[str, Any]) -> Row:
    return {name: row[name] for name in _PLAIN_SCHEMA.names}


SCHEMAS: dict[str, tuple[pa.Schema, Callable[[Mapping[str, Any]], Row]]] = {
    "mgacorpus": (MGACORPUS_SCHEMA, _mgacorpus),
    "plain": (_PLAIN_SCHEMA, _plain),
}
