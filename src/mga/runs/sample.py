"""The documents that all variants rewrite: drawn at random, and no longer than every variant can take whole."""

import heapq
from collections.abc import Sequence
from pathlib import Path

import orjson

from mga.data.documents import InputFile
from mga.data.reading import read
from mga.data.store import write_atomically
from mga.errors import InputError
from mga.expand.recipe import derived_seed
from mga.records import Document
from mga.text.chunks import chunk
from mga.text.words import estimate_tokens


async def write_sample(
    path: Path, files: Sequence[InputFile], text_key: str, id_key: str, count: int, longest: int, seed: int
) -> None:
    """Draw `count` documents of the input, and write the beginning of each, of `longest` estimated tokens at most.

    The draw depends on the documents and the seed alone. They keep the input's order. Raises InputError when there
    are fewer than two different ones.
    """

    async def count_tokens(text: str) -> int:
        return estimate_tokens(text)

    drawn: list[tuple[int, int, Document]] = []  # the smallest draws, as a heap with the largest of them on top
    for place, row in enumerate(read(files, text_key, id_key)):
        if isinstance(row, Document):
            entry = (-derived_seed(seed, "sample", row.key), place, row)
            heapq.heappush(drawn, entry) if len(drawn) < count else heapq.heappushpop(drawn, entry)
    lines: dict[str, bytes] = {}
    for _, _, document in sorted(drawn, key=lambda entry: entry[1]):
        text = (await chunk(document, longest, count_tokens))[0].text
        lines.setdefault(text, orjson.dumps({"id": document.source_id, "text": text}, option=orjson.OPT_APPEND_NEWLINE))
    if len(lines) < 2:
        raise InputError("A comparison needs two different documents at least; the input has fewer.")
    write_atomically(path, b"".join(lines.values()))


def sample_documents(path: Path) -> list[Document]:
    """The documents of a written sample."""
    from mga.data.documents import find_files

    return [row for row in read(find_files([str(path)])) if isinstance(row, Document)]
