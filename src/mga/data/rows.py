"""The rows of a file, for whoever reads one: documents (`reading.py`) and whole corpora (`corpus/files.py`).

JSON comes as JSON Lines or as an array of objects, told apart by how the file begins, packed or not; a blank line is no
row. Parquet comes in batches that are small once decoded, however small they are in the file.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from mga.data.columns import ABSENT, is_text, named, value_at
from mga.data.documents import decompressed

DAMAGE = (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException)
"""What reading a damaged file raises; an OSError may also be a fault that passes."""

_BLOCK = 1 << 20
_HEAD = 256
_MARK = b"\xef\xbb\xbf"
_MOST_ROWS = 65_536
_GAP = re.compile(rb"[\s,]*+")
_PLAIN = re.compile(rb'["{}\[\],]')
_QUOTED = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_LARGEST = 1 << 63
_PACKED = 64
"""How many times smaller a dictionary may be in the file than in memory."""
_FEW = 64


class Fault(NamedTuple):
    """Why a row cannot be used: a reason in one word, what is there, and what to do about it."""

    kind: str
    what: str
    advice: str


# ── JSON ──


def json_rows(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Rows of JSON Lines, or of arrays, each on one line, with the line (of arrays: the element) of the file, from 0.

    Raises one of DAMAGE where the file breaks off: an array that does not end is an EOFError."""
    if begins_array(stream):
        yield from enumerate(_elements(decompressed(stream)))
        return
    for number, line in enumerate(decompressed(stream)):
        row = line.removeprefix(_MARK) if number == 0 else line
        if not row.isspace():
            yield number, row


def begins_array(stream: BinaryIO) -> bool:
    """Whether a file begins with an array of objects (a line such as ["x"] is a row, if not a good one)."""
    try:
        head = decompressed(stream).read(_HEAD).removeprefix(_MARK).lstrip()
    except DAMAGE:  # whoever reads the rows will hear of it
        head = b""
    stream.seek(0)
    return head.startswith(b"[") and head[1:].lstrip()[:1] in (b"{", b"]", b"")


def _elements(stream: BinaryIO) -> Iterator[bytes]:
    """Elements of arrays that follow each other. What stands outside of them is read as lines."""
    held, at, inside = bytearray(stream.read(_BLOCK).removeprefix(_MARK)), 0, False
    while True:
        at = _GAP.match(held, at).end()  # type: ignore[union-attr]
        if at == len(held):
            held, at = bytearray(stream.read(_BLOCK)), 0
            if held:
                continue
            if inside:
                raise EOFError("the JSON array does not end")
            return
        if held[at] == ord("]" if inside else "["):
            inside = not inside
            at += 1
            continue
        end, depth, quoted, scanned = -1, 0, False, at
        while end < 0:
            if quoted:
                scanned = _QUOTED.match(held, scanned).end()  # type: ignore[union-attr]
                quoted = not held.startswith(b'"', scanned)
                scanned += not quoted
            found = _PLAIN.search(held, scanned) if inside and not quoted else None
            if not inside and (newline := held.find(b"\n", scanned)) >= 0:
                end = newline
            elif found is None:
                scanned = scanned if quoted else len(held)
                if not (block := stream.read(_BLOCK)):
                    if inside:
                        raise EOFError("the JSON array does not end")
                    end = len(held)
                held += block
            elif depth == 0 and found[0] in b",]}":
                end = found.end() if found[0] == b"}" else found.start()
            else:
                scanned = found.end()
                quoted = found[0] == b'"'
                depth += (found[0] in b"{[") - (found[0] in b"}]")
                if depth == 0 and not quoted and found[0] in b"}]":
                    end = scanned
        yield bytes(held[at:end]).replace(b"\n", b" ").replace(b"\r", b" ").rstrip()  # no string of JSON holds these
        at = end
        if at > _BLOCK:
            del held[:at]
            at = 0


def parsed(row: bytes) -> dict[str, Any] | Fault:
    """The fields of a row of JSON, or why it has none.

    It must be an object of standard JSON (RFC 8259): NaN, halves of surrogate pairs and a field that comes twice are
    faults, since programs differ in what they make of them.
    """
    try:
        fields = orjson.loads(row)
    except orjson.JSONDecodeError as error:
        return _json_fault(row, error)
    if not isinstance(fields, dict):
        what = f"the line holds {kind_of(fields)} where a JSON object is expected"
        return Fault("not_an_object", what, "one JSON object per line")
    if any(row.count(_quoted(name)) > 1 for name in fields) and (twice := _repeated(row)):
        return Fault("repeated_field", f"the field {twice!r} comes twice", "keep one of them")
    if any(type(value) is float and abs(value) >= _LARGEST for value in fields.values()):
        fields = json.loads(row)  # which reads whole numbers of any length
    return cast(dict[str, Any], fields)


def text_fault(fields: Mapping[str, Any], text_key: str) -> Fault | None:
    """Why a row's text cannot be used: it is not there, or no string."""
    text = value_at(fields, text_key)
    if text is ABSENT:
        return Fault("no_text", named("field", text_key, list(fields)), "choose with --text-key")
    return None if isinstance(text, str) else not_text(text_key, kind_of(text))


def not_text(text_key: str, kind: str) -> Fault:
    """The fault of a text that is something else."""
    return Fault("text_not_string", f"{text_key!r} is {kind}, not a string", "convert it")


def not_utf8(what: str, at: int) -> Fault:
    """The fault of a value or line whose byte `at` (from 0) is no UTF-8."""
    return Fault("not_utf8", f"byte {at:,} of {what} is not UTF-8", "convert it to UTF-8")


def kind_of(value: object) -> str:
    """What a value of JSON or Parquet is, for people."""
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
    kinds |= {str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)


@lru_cache(4096)
def _quoted(name: str) -> bytes:
    return orjson.dumps(name)


class _RepeatedError(Exception):
    pass


def _repeated(row: bytes) -> str | None:
    """The first field that an object in a row has twice."""

    def once(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _RepeatedError(name)
            seen.add(name)

    try:
        json.loads(row, object_pairs_hook=once)
    except _RepeatedError as found:
        return str(found)
    return None


def _json_fault(row: bytes, error: orjson.JSONDecodeError) -> Fault:
    try:
        row.decode("utf-8")
    except UnicodeDecodeError as broken:
        return not_utf8("the line", broken.start)
    if "surrogate" in str(error):
        return Fault("not_unicode", "it holds half of a surrogate pair", "replace it with U+FFFD")
    what = f"the line is not valid JSON: {error.msg} at character {error.colno:,}"
    return Fault("not_json", what, "mend or remove it")


# ── Parquet ──


class ParquetRows:
    """A Parquet file's rows in batches of about `size` bytes once decoded, or of one row that is larger.

    A column that is small only because equal values are stored once is read as it is stored, and decoded piece by
    piece. `schema` is the file's own. Raises pa.ArrowInvalid for what is no Parquet file.
    """

    def __init__(self, stream: BinaryIO, size: int, page_bytes: int = 0) -> None:
        self._how: dict[str, Any] = {"buffer_size": page_bytes, "pre_buffer": False} if page_bytes else {}
        self._stream = stream
        self._plain = pq.ParquetFile(stream, **self._how)
        self.schema: pa.Schema = self._plain.schema_arrow
        self.metadata = self._plain.metadata
        self._size = size

    @cached_property
    def _stored_once(self) -> frozenset[str]:
        """Columns that are read as they are stored."""
        groups = range(self.metadata.num_row_groups)
        return frozenset(name for group in groups for name, _ in self._worst(group) if self._is_text(name))

    @cached_property
    def _parquet(self) -> pq.ParquetFile:
        if not self._stored_once:
            return self._plain
        columns = sorted(self._stored_once)
        return pq.ParquetFile(self._stream, metadata=self.metadata, read_dictionary=columns, **self._how)

    def batches(
        self, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of some row groups (None: all), with some columns (None: all) in the types of the file."""
        chosen = range(self.metadata.num_row_groups) if groups is None else groups
        for step, alike in groupby(chosen, key=lambda group: self._rows_at_once(group, columns)):
            found = self._parquet.iter_batches(step, row_groups=list(alike), columns=columns)
            yield from self._joined(piece for batch in found for piece in self._pieces(batch))

    def _rows_at_once(self, group: int, columns: Sequence[str] | None) -> int:
        """Rows of a row group that take about an eighth of a batch, as a power of two."""
        held = self.metadata.row_group(group)
        chunks = [held.column(i) for i in range(held.num_columns)]
        if columns is not None:
            chunks = [one for one in chunks if any(f"{one.path_in_schema}.".startswith(f"{c}.") for c in columns)]
        size = sum(one.total_uncompressed_size for one in chunks if one.path_in_schema not in self._stored_once)
        rows = self._size // 8 * held.num_rows // max(size, 1)
        nested = [worst for name, worst in self._worst(group) if name not in self._stored_once]
        nested += [one.total_uncompressed_size for one in chunks if "DELTA_BYTE_ARRAY" in one.encodings]
        if worst := max(nested, default=0):
            rows = min(rows, max(_FEW, self._size // worst))
        return 1 << max(0, int(min(rows, _MOST_ROWS)).bit_length() - 1)

    def _worst(self, group: int) -> Iterator[tuple[str, int]]:
        """Columns whose values may take far more once decoded than in the file, and the largest size of a value."""
        held = self.metadata.row_group(group)
        for chunk in (held.column(i) for i in range(held.num_columns)):
            if chunk.physical_type != "BYTE_ARRAY" or not chunk.num_values:
                continue
            packed = chunk.total_compressed_size
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                dictionary = chunk.data_page_offset - chunk.dictionary_page_offset
                worst = min(chunk.total_uncompressed_size, max(dictionary, 0) * _PACKED)
                if packed - dictionary < 4 * chunk.num_values and worst * chunk.num_values > self._size:
                    yield chunk.path_in_schema, worst

    def _is_text(self, name: str) -> bool:
        index = self.schema.get_field_index(name)
        kind = self.schema.field(index).type if index >= 0 else None
        return kind is not None and is_text(kind) and not pa.types.is_dictionary(kind)

    def _pieces(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """A batch in pieces that are small once decoded, in the types of the file."""
        if batch.num_rows > 1 and self._decoded_bytes(batch) > self._size:
            half = batch.num_rows // 2
            yield from self._pieces(batch.slice(0, half))
            yield from self._pieces(batch.slice(half))
            return
        for index, field in enumerate(batch.schema):
            if field.name in self._stored_once:
                kind = self.schema.field(field.name).type
                decoded = batch.column(index).dictionary_decode()
                batch = batch.set_column(index, field.with_type(kind), decoded.cast(kind))
        yield batch

    def _decoded_bytes(self, batch: pa.RecordBatch) -> int:
        size = 0
        for column in batch.columns:
            if isinstance(column, pa.DictionaryArray) and is_text(column.type):
                lengths = pc.binary_length(column.dictionary.cast(pa.large_string()))
                size += pc.sum(lengths.take(column.indices)).as_py() or 0
            else:
                size += column.nbytes
        return size

    def _joined(self, pieces: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Small batches joined into larger ones, up to the size."""
        held: list[pa.RecordBatch] = []
        size = 0
        try:
            for piece in pieces:
                added = self._decoded_bytes(piece)
                if held and size + added > self._size:
                    yield _one(held)
                    held, size = [], 0
                held.append(piece)
                size += added
        except DAMAGE:
            if held:
                yield _one(held)
            raise
        if held:
            yield _one(held)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.to_batches()[0] if table.num_rows else batches[0]
