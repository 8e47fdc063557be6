"""Examples as ids: prompt and reply through the chat template, and where the reply begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mga.errors import InputError
from mga.records import content_id
from mga.toolmodel.train.data_folder import Split, Stage


@dataclass(frozen=True, slots=True)
class Ids:
    """An example: all its ids, and how many of them are the prompt's, whose loss does not count."""

    ids: tuple[int, ...]
    prompt: int

    def columns(self) -> dict[str, list[int]]:
        """As TRL takes tokenized examples."""
        return {
            "input_ids": [*self.ids],
            "completion_mask": [0] * self.prompt + [1] * (len(self.ids) - self.prompt),
            "labels": [-100] * self.prompt + [*self.ids[self.prompt :]],
        }


@dataclass(frozen=True, slots=True)
class Asked:
    """A held-out prompt, to be answered: its stage, document, and the reply that the teacher gave."""

    stage: Stage
    prompt: str
    document: str
    reply: str


@dataclass(frozen=True, slots=True)
class Examples:
    """What a model is trained on, and what it is measured with. `fingerprint` names exactly these."""

    train: tuple[Ids, ...]
    held_out: tuple[Ids, ...]
    asked: tuple[Asked, ...]
    fingerprint: str

    @property
    def reply_tokens(self) -> int:
        """Tokens of the training part that count in the loss."""
        return sum(len(one.ids) - one.prompt for one in self.train)


def read_examples(data: Path, stages: Sequence[Stage], tokenizer: Any, longest: int) -> Examples:
    """The examples of stages as ids. Raises InputError when there is none to train on, or one is too long."""
    rows = {split: [row for stage in stages for row in _rows(data, stage, split)] for split in ("train", "held_out")}
    if not rows["train"]:
        raise InputError(f"{data} has no examples to train on for {' and '.join(stages)}.")
    train, held_out = ([_encode(row, tokenizer, longest) for row in rows[split]] for split in ("train", "held_out"))
    by_stage = [[row for row in rows["held_out"] if row["stage"] == stage] for stage in stages]
    mixed = [rows_[i] for i in range(max(map(len, by_stage))) for rows_ in by_stage if i < len(rows_)]
    asked = [
        Asked(row["stage"], row["messages"][0]["content"], row["raw_text"], row["messages"][1]["content"])
        for row in mixed
    ]
    parts = [message["content"] for all_ in rows.values() for row in all_ for message in row["messages"]]
    return Examples(tuple(train), tuple(held_out), tuple(asked), content_id(*parts))


def _rows(data: Path, stage: Stage, split: Split | str) -> list[dict[str, Any]]:
    path = data / stage / f"{split}.parquet"
    if not path.is_file():
        return []
    rows = pq.read_table(path, columns=["messages", "raw_text"]).to_pylist()
    return [{**row, "stage": stage} for row in rows]


def _encode(row: dict[str, Any], tokenizer: Any, longest: int) -> Ids:
    prompt = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    if not whole.startswith(prompt):
        raise InputError("The base's chat template writes a prompt otherwise before a reply than before none.")
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    after = tokenizer(whole[len(prompt) :].rstrip("\n"), add_special_tokens=False)["input_ids"]
    if len(before) + len(after) > longest:
        raise InputError(
            f"An example has {len(before) + len(after):,} tokens, more than --sequence {longest:,}; make examples with "
            "smaller --prompt-tokens and --reply-tokens."
        )
    return Ids((*before, *after), len(before))
