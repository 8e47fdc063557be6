"""The comparison, from what lies in a prompt comparison's folder: no model is asked but for vectors that are missing.

`compare` returns values that go into comparison.json as they are:

version      of these keys
sample       documents, tokens (estimated)
engines      generator, judge, embedder: the models' names
settings     of the prompt comparison
min_score    of the runs
variants     by name: texts, missing (by reason), scores (`Scores.as_values`: 5 … 1, judged, no_verdict, asked, rates
             of the asked and of the judged), tokens (estimated), length_ratio, new_3, coverage (means, as
             `mga diversity` has them), siblings, vendi_ratio, rules_would_drop, overlap (see overlap.py), place (words)
controls     cosine_of_originals; shortened, other_document: overlap of the originals' own texts with a third of their
             sentences left out, and of another original in their place: what "close" and "unrelated" look like here
judge        see reliability.py
map          points: variant (or "originals"), id, document, x, y
tables       title, columns, rows, note: the same as text, in the order they are read
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mga.config import ExpandConfig
from mga.curation.diversity.measures import measure
from mga.data.corpus_files import open_corpus
from mga.embedders.vectors import Vectors
from mga.prompt_comparison.judging import Judgement
from mga.prompt_comparison.map import MOST_POINTS, coordinates
from mga.prompt_comparison.overlap import other_cosine, overlap, place
from mga.prompt_comparison.planted import of_others, shortened
from mga.prompt_comparison.reliability import reliability
from mga.prompt_comparison.settings import ORIGINALS
from mga.records import Document
from mga.runs.texts import Text, Written, would_drop
from mga.scores import SCORES, Scores
from mga.text.words import estimate_tokens

VERSION = 1


def compare(
    documents: Sequence[Document],
    written: Mapping[str, Written],
    rules: Mapping[str, ExpandConfig],
    texts_files: Mapping[str, Path],
    judgements: Sequence[Judgement],
    vectors: Vectors,
    seed: int,
) -> dict[str, Any]:
    """All figures of a prompt comparison but its settings; the same folder gives the same values."""
    originals = vectors.of([document.text for document in documents])
    number = {document.text: place for place, document in enumerate(documents)}
    every = list(range(len(documents)))
    own = [document.text for document in documents]
    controls = {
        "shortened": overlap(originals, vectors.of([shortened(text) for text in own]), every, every, seed),
        "other_document": overlap(originals, vectors.of(of_others(own)), every, every, seed),
    }
    stays_from = controls["shortened"]["closeness"]
    variants: dict[str, Any] = {}
    for name, found in written.items():
        figures = _of_texts(found, rules[name], texts_files[name], seed)
        if found.texts:
            of = [number[text.raw_text] for text in found.texts]
            firsts = [found.texts.index(text) for text in found.first_of_each()]
            figures["overlap"] = overlap(originals, vectors.of([t.text for t in found.texts]), of, firsts, seed)
            figures["place"] = place(figures["overlap"], stays_from)
        variants[name] = figures
    result = {
        "version": VERSION,
        "sample": {"documents": len(documents), "tokens": sum(estimate_tokens(text) for text in own)},
        "min_score": next(iter(rules.values())).min_score,
        "variants": variants,
        "controls": {**controls, "cosine_of_originals": other_cosine(originals)},
        "judge": reliability(judgements, next(iter(rules.values())).min_score),
        "map": {"points": _points(documents, written, vectors, seed)},
    }
    rounded: dict[str, Any] = _rounded(result)
    return rounded


def _of_texts(found: Written, rules: ExpandConfig, texts_file: Path, seed: int) -> dict[str, Any]:
    texts = found.texts
    figures: dict[str, Any] = {
        "texts": len(texts),
        "missing": found.missing,
        "scores": _scores(texts),
        "rules_would_drop": would_drop(texts, rules),
        "overlap": None,
        "place": None,
    }
    keys = ("length_ratio", "new_3", "coverage")
    if not texts:
        return figures | dict.fromkeys((*keys, "siblings", "vendi_ratio", "tokens"))
    whole = measure(open_corpus([texts_file]), seed=seed)["whole"]
    return figures | {
        "tokens": sum(estimate_tokens(text.text) for text in texts),
        **{key: whole[key] and whole[key]["mean"] for key in keys},
        "siblings": whole["siblings"] and {key: whole["siblings"][key] for key in ("jaccard", "unrelated_jaccard")},
        "vendi_ratio": whole["vendi_ratio"],
    }


def _scores(texts: Sequence[Text]) -> dict[str, Any]:
    counts = Counter(text.score for text in texts)
    return Scores({score: counts[score] for score in SCORES}, counts[None]).as_values()


def _points(
    documents: Sequence[Document], written: Mapping[str, Written], vectors: Vectors, seed: int
) -> list[dict[str, Any]]:
    """Every original and text with its place on the map; of too many, one text of each document."""
    too_many = len(documents) + sum(len(found.texts) for found in written.values()) > MOST_POINTS
    points = [(ORIGINALS, document.source_id, document.source_id, document.text) for document in documents]
    source = {document.text: document.source_id for document in documents}
    for name, found in written.items():
        chosen = found.first_of_each() if too_many else found.texts
        points += [(name, text.id, source[text.raw_text], text.text) for text in chosen]
    at = coordinates(vectors.of([text for *_, text in points]), seed)
    return [
        {"variant": name, "id": id_, "document": document, "x": float(x), "y": float(y)}
        for (name, id_, document, _), (x, y) in zip(points, at, strict=True)
    ]


def _rounded(value: Any) -> Any:
    """Floats to five digits, which no order of summation changes."""
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.5g}") if isinstance(value, float | np.floating) else value
