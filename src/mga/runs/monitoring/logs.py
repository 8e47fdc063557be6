"""The log of a run: one JSON object a line, a file for each process in the run's `logs/`.

A handler of the standard library's logging, so libraries' warnings can be had in the same way, and python-json-logger
for the lines. On a disk a line is in the file at once. An object store cannot append: there the lines are kept, and
written every now and then as a file that grows up to `PART_BYTES`, then the next one.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pythonjsonlogger.json import JsonFormatter
from upath import UPath

from mga.data.store import Place, delete, write_atomically
from mga.errors import InputError, StopError

PART_BYTES = 1 << 20
KEPT_AT_MOST = 10_000  # lines, before the log has a place


def json_lines() -> logging.Formatter:
    """`time` (UTC, ISO 8601), `level`, `event`, then the event's own fields."""
    return JsonFormatter(
        ["levelname"],
        rename_fields={"levelname": "level"},
        defaults={"time": None},  # so that it stands first; filled in by the next line
        timestamp="time",
    )


class RunLog(logging.Handler):
    """The log in the run folder. Lines are kept until `begin` says where it lies: the folder may be refused."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(json_lines())
        self._place: Place | None = None
        self._lines: list[str] = []
        self._written = 0  # of them, lines that the store has
        self._part = 0
        self._writing = threading.Lock()

    def begin(self, place: Place) -> None:
        """Write what was kept, and all that comes, to this file: on a store, to `NAME.0.jsonl`, `NAME.1.jsonl`, …

        Raises StopError when it cannot be written; later, a line that cannot be is left out.
        """
        with self._writing:
            self._place = place
            if not isinstance(place, Path):
                return
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                self._append(self._lines)
            except OSError as error:
                raise StopError(
                    f"Cannot write {place}: {error.strerror}. Make room or rights, then run again."
                ) from error
            self._lines.clear()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
            with self._writing:
                if isinstance(self._place, Path):
                    self._append([line])
                elif self._place is not None or len(self._lines) < KEPT_AT_MOST:
                    self._lines.append(line)
        except Exception:  # a log that cannot be written ends no work
            self.handleError(record)

    def upload(self) -> None:
        """Write to an object store what has come since the last time. Raises StopError."""
        with self._writing:
            if self._place is None or isinstance(self._place, Path) or len(self._lines) == self._written:
                return
            target = self._part_file(self._place)
            data = "".join(self._lines).encode()
            self._written = len(self._lines)
            if len(data) > PART_BYTES:
                self._part += 1
                self._lines, self._written = [], 0
        write_atomically(target, data)

    def discard(self) -> None:
        """Delete the file: nothing was done that is worth telling."""
        with self._writing:
            if self._place is not None:
                delete(self._place if isinstance(self._place, Path) else self._part_file(self._place))
            self._place, self._lines = None, []

    def _part_file(self, place: UPath) -> UPath:
        return place.with_name(f"{place.stem}.{self._part}.jsonl")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A full disk is told of where results are written; no traceback for each line."""

    def _append(self, lines: list[str]) -> None:
        if isinstance(self._place, Path) and lines:
            with self._place.open("a", encoding="utf-8") as file:
                file.writelines(lines)


@contextmanager
def listening(*handlers: logging.Handler) -> Iterator[None]:
    """The handlers hear every event of mga while the block runs."""
    logger = logging.getLogger("mga")
    level = logger.level
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


def log_to(path: Path) -> RunLog:
    """The log in a file that somebody has named; it is appended to. Raises InputError."""
    log = RunLog()
    try:
        path.open("a").close()
        log.begin(path)
    except OSError as error:
        raise InputError(f"Cannot write the log {path}: {error.strerror}; choose another --log-file.") from error
    return log
