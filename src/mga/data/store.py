"""Files that exist whole or not at all, on a disk (written beside, forced to disk, renamed) or in an object store."""

import fcntl
import fnmatch
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import orjson
import tenacity
from fsspec import get_filesystem_class
from upath import UPath

from mga.engine_uri import public_uri
from mga.errors import InputError, StopError
from mga.packages import require_store

Place: TypeAlias = Path | UPath
"""A file or folder: of this machine, or of an object store."""

Result = TypeVar("Result")
PATIENCE_S = 600.0  # with an object store


def place(given: str | Path) -> Place:
    """The file or folder that a path or a URL (`s3://bucket/run`) names. Raises InputError for a URL that nobody can
    open here."""
    if "://" not in str(given):
        return Path(given)
    require_store(str(given))
    try:
        get_filesystem_class(str(given).partition("://")[0])
        # A remembered listing would hide what others have made since.
        return UPath(str(given), use_listings_cache=False)
    except (ValueError, ImportError) as error:
        raise InputError(f"Cannot open {public_uri(str(given))}: {error}.") from error


def write_json(path: Place, value: object) -> None:
    """A value as indented JSON with sorted keys, atomically."""
    write_atomically(path, as_json(value))


def as_json(value: object) -> bytes:
    """A value as indented JSON with sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def write_atomically(path: Place, data: bytes | memoryview) -> None:
    """The file whole under its name, or StopError and no file. A store in a network is given time to come back."""
    if not isinstance(path, Path):
        _patiently(path, lambda: path.fs.pipe_file(path.path, bytes(data)))
        return
    _write_beside(path, data, _replace)


def create(path: Place, data: bytes) -> bool:
    """The file whole under its name, unless there is one: then False, and that one stays. Of many that try at once,
    on whatever machines, one is told True."""
    if not isinstance(path, Path):
        return _patiently(path, lambda: _created_remotely(path, data))
    return _write_beside(path, data, _link)


def _write_beside(path: Path, data: bytes | memoryview, give_name: Callable[[Path, Path], bool]) -> bool:
    """Write a file beside its place, force it to the disk and give it its name; what `give_name` returns."""
    for attempt in count():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _beside(path) as (beside, opened):
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(opened, rest) :]
                os.fsync(opened)
                is_named = give_name(beside, path)
                _force(path.parent)
            return is_named
        except OSError as error:
            if isinstance(error, FileNotFoundError) and attempt < 100:
                continue  # somebody has removed the empty folder, or what was half written
            raise StopError(f"Cannot write {path}: {error.strerror}. Make room or rights, then run again.") from error
    raise AssertionError("it is written, or an error says why not")


def _replace(beside: Path, path: Path) -> bool:
    beside.replace(path)
    return True


def _link(beside: Path, path: Path) -> bool:
    with suppress(FileExistsError):
        os.link(beside, path)
        return True
    return False


@contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, int]]:
    """An empty file for what is to become `path`, and its descriptor, of this writer alone: it is locked as long as the
    writer lives, and gone at the end unless it has another name by then. What a killed writer left is used again."""
    mine = beside = path.with_name(f".{path.name}.writing")
    while True:
        opened = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        has_lock = _lock(opened)
        if (has_lock or (has_lock is None and beside is not mine)) and _is_name_of(beside, opened):
            break
        os.close(opened)
        beside = mine.with_name(f".{path.name}.{secrets.token_hex(4)}.writing")
    try:
        if os.fstat(opened).st_size:
            os.ftruncate(opened, 0)
        yield beside, opened
    finally:
        if _is_name_of(beside, opened):
            with suppress(OSError):
                beside.unlink()
        os.close(opened)


def _lock(opened: int) -> bool | None:
    """Take an open file; False when another writer has it, None where the file system has no locks."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_name_of(name: Path, opened: int) -> bool:
    try:
        return os.path.samestat(name.stat(), os.fstat(opened))
    except FileNotFoundError:
        return False


def sweep(folder: Path) -> None:
    """Delete what killed writers have left half written directly in a folder; what is being written stays."""
    for beside in folder.glob(".*.writing"):
        with suppress(OSError):
            opened = os.open(beside, os.O_RDWR)
            try:
                if _lock(opened) and _is_name_of(beside, opened):
                    beside.unlink()
            finally:
                os.close(opened)


def without_links(path: Path) -> Path:
    """The absolute path that links lead to. Of links in a circle, which `Path.resolve` raises RuntimeError for, as far
    as they go: whoever opens them gets an OSError that says so."""
    return Path(os.path.realpath(path))


def exists(path: Place) -> bool:
    """Whether there is a file under this name, which is small: a store is asked for it, the cheapest of questions."""
    if isinstance(path, Path):
        return path.exists()
    with suppress(FileNotFoundError):
        read(path)
        return True
    return False


def read(path: Place) -> bytes:
    """A whole file. Raises FileNotFoundError when there is none."""
    if isinstance(path, Path):
        return path.read_bytes()
    return bytes(_patiently(path, lambda: path.fs.cat_file(path.path)))


def listed(folder: Place, pattern: str) -> list[Place]:
    """The files directly in a folder whose names match, by name; none when there is no folder. One listing."""
    if isinstance(folder, Path):
        return list[Place](sorted(folder.glob(pattern)))
    return _patiently(folder, lambda: _listed_remotely(folder, pattern))


def move(source: Place, target: Place) -> None:
    """Give a whole file another name in the same store, over what is there; nothing when it has been moved already."""
    if not isinstance(source, Path):
        _patiently(source, lambda: _moved_remotely(source, target))
        return
    target = Path(str(target))
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
    with suppress(FileNotFoundError):
        if isinstance(path, Path):
            path.unlink()
        else:
            _patiently(path, lambda: path.fs.rm_file(path.path))


def _listed_remotely(folder: UPath, pattern: str) -> list[Place]:
    try:
        names = folder.fs.ls(folder.path, detail=False)
    except FileNotFoundError:
        return []
    files = (name.rstrip("/").rpartition("/")[2] for name in names)
    return [folder / name for name in sorted(files) if fnmatch.fnmatchcase(name, pattern)]


def _created_remotely(path: UPath, data: bytes) -> bool:
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except FileExistsError:
        # An attempt whose answer was lost may have made it.
        with suppress(FileNotFoundError):  # deleted since
            return bytes(path.fs.cat_file(path.path)) == data
        return False
    return True


def _moved_remotely(source: UPath, target: Place) -> None:
    with suppress(FileNotFoundError):  # moved before
        source.fs.cp_file(source.path, UPath(target).path)
        source.fs.rm_file(source.path)


def _patiently(path: UPath, work: Callable[[], Result]) -> Result:
    """Work on an object store, tried again while it is away or has too much to do."""
    try:
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_not_exception_type((FileNotFoundError, PermissionError, FileExistsError)),
            stop=tenacity.stop_after_delay(PATIENCE_S),
            wait=tenacity.wait_exponential_jitter(multiplier=0.2, max=30),
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
        return orjson.loads(read(path))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} is damaged: {error}.") from error
