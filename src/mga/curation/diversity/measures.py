"""How diverse a corpus is: its labels, its texts, siblings, texts beside their originals; over time and by group.

`measure` reads the corpus once (`held.py`), and returns values that go into JSON as they are:

version      of these keys
corpus       given, fingerprint, rows, without_text
settings     text_key, by, seed, embedder
sample       rows, share_of_originals, originals, texts, text_bytes: what the figures are of
sizes        label_rows, part_label_rows, grams, bytes, vendi_texts, part_vendi_texts: of the pieces measured, 0 where
             the corpus is too small
methods      what was computed, in words
missing      what the corpus does not have, and which measures that costs
whole        figures of all rows (below); also distinct_grams, original_distinct_grams and siblings
labels       genre, audience, pair: distinct and effective numbers (order_1, order_2) as_written, normalised and
             clustered; largest clusters with their share and an example
over_time    figures of ten equal parts, in the order of files and rows
by_genre     figures of the largest clusters of genres
by_column    figures of the most frequent values of the column `by`, or null
warnings     name, value, threshold, text

Figures of a set of rows: name, rows, share, labels (genre, audience: effective clusters within pieces of equal size),
texts and originals (distinct_1 … distinct_3, compression, vendi: one text of each original), vendi_ratio,
compression_ratio_to_originals, distinct_2_to_originals, coverage, new_1, new_3, new_5, length_ratio (mean, quartiles).
null stands where a set is too small or the corpus has no such column.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mga.curation.diversity.collapse import warnings_of
from mga.curation.diversity.held import (
    DISTINCT_GRAMS,
    LABELS,
    NEW_GRAMS,
    ORIGINALS,
    ROWS,
    SIBLINGS,
    TEXT_BYTES,
    Held,
    hold,
)
from mga.curation.diversity.labels import LEADERS, NEAR, Kinds, kinds_of
from mga.curation.diversity.overlap import Stems, shared_grams, stems_of
from mga.curation.diversity.spread import (
    HLL_ERROR,
    ZSTD_LEVEL,
    Vocabulary,
    compression_ratio,
    cosine_kernel,
    distinct_estimate,
    distinct_share,
    effective_numbers,
    effective_of_pieces,
    pairs_within,
    piece_size,
    vendi_score,
)
from mga.data.corpus_files import Corpus
from mga.embedders.choose import Embedder
from mga.embedders.vectors import Vectors
from mga.text.tokens import ngrams_of, tokens_of

VERSION = 1
PARTS = 10
LARGEST = 10
GROUPS = 20
LABEL_ROWS = 1_000
GRAMS = 20_000
BYTES = 256 << 10
VENDI_TEXTS, PART_VENDI_TEXTS = 1_000, 200
SIBLING_GRAM = 3

Figures = dict[str, Any]

METHODS = {
    "effective": "Hill numbers: order 1 is exp of Shannon's entropy, order 2 the inverse of Simpson's concentration",
    "clusters": f"leader clustering at cosine {NEAR} of words' first five letters, weighted by their rarity in the "
    f"originals; the {LEADERS:,} most frequent labels may lead",
    "label_rows": "labels of pieces of so many rows, at random, up to 10 pieces: the mean effective number",
    "distinct": "different n-grams over n-grams of a piece, the mean over all pieces; words, one text of each original",
    "distinct_grams": f"different n-grams over n-grams of all held rows, by HyperLogLog within {HLL_ERROR:.1%}",
    "compression": f"bytes over bytes, zstd level {ZSTD_LEVEL}, pieces of one size, one text of each original",
    "vendi": "exp of the entropy of the eigenvalues of K / n; K is the cosine of TF-IDF vectors of words (of "
    "characters in unspaced scripts), idf from the sampled originals, or from the texts where there are none",
    "siblings": f"Jaccard and containment of the sets of {SIBLING_GRAM}-grams of words; unrelated: of neighbours with "
    "another original",
    "coverage": "share of the original's 40 keywords in the rewrite, by words.keyword_coverage, of up to 256 rows of "
    "each piece of the corpus",
    "new_n": "share of the rewrite's n-grams of words that its original does not have",
    "length_ratio": "tokens of the rewrite over tokens of its original, both estimated from characters",
}

VENDI_BY_VECTORS = "exp of the entropy of the eigenvalues of K / n; K is the cosine of the embedder's vectors"


def measure(
    corpus: Corpus, by: str | None = None, seed: int = 0, workers: int = 1, embedder: Embedder | None = None
) -> Figures:
    """All figures of a corpus; the same corpus and seed give the same values. An `embedder` gives the Vendi score
    its kernel, instead of the texts' words.

    Raises InputError when a column named is not there or no row has text.
    """
    held = hold(corpus, by, seed, workers)
    rows = held.figures
    samples = _Samples.of(held)
    kinds = {name: _kinds(held, name, samples, workers) for name in LABELS}
    clusters = {name: _of_rows(rows[name], found.cluster) for name, found in kinds.items() if found}
    measured = _Measured(held, samples, clusters, embedder)
    parts = np.arange(len(rows)) * PARTS // len(rows)
    every = np.ones(len(rows), np.bool_)
    by_genre: list[Figures] = []
    if genres := kinds["genre"]:
        names = [held.names["genre"][leader] for leader in genres.leaders[:LARGEST]]
        by_genre = [measured.part(name, clusters["genre"] == place) for place, name in enumerate(names)]
    result: Figures = {
        "version": VERSION,
        "corpus": {
            "given": list(corpus.given),
            "fingerprint": corpus.fingerprint,
            "rows": held.rows,
            "without_text": held.without_text,
        },
        "settings": {
            "text_key": corpus.text_key,
            "by": by,
            "seed": seed,
            "embedder": embedder.name if embedder else None,
        },
        "sample": {
            "rows": len(rows),
            "rows_at_most": ROWS,
            "share_of_originals": held.share,
            "originals": samples.count,
            "originals_at_most": ORIGINALS,
            "texts": len(held.texts.texts),
            "text_bytes": TEXT_BYTES,
        },
        "sizes": measured.sizes,
        "methods": METHODS | ({"vendi": VENDI_BY_VECTORS} if embedder else {}),
        "missing": _missing(held, kinds),
        "whole": {
            **measured.set("whole", every, measured.sizes["label_rows"], measured.sizes["vendi_texts"]),
            **_distinct_grams(held),
            "siblings": _siblings(held, samples, clusters),
        },
        "labels": _labels(held, kinds, clusters),
        "over_time": [measured.part(f"{i + 1}", parts == i) for i in range(PARTS)] if len(rows) >= PARTS else [],
        "by_genre": by_genre,
        "by_column": [measured.part(name, of) for name, of in _groups(held)] if by else None,
    }
    result["warnings"] = [warning.as_json() for warning in warnings_of(result)]
    rounded: Figures = _rounded(result)
    return rounded


Grams = dict[int, tuple[NDArray[np.uint64], NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class _Samples:
    """What is computed once of the sampled texts and originals. The ordinary texts, whose words weigh, are the
    originals, or the texts where there are none."""

    grams: Grams
    original_grams: Grams | None
    ordinary: Stems
    vocabulary: Vocabulary
    count: int

    @classmethod
    def of(cls, held: Held) -> "_Samples":
        texts, originals = held.texts.texts, held.texts.originals
        grams, stems = _grams_of(texts)
        original_grams = None
        if originals is not None:
            original_grams, stems = _grams_of(originals)
        vocabulary = Vocabulary.of(*(original_grams or grams)[1])
        return cls(grams, original_grams, stems, vocabulary, int(held.texts.of.max(initial=-1)) + 1)


def _grams_of(texts: pa.Array) -> tuple[Grams, Stems]:
    tokens = tokens_of(texts)
    return {n: ngrams_of(tokens, n) for n in DISTINCT_GRAMS}, stems_of(texts, tokens)


class _Measured:
    """Measures sets of rows, all of them on pieces of the same sizes."""

    def __init__(
        self,
        held: Held,
        samples: _Samples,
        clusters: dict[str, NDArray[np.int64]],
        embedder: Embedder | None,
    ) -> None:
        self._held, self._samples, self._clusters = held, samples, clusters
        self._vectors = Vectors(None, lambda: embedder) if embedder else None
        self._shuffled = np.argsort(held.figures["order"], kind="stable")
        firsts = self._one_each(np.ones(len(held.figures), np.bool_))
        texts, originals = held.texts.texts, held.texts.originals
        grams, size = len(_taken(samples.grams[3], firsts)), sum(map(len, _bytes(texts, firsts)))
        if originals is not None and samples.original_grams is not None:
            of = held.texts.of[firsts]
            grams = min(grams, len(_taken(samples.original_grams[3], of)))
            size = min(size, sum(map(len, _bytes(originals, of))))
        self.sizes = {
            "label_rows": piece_size(LABEL_ROWS, len(held.figures)),
            "part_label_rows": piece_size(LABEL_ROWS, len(held.figures) // PARTS),
            "grams": piece_size(GRAMS, grams // PARTS) or piece_size(GRAMS, grams),
            "bytes": piece_size(BYTES, size // PARTS) or piece_size(BYTES, size),
            "vendi_texts": min(VENDI_TEXTS, len(firsts)),
            "part_vendi_texts": piece_size(PART_VENDI_TEXTS, len(firsts) // PARTS),
        }

    def part(self, name: str, chosen: NDArray[np.bool_]) -> Figures:
        """Figures of a part of the rows, comparable to those of other parts."""
        return self.set(name, chosen, self.sizes["part_label_rows"], self.sizes["part_vendi_texts"])

    def set(self, name: str, chosen: NDArray[np.bool_], label_rows: int, vendi_texts: int) -> Figures:
        """Figures of some of the held rows."""
        rows = self._held.figures
        firsts = self._one_each(chosen)
        originals = self._held.texts.originals
        of = self._held.texts.of[firsts]
        texts = self._texts(firsts, self._samples.grams, self._held.texts.texts, vendi_texts)
        theirs = None
        if originals is not None and self._samples.original_grams is not None:
            theirs = self._texts(of, self._samples.original_grams, originals, vendi_texts)
        return {
            "name": name,
            "rows": int(chosen.sum()),
            "share": float(chosen.mean()),
            "labels": {
                label: effective_of_pieces(_present(kinds, self._shuffled, chosen), label_rows)
                for label, kinds in self._clusters.items()
            },
            "texts": texts,
            "originals": theirs,
            "vendi_ratio": _ratio(texts, theirs, "vendi"),
            "compression_ratio_to_originals": _ratio(texts, theirs, "compression"),
            "distinct_2_to_originals": _ratio(texts, theirs, "distinct_2"),
            **{key: _spread(rows[key][chosen]) for key in ("coverage", *(f"new_{n}" for n in NEW_GRAMS))},
            "length_ratio": _spread(rows["length_ratio"][chosen]),
        }

    def _one_each(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Of each original one sampled text that is among the chosen rows: siblings share what they tell."""
        among = np.flatnonzero(chosen[self._held.texts.rows])
        _, first = np.unique(self._held.texts.of[among], return_index=True)
        found: NDArray[np.int64] = among[first]
        return found

    def _texts(self, places: NDArray[np.int64], grams: Grams, texts: pa.Array, most: int) -> Figures:
        """Measures of the texts at these places; None where there are too few for a whole piece."""
        vendi = None
        if 1 < most <= len(places):
            vendi = vendi_score(self._kernel(places[:most], grams, texts))
        return {
            **{f"distinct_{n}": distinct_share(_taken(grams[n], places), self.sizes["grams"]) for n in DISTINCT_GRAMS},
            "compression": compression_ratio(_bytes(texts, places), self.sizes["bytes"]),
            "vendi": vendi,
        }

    def _kernel(self, places: NDArray[np.int64], grams: Grams, texts: pa.Array) -> NDArray[np.float64]:
        """Cosine of each two texts: of their vectors, or of their words."""
        if self._vectors is not None:
            vectors = self._vectors.of([text or "" for text in texts.take(pa.array(places)).to_pylist()])
            return vectors.astype(np.float64) @ vectors.astype(np.float64).T
        hashes, offsets = grams[1]
        words = [hashes[offsets[i] : offsets[i + 1]] for i in places]
        return cosine_kernel(words, self._samples.vocabulary)


def _kinds(held: Held, name: str, samples: _Samples, workers: int) -> Kinds | None:
    """Kinds of a label; None where the corpus has none."""
    names = held.names[name]
    numbers = held.figures[name]
    counts = np.bincount(numbers[numbers >= 0], minlength=len(names))
    return kinds_of(names, counts, samples.ordinary, workers) if names else None


def _labels(
    held: Held, kinds: dict[str, Kinds | None], clusters: dict[str, NDArray[np.int64]]
) -> dict[str, Figures | None]:
    found: dict[str, Figures | None] = {}
    views: dict[str, list[NDArray[np.int64]]] = {}
    for name, of in kinds.items():
        numbers = held.figures[name]
        if of is None:
            found[name] = None
            continue
        views[name] = [numbers, _of_rows(numbers, of.normal), clusters[name]]
        found[name] = {
            **_three_views(views[name]),
            "stand_alone": of.alone,
            "largest": _largest(clusters[name], [held.names[name][leader] for leader in of.leaders[:LARGEST]]),
        }
    found["pair"] = None
    if len(views) == len(LABELS):
        found["pair"] = _three_views([_paired(*both) for both in zip(*views.values(), strict=True)])
    return found


def _three_views(views: list[NDArray[np.int64]]) -> Figures:
    """Distinct and effective numbers of what the rows are called (−1: nothing)."""
    figures: Figures = {"rows": int((views[0] >= 0).sum())}
    for name, numbers in zip(("as_written", "normalised", "clustered"), views, strict=True):
        _, counts = np.unique(numbers[numbers >= 0], return_counts=True)
        first, second = effective_numbers(counts)
        figures[name] = {"distinct": len(counts), "order_1": first, "order_2": second}
    return figures


def _paired(genres: NDArray[np.int64], audiences: NDArray[np.int64]) -> NDArray[np.int64]:
    pairs = genres * (int(audiences.max(initial=0)) + 1) + audiences
    return np.where((genres >= 0) & (audiences >= 0), pairs, -1)


def _largest(clusters: NDArray[np.int64], examples: list[str]) -> list[Figures]:
    rows = np.bincount(clusters[clusters >= 0], minlength=len(examples))
    return [
        {"example": example, "rows": int(count), "share": float(count / rows.sum())}
        for example, count in zip(examples, rows, strict=False)
    ]


def _siblings(held: Held, samples: _Samples, clusters: dict[str, NDArray[np.int64]]) -> Figures | None:
    """How alike the texts of one original are, and their pairs; None where no original has two."""
    grams, offsets = samples.grams[SIBLING_GRAM]
    of = held.texts.of
    left, right = pairs_within(of)
    if not len(left):
        return None
    jaccard, containment = shared_grams(grams, offsets, left, right)
    _, firsts = np.unique(of, return_index=True)
    unrelated, _ = shared_grams(grams, offsets, firsts[:-1], firsts[1:])
    return {
        "pairs": len(left),
        "jaccard": float(jaccard.mean()),
        "containment": float(containment.mean()),
        "unrelated_jaccard": float(unrelated.mean()) if len(unrelated) else None,
        **_alike_labels(held, clusters),
    }


def _alike_labels(held: Held, clusters: dict[str, NDArray[np.int64]]) -> Figures:
    """Share of pairs of siblings whose labels are in one cluster."""
    rows = held.figures
    order = np.lexsort((rows["order"], rows["origin"]))
    starts = np.searchsorted(rows["origin"][order], rows["origin"][order])
    order = order[np.arange(len(order)) - starts < SIBLINGS]
    left, right = (order[places] for places in pairs_within(rows["origin"][order]))
    labelled, same = np.ones(len(left), np.bool_), np.ones(len(left), np.bool_)
    figures: Figures = {}
    for name in LABELS:
        kinds = clusters.get(name, np.full(len(rows), -1))
        both = (kinds[left] >= 0) & (kinds[right] >= 0)
        alike = both & (kinds[left] == kinds[right])
        labelled, same = labelled & both, same & alike
        figures[f"same_{name}"] = float(alike.sum() / both.sum()) if both.any() else None
    figures["same_pair"] = float(same.sum() / labelled.sum()) if labelled.any() else None
    return figures


def _distinct_grams(held: Held) -> Figures:
    """Distinct-n of all held rows' texts, and of their originals, each original once."""
    rows = held.figures
    _, first = np.unique(rows["original"], return_index=True)
    originals = rows["original_words"][first][rows["original"][first] > 0]
    return {
        "distinct_grams": _distinct(rows["words"], held.registers),
        "original_distinct_grams": _distinct(originals, held.original_registers) if len(originals) else None,
    }


def _distinct(words: NDArray[np.int32], registers: NDArray[np.uint8]) -> Figures:
    found: Figures = {}
    for n, seen in zip(DISTINCT_GRAMS, registers, strict=True):
        grams = int(np.where(words >= n, words - n + 1, np.minimum(words, 1)).sum())
        found[f"distinct_{n}"] = min(distinct_estimate(seen) / grams, 1.0) if grams else None
    return found


def _groups(held: Held) -> list[tuple[str, NDArray[np.bool_]]]:
    """The most frequent values of the column grouped by, with their rows; the rest together."""
    numbers = held.figures["group"]
    names = held.names["group"]
    counts = np.bincount(numbers[numbers >= 0], minlength=len(names))
    largest = sorted(range(len(names)), key=lambda place: (-counts[place], names[place]))[:GROUPS]
    found = [(names[place], numbers == place) for place in largest]
    rest = ~np.isin(numbers, largest)
    return [*found, ("(others and none)", rest)] if rest.any() else found


def _missing(held: Held, kinds: dict[str, Kinds | None]) -> list[str]:
    """What the corpus lacks, and what can therefore not be said."""
    missing = [f"no {name}: its numbers, clusters and pairs" for name, found in kinds.items() if found is None]
    if held.texts.originals is None:
        missing.append("no raw_text: coverage, new n-grams, length ratio, and figures of originals to compare with")
    if len(pairs_within(held.texts.of)[0]) == 0:
        missing.append("no two texts of one original (chunk_id, source_id or raw_text): how alike siblings are")
    return missing


def _of_rows(numbers: NDArray[np.int32], of: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row what `of` says of its number, −1 for rows without."""
    return np.where(numbers >= 0, of[numbers], -1)


def _present(kinds: NDArray[np.int64], order: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    found = kinds[order[chosen[order]]]
    return found[found >= 0]


def _taken(grams: tuple[NDArray[np.uint64], NDArray[np.int64]], places: NDArray[np.int64]) -> NDArray[np.uint64]:
    hashes, offsets = grams
    return np.concatenate([np.zeros(0, np.uint64), *(hashes[offsets[i] : offsets[i + 1]] for i in places)])


def _bytes(texts: pa.Array, places: NDArray[np.int64]) -> list[bytes]:
    return [text.encode() for text in texts.take(pa.array(places)).to_pylist() if text is not None]


def _ratio(texts: Figures, originals: Figures | None, name: str) -> float | None:
    if originals is None or not texts[name] or not originals[name]:
        return None
    return float(texts[name] / originals[name])


def _spread(values: NDArray[np.float32]) -> Figures | None:
    """Mean and quartiles of the values there are."""
    known = values[~np.isnan(values)].astype(np.float64)
    if not len(known):
        return None
    low, median, high = np.quantile(known, (0.25, 0.5, 0.75)).tolist()
    return {"mean": float(known.mean()), "quartile_1": low, "median": median, "quartile_3": high}


def _rounded(value: Any) -> Any:
    """Floats to six digits, which no order of summation changes."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
