"""Write the kept texts of a run, or of what a command on whole corpora has made of it, in another layout."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mga.data.documents import PARQUET_ENDINGS
from mga.data.first_version import row_batches, todays_schema
from mga.data.outcomes import KEPT_SCHEMA, write_rows
from mga.data.store import Place, exists, place, read, without_links, write_atomically
from mga.errors import InputError
from mga.runs.card import Record, export_card
from mga.runs.rows import AT_ONCE, readable, row_files, stage_record
from mga.runs.run import Run

_META = ("chunk_id", "docid", "meta_extra", "source", "split", "genre", "audience", "raw_text")
MGACORPUS_SCHEMA = pa.schema(
    [("meta", pa.struct([(name, pa.string()) for name in _META])), ("content_split", pa.string())]
)
_PLAIN_SCHEMA = pa.schema(
    [field for field in KEPT_SCHEMA if field.name not in ("raw_text", "stripped_prefix", "stripped_suffix")]
)

Row = dict[str, Any]


def export(run: Run, schema: str, out: Place, license_given: str | None = None) -> int:
    """Write the kept rows of a run (or of a stage made from runs) under `out`, file for file, and a dataset card that
    names the documents' licence (that of the runs, unless one is given); returns the number of rows.

    Raises InputError for an unknown schema, a folder that is not empty, a run without kept rows, rows that no run has
    written, and a damaged file.
    """
    if schema not in SCHEMAS:
        raise InputError(f"Unknown schema {schema!r}; there are: {', '.join(SCHEMAS)}.")
    stage = stage_record(run.folder)
    if stage is None:
        run.whole()
    elif "counts" not in stage:
        raise InputError(
            f"{run.folder} is not finished; give the mga {stage['command']} command that writes it again first."
        )
    kept = run.folder / "kept"
    files = row_files(kept)
    if not files:
        raise InputError(f"{run.folder} has no kept texts{'' if stage else ' yet'}.")
    layout, convert = SCHEMAS[schema]
    for file in files:
        _check_written_by_a_run(file)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already and not an empty folder; choose another place.")
    if _lies_in(out, run.folder):
        raise InputError(f"{out} lies in the run itself; choose another place.")
    rows = 0
    for file in files:
        with readable(file):
            parquet = pq.ParquetFile(io.BytesIO(read(file)))
            converted = [convert(row) for batch in row_batches(parquet, AT_ONCE) for row in batch.to_pylist()]
        write_rows(out / str(file)[len(str(kept)) + 1 :], converted, layout)
        rows += len(converted)
    write_atomically(out / "README.md", export_card(rows, schema, *_lineage(run.folder), license_given).encode())
    return rows


def _lies_in(inner: Place, folder: Place) -> bool:
    if isinstance(inner, Path) and isinstance(folder, Path):
        return without_links(inner).is_relative_to(without_links(folder))
    return f"{inner}/".startswith(f"{str(folder).rstrip('/')}/")


def _lineage(folder: Place) -> tuple[list[Record], list[tuple[str, Record]]]:
    """What a folder was made from: the runs, as far as they are found, and the stages since, first to last."""
    runs: dict[str, Record] = {}
    stages: dict[str, tuple[str, Record]] = {}

    def follow(source: Place) -> None:
        if str(source) in stages:
            return
        if exists(source / "run.json"):
            record = Run(source).record()
            runs[record["run"]] = record
        elif stage := stage_record(source):
            for given in stage.get("given", ()):
                follow(_resolved(place(given)))
            stages[str(source)] = (source.name, stage)

    follow(_resolved(folder))
    return list(runs.values()), list(stages.values())


def _resolved(folder: Place) -> Place:
    return without_links(folder) if isinstance(folder, Path) else folder


def _check_written_by_a_run(file: Place) -> None:
    """Raise InputError unless the file has all columns of a run's kept rows."""
    advice = "only what comes from a run of mga expand can be exported"
    if not file.name.endswith(PARQUET_ENDINGS):
        raise InputError(f"{file} is JSON Lines, which no run writes: {advice}.")
    with readable(file), file.open("rb") as stream:
        present = todays_schema(pq.read_schema(stream)).names
    if missing := [name for name in KEPT_SCHEMA.names if name not in present]:
        raise InputError(f"{file} lacks the columns {', '.join(missing)}: {advice}.")


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
