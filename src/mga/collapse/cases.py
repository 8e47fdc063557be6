"""Documents to look at: those that the synthetic-trained model predicts worse, token by token."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.collapse.loss_tables import Pair
from mga.collapse.positions import Rule

LEAST_DIFFERENCE = 0.5
"""The paper's cases are the documents with a larger mean difference (nats per token)."""

CASE_CHARACTERS = 4000


def cases_of(
    pair: Pair,
    group: int,
    means: NDArray[np.float64],
    positions: NDArray[np.int64],
    ends: NDArray[np.int32],
    rule: Rule,
    most: int,
) -> list[dict[str, Any]]:
    """The documents of a group with the largest mean difference, the largest first (`ends`: where tokens end).

    Per case: document, mean_difference (nats), passes (whether above LEAST_DIFFERENCE), tokens, position (token of the
    first anomaly, −1: none), window (tokens), first_token (of the excerpt), pieces (the excerpt's tokens in order, each
    as [text, difference]) and anomaly_piece (the piece in which the first anomaly begins, null: none). An excerpt of a
    longer document is the part around the first anomaly.
    """
    members = np.flatnonzero(pair.groups == group)
    worst = members[np.argsort(-means[members], kind="stable")[:most]]
    texts = pair.documents["text"]
    cases = []
    for document in worst:
        of = slice(int(pair.offsets[document]), int(pair.offsets[document + 1]))
        differences = pair.synt[of] - pair.real[of]
        pieces, first, at = _excerpt(texts[int(document)].as_py(), ends[of], differences, int(positions[document]))
        cases.append(
            {
                "document": pair.documents["document"][int(document)].as_py(),
                "mean_difference": float(means[document]),
                "passes": bool(means[document] > LEAST_DIFFERENCE),
                "tokens": len(differences),
                "position": int(positions[document]),
                "window": max(int(rule.share * len(differences)), 1),
                "first_token": first,
                "pieces": pieces,
                "anomaly_piece": at,
            }
        )
    return cases


def _excerpt(
    text: str, ends: NDArray[np.int32], differences: NDArray[np.float32], position: int
) -> tuple[list[list[Any]], int, int | None]:
    """Pieces of the text with the difference of each, the token they begin with, and the piece that has the token at
    `position` (None: not in the excerpt).

    A character of several tokens is a piece with their sum: no token shows half of it. A first token that was not
    scored is part of the first piece.
    """
    first = 0
    if len(text) > CASE_CHARACTERS and position > 0:
        begin = max(int(ends[position - 1]) - CASE_CHARACTERS // 3, 0)
        first = int(np.searchsorted(ends, begin, "right"))
    start = int(ends[first - 1]) if first else 0
    last = start + CASE_CHARACTERS
    pieces: list[list[Any]] = []
    held = 0.0
    at = None
    for token, (end, difference) in enumerate(zip(ends[first:], differences[first:], strict=True), first):
        held += float(difference)
        if token == position:
            at = len(pieces)
        if end > start:
            pieces.append([text[start:end], round(held, 3)])
            start, held = int(end), 0.0
        if start >= last:
            break
    return pieces, first, at
