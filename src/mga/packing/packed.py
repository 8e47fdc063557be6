"""Packed data as a trainer reads it: sequences from memory-mapped files, document bounds, and where each token is from.

data = open_packed(Path("DATA/train"))
data[7]                 ids of sequence 7 (uint16 or uint32, shape (sequence,))
data.positions(7)       position ids that begin anew with each document (int32)
data.documents(7)       which document each token belongs to, from 0; -1 is padding: for attention masks
data.trace(7, 100)      the text and epoch that token 100 of it is from
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mga.data.store import read_json
from mga.errors import InputError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a token is from. `offset` counts tokens of the text from 0; from `n_tokens` on it is what was put
    behind the text: the separator, or a megadoc's joiner."""

    source: str
    id: str
    source_id: str
    file: str
    row: int
    epoch: int
    offset: int
    n_tokens: int


class Packed:
    """The shards of train/, or of validation/SOURCE/, as one array of sequences."""

    def __init__(self, folder: Path, root: Path, record: dict[str, Any]) -> None:
        self.sequence: int = record["recipe"]["pack"]["sequence"]
        self.separator: str = record["tokenizer"]["separator"]
        self._documents = root / "documents"
        self._names = [source["name"] for source in record["recipe"]["source"]]
        files = [path for path in sorted(folder.glob("*.bin")) if path.stat().st_size]
        dtype = np.dtype(record["dtype"])
        self._ids = [np.memmap(path, dtype, "r").reshape(-1, self.sequence) for path in files]
        self._pieces = [np.load(path.with_suffix(".pieces.npy"), mmap_mode="r") for path in files]
        self._ends = np.cumsum([len(ids) for ids in self._ids])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, sequence: int) -> NDArray[Any]:
        shard, row = self._find(sequence)
        ids: NDArray[Any] = self._ids[shard][row]
        return ids

    def pieces(self, sequence: int) -> NDArray[Any]:
        """The texts in a sequence (mga.packing.shard.PIECE), in order."""
        shard, row = self._find(sequence)
        all_ = self._pieces[shard]
        first, end = np.searchsorted(all_["sequence"], [row, row + 1])
        return np.asarray(all_[first:end])

    def documents(self, sequence: int) -> NDArray[np.int32]:
        """The number of each token's document in this sequence; -1 is padding, which no loss should count."""
        numbers = np.full(self.sequence, -1, np.int32)
        pieces = self.pieces(sequence)
        for piece, number in zip(pieces, np.cumsum(pieces["begins"]) - 1, strict=True):
            numbers[piece["start"] : piece["start"] + piece["length"]] = number
        return numbers

    def positions(self, sequence: int) -> NDArray[np.int32]:
        """Positions that begin at 0 with each document (and with a sequence)."""
        numbers = self.documents(sequence)
        begins = np.append(True, numbers[1:] != numbers[:-1])
        firsts = np.flatnonzero(begins)
        return np.asarray(np.arange(self.sequence) - firsts[np.cumsum(begins) - 1], np.int32)

    def trace(self, sequence: int, position: int) -> Origin | None:
        """Where a token is from; None for padding. Raises InputError when there is no such token."""
        if not 0 <= position < self.sequence:
            raise InputError(f"A sequence has positions 0 to {self.sequence - 1}, not {position}.")
        for piece in self.pieces(sequence):
            if piece["start"] <= position < piece["start"] + piece["length"]:
                source = self._names[piece["source"]]
                table = pq.read_table(self._documents / source / f"{piece['part']:06}.parquet", memory_map=True)
                row = table.slice(int(piece["row"]), 1).to_pylist()[0]
                offset = int(piece["offset"]) + position - int(piece["start"])
                named = {name: row[name] for name in ("id", "source_id", "file", "row", "n_tokens")}
                return Origin(source=source, epoch=int(piece["epoch"]), offset=offset, **named)
        return None

    def _find(self, sequence: int) -> tuple[int, int]:
        if not 0 <= sequence < len(self):
            raise InputError(f"There are sequences 0 to {len(self) - 1}, not {sequence}.")
        shard = int(np.searchsorted(self._ends, sequence, "right"))
        return shard, sequence - (int(self._ends[shard - 1]) if shard else 0)


def open_packed(folder: Path) -> Packed:
    """The sequences in train/ or validation/SOURCE/ of what `mga budget pack` has written (a folder that has a
    train/ stands for it). Raises InputError when it is not finished or something else."""
    folder = folder / "train" if (folder / "train").is_dir() else folder
    root = next((place for place in folder.resolve().parents if (place / "pack.json").is_file()), None)
    if root is None or not folder.is_dir():
        raise InputError(f"{folder} is not part of a folder that mga budget pack has written.")
    record = read_json(root / "pack.json")
    if "counts" not in record:
        raise InputError(f"{root} is not finished; give the command that writes it again first.")
    return Packed(folder, root, record)
