"""Folders of losses, read: one model's, or two models' on the same documents, token beside token."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mga.data.store import read_json
from mga.errors import InputError
from mga.scoring.token_losses import RECORD


@dataclass(frozen=True, slots=True)
class Losses:
    """One model's losses. Document i has the tokens from `offsets[i]` to `offsets[i + 1]` (int64) of every column."""

    folder: Path
    record: dict[str, Any]
    documents: pa.Table
    offsets: NDArray[np.int64]

    def column(self, name: str) -> NDArray[Any]:
        """A column of the tokens of all documents."""
        parts = [pq.read_table(file, columns=[name])[name].to_numpy() for file in _parts(self.folder, "tokens")]
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Pair:
    """Losses of the model trained on real text and of the one trained on synthetic text, on the same tokens.

    `documents` has the columns of documents/; document i has the tokens from `offsets[i]` to `offsets[i + 1]`. `real`
    and `synt` are losses (float32). `groups` numbers each document's group (int64), `names` names them.
    """

    real_losses: Losses
    synt_losses: Losses
    documents: pa.Table
    offsets: NDArray[np.int64]
    real: NDArray[np.float32]
    synt: NDArray[np.float32]
    groups: NDArray[np.int64]
    names: tuple[str, ...]
    _real_places: NDArray[np.int64] | None
    _synt_places: NDArray[np.int64] | None

    def of_real(self, column: str) -> NDArray[Any]:
        """A column of the real-trained model, of the tokens of this pair."""
        return _taken(self.real_losses.column(column), self._real_places)

    def of_synt(self, column: str) -> NDArray[Any]:
        """A column of the synthetic-trained model, of the tokens of this pair."""
        return _taken(self.synt_losses.column(column), self._synt_places)

    def means(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The mean loss of every document under both models (float64, nats)."""
        return mean_of_each(self.real, self.offsets), mean_of_each(self.synt, self.offsets)


def open_losses(folder: Path) -> Losses:
    """The losses in a folder of `mga losses`. Raises InputError when there are none, or not yet all."""
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder} holds no losses: write them with mga losses CHECKPOINT DOCS --out {folder}.")
    record = read_json(folder / RECORD)
    if "counts" not in record:
        raise InputError(f"{folder} is not finished; give the mga losses command that writes it again first.")
    documents = pa.concat_tables(pq.read_table(file) for file in _parts(folder, "documents"))
    offsets = np.concatenate([[0], np.cumsum(documents["scored"].to_numpy().astype(np.int64))])
    return Losses(folder, record, documents, offsets)


def pair_of(real: Losses, synt: Losses, ids: dict[str, set[str]] | None = None) -> Pair:
    """The documents that both have. Groups are what the user named as documents, or (`ids`) the named sets of ids.

    Raises InputError when they share no document, a document was cut into other tokens, or a loss is NaN or infinite.
    """
    names = real.documents["document"].to_pylist()
    places = {name: i for i, name in enumerate(synt.documents["document"].to_pylist())}
    if ids is None:
        group_of = real.documents["input"].to_pylist()
    else:
        owner = {name: label for label, members in ids.items() for name in members}
        group_of = [owner.get(name) for name in names]
    chosen = [i for i, name in enumerate(names) if name in places and group_of[i] is not None and real_length(real, i)]
    if not chosen:
        raise InputError(f"{real.folder} and {synt.folder} share no document (or none of those in --docs).")
    mine = np.asarray(chosen)
    theirs = np.asarray([places[names[i]] for i in chosen])
    lengths = np.diff(real.offsets)[mine]
    if (other := np.flatnonzero(lengths != np.diff(synt.offsets)[theirs])).size:
        raise InputError(_other_tokens(names[mine[other[0]]]))
    real_places, synt_places = _places(real, mine), _places(synt, theirs)
    tokens = _taken(real.column("token_id"), real_places)
    if (differ := np.flatnonzero(tokens != _taken(synt.column("token_id"), synt_places))).size:
        at = np.searchsorted(np.cumsum(lengths), differ[0], "right")
        raise InputError(_other_tokens(names[mine[at]]))
    labels_seen = list(dict.fromkeys(cast(str, group_of[i]) for i in chosen))
    numbers = {label: n for n, label in enumerate(labels_seen)}
    pair = Pair(
        real,
        synt,
        real.documents if len(mine) == len(names) else real.documents.take(mine),
        np.concatenate([[0], np.cumsum(lengths)]),
        _taken(real.column("loss"), real_places),
        _taken(synt.column("loss"), synt_places),
        np.asarray([numbers[cast(str, group_of[i])] for i in chosen]),
        tuple(labels_seen),
        real_places,
        synt_places,
    )
    for losses, values in ((real, pair.real), (synt, pair.synt)):
        if not np.isfinite(values).all():
            raise InputError(f"{losses.folder} holds losses that are no numbers (NaN); measure them again.")
    return pair


def mean_of_each(values: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of each document's values (float64); documents have at least one token."""
    return np.add.reduceat(values.astype(np.float64), offsets[:-1]) / np.diff(offsets)


def real_length(losses: Losses, document: int) -> int:
    """Scored tokens of a document."""
    return int(losses.offsets[document + 1] - losses.offsets[document])


def _parts(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / kind).glob("*.parquet"))


def _places(losses: Losses, documents: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Places of these documents' tokens in a column; None for all of them as they stand."""
    if np.array_equal(documents, np.arange(losses.documents.num_rows)):
        return None
    return np.concatenate([np.arange(losses.offsets[i], losses.offsets[i + 1]) for i in documents])


def _taken(values: NDArray[Any], places: NDArray[np.int64] | None) -> NDArray[Any]:
    return values if places is None else values[places]


def _other_tokens(name: str) -> str:
    return (
        f"The two models cut the document {name!r} into different tokens, so no token can be compared: "
        "both need the same tokenizer and the same text."
    )
