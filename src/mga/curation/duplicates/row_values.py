"""What rows say of themselves besides their text: scores, sources, originals."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mga.curation.duplicates.minhash import string_hashes
from mga.data.columns import can_hold_ids
from mga.data.corpus_files import Batch
from mga.data.documents import InputFile
from mga.errors import InputError

SCORES = ("expected_score", "score")
SOURCES = ("source_id", "chunk_id")
ORIGINAL = "raw_text"


def _is_text(values: pa.Array) -> bool:
    return bool(pa.types.is_large_string(values.type) or pa.types.is_null(values.type))


def strings_of(batch: Batch, name: str, file: InputFile) -> pa.Array:
    """A column of texts as large strings. Raises InputError when it holds something else."""
    values = batch.column(name)
    if not _is_text(values):
        raise InputError(f"{file.name}: column {name!r} holds {values.type}, not text.")
    return values.cast(pa.large_string())


def scores_of(batch: Batch, file: InputFile) -> NDArray[np.float32]:
    """The expected score, else the score; without either less than any."""
    scores = pa.nulls(batch.rows.num_rows, pa.float32())
    for name in SCORES:
        if name not in batch.rows.schema.names:
            continue
        values = _numbers(batch.column(name))
        if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_null(values.type)):
            raise InputError(f"{file.name}: column {name!r} holds {values.type}, not numbers; choose another --keep.")
        scores = pc.coalesce(scores, values.cast(pa.float32()))
    found = np.asarray(pc.fill_null(scores, -np.inf), np.float32)
    return np.nan_to_num(found, nan=-np.inf, neginf=-np.inf, posinf=np.inf)


def _numbers(values: pa.Array) -> pa.Array:
    """Values with those that are written as text as numbers, where all of them are such."""
    if not pa.types.is_large_string(values.type):
        return values
    try:
        return values.cast(pa.float64())
    except pa.ArrowInvalid:
        return values


def sources_of(batch: Batch, file: InputFile) -> NDArray[np.uint64]:
    """A number (uint64) for the piece of a source each row was made from; 0 where the row does not say."""
    found = np.zeros(batch.rows.num_rows, np.uint64)
    for name in SOURCES:
        if name in batch.rows.schema.names:
            values = batch.ids(name) if can_hold_ids(batch.column(name).type) else strings_of(batch, name, file)
            found = (found << np.uint64(1)) ^ string_hashes(values)
    return found


def originals_of(batch: Batch, file: InputFile) -> tuple[NDArray[np.int64], pa.Array]:
    """The different originals of a batch, and the row in which each stands first."""
    if ORIGINAL not in batch.rows.schema.names:
        return np.empty(0, np.int64), pa.array([], pa.large_string())
    encoded = strings_of(batch, ORIGINAL, file).dictionary_encode()
    at = np.flatnonzero(np.asarray(encoded.is_valid()))
    _, first = np.unique(np.asarray(encoded.indices.fill_null(-1))[at], return_index=True)
    return at[first], encoded.dictionary
