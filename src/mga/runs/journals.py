"""The journals of a worker: one per open shard, in the run folder, so that another worker can go on with them.

Nothing can be appended to in an object store. There a journal lies on the worker's own disk, and its new lines are
copied into the run folder every `COPY_EVERY_S` seconds as a file of their own: a machine that is lost costs the
replies of so many seconds, a process that is killed costs none (the next one on the machine finds the journal).
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import platformdirs

from mga.data.store import Place, delete, listed, read, write_atomically
from mga.engines.journal import Journal

COPY_EVERY_S = 20.0


class Journals:
    """The open journals of one worker, by shard."""

    def __init__(self, folder: Place, worker: str) -> None:
        self._folder = folder / "journal"
        self._here = _here(self._folder)
        self._worker = worker
        self._known: defaultdict[int, set[Place]] = defaultdict(set)
        self._open: dict[int, Journal] = {}
        self._copied: dict[int, int] = {}  # shard → bytes
        self._last_copy = time.monotonic()
        self._lock = threading.Lock()  # a journal is not closed while it is forced to the disk

    def look(self) -> None:
        """See which journals of others there are; one listing."""
        known: defaultdict[int, set[Place]] = defaultdict(set)
        for path in listed(self._folder, "*.jsonl"):
            known[_shard(path)].add(path)
        self._known = known

    def open(self, shard: int) -> Journal:
        """The journal of a shard, with all that any worker had received for it when last looked."""
        found = [*sorted(self._known[shard], key=str), *self._spooled(shard)]
        earlier = []
        for path in dict.fromkeys(found):
            with suppress(FileNotFoundError):
                earlier.append(read(path))
        journal = self._open[shard] = Journal(self._here / f"{shard:05}.{self._worker}.jsonl", earlier)
        return journal

    def remove(self, shard: int) -> None:
        """Delete a shard's journals: it is published."""
        with self._lock:
            if journal := self._open.pop(shard, None):
                journal.close()
                delete(journal.path)
        self._copied.pop(shard, None)
        for path in [*self._known.pop(shard, ()), *self._spooled(shard)]:
            delete(path)

    def _spooled(self, shard: int) -> list[Place]:
        """What other processes on this machine have left of a run in a store."""
        return [] if self._here == self._folder else listed(self._here, f"{shard:05}.*.jsonl")

    def sync(self) -> None:
        """Force what was appended to the disk, and copy it now and then if the run lies in an object store."""
        with self._lock:
            journals = list(self._open.items())
            for _, journal in journals:
                journal.sync()
        if self._here != self._folder and time.monotonic() - self._last_copy > COPY_EVERY_S:
            self._copy(journals)
            self._last_copy = time.monotonic()

    def close(self) -> None:
        """Close all; the files stay."""
        with self._lock:
            journals = list(self._open.items())
            for _, journal in journals:
                journal.close()
        if self._here != self._folder:
            self._copy(journals)
        self._open.clear()

    def _copy(self, journals: list[tuple[int, Journal]]) -> None:
        for shard, journal in journals:
            before = self._copied.get(shard, 0)
            with suppress(FileNotFoundError):  # nothing written yet, or published a moment ago
                with journal.path.open("rb") as stream:
                    stream.seek(before)
                    new = stream.read()
                whole = new[: new.rfind(b"\n") + 1]
                if whole:
                    name = f"{shard:05}.{self._worker}-{before}.jsonl"
                    write_atomically(self._folder / name, whole)
                    self._known[shard].add(self._folder / name)
                    self._copied[shard] = before + len(whole)


def has_replies(folder: Place) -> bool:
    """Whether a journal of a run holds anything, in its folder or on this machine. In an object store none is empty."""
    journals = folder / "journal"
    for path in (path for where in {_here(journals), journals} for path in listed(where, "*.jsonl")):
        with suppress(FileNotFoundError):  # its shard was published a moment ago
            if not isinstance(path, Path) or path.stat().st_size:
                return True
    return False


def replies_kept(folder: Place, done: Collection[int]) -> Counter[int]:
    """Replies in the journals of a run folder, by shard, of shards that are not done."""
    kept = Counter[int]()
    for path in listed(folder / "journal", "*.jsonl"):
        if (shard := _shard(path)) not in done:
            with suppress(FileNotFoundError):  # published a moment ago
                kept[shard] += read(path).count(b"\n")
    return kept


def clear(folder: Place, done: Collection[int]) -> None:
    """Delete what a kill has left of journals of shards that are done, in the run folder and on this machine."""
    journals = folder / "journal"
    for place in {_here(journals), journals}:
        for path in listed(place, "*.jsonl"):
            if _shard(path) in done:
                delete(path)


def _shard(path: Place) -> int:
    return int(path.name.partition(".")[0])


def _here(journals: Place) -> Path:
    """Where they are appended to: in the run folder itself, or beside an object store in the user's cache."""
    if isinstance(journals, Path):
        return journals
    name = blake2b(str(journals).encode(), digest_size=8).hexdigest()
    return platformdirs.user_cache_path("mga") / "journals" / name
