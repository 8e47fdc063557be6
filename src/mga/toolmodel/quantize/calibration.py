"""The texts on which a quantized model is calibrated, and others on which it is compared with the original."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.checks import check_corpus
from mga.data.corpus_files import open_corpus
from mga.errors import InputError
from mga.records import content_id
from mga.scoring.texts import texts_of
from mga.toolmodel.train.data_folder import Example, examples_in, is_data

HELD_OUT_OF = 4
"""Of documents without a split of their own, one of so many is held out, by the hash of its text."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as the model is shown it. `reply` is the place of the first id that is scored, at least 1."""

    ids: NDArray[np.int32]
    reply: int


@dataclass(frozen=True, slots=True)
class Texts:
    """What to calibrate with, and what to compare on; no text is in both. `fingerprint` names exactly these."""

    calibration: tuple[Example, ...]
    held_out: tuple[Example, ...]

    @property
    def fingerprint(self) -> str:
        parts = [part for of in (self.calibration, self.held_out) for e in of for part in (e.prompt, e.reply)]
        return content_id(len(self.calibration), *parts)


def read_texts(given: Sequence[str], text_key: str, calibration_samples: int, eval_samples: int) -> Texts:
    """The first so many texts of each kind, of a folder of examples or of documents.

    Raises InputError when there are none of either.
    """
    if len(given) == 1 and is_data(Path(given[0])):
        data = Path(given[0])
        train, held_out = examples_in(data, "train"), examples_in(data, "held_out")
        found = Texts(tuple(islice(train, calibration_samples)), tuple(islice(held_out, eval_samples)))
    else:
        found = _of_documents(given, text_key, calibration_samples, eval_samples)
    if not found.calibration or not found.held_out:
        raise InputError(
            f"{', '.join(given)} has {len(found.calibration):,} texts to calibrate with and {len(found.held_out):,} to "
            "compare on; both are needed, so give more documents."
        )
    return found


def encode(texts: Sequence[Example], tokenizer: Any, prefix: int | None, max_seq_len: int) -> list[Encoded]:
    """Texts as ids, cut to so many. A prompt goes through the tokenizer's chat template; prompts that leave no room
    for a reply are left out."""
    found = []
    for text in texts:
        before = [] if prefix is None else [prefix]
        if text.prompt is not None:
            messages = [{"role": "user", "content": text.prompt}]
            before = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        ids = [*before, *tokenizer(text.reply, add_special_tokens=False, verbose=False)["input_ids"]][:max_seq_len]
        reply = max(len(before), 1)
        if len(ids) > reply:
            found.append(Encoded(np.asarray(ids, np.int32), reply))
    return found


def _of_documents(given: Sequence[str], text_key: str, calibration_samples: int, eval_samples: int) -> Texts:
    corpus = open_corpus(given, text_key)
    check_corpus(corpus)
    calibration: list[Example] = []
    held_out: list[Example] = []
    for text in _different(text.text for text in texts_of(corpus, None, Counter())):
        to, room = (held_out, eval_samples) if _is_held_out(text) else (calibration, calibration_samples)
        if len(to) < room:
            to.append(Example(None, text))
        if len(calibration) == calibration_samples and len(held_out) == eval_samples:
            break
    return Texts(tuple(calibration), tuple(held_out))


def _different(texts: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts:
        if (name := content_id(text)) not in seen:
            seen.add(name)
            yield text


def _is_held_out(text: str) -> bool:
    return int(content_id("held-out", text)[:8], 16) % HELD_OUT_OF == 0
