"""Files of any kind → Documents, in a stable order, with every unusable row named.

Foreign column names are translated here, once; everything inside the house speaks `Document`.
"""

import fnmatch
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mga.engine_uri import public_uri
from mga.errors import InputError, StopError
from mga.records import Document, Problem, content_id
from mga.words import has_words

Row = Document | Problem

PARQUET_ENDINGS = (".parquet",)
JSONL_ENDINGS = tuple(f".{kind}{packed}" for kind in ("jsonl", "ndjson", "json") for packed in ("", ".gz", ".zst"))
_WILD = ("*", "?", "[")
_EDGE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the input: the address it is opened by, the name people see, its size in bytes."""

    url: str
    name: str
    size: int
    fs: Any

    def open(self) -> BinaryIO:
        return cast(BinaryIO, self.fs.open(self.url, "rb"))


def find_files(inputs: Sequence[str]) -> list[InputFile]:
    """Files, folders, globs and fsspec URLs → files, each once; within one input sorted by path.

    Raises InputError for a path that is not there, a pattern that matches nothing, a folder without
    Parquet or JSONL, an unknown file ending, and a file named twice.
    """
    found: list[InputFile] = []
    for given in inputs:
        try:
            found.extend(_find(given, public_uri(given)))
        except (OSError, ValueError, ImportError) as error:
            what = _plain(error).replace(given, public_uri(given))
            raise InputError(f"Cannot read {public_uri(given)}: {what}.") from error
    for name in (given for file in found for given in (file.name, file.url)):
        if not _is_unicode(name):
            raise InputError(f"The file name {name!r} is not valid UTF-8; rename the file.")
    seen: set[str] = set()
    for file in found:
        if file.url in seen:
            raise InputError(f"{file.name} is named twice in the input; name it once.")
        seen.add(file.url)
    if not found:
        raise InputError("No input: name at least one Parquet or JSONL file, folder, glob or URL.")
    return found


def _find(given: str, shown: str) -> list[InputFile]:
    fs, path = fsspec.core.url_to_fs(given)
    if any(mark in path for mark in _WILD) and not fs.exists(path):
        paths = [p for p in sorted(fs.glob(path)) if not fs.isdir(p)]
        if not paths:
            raise InputError(f"The pattern {shown} matches no file.")
    elif fs.isdir(path):
        endings = PARQUET_ENDINGS + JSONL_ENDINGS
        paths = [p for p in sorted(fs.find(path)) if p.endswith(endings)]
        if not paths:
            raise InputError(f"The folder {shown} holds no Parquet or JSONL file ({', '.join(endings)}).")
    elif fs.exists(path):
        paths = [path]
    else:
        raise InputError(f"There is no file, folder or match for {shown}.")
    for p in paths:
        if not p.endswith(PARQUET_ENDINGS + JSONL_ENDINGS):
            kinds = "Parquet (.parquet) nor JSON Lines (.jsonl, .jsonl.gz, .jsonl.zst)"
            raise InputError(f"{public_uri(p)} is neither {kinds}.")
    wild = [path.find(mark) for mark in _WILD if mark in path] if path not in paths else []
    base = path[: min(wild, default=len(path.rstrip("/")))].rpartition("/")[0]
    return [InputFile(p, public_uri(p.removeprefix(base).lstrip("/")), int(fs.size(p) or 0), fs) for p in paths]


def fingerprint(files: Sequence[InputFile]) -> str:
    """Identity of the input: names, sizes, and the first and last 64 KiB of every file."""
    parts: list[object] = []
    for file in files:
        with file.open() as stream:
            head = stream.read(_EDGE_BYTES)
            stream.seek(max(0, file.size - _EDGE_BYTES))
            parts += [file.name, file.size, head.hex(), stream.read(_EDGE_BYTES).hex()]
    return content_id(*parts)


def count_rows(files: Sequence[InputFile], at_most_bytes: int = 512 << 20) -> int | None:
    """Rows of the input for a progress bar; None where counting would cost a long read."""
    jsonl = [f for f in files if not f.name.endswith(PARQUET_ENDINGS)]
    if sum(f.size for f in jsonl) > at_most_bytes:
        return None
    total = 0
    for file in files:
        try:
            with file.open() as stream:
                if file in jsonl:
                    for line in decompressed(stream):
                        total += bool(line.strip())
                else:
                    total += pq.ParquetFile(stream).metadata.num_rows
        except (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowInvalid):
            continue
    return total


def read(
    files: Sequence[InputFile], text_key: str = "text", id_key: str = "id", limit: int | None = None
) -> Iterator[Row]:
    """Every row of the input in order, as a Document or as the Problem that makes it unusable.

    A file that breaks off yields its readable rows, then one Problem. `limit` counts documents. The
    document id is the row's own, else a hash of its text.
    """
    documents = 0
    for number, file in enumerate(files):
        for row in _read_file(number, file, text_key, id_key):
            if documents == limit:
                return
            documents += isinstance(row, Document)
            yield row


def _read_file(number: int, file: InputFile, text_key: str, id_key: str) -> Iterator[Row]:
    reader = _parquet_rows if file.name.endswith(PARQUET_ENDINGS) else _jsonl_rows
    row = -1
    if file.size == 0:
        yield Problem(file.name, None, "empty_file", "the file is empty", "remove it or write it again")
        return
    try:
        with file.open() as stream:
            for row, fields in enumerate(reader(stream, file, text_key, id_key)):
                if isinstance(fields, Problem):
                    yield fields
                elif fields is not None:
                    yield _document(fields, f"{number}:{row}", row, file, text_key, id_key)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError, pa.ArrowException) as error:
        # Damage carries no error number. What the system or the network reports may pass: never taken for damage,
        # which would leave out the rest of the file for good.
        if isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) is not None:
            raise StopError(f"Reading {file.name} failed after {row + 1:,} rows: {_plain(error)}.") from error
        what = f"the file is damaged after {row + 1:,} rows: {_plain(error)}"
        yield Problem(file.name, None, "damaged_file", what, "the rows before are used; fetch it again for the rest")


def _parquet_rows(stream: BinaryIO, file: InputFile, text_key: str, id_key: str) -> Iterator[dict[str, Any] | Problem]:
    try:
        parquet = pq.ParquetFile(stream)
    except pa.ArrowInvalid:
        yield Problem(
            file.name,
            None,
            "damaged_file",
            "this is no complete Parquet file",
            "it may be cut off: fetch it again",
        )
        return
    columns = parquet.schema_arrow.names
    if text_key not in columns:
        yield Problem(
            file.name, None, "no_text_column", _missing("column", text_key, columns), "choose with --text-key"
        )
        return
    row = 0
    wanted = [text_key, id_key] if _holds_ids(parquet.schema_arrow, id_key) else [text_key]
    for batch in parquet.iter_batches(512, columns=wanted):
        try:
            yield from batch.to_pylist()
        except UnicodeDecodeError:
            for i in range(batch.num_rows):
                yield _parquet_row(batch.slice(i, 1), file, row + i)
        row += batch.num_rows


def _holds_ids(schema: pa.Schema, id_key: str) -> bool:
    """Whether the column is there once and holds strings or whole numbers; no other value serves as an id."""
    if schema.names.count(id_key) != 1:
        return False
    kind = schema.field(id_key).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return pa.types.is_integer(kind) or any(is_string(kind) for is_string in strings)


def _parquet_row(batch: pa.RecordBatch, file: InputFile, row: int) -> dict[str, Any] | Problem:
    try:
        return cast(dict[str, Any], batch.to_pylist()[0])
    except UnicodeDecodeError as broken:
        what = f"byte {broken.start:,} of a value is not UTF-8"
        return Problem(file.name, row, "not_utf8", what, "write the file again as UTF-8")


def _jsonl_rows(
    stream: BinaryIO, file: InputFile, text_key: str, id_key: str
) -> Iterator[dict[str, Any] | Problem | None]:
    for row, raw in enumerate(decompressed(stream)):
        line = raw.removeprefix(b"\xef\xbb\xbf") if row == 0 else raw
        if not line.strip():
            yield None
            continue
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Problem(file.name, row, *_json_problem(line, error))
            continue
        if isinstance(fields, dict):
            yield fields
        else:
            what = f"the line holds {_kind(fields)} where an object with a {text_key!r} field is expected"
            yield Problem(file.name, row, "not_an_object", what, "one JSON object per line")


def decompressed(stream: BinaryIO) -> BinaryIO:
    """Judged by the first bytes, not by the name: plain text under a .gz name is read as it is."""
    magic = stream.read(4)
    stream.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(stream))
    if magic == b"\x28\xb5\x2f\xfd":
        return cast(BinaryIO, io.BufferedReader(_Zstd(stream)))
    return stream


class _Zstd(io.RawIOBase):
    """Unpacks frame after frame. Data that stops inside a frame is an error, as with gzip, and not an end."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._rest = b""
        self._unpacked = memoryview(b"")
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._unpacked:
            packed = self._rest or self._packed.read(_EDGE_BYTES)
            if not packed and self._frame is None:
                return 0
            if not packed:
                raise EOFError("Compressed file ended inside a frame")
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._unpacked, self._rest = memoryview(self._frame.decompress(packed)), b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        n = min(len(target), len(self._unpacked))
        target[:n], self._unpacked = self._unpacked[:n], self._unpacked[n:]
        return n


def _document(fields: dict[str, Any], position: str, row: int, file: InputFile, text_key: str, id_key: str) -> Row:
    text = fields.get(text_key)
    if text_key not in fields:
        return Problem(file.name, row, "no_text", _missing("field", text_key, list(fields)), "choose with --text-key")
    if not isinstance(text, str):
        return Problem(file.name, row, "text_not_string", f"{text_key!r} is {_kind(text)}, not a string", "convert it")
    if not has_words(text):
        return Problem(file.name, row, "empty_text", f"{text_key!r} holds no word", "nothing to rewrite")
    given = fields.get(id_key)
    usable = isinstance(given, str | int) and not isinstance(given, bool) and given != ""
    return Document(str(given) if usable else content_id(text), text, position)


def _json_problem(line: bytes, error: orjson.JSONDecodeError) -> tuple[str, str, str]:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as broken:
        return "not_utf8", f"byte {broken.start:,} of the line is not UTF-8", "convert the file to UTF-8"
    if "surrogate" in str(error):
        return "not_unicode", "it holds half of a surrogate pair", "replace it with U+FFFD"
    return (
        "not_json",
        f"the line is not valid JSON: {error.msg} at character {error.colno:,}",
        "mend or remove it",
    )


def _missing(noun: str, key: str, present: Sequence[str]) -> str:
    near = fnmatch.filter(present, f"*{key}*")
    shown = ", ".join([*near, *(name for name in present if name not in near)][:12]) or "none"
    return f"there is no {noun} {key!r}; the {noun}s are: {shown}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    kinds = {type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
    kinds |= {str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)


def _plain(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
