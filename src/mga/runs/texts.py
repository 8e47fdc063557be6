"""What runs over a written sample have made of it: every text that passed cleaning, with its verdict if any."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mga.config import ExpandConfig
from mga.data.outcomes import read_rows, write_rows
from mga.data.published import check_published
from mga.errors import InputError
from mga.expand.boilerplate import phrases_of
from mga.expand.clean import clean
from mga.expand.given_pairs import write_given_pairs
from mga.records import Document, Drop, Pair, Reformulation

_JUDGED = ("low_score", "no_verdict")  # dropped only after the text had passed cleaning

TEXTS = pa.schema([(name, pa.string()) for name in ("id", "text", "raw_text", "chunk_id", "genre", "audience")])


@dataclass(frozen=True, slots=True)
class Text:
    """A text, the document it was written from, and the judge's word on it."""

    id: str
    text: str
    raw_text: str
    chunk_id: str
    genre: str | None
    audience: str | None
    score: int | None
    expected: float | None


@dataclass(frozen=True, slots=True)
class Written:
    """Of one variant: its texts in the order of the sample, and why there are no others (reasons, counted)."""

    texts: tuple[Text, ...]
    missing: dict[str, int]

    def first_of_each(self) -> list[Text]:
        """One text of each document that has any."""
        found: dict[str, Text] = {}
        for text in self.texts:
            found.setdefault(text.raw_text, text)
        return list(found.values())


def written_in(run: Path, documents: Sequence[Document]) -> Written:
    """The texts of a finished run over these documents."""
    place = {document.text: i for i, document in enumerate(documents)}
    texts: list[Text] = []
    missing: Counter[str] = Counter()
    for row in rows_of(run, documents):
        if row.get("reason") in (None, *_JUDGED) and row["text"]:
            texts.append(_text(row))
        else:
            missing[str(row["reason"])] += 1
    texts.sort(key=lambda text: place[text.raw_text])  # stable: siblings stay in their order
    return Written(tuple(texts), dict(sorted(missing.items())))


def would_drop(texts: Sequence[Text], config: ExpandConfig) -> dict[str, int]:
    """How many of the texts the cleaning rules of these settings would drop, by reason."""
    phrases = phrases_of(config.cleaning)
    reasons: Counter[str] = Counter()
    for text in texts:
        document = Document(text.chunk_id, text.raw_text, "0:0")
        found = clean(document, Reformulation(text.text, 1), config.cleaning, phrases, bool(config.language))
        if isinstance(found, Drop):
            reasons[found.reason] += 1
    return dict(sorted(reasons.items()))


def write_texts(path: Path, texts: Sequence[Text]) -> None:
    """The texts as Parquet, as `mga diversity` reads them."""
    write_rows(path, [{name: getattr(text, name) for name in TEXTS.names} for text in texts], TEXTS)


def write_pairs_of(run: Path, documents: Sequence[Document], path: Path) -> None:
    """The pairs that a finished run has written for, for other runs over the same documents."""
    pairs: dict[str, list[Pair]] = {document.text: [] for document in documents}
    for row in rows_of(run, documents):
        if row["genre"] is not None:
            pairs[row["raw_text"]].append(Pair(row["genre"], row["audience"]))
    write_given_pairs(path, pairs)


def rows_of(run: Path, documents: Sequence[Document]) -> list[dict[str, Any]]:
    """All rows of a run. Raises InputError when it has cut documents of the sample into several chunks."""
    check_published(run)
    rows = [row for folder in ("kept", "dropped", "failed") for row in read_rows(run / folder)]
    whole = {document.text for document in documents}
    if cut := next((row["chunk_id"] for row in rows if row["raw_text"] not in whole), None):
        raise InputError(
            f"{run}: the engine has no room for whole documents of the sample ({cut} is a part of one); "
            "begin again in another --out with a lower --document-tokens."
        )
    return rows


def _text(row: dict[str, Any]) -> Text:
    return Text(
        row["id"],
        row["text"],
        row["raw_text"],
        row["chunk_id"],
        row["genre"],
        row["audience"],
        row["score"],
        row["expected_score"],
    )
