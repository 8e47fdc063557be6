"""A corpus at hand: a run's kept texts, or Parquet and JSON Lines of anyone's, read a batch at a time as Arrow."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mga.data.columns import ABSENT, array_at, field_at, is_text, resolved, value_at
from mga.data.documents import PARQUET_ENDINGS, InputFile, decompressed, find_files, fingerprint
from mga.data.schema import columns_in
from mga.data.store import read_json
from mga.errors import InputError

BATCH_BYTES = 16 << 20
MOST_ROWS = 65_536
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring rows of one file, from row `first` on (from 0).

    `rows` has the columns that were asked for. Of JSON Lines, `lines` are the rows as they stand in the file; a line
    that cannot be read has nulls in `rows`.
    """

    first: int
    rows: pa.RecordBatch
    lines: tuple[bytes, ...] | None = None

    def column(self, name: str) -> pa.Array:
        """A column of `rows`, strings as large strings whatever they were; nulls where there is no such column."""
        values = array_at(self.rows, resolved(self.rows.schema, name))
        if values is None:
            return pa.nulls(self.rows.num_rows)
        return values.cast(pa.large_string()) if is_text(values.type) else values


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files in a stable order. `given` is what the user named; `text_key` the column of the texts."""

    given: tuple[str, ...]
    files: tuple[InputFile, ...]
    text_key: str = "text"
    id_key: str = "id"

    @property
    def fingerprint(self) -> str:
        """Identity of the files."""
        return fingerprint(self.files)

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.size for file in self.files)

    def columns(self, file: InputFile) -> list[str]:
        """Names of a file's columns and of those in them, and what we call those of the published layout."""
        return list(columns_in(file))

    def batches(self, file: InputFile, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """A file's rows, about 16 MB at a time, with some columns or (None) with all.

        A column that a Parquet file lacks is an InputError; a field that a line lacks is null. Of JSON Lines only
        named columns are read; None means the text alone (the lines have the rest).
        """
        with _readable(file), file.open() as stream:
            if is_parquet(file):
                yield from _parquet(stream, file, columns, self.text_key)
            else:
                yield from _json_lines(stream, columns or [self.text_key], self.text_key)


def is_parquet(file: InputFile) -> bool:
    """Whether it is Parquet; else it is JSON Lines."""
    return file.name.endswith(PARQUET_ENDINGS)


def open_corpus(given: Sequence[str | Path], text_key: str = "text", id_key: str = "id") -> Corpus:
    """The corpus in files, folders, globs or URLs; of a folder that mga has written, its kept texts.

    Raises InputError when there is nothing to read.
    """
    named = tuple(str(path) for path in given)
    read = [_kept_of(name) for name in named]
    own = [folder for folder, name in zip(read, named, strict=True) if folder != name]
    return Corpus(named, tuple(_with_own_names(find_files(read), own)), text_key, id_key)


def _kept_of(name: str) -> str:
    """`kept/` of a run's folder or of a folder that a command of this room has written; anything else as it is."""
    folder = Path(name)
    if not any((folder / record).is_file() for record in ("run.json", "stage.json")):
        return name
    if (folder / "stage.json").is_file() and "counts" not in read_json(folder / "stage.json"):
        raise InputError(f"{name} is not finished; give the command that writes it again first.")
    if not any((folder / "kept").rglob("*.*")):
        raise InputError(f"{name} has no kept texts yet.")
    return str(folder / "kept")


def _with_own_names(files: Sequence[InputFile], folders: Sequence[str]) -> Iterator[InputFile]:
    """Files in `kept/` folders of mga are named from there on, behind the run's name where there are several."""
    places = [str(fsspec.core.url_to_fs(folder)[1]) for folder in folders]
    for file in files:
        place = next((place for place in places if file.url.startswith(f"{place}/")), None)
        if place is None:
            yield file
            continue
        name = file.url.removeprefix(f"{place}/")
        yield replace(file, name=f"{PurePosixPath(place).parent.name}/{name}" if len(places) > 1 else name)


def ordered(work: Callable[[Given], Found], items: Iterable[Given], workers: int) -> Iterator[Found]:
    """Results in the order of the items, worked on by so many threads; at most two items a thread are in memory.

    Compiled code and Arrow leave Python's lock alone, so threads use all cores. The first error ends it.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Found]] = [pool.submit(work, item) for item in islice(source, 2 * workers)]
        try:
            while waiting:
                found = waiting.pop(0).result()
                waiting += [pool.submit(work, item) for item in islice(source, 1)]
                yield found
        finally:
            for future in waiting:
                future.cancel()


def _parquet(stream: Any, file: InputFile, columns: Sequence[str] | None, text_key: str) -> Iterator[Batch]:
    parquet = pq.ParquetFile(stream)
    schema = parquet.schema_arrow
    paths = {name: resolved(schema, name) for name in (columns if columns is not None else [text_key])}
    for name, path in paths.items():
        field = field_at(schema, path)
        advice = " Choose with --text-key." if name == text_key else ""
        if field is None:
            raise InputError(f"{file.name} has no column {name!r}; it has: {', '.join(schema.names)}.{advice}")
        if name == text_key and not is_text(field.type):
            raise InputError(f"Column {name!r} of {file.name} holds {field.type}, not text.{advice}")
    first = 0
    for batch in parquet.iter_batches(_rows_at_once(parquet), columns=None if columns is None else [*paths.values()]):
        rows = batch
        if columns is not None:
            rows = pa.RecordBatch.from_pydict({name: array_at(batch, path) for name, path in paths.items()})
        yield Batch(first, rows)
        first += batch.num_rows


def _rows_at_once(parquet: pq.ParquetFile) -> int:
    """Rows that take about BATCH_BYTES in memory."""
    metadata = parquet.metadata
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return int(max(64, min(MOST_ROWS, BATCH_BYTES * metadata.num_rows // max(size, 1))))


def _json_lines(stream: Any, columns: Sequence[str], text_key: str) -> Iterator[Batch]:
    lines = decompressed(stream)
    first = 0
    while held := lines.readlines(BATCH_BYTES):
        if first == 0:
            held[0] = held[0].removeprefix(BYTE_ORDER_MARK)
        fields = [_row(line) for line in held]
        arrays = [_array([_value(row, name) for row in fields], name == text_key) for name in columns]
        yield Batch(first, pa.RecordBatch.from_arrays(arrays, list(columns)), tuple(held))
        first += len(held)


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(line.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}


def _value(row: dict[str, Any], name: str) -> Any:
    found = value_at(row, name)
    return None if found is ABSENT else found


def _array(values: list[Any], is_text: bool) -> pa.Array:
    """Values of one field; kinds that do not go together become text."""
    if is_text:
        return pa.array([value if isinstance(value, str) else None for value in values], pa.large_string())
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        plain = (value if isinstance(value, str | None) else orjson.dumps(value).decode() for value in values)
        return pa.array(list(plain), pa.large_string())


@contextmanager
def _readable(file: InputFile) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"{file.name} cannot be read to its end: {what}. Fetch it again, or leave it out.") from error
