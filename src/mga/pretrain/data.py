"""Batches from packed sequences. Which sequences a step takes depends on the step alone, so that a run can go on
from any step, and on any number of processes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mga.data.store import read_json
from mga.errors import InputError
from mga.packing.packed import Packed, open_packed

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Data:
    """The packed folder: sequences to train on, and those of each validation source."""

    folder: Path
    train: Packed
    validation: dict[str, Packed]
    vocabulary: int
    sequence: int
    separator: str
    fingerprint: str


def open_data(given: str) -> Data:
    """What `mga budget pack` has written. Raises InputError when it is something else, or unfinished."""
    folder = Path(given).expanduser()
    train = open_packed(folder)
    record = read_json(folder / "pack.json")
    held = sorted(path for path in (folder / "validation").glob("*") if path.is_dir())
    validation = {path.name: packed for path in held if len(packed := open_packed(path))}
    identity = {name: record[name] for name in ("recipe", "tokenizer", "corpora")}
    return Data(
        folder,
        train,
        validation,
        int(record["vocabulary"]),
        train.sequence,
        train.separator,
        _hash(identity),
    )


def _hash(value: object) -> str:
    import hashlib

    import orjson

    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences as tensors: `ids` and `labels` (sequences × tokens, int64; label i is the token after id i, or
    IGNORED), `positions` where documents are masked."""

    ids: Any
    labels: Any
    positions: Any | None

    def to(self, device: Any) -> "Batch":
        """The same on a device."""
        moved = [part if part is None else part.to(device, non_blocking=True) for part in self._parts()]
        return Batch(*moved)

    def _parts(self) -> tuple[Any, Any, Any | None]:
        return self.ids, self.labels, self.positions


def read_batch(packed: Packed, sequences: range, mask_documents: bool) -> Batch:
    """Those sequences. Padding is no label; with masked documents neither is another document's first token."""
    import torch

    ids = np.stack([packed[i] for i in sequences]).astype(np.int64)
    documents = np.stack([packed.documents(i) for i in sequences])
    labels = np.full_like(ids, IGNORED)
    after = documents[:, 1:]
    counts = (after >= 0) & ((after == documents[:, :-1]) | (not mask_documents))
    labels[:, :-1][counts] = ids[:, 1:][counts]
    positions = np.stack([packed.positions(i) for i in sequences]).astype(np.int64) if mask_documents else None
    return Batch(
        torch.from_numpy(ids), torch.from_numpy(labels), None if positions is None else torch.from_numpy(positions)
    )


def shares(first: int, count: int, processes: int, micro: int) -> list[list[range]]:
    """Of `count` sequences from `first` on: for each process the micro-batches it computes.

    Raises InputError when they cannot be divided evenly.
    """
    if count % processes:
        raise InputError(f"batch_sequences = {count} cannot be divided among {processes} processes.")
    each = count // processes
    if each % micro:
        raise InputError(f"micro_batch = {micro} does not divide the {each} sequences of a process.")
    return [
        [range(start, start + micro) for start in range(first + p * each, first + (p + 1) * each, micro)]
        for p in range(processes)
    ]
