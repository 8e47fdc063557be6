"""Files that exist whole or not at all: write beside, force to disk, rename."""

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import tenacity
from upath import UPath

from mga.engine_uri import public_uri
from mga.errors import InputError, StopError
from mga.records import Outcome

Place: TypeAlias = Path | UPath
"""A file or folder: of this machine, or of an object store."""

Stored = TypeVar("Stored", Path, UPath)
Result = TypeVar("Result")
PATIENCE_S = 600.0  # with an object store

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


def place_of(given: str) -> Place:
    """The place that a path or an fsspec URL names. Raises InputError for a URL that nobody can open here."""
    try:
        return UPath(given) if "://" in given else Path(given)
    except (ValueError, ImportError) as error:
        raise InputError(f"Cannot open {public_uri(given)}: {error}.") from error


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


def write_rows(path: Place, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Rows as one Parquet file, atomically; without rows, no file. Equal rows give equal bytes."""
    if not rows:
        delete(path)
        return
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def write_json(path: Place, value: object) -> None:
    """A value as indented JSON with sorted keys, atomically."""
    write_atomically(path, as_json(value))


def as_json(value: object) -> bytes:
    """A value as indented JSON with sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def write_atomically(path: Place, data: bytes | memoryview) -> None:
    """The file whole under its name, or StopError and no file. A store in a network is given time to come back."""
    if not isinstance(path, Path):
        _patiently(path, lambda: path.write_bytes(bytes(data)))
        return
    beside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        committed(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StopError(f"Cannot write {path}: {error.strerror}. Make room or rights, then run again.") from error


def create(path: Place, data: bytes) -> bool:
    """The file whole under its name, unless there is one: then False, and that one stays. Of many that try at once,
    on whatever machines, one is told True."""
    if not isinstance(path, Path):
        return _patiently(path, lambda: _created_remotely(path, data))
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        _force(beside)
        os.link(beside, path)
        _force(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise StopError(f"Cannot write {path}: {error.strerror}. Make room or rights, then run again.") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return True


def move(source: Stored, target: Stored) -> None:
    """Give a whole file another name in the same store, over what is there; nothing when it has been moved already."""
    if not (isinstance(source, Path) and isinstance(target, Path)):
        _patiently(source, lambda: _moved_remotely(source, target))
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
        _force(target.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StopError(f"Cannot write {target}: {error.strerror}. Make room or rights, then run again.") from error


def delete(path: Place) -> None:
    """No file under this name any more."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
    elif _patiently(path, path.exists):
        _patiently(path, path.unlink)


def _created_remotely(path: UPath, data: bytes) -> bool:
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except FileExistsError:
        # An attempt whose answer was lost may have made it.
        return path.read_bytes() == data
    return True


def _moved_remotely(source: UPath, target: UPath) -> None:
    if source.exists():
        source.fs.copy(source.path, target.path)
        source.unlink()


def _patiently(path: UPath, work: Callable[[], Result]) -> Result:
    """Work on an object store, tried again while it is away or has too much to do."""
    try:
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_not_exception_type((FileNotFoundError, PermissionError, FileExistsError)),
            stop=tenacity.stop_after_delay(PATIENCE_S),
            wait=tenacity.wait_exponential_jitter(initial=0.2, max=30),
            reraise=True,
        ):
            with attempt:
                return work()
    except Exception as error:  # every store has an SDK with errors of its own
        if isinstance(error, FileNotFoundError):
            raise
        raise StopError(f"Cannot work on {path}: {error or type(error).__name__}. Then run again.") from error
    raise AssertionError("tenacity returns or raises")


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


def read_json(path: Place) -> Any:
    """The value in a JSON file. Raises InputError when it cannot be read."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: {error}.") from error


def shard_files(folder: Place) -> list[Place]:
    """The Parquet shards in a folder of a run, in order."""
    return sorted(folder.glob("*.parquet"))


def read_rows(folder: Place, columns: Sequence[str] | None = None) -> Iterable[dict[str, Any]]:
    """All rows of a folder of a run in order, a batch in memory at a time."""
    for file in shard_files(folder):
        with file.open("rb") as stream:
            for batch in pq.ParquetFile(stream).iter_batches(1024, columns=columns):
                yield from batch.to_pylist()
