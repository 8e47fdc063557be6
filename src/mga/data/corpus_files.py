"""A corpus at hand: a run's kept texts, or Parquet and JSON of anyone's, read a batch at a time as Arrow."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import fsspec
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from mga.data.columns import ABSENT, array_at, field_at, id_of, ids_of, is_text, resolved, value_at
from mga.data.documents import PARQUET_ENDINGS, InputFile, find_files, fingerprint
from mga.data.first_version import todays_rows
from mga.data.published import check_published
from mga.data.rows import DAMAGE, Fault, ParquetRows, json_rows, kind_of, not_text, not_utf8, parsed, text_fault
from mga.data.schema import columns_in, unreadable
from mga.data.store import read_json
from mga.errors import InputError
from mga.events import ROWS_NOT_USED, event
from mga.records import Problem

BATCH_BYTES = 16 << 20

Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Batch:
    """Neighbouring rows of one file, from row `first` on (from 0).

    `rows` has the columns that were asked for. Of JSON, `lines` are the rows as they stand in the file. `faults` says
    of rows (by their number in the batch) why they cannot be used: their text is null in `column`, and of a row of JSON
    that cannot be read everything is null. `texts` has the column of texts where it is not as in `rows`, `numbers` the
    lines of JSON Lines where blank ones stand between.
    """

    first: int
    rows: pa.RecordBatch
    lines: tuple[bytes, ...] | None = None
    faults: Mapping[int, Fault] = field(default_factory=dict)
    texts: Mapping[str, pa.Array] = field(default_factory=dict)
    numbers: Sequence[int] | None = None

    def number(self, row: int) -> int:
        """Where a row of the batch stands in the file, from 0: its line, element or row."""
        return self.first + row if self.numbers is None else self.numbers[row]

    def has(self, name: str) -> bool:
        """Whether the column, which may be nested (`meta.docid`), is among those that were read."""
        return self._values(name) is not None

    def _values(self, name: str) -> pa.Array | None:
        return array_at(self.rows, resolved(self.rows.schema, name))

    def column(self, name: str) -> pa.Array:
        """A column of `rows`, strings as large strings whatever they were; nulls where there is no such column."""
        values = self.texts.get(name, self._values(name))
        if values is None:
            return pa.nulls(self.rows.num_rows)
        return values.cast(pa.large_string()) if is_text(values.type) else values

    def ids(self, name: str) -> pa.Array:
        """A column of ids as large strings, each in its one form (`columns.id_of`); null where there is none."""
        values = self._values(name)
        if values is None:
            return pa.nulls(self.rows.num_rows, pa.large_string())
        ids = ids_of(values)
        wrong = _not_utf8(ids)
        return _without(ids, wrong) if wrong else ids


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
        """Names of a file's columns, nested ones as paths, and what we call those of the published layout; of JSON,
        those of all rows, which are all read for it."""
        return list(columns_in(file))

    def present(self, file: InputFile, names: Iterable[str]) -> list[str]:
        """Those of some columns that a file has; of JSON, in any row."""
        wanted = list(dict.fromkeys(names))
        found = columns_in(file, wanted) if wanted else {}
        return [name for name in wanted if name in found]

    def batches(self, file: InputFile, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """A file's rows, about 16 MB at a time once decoded, with some columns or (None) with all.

        A column that a Parquet file lacks is an InputError; a field that a row of JSON lacks is null. Of JSON only
        named columns are read; None means the text alone (the lines have the rest). Rows that cannot be used are among
        the batch's faults, and when its texts have been read, an event tells how many there were.
        """
        rows, reasons, first = 0, Counter[str](), ""
        for batch in self._batches(file, columns):
            rows += batch.rows.num_rows if batch.lines is None else len(batch.lines)
            reasons.update(fault.kind for fault in batch.faults.values())
            if batch.faults and not first:
                row, fault = next(iter(sorted(batch.faults.items())))
                first = str(Problem(file.name, batch.number(row), *fault))
            yield batch
        if reasons and (columns is None or self.text_key in columns):
            event(ROWS_NOT_USED, logging.WARNING, file=file.name, rows=rows, reasons=dict(reasons), first=first)

    def _batches(self, file: InputFile, columns: Sequence[str] | None) -> Iterator[Batch]:
        try:
            with file.open() as stream:
                if is_parquet(file):
                    yield from _parquet(stream, file, columns, self.text_key)
                else:
                    yield from _json(stream, [self.text_key] if columns is None else columns, self.text_key)
        except DAMAGE as error:
            raise unreadable(file, error) from error


def is_parquet(file: InputFile) -> bool:
    """Whether it is Parquet; else it is JSON."""
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
    check_published(folder)
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
    parquet = ParquetRows(stream, BATCH_BYTES)
    schema = parquet.schema
    paths = {name: resolved(schema, name) for name in (columns if columns is not None else [text_key])}
    for name, path in paths.items():
        column = field_at(schema, path)
        advice = " Choose with --text-key." if name == text_key else ""
        if column is None:
            raise InputError(f"{file.name} has no column {name!r}; it has: {', '.join(schema.names)}.{advice}")
        if name == text_key and not is_text(column.type):
            raise InputError(f"Column {name!r} of {file.name} holds {column.type}, not text.{advice}")
    first = 0
    for rows in parquet.batches(None if columns is None else [*paths.values()]):
        if columns is None:
            rows = todays_rows(rows)
        else:
            rows = pa.RecordBatch.from_pydict({name: array_at(rows, path) for name, path in paths.items()})
        yield _checked(Batch(first, rows), text_key) if text_key in paths else Batch(first, rows)
        first += rows.num_rows


def _checked(batch: Batch, text_key: str) -> Batch:
    """The batch with the faults of its texts."""
    texts = batch.column(text_key)
    wrong = _not_utf8(texts)
    faults = {row: not_utf8(f"{text_key!r}", at) for row, at in wrong.items()}
    if texts.null_count:
        null = pc.indices_nonzero(texts.is_null()).to_pylist()
        faults |= dict.fromkeys(null, not_text(text_key, kind_of(None)))
    return replace(batch, faults=faults, texts={text_key: _without(texts, wrong)} if wrong else {})


def _not_utf8(strings: pa.Array) -> dict[int, int]:
    """The rows of a column of strings that are not UTF-8, and the first wrong byte of each."""
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        found = {}
        for row, value in enumerate(strings.cast(pa.large_binary()).to_pylist()):
            try:
                (value or b"").decode("utf-8")
            except UnicodeDecodeError as error:
                found[row] = error.start
        return found
    return {}


def _without(values: pa.Array, rows: Iterable[int]) -> pa.Array:
    """The values, null in some rows."""
    chosen = set(rows)
    return pc.if_else(pa.array([row in chosen for row in range(len(values))]), None, values)


def _json(stream: Any, columns: Sequence[str], text_key: str) -> Iterator[Batch]:
    first, size = 0, 0
    held: dict[int, bytes] = {}
    for number, row in json_rows(stream):
        held[number] = row
        size += len(row)
        if size >= BATCH_BYTES:
            yield _of_rows(first, held, columns, text_key)
            first, held, size = first + len(held), {}, 0
    if held:
        yield _of_rows(first, held, columns, text_key)


def _of_rows(first: int, held: Mapping[int, bytes], columns: Sequence[str], text_key: str) -> Batch:
    faults: dict[int, Fault] = {}
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(held.values()):
        fields = parsed(row)
        fault = fields if isinstance(fields, Fault) else text_fault(fields, text_key) if text_key in columns else None
        if fault is not None:
            faults[number] = fault
        rows.append({} if isinstance(fields, Fault) else fields)
    names = list(dict.fromkeys(columns))
    arrays = [_array([_or_none(value_at(row, name)) for row in rows], name == text_key) for name in names]
    return Batch(first, pa.RecordBatch.from_arrays(arrays, names), tuple(held.values()), faults, numbers=tuple(held))


def _or_none(value: Any) -> Any:
    return None if value is ABSENT else value


def _array(values: list[Any], is_text_column: bool) -> pa.Array:
    """Values of one field; kinds that do not go together become text, numbers as ids are written."""
    if is_text_column:
        return pa.array([value if isinstance(value, str) else None for value in values], pa.large_string())
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array(map(_as_text, values), pa.large_string())


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return id_of(value) or (None if isinstance(value, float) else orjson.dumps(value).decode())
