"""Columns of numbers on disk, for what would not fit in memory: appended a piece at a time, whole or not there."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.data.store import committed
from mga.errors import StopError


class Columns:
    """A folder with a file of raw numbers for each column. It has its name only once all is written.

    Use it in a `with`: leaving it without an error makes the folder whole. Raises StopError when the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._beside = folder.with_name(f".{folder.name}.writing")

    def __enter__(self) -> "Columns":
        for left in self._beside, self._folder:
            if left.exists():
                shutil.rmtree(left)
        self._beside.mkdir(parents=True)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            return
        try:
            for path in self._beside.iterdir():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
            committed(self._beside, self._folder)
        except OSError as failed:
            raise self._stopped(failed) from failed

    def add(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Append numbers to columns of these names."""
        try:
            for name, values in columns.items():
                with (self._beside / name).open("ab") as stream:
                    stream.write(np.ascontiguousarray(values).data)
        except OSError as failed:
            raise self._stopped(failed) from failed

    def _stopped(self, failed: OSError) -> StopError:
        return StopError(f"Cannot write {self._folder}: {failed.strerror}. Make room or rights, then run again.")


def column(folder: Path, name: str, kind: type[np.generic]) -> NDArray[Any]:
    """A whole column; empty when nothing was ever added to it."""
    path = folder / name
    return np.fromfile(path, kind) if path.exists() else np.empty(0, kind)


def large_column(folder: Path, name: str, kind: type[np.generic], most: int) -> NDArray[Any]:
    """A whole column, mapped from the disk instead of read when it has more than so many bytes."""
    path = folder / name
    if path.exists() and path.stat().st_size > most:
        return np.asarray(np.memmap(path, kind, "c"))
    return column(folder, name, kind)


def pieces(folder: Path, name: str, kind: type[np.generic], most: int) -> Iterator[NDArray[Any]]:
    """A column in pieces of at most so many numbers."""
    path = folder / name
    if path.exists():
        with path.open("rb") as stream:
            while len(piece := np.fromfile(stream, kind, most)):
                yield piece


def rows_in(folder: Path, name: str, kind: type[np.generic]) -> int:
    """Numbers in a column."""
    path = folder / name
    return path.stat().st_size // np.dtype(kind).itemsize if path.exists() else 0
