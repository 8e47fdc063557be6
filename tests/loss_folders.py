"""Folders of losses as `mga losses` writes them, with losses of the test's own making."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mga.data.store import write_json
from mga.scoring.token_losses import DOCUMENTS, RECORD, TOKENS, by_source

FREQUENT = ["the", "of", "and", "to", "a", "in", "that", "it", "is", "was"]
RARE = ["heron", "ledger", "quarry", "lantern", "bishop", "turnip", "glacier", "ballot", "mortar", "saffron"]
WORDS = [*FREQUENT, *RARE]


def some_documents(count: int, words: int, seed: int = 0) -> dict[str, str]:
    """Documents of random words, frequent ones first in WORDS."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    drawn = random.choice(WORDS, (count, words), p=weights / weights.sum())
    return {f"d{i}": " ".join(row) for i, row in enumerate(drawn)}


def write_losses(
    folder: Path,
    files: dict[str, dict[str, str]],
    loss_of: Callable[[str, NDArray[np.int32]], Sequence[float] | NDArray[Any]],
    rank_of: Callable[[NDArray[Any]], NDArray[Any]] = lambda losses: np.maximum(losses * 3, 1),
    **record: Any,
) -> Path:
    """Losses of documents (file → id → text; a token per word), which `loss_of(id, token ids)` gives."""
    numbers = {word: i for i, word in enumerate(WORDS)}
    for number, (file, documents) in enumerate(files.items()):
        token_rows: list[dict[str, Any]] = []
        document_rows = []
        for name, text in documents.items():
            words = text.split(" ")
            ids = np.asarray([numbers[word] for word in words], np.int32)
            ends = np.cumsum([len(word) + (i > 0) for i, word in enumerate(words)])
            losses = np.asarray(loss_of(name, ids), np.float64)
            ranks = rank_of(losses).astype(int)
            token_rows += [
                {"document": name, "position": i, "token_id": t, "end": e, "loss": x, "entropy": 2.0, "rank": r}
                | {"top_probability": 0.4}
                for i, (t, e, x, r) in enumerate(zip(ids.tolist(), ends.tolist(), losses, ranks.tolist(), strict=True))
            ]
            document_rows.append(
                {"document": name, "input": file, "source": None, "text": text, "bytes": len(text)}
                | dict.fromkeys(("tokens", "scored"), len(ids))
            )
        for kind, rows, schema in (("tokens", token_rows, TOKENS), ("documents", document_rows, DOCUMENTS)):
            path = folder / kind / f"{number:05}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows, schema), path)
    base = {"model": folder.name, "run": None, "step": None, "settings": {}, "counts": {"skipped": {}}}
    write_json(folder / RECORD, {**base, "by_source": by_source(folder), **record})
    return folder
