"""Which source documents no model trains on: by the hash of their id, so that their rewrites are held out too."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from mga.data.columns import id_of
from mga.data.corpus_files import is_parquet
from mga.errors import InputError
from mga.mixture.recipe import Recipe, Source
from mga.packing.texts import SOURCE_KEY, Texts, all_texts, columns_in, corpus_of, texts_of


def id_hash(source_id: str, seed: int = 0) -> int:
    """64 bits of a source document's id."""
    key = seed.to_bytes(8, "little")
    digest = blake2b(source_id.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """The rule: a share of all ids by their hash, and listed ids (`listed`: sorted hashes, uint64). `known`: for each
    source of rewrites the documents that it may name (sorted hashes), where rows that name none are left out."""

    share: float
    seed: int
    listed: NDArray[np.uint64]
    known: Mapping[str, NDArray[np.uint64]]

    def holds(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether each source document, given by its hash under `seed`, is held out."""
        return np.asarray((hashes < np.uint64(int(self.share * 2**64))) | np.isin(hashes, self.listed))

    def without_unknown(self, source: str, texts: Texts) -> Texts:
        """Texts of rows that may belong to a held-out document unnoticed made empty."""
        if source not in self.known:
            return texts
        lacking = _unknown(texts, self.known[source], self.seed)
        return replace(texts, texts=["" if out else text for text, out in zip(texts.texts, lacking, strict=True)])


def held_out_set(recipe: Recipe) -> HeldOutSet:
    """The rule of a recipe; with a column, the ids of the rows of originals that have one of the values there.

    With anything held out, each row of rewrites must name a document of the source that it expands: of a row that names
    none, nothing can tell whether it was made from a held-out one. Memory holds 8 bytes a document. Raises InputError
    for such rows (unless the recipe leaves them out), when no original has the column, and when none has one of its
    values.
    """
    rule, seed = recipe.pack.held_out, recipe.pack.held_out_seed
    none = np.empty(0, np.uint64)
    if not rule.holds_any:
        return HeldOutSet(0.0, seed, none, {})
    known = _known(recipe, seed)
    if rule.unknown == "refuse":
        for source in recipe.source:
            if source.name in known:
                _require_known(source, known[source.name], seed)
        known = {}
    return HeldOutSet(rule.share, seed, _listed(recipe, seed) if rule.column else none, known)


def _listed(recipe: Recipe, seed: int) -> NDArray[np.uint64]:
    """Hashes of the documents whose row among the originals has one of the rule's values in its column."""
    rule = recipe.pack.held_out
    column = str(rule.column)
    found: set[int] = set()
    seen: Counter[str] = Counter()
    for source in recipe.source:
        if source.expands is not None:
            continue
        corpus = corpus_of(source)
        for file in corpus.files:
            wanted = columns_in(source, corpus, file)
            if is_parquet(file) and column not in corpus.columns(file):
                continue
            for batch in corpus.batches(file, [*dict.fromkeys([*wanted, column])]):
                values = [_label(value) for value in batch.column(column).to_pylist()]
                seen.update(value for value in values if value is not None)
                ids = texts_of(source, batch, file.name).sources
                found |= {id_hash(name, seed) for name, value in zip(ids, values, strict=True) if value in rule.values}
    if not seen:
        raise InputError(f"No original source has the column {column!r} that pack.held_out names.")
    if not found:
        common = ", ".join(value for value, _ in seen.most_common(5))
        raise InputError(
            f"No original has {' or '.join(rule.values)} in the column {column!r} of pack.held_out; most have {common}."
        )
    return np.array(sorted(found), np.uint64)


def _label(value: object) -> str | None:
    return str(value).lower() if isinstance(value, bool) else id_of(value)


def _known(recipe: Recipe, seed: int) -> dict[str, NDArray[np.uint64]]:
    """Source of rewrites → hashes of the documents of the source that it expands, sorted."""
    expanded = {source.expands for source in recipe.source} - {None}
    hashes = {
        source.name: np.unique(
            np.concatenate([np.empty(0, np.uint64), *(_hashes(some.sources, seed) for some in all_texts(source))])
        )
        for source in recipe.source
        if source.name in expanded
    }
    return {source.name: hashes[source.expands] for source in recipe.source if source.expands is not None}


def _require_known(source: Source, known: NDArray[np.uint64], seed: int) -> None:
    """Raise InputError when a row of rewrites names no document of the source that they expand."""
    key = source.source_key or SOURCE_KEY
    rows = unnamed = unmatched = 0
    example = ""
    for texts in all_texts(source):
        lacking = _unknown(texts, known, seed)
        rows += sum(map(bool, texts.texts))
        for i in np.flatnonzero(lacking).tolist():
            unnamed += texts.named[i] is None
            unmatched += texts.named[i] is not None
            what = "has none" if texts.named[i] is None else f"names {texts.named[i]!r}"
            example = example or f"the first, row {texts.first + i + 1:,} of {texts.file}, {what}"
    if not unnamed and not unmatched:
        return
    parts = [f"{unnamed:,} without an id there"] if unnamed else []
    parts += [f"{unmatched:,} with one that no document of {source.expands} has"] if unmatched else []
    raise InputError(
        f"Source {source.name}: of {rows:,} texts, {' and '.join(parts)} (column {key!r}; {example}). Rewrites of "
        "held-out documents could be trained on: name the column of their source document with source_key, that of the "
        "originals' id with id_key, or set pack.held_out.unknown = 'leave-out'."
    )


def _unknown(texts: Texts, known: NDArray[np.uint64], seed: int) -> NDArray[np.bool_]:
    """Which rows with a text name no known document."""
    found = ~np.isin(_hashes([name or "" for name in texts.named], seed), known)
    return np.asarray((found | [name is None for name in texts.named]) & [bool(text) for text in texts.texts])


def _hashes(names: Sequence[str], seed: int) -> NDArray[np.uint64]:
    return np.fromiter((id_hash(name, seed) for name in names), np.uint64, len(names))
