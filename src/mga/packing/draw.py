"""Which texts are seen, how often, and where in the training: one number in [0, 1) for each draw decides its place.

A text that is seen n times is once in each n-th of the training, at random there. So every epoch sees all texts, in an
order of its own, and the mixture is the same from beginning to end. All follows from hashes: no state, any order of
work gives the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mga.packing.tokenise import Folders

BINS = 1 << 20
_STEP, _MIX, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

DRAW = np.dtype(
    {
        "names": ["place", "key", "order", "source", "epoch", "part", "row", "start", "length"],
        "formats": ["<f8", "<u8", "<u8", "<u2", "<u2", "<u4", "<u4", "<u8", "<u4"],
    }
)
"""A draw. Texts with one `key` (and source and epoch) make one document, in `order`; `start` and `length` in tokens
of its part. Sorted by (place, source, key, order) the draws are the training."""


def mixed(values: NDArray[np.uint64], salt: int) -> NDArray[np.uint64]:
    """64 random bits for each value, others for each salt (splitmix64)."""
    with np.errstate(over="ignore"):
        value = values + _STEP * np.uint64(salt + 1)
        value = (value ^ (value >> np.uint64(30))) * _MIX
        value = (value ^ (value >> np.uint64(27))) * _MIX2
        return np.asarray(value ^ (value >> np.uint64(31)))


def uniform(values: NDArray[np.uint64], salt: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each value."""
    return np.asarray((mixed(values, salt) >> np.uint64(11)) * 2.0**-53)


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of the texts of one part: arrays with an element a text (those without tokens left out)."""

    number: int
    rows: NDArray[np.uint32]
    starts: NDArray[np.uint64]
    lengths: NDArray[np.uint32]
    keys: NDArray[np.uint64]
    held_out: NDArray[np.bool_]


COLUMNS = ("hash", "start", "n_tokens", "held_out")
"""What a part's table says of each text that `part_of` needs."""


def read_part(folders: Folders, source: str, salt: int, table: Path, by_source: bool) -> Part:
    """A part's texts from its table (see `part_of`)."""
    held = pq.read_table(table, columns=list(COLUMNS), memory_map=True)
    return part_of(int(table.stem), {name: held.column(name).to_numpy() for name in COLUMNS}, salt, by_source)


def part_of(number: int, columns: Mapping[str, NDArray[Any]], salt: int, by_source: bool) -> Part:
    """A part's texts. A text's key is its own place in the source, or, `by_source`, its source document's."""
    rows = np.flatnonzero(columns["n_tokens"]).astype(np.uint32)
    own = (np.uint64(number) << np.uint64(32)) | rows.astype(np.uint64)
    keys = columns["hash"][rows] if by_source else own
    return Part(
        number,
        rows,
        columns["start"][rows].astype(np.uint64),
        columns["n_tokens"][rows].astype(np.uint32),
        mixed(keys, salt),
        columns["held_out"][rows],
    )


@dataclass(frozen=True, slots=True)
class Times:
    """How often texts are seen: `whole` times, and those with a draw below `below` once more."""

    whole: int
    below: float

    def tokens(self, part: Part) -> int:
        """Tokens of all draws of a part's texts that are not held out, a separator behind each."""
        free = ~part.held_out
        once_more = uniform(part.keys[free], 0) < self.below
        return int(((part.lengths[free].astype(np.int64) + 1) * (self.whole + once_more)).sum())


class Histogram:
    """Tokens of texts by a random number of theirs, so that some can be chosen that have so many together, in
    memory that does not grow with the corpus."""

    def __init__(self) -> None:
        self.tokens = np.zeros(BINS, np.int64)

    def add(self, keys: NDArray[np.uint64], tokens: NDArray[Any]) -> None:
        """Count texts."""
        np.add.at(self.tokens, (uniform(keys, 0) * BINS).astype(np.int64), tokens.astype(np.int64))

    def times(self, wanted: float) -> Times:
        """How often texts must be seen to come as near to so many tokens as whole texts do."""
        unique = int(self.tokens.sum())
        if not unique:
            return Times(0, 0.0)
        whole = int(wanted // unique)
        sums = np.concatenate([[0], np.cumsum(self.tokens)])
        bins = int(np.abs(sums - (wanted - whole * unique)).argmin())
        return Times(whole, bins / BINS)


def draws(part: Part, source: int, times: Times, chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """All draws of the chosen texts of a part (DRAW)."""
    once_more = uniform(part.keys, 0) < times.below
    found = []
    for epoch in range(times.whole + 1):
        seen = chosen & once_more if epoch == times.whole else chosen
        if not seen.any():
            continue
        keys = part.keys[seen]
        of = times.whole + once_more[seen]
        some = np.zeros(len(keys), DRAW)
        some["place"] = (epoch + uniform(keys, epoch + 1)) / of
        some["key"] = keys
        own = (np.uint64(part.number) << np.uint64(32)) | part.rows[seen].astype(np.uint64)
        some["order"] = mixed(own, (epoch + 1) * 7919)
        some["source"], some["epoch"], some["part"] = source, epoch, part.number
        some["row"], some["start"], some["length"] = part.rows[seen], part.starts[seen], part.lengths[seen]
        found.append(some)
    return np.concatenate(found) if found else np.zeros(0, DRAW)


class Shelves:
    """Draws by the shard they go to, sorted on disk in runs that fit in memory."""

    def __init__(self, folder: Path, shards: int, most: int = 4 << 20) -> None:
        self._folder = folder
        self._shards = shards
        self._most = most
        self._held: list[NDArray[Any]] = []
        self._count = 0
        self._runs = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, some: NDArray[Any]) -> None:
        """Take draws."""
        self._held.append(some)
        self._count += len(some)
        if self._count >= self._most:
            self.flush()

    def flush(self) -> None:
        """Put on disk what is in memory: draws ordered by shard, and where each shard's begin."""
        if not self._held:
            return
        all_ = np.concatenate(self._held)
        shards = (all_["place"] * self._shards).astype(np.int64)
        order = np.argsort(shards, kind="stable")
        np.save(self._folder / f"{self._runs:05}.npy", all_[order])
        np.save(
            self._folder / f"{self._runs:05}.bounds.npy", np.searchsorted(shards[order], np.arange(self._shards + 1))
        )
        self._held, self._count = [], 0
        self._runs += 1

    def shard(self, number: int) -> NDArray[Any]:
        """A shard's draws in the order of training."""
        found = []
        for run in range(self._runs):
            bounds = np.load(self._folder / f"{run:05}.bounds.npy", mmap_mode="r")
            all_ = np.load(self._folder / f"{run:05}.npy", mmap_mode="r")
            found.append(np.array(all_[bounds[number] : bounds[number + 1]]))
        some = np.concatenate(found) if found else np.zeros(0, DRAW)
        return np.asarray(some[np.lexsort((some["order"], some["epoch"], some["key"], some["source"], some["place"]))])
