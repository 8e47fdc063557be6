"""The files of an input, wherever they lie, in a stable order. Their rows: `reading.py`."""

import gzip
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import fsspec
import orjson
import zstandard

from mga.data.output_folder import CORPORA, FolderKind, kind_of
from mga.data.store import place
from mga.engine_uri import public_uri
from mga.errors import InputError
from mga.packages import require_store
from mga.records import content_id

PARQUET_ENDINGS = (".parquet",)
JSONL_ENDINGS = tuple(f".{kind}{packed}" for kind in ("jsonl", "ndjson", "json") for packed in ("", ".gz", ".zst"))
_WILD = ("*", "?", "[")
_EDGE_BYTES = 65_536
_POINTER, _POINTER_BYTES = b"version https://git-lfs", 1024
_DESCRIPTION_BYTES = 4 << 20
_DESCRIBING = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "croissant.json")
_MOST_WINDOW = 1 << 31  # what `zstd --long=31` needs, the most there is


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of the input: the address it is opened by, the name people see, its size in bytes."""

    url: str
    name: str
    size: int
    fs: Any

    def open(self) -> BinaryIO:
        return cast(BinaryIO, self.fs.open(self.url, "rb"))


def find_files(inputs: Sequence[str], allowed: Collection[FolderKind] = ()) -> list[InputFile]:
    """Files, folders, globs and fsspec URLs → files, each once; within one input sorted by path. A folder of a run, or
    of what a command has made of one, stands for its kept texts. Of a folder or pattern hidden files are left out, and
    .json files that only describe the data.

    Raises InputError for a path that is not there, a pattern that matches nothing, a folder without
    Parquet or JSONL, a folder that another command of mga has written (unless its kind is `allowed`), what is no
    ordinary file (a pipe, a socket, a device), an unknown file ending, and a file named twice.
    """
    found: list[InputFile] = []
    for given in inputs:
        if not given:
            raise InputError("An empty name is among the inputs; name a file, folder, glob or URL.")
        require_store(given)
        try:
            found.extend(_find(_corpus_in(given, allowed), public_uri(given)))
        except (OSError, ValueError, ImportError) as error:
            what = plain(error).replace(given, public_uri(given))
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


def _corpus_in(given: str, allowed: Collection[FolderKind]) -> str:
    """Where the texts of an input lie: those of a folder of mga in its kept/."""
    kind = None if any(mark in given for mark in _WILD) else kind_of(place(given))
    if kind is None or kind in allowed:
        return given
    if kind not in CORPORA:
        raise InputError(
            f"{public_uri(given)} holds {kind.what} ({kind.command}), and no documents; name the documents themselves."
        )
    return f"{given.rstrip('/')}/kept"


def _find(given: str, shown: str) -> list[InputFile]:
    fs, path = fsspec.core.url_to_fs(given)
    if any(mark in path for mark in _WILD) and not fs.exists(path):
        start = path[: min(path.find(mark) for mark in _WILD if mark in path)].rpartition("/")[0]
        paths = [p for p in sorted(fs.glob(path)) if not fs.isdir(p)]
        if "/." not in path.removeprefix(start):
            paths = [p for p in paths if not _is_hidden(p.removeprefix(start))]
        if not paths:
            raise InputError(f"The pattern {shown} matches no file.")
    elif fs.isdir(path):
        endings = PARQUET_ENDINGS + JSONL_ENDINGS
        there = [p for p in sorted(fs.find(path)) if not _is_hidden(p.removeprefix(path.rstrip("/")))]
        paths = [p for p in there if p.endswith(endings)]
        _refuse_pipes(paths, fs)
        paths = [p for p in paths if not _is_side_file(p, fs, paths)]
        if not paths:
            raise InputError(f"The folder {shown} holds no Parquet or JSONL file ({', '.join(endings)}).")
    elif fs.exists(path):
        paths = [path]
    else:
        raise InputError(f"There is no file, folder or match for {shown}.")
    _refuse_pipes(paths, fs)
    for p in paths:
        if not p.endswith(PARQUET_ENDINGS + JSONL_ENDINGS):
            kinds = "Parquet (.parquet) nor JSON Lines (.jsonl, .jsonl.gz, .jsonl.zst)"
            raise InputError(f"{public_uri(p)} is neither {kinds}.")
    wild = [path.find(mark) for mark in _WILD if mark in path] if path not in paths else []
    base = path[: min(wild, default=len(path.rstrip("/")))].rpartition("/")[0]
    files = [InputFile(p, public_uri(p.removeprefix(base).lstrip("/")), int(fs.size(p) or 0), fs) for p in paths]
    for file in files:
        if 0 < file.size < _POINTER_BYTES and _beginning(fs, file.url).startswith(_POINTER):
            raise InputError(f"{file.name} is a pointer of Git LFS and not the file itself; run: git lfs pull.")
    return files


def _refuse_pipes(paths: Sequence[str], fs: Any) -> None:
    """Raise InputError for what is no ordinary file: opening it may wait for ever."""
    for path in paths:
        if fs.info(path)["type"] == "other":
            raise InputError(f"{public_uri(path)} is a pipe, socket or device; write what it holds into a file first.")


def _is_hidden(path: str) -> bool:
    """Whether a path below the named folder is no data: hidden (.cache, .git, ._a.jsonl), or what a writer keeps for
    itself (_SUCCESS, _temporary/, _delta_log/, __MACOSX/). A file whose name begins with one underscore may be data."""
    *folders, name = [part for part in path.split("/") if part] or [""]
    return name.startswith(".") or any(part.startswith((".", "_")) for part in folders)


def _is_side_file(path: str, fs: Any, beside: Sequence[str]) -> bool:
    """Whether a .json file among the data of a folder describes them, as clones of a model hub have it: one of known
    name, or one beside other kinds of files that holds a single object."""
    name = path.rpartition("/")[2]
    if name in _DESCRIBING:
        return True
    if not path.endswith(".json") or all(other.endswith(".json") for other in beside):
        return False
    if int(fs.size(path) or 0) > _DESCRIPTION_BYTES:
        return False
    with fs.open(path, "rb") as stream:
        try:
            return isinstance(orjson.loads(stream.read()), dict)
        except orjson.JSONDecodeError:
            return False


def _beginning(fs: Any, path: str) -> bytes:
    with fs.open(path, "rb") as stream:
        return bytes(stream.read(len(_POINTER)))


def fingerprint(files: Sequence[InputFile]) -> str:
    """Identity of the input: names, sizes, and the first and last 64 KiB of every file."""
    parts: list[object] = []
    for file in files:
        with file.open() as stream:
            head = stream.read(_EDGE_BYTES)
            stream.seek(max(0, file.size - _EDGE_BYTES))
            parts += [file.name, file.size, head.hex(), stream.read(_EDGE_BYTES).hex()]
    return content_id(*parts)


def decompressed(stream: BinaryIO) -> BinaryIO:
    """Judged by the first bytes, not by the name: plain text under a .gz name is read as it is."""
    magic = stream.read(4)
    stream.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return cast(BinaryIO, gzip.open(stream))
    if magic == b"\x28\xb5\x2f\xfd" or (magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5):  # a frame to be skipped
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
            self._frame = self._frame or zstandard.ZstdDecompressor(max_window_size=_MOST_WINDOW).decompressobj()
            self._unpacked, self._rest = memoryview(self._frame.decompress(packed)), b""
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        n = min(len(target), len(self._unpacked))
        target[:n], self._unpacked = self._unpacked[:n], self._unpacked[n:]
        return n


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
