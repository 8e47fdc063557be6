"""What `mga tool examples` has written, as the other commands read it: DATA/STAGE/{train,held_out}.parquet with
`messages` (the prompt as user, the reply as assistant), `source_id`, `raw_text` (the document), and of
reformulations `genre` and `audience`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from mga.data.output_folder import EXAMPLES
from mga.errors import InputError
from mga.records import Document, Pair

Stage = Literal["pairs", "reformulate"]
Split = Literal["train", "held_out"]

STAGES: tuple[Stage, ...] = ("pairs", "reformulate")
RECORD = EXAMPLES.record


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt, and the reply to it. A text of no dialogue is a reply to no prompt."""

    prompt: str | None
    reply: str


def is_data(folder: Path) -> bool:
    """Whether a folder is one of examples."""
    return (folder / RECORD).is_file()


def examples_in(folder: Path, split: Split) -> Iterator[Example]:
    """The examples of both stages, those of the pairs first."""
    for stage in STAGES:
        for row in _rows(folder, stage, split, ["messages"]):
            prompt, reply = row["messages"]
            yield Example(prompt["content"], reply["content"])


def held_out_documents(folder: Path) -> dict[Document, list[Pair]]:
    """The documents that no training has seen, each once, with the pairs its reformulations were written for."""
    found: dict[str, tuple[Document, list[Pair]]] = {}
    for stage in STAGES:
        columns = ["source_id", "raw_text", *(["genre", "audience"] if stage == "reformulate" else [])]
        for row in _rows(folder, stage, "held_out", columns):
            text = row["raw_text"]
            document = Document(row["source_id"], text, f"0:{len(found)}")
            _, pairs = found.setdefault(text, (document, []))
            if stage == "reformulate":
                pairs.append(Pair(row["genre"], row["audience"]))
    return dict(found.values())


def _rows(folder: Path, stage: Stage, split: Split, columns: list[str]) -> Iterator[dict[str, Any]]:
    path = folder / stage / f"{split}.parquet"
    if not path.is_file():
        return
    file = pq.ParquetFile(path)
    if missing := sorted(set(columns) - set(file.schema_arrow.names)):
        raise InputError(f"{path} has no column {missing[0]!r}; write the examples anew with mga tool examples.")
    for batch in file.iter_batches(1024, columns=columns):
        yield from batch.to_pylist()
