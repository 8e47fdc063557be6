"""Which source documents no model trains on: by the hash of their id, so that their rewrites are held out too."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mga.errors import InputError
from mga.mixture.recipe import Recipe
from mga.packing.texts import corpus_of, texts_of


def id_hash(source_id: str, seed: int = 0) -> int:
    """64 bits of a source document's id."""
    key = seed.to_bytes(8, "little")
    digest = blake2b(source_id.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """The rule: a share of all ids by their hash, and listed ids (`listed`: sorted hashes, uint64)."""

    share: float
    seed: int
    listed: NDArray[np.uint64]

    def holds(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether each source document, given by its hash under `seed`, is held out."""
        return np.asarray((hashes < np.uint64(int(self.share * 2**64))) | np.isin(hashes, self.listed))


def held_out_set(recipe: Recipe) -> HeldOutSet:
    """The rule of a recipe; with a column, the ids of the rows of originals that have one of the values there.

    Raises InputError when no original has the column.
    """
    rule, seed = recipe.pack.held_out, recipe.pack.seed
    if rule.column is None:
        return HeldOutSet(rule.share, seed, np.empty(0, np.uint64))
    found: set[int] = set()
    seen = False
    for source in recipe.source:
        if source.expands is not None:
            continue
        corpus = corpus_of(source)
        for file in corpus.files:
            present = corpus.columns(file)
            if rule.column not in present:
                continue
            seen = True
            keys = [key for key in (source.id_key, source.source_key or "source_id") if key in present]
            for batch in corpus.batches(file, [*dict.fromkeys([source.text_key, *keys, rule.column])]):
                values = pc.cast(batch.column(rule.column), pa.large_string())
                chosen = pc.is_in(values, pa.array(rule.values, pa.large_string())).to_pylist()
                ids = texts_of(source, batch, file.name).sources
                found |= {id_hash(name, seed) for name, is_held in zip(ids, chosen, strict=True) if is_held}
    if not seen:
        raise InputError(f"No original source has the column {rule.column!r} that pack.held_out names.")
    return HeldOutSet(rule.share, seed, np.array(sorted(found), np.uint64))
