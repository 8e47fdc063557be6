"""The training rows of models that learn from each other: rows of real text, and rows that a model has written.

continue    BOS, then ROW tokens of a document. A model writes a row anew from its first KEPT tokens (as Shumailov et
            al. 2024 do it).
expand      BOS, KEPT tokens of a document, the mark of a genre, then text of that genre up to ROW tokens. In real
            rows the text is what followed, and its genre that of the document. A model writes GENRES texts to each
            passage, each in another genre than the document's own: reformulation with nothing left of it but its form.
"""

from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.collapse.generations.tiny_models import load_tokenizer, save, train_tokenizer
from mga.data.corpus_files import Corpus
from mga.data.store import write_atomically
from mga.errors import InputError
from mga.scoring.model import Scorer
from mga.scoring.texts import Text, texts_of

ROW = 128
"""Tokens of a training row after BOS."""

KEPT = ROW // 4
GENRES = 5
"""Texts that an expansion writes to a passage: the paper's five."""

CONTINUE, EXPAND = "continue", "expand"
_MOST_MARKS = 64
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Marks:
    """The genres of an expansion and the ids that stand for them; none where texts are continued."""

    ids: dict[str, int]

    def cut(self, ids: list[int], begin: int, genre: str | None) -> list[list[int]]:
        """Rows of a document's ids."""
        if not self.ids:
            return [[begin, *ids[at : at + ROW]] for at in range(0, len(ids) - ROW, ROW)]
        mark, text = self.ids[str(genre)], ROW - 1
        return [
            [begin, *ids[at : at + KEPT], mark, *ids[at + KEPT : at + text]] for at in range(0, len(ids) - text, text)
        ]

    def prompts(self, passages: NDArray[np.int32], genres: list[str | None]) -> NDArray[np.int32]:
        """What a model goes on from: the passages (texts × KEPT), with the marks of the genres where there are any."""
        if not self.ids:
            return passages
        marks = np.asarray([self.ids[str(genre)] for genre in genres], np.int32)
        return np.concatenate([passages, marks[:, None]], 1)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Held-out documents, the tokenizer, and the marks of genres."""

    held_out: list[Text]
    tokenizer: Any
    marks: Marks


def prepare(
    corpus: Corpus, out: Path, how: str, rows: int, held_out: int, seed: int, source_key: str | None
) -> Prepared:
    """Write real.npy, other.npy and, with sources, shifted.npy below texts/, unless they are there.

    Raises InputError when the corpus is too small, or has no genres to expand into.
    """
    texts = list(texts_of(corpus, source_key, Counter()))
    sources = [name for name, _ in Counter(text.source for text in texts if text.source).most_common(_MOST_MARKS)]
    genres = sorted(sources) if how == EXPAND else []
    if how == EXPAND and len(genres) < 2:
        raise InputError("An expansion writes in other genres than a document's: name a column of genres with --by.")
    if genres:
        texts = [text for text in texts if text.source in genres]
    order = np.random.default_rng(seed).permutation(len(texts))
    mixed = [texts[i] for i in order]
    long = [text for text in mixed if len(text.text) >= 16 * ROW][:held_out]
    if len(long) < held_out:
        raise InputError(f"{held_out} documents of {16 * ROW:,} characters must be held out; there are {len(long)}.")
    kept = {text.id for text in long}
    rest = [text for text in mixed if text.id not in kept]
    if (out / "tokenizer").exists():
        tokenizer = load_tokenizer(out / "tokenizer")
        return Prepared(long, tokenizer, _marks(tokenizer, genres))
    tokenizer = train_tokenizer((text.text for text in rest[:2000]), [_mark(i) for i in range(len(genres))])
    marks = _marks(tokenizer, genres)
    real = _rows(rest, tokenizer, marks, 2 * rows)
    if len(real) < 2 * rows:
        raise InputError(f"The corpus gives {len(real):,} rows of {ROW} tokens, two times --rows are needed; lower it.")
    write_rows(out / "texts" / "real.npy", real[:rows])
    write_rows(out / "texts" / "other.npy", real[rows:])
    if len(sources) > 1:
        some = set(sources[1::2])
        shifted = _rows([text for text in rest if text.source in some], tokenizer, marks, rows)
        if len(shifted) == rows:
            write_rows(out / "texts" / "shifted.npy", shifted)
    save(out / "tokenizer", tokenizer)
    return Prepared(long, tokenizer, marks)


def written(teacher: Scorer, real: NDArray[np.int32], marks: Marks, temperature: float, seed: int) -> NDArray[np.int32]:
    """As many rows as there are real ones, written by the teacher to their passages."""
    begun = _expanded(real, marks, seed) if marks.ids else real[:, : KEPT + 1]
    made = []
    for first in range(0, len(begun), _ROWS_AT_ONCE):
        shown = begun[first : first + _ROWS_AT_ONCE]
        new = teacher.generate(shown[:, 1:], ROW + 1 - shown.shape[1], temperature, seed + first)
        made.append(np.concatenate([shown, np.stack(new)], 1))
    return np.concatenate(made)


def _expanded(real: NDArray[np.int32], marks: Marks, seed: int) -> NDArray[np.int32]:
    """BOS, passage, mark: GENRES others than its own for each of the first real rows, as many as there are rows."""
    random = np.random.default_rng(seed)
    all_ = np.asarray(list(marks.ids.values()), np.int32)
    begun: list[NDArray[np.int32]] = []
    for row in real:
        others = random.permutation(all_[all_ != row[KEPT + 1]])[:GENRES]
        begun += [np.append(row[: KEPT + 1], mark) for mark in others]
        if len(begun) >= len(real):
            break
    return np.stack(begun[: len(real)]).astype(np.int32)


def write_rows(path: Path, rows: NDArray[np.int32]) -> None:
    """Rows as a file of numpy, whole or not at all."""
    buffer = BytesIO()
    np.save(buffer, rows)
    write_atomically(path, buffer.getvalue())


def _mark(number: int) -> str:
    return f"<|genre-{number}|>"


def _marks(tokenizer: Any, genres: list[str]) -> Marks:
    return Marks({genre: int(tokenizer.convert_tokens_to_ids(_mark(i))) for i, genre in enumerate(genres)})


def _rows(texts: list[Text], tokenizer: Any, marks: Marks, most: int) -> NDArray[np.int32]:
    rows: list[list[int]] = []
    for text in texts:
        ids = tokenizer(text.text, add_special_tokens=False, verbose=False)["input_ids"]
        rows += marks.cut(ids, tokenizer.bos_token_id, text.source)
        if len(rows) >= most:
            break
    return np.asarray(rows[:most], np.int32)
