"""Rows of files → Documents, all of them or a range, with every unusable row named.

Foreign column names are translated here, once; everything inside the house speaks `Document`.

Rows are numbered over the whole input, so that a range of them is the same rows on every machine. A file that cannot be
read, or breaks off, has one row more: the Problem that says so.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from mga.data.columns import array_at, can_hold_ids, field_at, id_of, ids_of, is_text, named, resolved, value_at
from mga.data.documents import PARQUET_ENDINGS, InputFile, fingerprint, plain
from mga.data.rows import DAMAGE, Fault, ParquetRows, json_rows, not_utf8, parsed, text_fault
from mga.errors import StopError
from mga.records import Document, Problem, content_id
from mga.text.words import has_words

Row: TypeAlias = Document | Problem
_Fields: TypeAlias = dict[str, Any]
_Numbered: TypeAlias = tuple[int, int, _Fields | Fault | Problem]
"""Row in the file, line or row as people count, what is there: a Problem ends the file or the row group."""

_END = 1 << 62
_COUNTED_AT_ONCE = 16
_PAGE_BYTES = 1 << 20  # a row group may be larger than memory: it is read in pieces of this size


def count_rows(
    files: Sequence[InputFile], text_key: str = "text", id_key: str = "id", limit: int | None = None
) -> list[int]:
    """Rows of each file: from the metadata of Parquet, by counting the lines of JSON Lines. With a `limit`, only the
    rows that hold the first so many documents. Raises StopError for an error that may pass."""
    if limit is None:
        with ThreadPoolExecutor(_COUNTED_AT_ONCE) as pool:
            return list(pool.map(partial(_count, text_key=text_key), files))
    counts = []
    for number, file in enumerate(files):
        rows = 0
        with closing(_Opened(number, file, text_key, id_key)) as opened:
            for row in opened.rows(0, _END) if limit else ():
                rows += 1
                limit -= isinstance(row, Document)
                if not limit:
                    break
        counts.append(rows)
    return counts


def read(
    files: Sequence[InputFile], text_key: str = "text", id_key: str = "id", limit: int | None = None
) -> Iterator[Row]:
    """Every row of the input in order, as a Document or as the Problem that makes it unusable. `limit` counts
    documents. The document id is the row's own, else a hash of its text."""
    documents = 0
    for number, file in enumerate(files):
        with closing(_Opened(number, file, text_key, id_key)) as opened:
            for row in opened.rows(0, _END):
                if documents == limit:
                    return
                documents += isinstance(row, Document)
                yield row


class Reader:
    """Ranges of the input's rows. Ranges that follow each other are read in one pass over a file; in Parquet, row
    groups before a range are not read at all. `counts` are the rows of each file (`count_rows`)."""

    def __init__(self, files: Sequence[InputFile], counts: Sequence[int], text_key: str = "text", id_key: str = "id"):
        self._files = files
        self._ends = list(accumulate(counts))
        self._keys = (text_key, id_key)
        self._open: _Opened | None = None

    def rows(self, start: int, stop: int) -> Iterator[Row]:
        """The rows from `start` to before `stop`, numbered over the whole input. Raises StopError when a file holds
        fewer than were counted, damage apart."""
        before = 0
        for number, end in enumerate(self._ends):
            if start < end and before < stop:
                first, last = max(start - before, 0), min(stop, end) - before
                read = 0
                opened = self._opened(number, first)
                for row in opened.rows(first, last):
                    read += 1
                    yield row
                if read < last - first and not opened.damaged:
                    raise _changed(self._files[number], f"it holds fewer rows than the {end - before:,} counted")
            before = end

    def files_of(self, start: int, stop: int) -> list[int]:
        """Numbers of the files that hold these rows."""
        begins = [0, *self._ends]
        return [number for number, end in enumerate(self._ends) if start < end and begins[number] < stop]

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _opened(self, number: int, first: int) -> "_Opened":
        if self._open is None or self._open.number != number or self._open.next > first:
            self.close()
            self._open = _Opened(number, self._files[number], *self._keys)
        return self._open


class Unchanged:
    """Files as they are now. `check` raises StopError, which names the file, once one is another, or gone: what was
    counted and what is read would not be the same."""

    def __init__(self, files: Sequence[InputFile]) -> None:
        self._before = [(file, _state(file)) for file in files]

    def check(self, numbers: Iterable[int] | None = None) -> None:
        """Look once more at the files of these numbers, or at all: at both ends of a local one, at what a store says of
        another, which costs a request."""
        for file, before in self._before if numbers is None else [self._before[number] for number in numbers]:
            try:
                now = _state(file)
            except FileNotFoundError:
                raise _changed(file, "it is gone") from None
            if now != before:
                raise _changed(file, "it was written to or replaced")


def _state(file: InputFile) -> tuple[object, ...]:
    """What is different once a file has been written to, as far as its file system tells."""
    if isinstance(file.fs, LocalFileSystem):
        found = Path(file.url).stat()
        return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev, fingerprint([file])
    file.fs.invalidate_cache(file.fs._parent(file.url))
    info = file.fs.info(file.url)
    names = ("size", "ETag", "etag", "md5Hash", "content_md5", "generation", "version_id", "LastModified", "mtime")
    return tuple(str(info.get(name)) for name in (*names, "last_modified", "updated", "created"))


def _changed(file: InputFile, how: str) -> StopError:
    return StopError(
        f"{file.name} has changed since its rows were counted: {how}. Restore it and give the same command again, or "
        "begin anew in another --out."
    )


class _Opened:
    """One file, read forwards. `next`: the first row that can still be had."""

    def __init__(self, number: int, file: InputFile, text_key: str, id_key: str) -> None:
        self.number = number
        self.next = 0
        self._file = file
        self._keys = (text_key, id_key)
        self._stream: BinaryIO | None = None
        self._source: _Parquet | _JsonRows | None = None
        self._useless: Problem | None = None

    def rows(self, first: int, last: int) -> Iterator[Row]:
        """The rows from `first` to before `last` of this file."""
        try:
            if self._stream is None:
                self._start()
        except OSError as error:
            _stop_if_it_may_pass(error, self._file, 0)
            raise
        if self._source is None:
            if self._useless is not None and first == 0:
                yield self._useless
            self.next = 1
            return
        for index, line, found in self._source.take(first, last):
            self.next = index + 1
            yield found if isinstance(found, Problem) else self._document(found, line)

    @property
    def damaged(self) -> bool:
        """Whether rows are missing because the file, or a part of it, cannot be read: one Problem stands for them."""
        return self._useless is not None or (self._source is not None and self._source.damaged)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _start(self) -> None:
        file = self._file
        if file.size == 0:
            self._useless = Problem(file.name, None, "empty_file", "the file is empty", "remove it or write it again")
            return
        self._stream = file.open()
        if not file.name.endswith(PARQUET_ENDINGS):
            self._source = _JsonRows(self._stream, file)
            return
        opened = _opened_parquet(self._stream, file, self._keys[0])
        if isinstance(opened, Problem):
            self._useless = opened
        else:
            self._source = _Parquet(opened, file, *self._keys)

    def _document(self, found: _Fields | Fault, row: int) -> Row:
        file, (text_key, id_key) = self._file, self._keys
        if isinstance(found, Fault):
            return Problem(file.name, row, *found)
        if fault := text_fault(found, text_key):
            return Problem(file.name, row, *fault)
        text = value_at(found, text_key)
        if not has_words(text):
            return Problem(file.name, row, "empty_text", f"{text_key!r} holds no word", "nothing to rewrite")
        return Document(id_of(value_at(found, id_key)) or content_id(text), text, f"{self.number}:{row}")


class _JsonRows:
    def __init__(self, stream: BinaryIO, file: InputFile) -> None:
        self._rows = json_rows(stream)
        self._file = file
        self._row = 0
        self.damaged = False

    def take(self, first: int, last: int) -> Iterator[_Numbered]:
        while self._row < last and not self.damaged:
            try:
                line, raw = next(self._rows, (0, None))
            except DAMAGE as error:
                _stop_if_it_may_pass(error, self._file, self._row)
                self.damaged = True
                if first <= self._row:
                    yield self._row, self._row, _damage(self._file, self._row, error)
                return
            if raw is None:
                return
            self._row += 1
            if self._row > first:
                yield self._row - 1, line, parsed(raw)


class _Parquet:
    """Row groups before what is wanted are skipped. Damage costs the rest of its row group, not of the file."""

    def __init__(self, parquet: ParquetRows, file: InputFile, text_key: str, id_key: str) -> None:
        self._parquet = parquet
        self._file = file
        self._keys = (text_key, id_key)
        text_key, id_key = self._paths = resolved(parquet.schema, text_key), resolved(parquet.schema, id_key)
        ids = field_at(parquet.schema, id_key)
        self._columns = [text_key, id_key] if ids is not None and can_hold_ids(ids.type) else [text_key]
        groups = range(parquet.metadata.num_row_groups)
        self._starts = [0, *accumulate(parquet.metadata.row_group(group).num_rows for group in groups)]
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        self._row = 0  # of the batch's first, or of the next batch's
        self.damaged = False

    def take(self, first: int, last: int) -> Iterator[_Numbered]:
        for group, start in enumerate(self._starts[:-1]):
            end = self._starts[group + 1]
            if end <= first or start >= last:
                continue
            if group != self._group:
                self._begin(group)
            yield from self._of_group(max(first, start), min(last, end))

    def _begin(self, group: int) -> None:
        self._group, self._row, self._batch = group, self._starts[group], None
        self._batches = self._parquet.batches(self._columns, [group])

    def _of_group(self, first: int, last: int) -> Iterator[_Numbered]:
        while True:
            if self._batch is None:
                try:
                    self._batch = next(self._batches, None)
                except DAMAGE as error:
                    _stop_if_it_may_pass(error, self._file, self._row)
                    self._batches, self.damaged = iter(()), True
                    if first <= self._row < last:
                        yield self._row, self._row, _damage(self._file, self._row, error)
                    return
                if self._batch is None:
                    return
            end = self._row + self._batch.num_rows
            begin = max(first, self._row)
            if begin < min(last, end):
                wanted = self._batch.slice(begin - self._row, min(last, end) - begin)
                for index, fields in enumerate(self._rows(wanted), begin):
                    yield index, index, fields
            if end > last:
                return
            self._row, self._batch = end, None
            if end == last:
                return

    def _rows(self, batch: pa.RecordBatch) -> list[_Fields | Fault]:
        (text_key, id_key), (text_path, id_path) = self._keys, self._paths
        ids = array_at(batch, id_path) if len(self._columns) > 1 else None
        columns = {id_key: ids_of(ids)} if ids is not None else {}
        return _values(pa.RecordBatch.from_pydict({**columns, text_key: array_at(batch, text_path)}))


def _count(file: InputFile, text_key: str) -> int:
    if file.size == 0:
        return 1
    rows = 0
    try:
        with file.open() as stream:
            if file.name.endswith(PARQUET_ENDINGS):
                opened = _opened_parquet(stream, file, text_key)
                return 1 if isinstance(opened, Problem) else int(opened.metadata.num_rows)
            for _ in json_rows(stream):
                rows += 1
    except DAMAGE as error:
        _stop_if_it_may_pass(error, file, rows)
        return rows + 1
    return rows


def _opened_parquet(stream: BinaryIO, file: InputFile, text_key: str) -> ParquetRows | Problem:
    try:
        parquet = ParquetRows(stream, _PAGE_BYTES, _PAGE_BYTES)
    except pa.ArrowInvalid:
        what = "this is no complete Parquet file"
        return Problem(file.name, None, "damaged_file", what, "it may be cut off: fetch it again")
    column = field_at(parquet.schema, resolved(parquet.schema, text_key))
    if column is None:
        what = named("column", text_key, parquet.schema.names)
        return Problem(file.name, None, "no_text_column", what, "choose with --text-key")
    if not is_text(column.type):
        what = f"the column {text_key!r} holds {column.type}, not strings"
        return Problem(file.name, None, "no_text_column", what, "choose with --text-key")
    return parquet


def _stop_if_it_may_pass(error: Exception, file: InputFile, row: int) -> None:
    """Damage carries no error number. What the system or the network reports may pass: never taken for damage, which
    would leave out the rest of the file for good."""
    if isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) is not None:
        raise StopError(f"Reading {file.name} failed after {row:,} rows: {plain(error)}.") from error


def _damage(file: InputFile, rows: int, error: Exception) -> Problem:
    what = f"the file is damaged after {rows:,} rows: {plain(error)}"
    return Problem(file.name, None, "damaged_file", what, "the rows before are used; fetch it again for the rest")


def _values(batch: pa.RecordBatch) -> list[_Fields | Fault]:
    """The rows of a batch; a Fault for one with a string that is not UTF-8."""
    try:
        return cast(list[_Fields | Fault], batch.to_pylist())
    except UnicodeDecodeError as broken:
        if batch.num_rows == 1:
            return [not_utf8("a value", broken.start)]
        return [row for i in range(batch.num_rows) for row in _values(batch.slice(i, 1))]
