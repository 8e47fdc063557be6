"""Which tokens one model predicts worse than another: by rank, by frequency, by what they are in the text.

Function words are found without word lists for any language: those that stand in at least FUNCTION_SHARE of the longer
documents. Each mean has a 95% interval that takes the tokens of a document as dependent (documents are the clusters).
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import regex
from numpy.typing import NDArray

from mga import stats

RANKS = (1, 2, 6, 11, 101, 1001)
FREQUENCIES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
RARE = FREQUENCIES[4]
FEWEST_TOKENS = 100
FUNCTION_SHARE = 0.4
"""In essays, reports and diaries about 60 words stand in so many documents, nearly all of them articles, pronouns,
prepositions, conjunctions and auxiliaries (docs/collapse.md)."""

CLASSES = ("function word", "content word", "inside a word", "number", "punctuation", "white space")
MOST_TEXTS = 3000
_LONG_CHARACTERS = 500
_RUNS = regex.compile(
    r"(?P<word>[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*)|(?P<number>\p{N}+)|(?P<mark>[^\s\p{L}\p{M}\p{N}]+)"
)


def by_rank(differences: NDArray[Any], ranks: NDArray[np.int32], offsets: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The difference by the token's rank under the real-trained model (1: it was the likeliest)."""
    groups = np.searchsorted(RANKS, ranks, "right") - 1
    ends = [f"{b - 1:,}" for b in RANKS[1:]]
    names = [f"{a:,}" if f"{a:,}" == b else f"{a:,} to {b}" for a, b in zip(RANKS, ends, strict=False)]
    return clustered(differences, groups, offsets, [*names, f"{RANKS[-1]:,} and more"])


def by_frequency(
    differences: NDArray[Any], tokens: NDArray[np.int32], offsets: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """The difference by the token's share of all tokens compared, rarest first; `share` is all that a group has."""
    counts = np.bincount(tokens)
    groups_of_ids = np.searchsorted(FREQUENCIES, counts / max(len(tokens), 1), "right") - 1
    names = [f"{a:g} to {b:g}" for a, b in pairwise(FREQUENCIES)]
    names[0] = f"below {FREQUENCIES[1]:g}"
    return clustered(differences, groups_of_ids[tokens], offsets, [*names, f"{FREQUENCIES[-1]:g} and more"])


def rare_excess(
    differences: NDArray[Any], tokens: NDArray[np.int32], offsets: NDArray[np.int64]
) -> dict[str, float | int | None] | None:
    """By how much more rare tokens (less than RARE of all tokens compared) lose than the others: value, low, high (95%)
    and n, the documents with rare tokens. None where there are fewer than FEWEST_TOKENS of either.

    Rare and other tokens stand in the same documents, so the error is of what each document adds to the difference of
    the two means, not of two means as if independent.
    """
    counts = np.bincount(tokens)
    rare = (counts / max(len(tokens), 1) < RARE)[tokens]
    documents = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    influences, means, present = np.zeros(len(offsets) - 1), [], 0
    for sign, chosen in ((1, rare), (-1, ~rare)):
        total = int(chosen.sum())
        if total < FEWEST_TOKENS:
            return None
        of = np.bincount(documents[chosen], minlength=len(influences))
        sums = np.bincount(documents[chosen], differences[chosen], minlength=len(influences))
        means.append(float(sums.sum() / total))
        influences += sign * (sums - means[-1] * of) / total
        present = present or int((of > 0).sum())
    error = stats.linearised(influences[np.diff(offsets) > 0].tolist(), max(map(abs, means)) / len(influences))
    excess = stats.Estimate(means[0] - means[1], error, max(present - 1, 1), present)
    return {"value": excess.value, "low": excess.low, "high": excess.high, "n": present}


def by_class(
    differences: NDArray[Any], texts: pa.ChunkedArray, ends: NDArray[np.int32], offsets: NDArray[np.int64]
) -> dict[str, Any]:
    """The difference by what a token is in its text; also which words were taken for function words.

    At most MOST_TEXTS documents, evenly spread, are looked at.
    """
    chosen = np.unique(np.linspace(0, len(offsets) - 2, MOST_TEXTS).astype(np.int64))
    held = texts.take(pa.array(chosen)).to_pylist()
    function = function_words(held)
    pieces = [
        classes_of(text, ends[offsets[i] : offsets[i + 1]], function) for i, text in zip(chosen, held, strict=True)
    ]
    taken = np.concatenate([differences[offsets[i] : offsets[i + 1]] for i in chosen])
    bounds = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    return {
        "documents": len(chosen),
        "function_words": sorted(function),
        "classes": clustered(taken, np.concatenate(pieces), bounds, CLASSES),
    }


def function_words(texts: Sequence[str]) -> set[str]:
    """Words, lower case, that stand in at least FUNCTION_SHARE of the longer texts (of all, if fewer than 10 are)."""
    long = [text for text in texts if len(text) >= _LONG_CHARACTERS]
    long = long if len(long) >= 10 else list(texts)
    counts = Counter(word for text in long for word in {m["word"].lower() for m in _RUNS.finditer(text) if m["word"]})
    return {word for word, count in counts.items() if count >= FUNCTION_SHARE * len(long)} if len(long) >= 10 else set()


def classes_of(text: str, ends: NDArray[np.int32], function: set[str]) -> NDArray[np.int64]:
    """The place in CLASSES of each token, given where the tokens end; the first visible character decides."""
    starts = np.concatenate([[0], ends[:-1]])
    spans = [(m.start(), m.end(), _class(m, function)) for m in _RUNS.finditer(text)]
    if not spans:
        return np.full(len(ends), CLASSES.index("white space"))
    begins, stops, kinds = (np.asarray(column) for column in zip(*spans, strict=True))
    run = np.searchsorted(stops, starts, "right")  # the first run that ends behind the token's start
    inside = run < len(stops)
    run = np.minimum(run, len(stops) - 1)
    classes = np.where(inside & (begins[run] < ends), kinds[run], CLASSES.index("white space"))
    is_word = classes <= CLASSES.index("content word")
    return np.where(is_word & (begins[run] < starts), CLASSES.index("inside a word"), classes)


def clustered(
    values: NDArray[Any], groups: NDArray[Any], offsets: NDArray[np.int64], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Mean of each group of tokens: name, tokens, share, value, low, high (95%, documents as clusters)."""
    n = len(names)
    documents = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    cells = documents * n + groups
    size = (len(offsets) - 1) * n
    counts = np.bincount(cells, minlength=size).reshape(-1, n)
    sums = np.bincount(cells, values, minlength=size).reshape(-1, n)
    found = []
    for group, name in enumerate(names):
        tokens = int(counts[:, group].sum())
        row: dict[str, Any] = {"name": name, "tokens": tokens, "share": tokens / max(len(values), 1)}
        present = counts[:, group] > 0
        row |= {"value": None, "low": None, "high": None}
        if tokens:
            mean = stats.ratio(sums[present, group].tolist(), counts[present, group].tolist())
            row |= {"value": mean.value, "low": mean.low, "high": mean.high}
        found.append(row)
    return found


def _class(match: "regex.Match[str]", function: set[str]) -> int:
    if match["word"]:
        return CLASSES.index("function word" if match["word"].lower() in function else "content word")
    return CLASSES.index("number" if match["number"] else "punctuation")
