"""The first pass of packing: every text once through the tokenizer, ids on disk, a table of where each came from.

A part is 1 to 4 MB of text. Its ids lie in scratch; its table stays, as documents/SOURCE/PART.parquet:
id, source_id, file, row, start (of its ids in the part), n_tokens, held_out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mga.data.store import write_atomically
from mga.mixture.recipe import Source
from mga.packing.held_out import HeldOutSet, id_hash
from mga.packing.processes import each, tokenizer_here
from mga.packing.texts import Texts, all_texts, corpus_of
from mga.packing.tokenizer import Tokenizer, cut

PART_CHARACTERS = 1 << 20, 4 << 20
"""Characters of text in a part, about: what a process tokenizes at a time. Small in a small corpus, so that no process
waits long for another's last part; large in a large one, for the sake of the number of files."""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where parts lie. `ids` is scratch."""

    documents: Path
    ids: Path

    def table(self, source: str, part: int) -> Path:
        """The table of a part; it exists when the part is done."""
        return self.documents / source / f"{part:06}.parquet"

    def tokens(self, source: str, part: int) -> Path:
        """The ids of a part."""
        return self.ids / source / f"{part:06}.bin"

    def parts(self, source: str) -> list[Path]:
        """All tables of a source in order."""
        return sorted((self.documents / source).glob("*.parquet"))


@dataclass(frozen=True, slots=True)
class _Job:
    """Texts of a part; without folders they are measured alone."""

    source: str
    part: int
    texts: Texts
    held_out: HeldOutSet
    folders: Folders | None


def tokenise(
    sources: Sequence[Source], tokenizer: Tokenizer, held_out: HeldOutSet, folders: Folders, workers: int
) -> Iterator[tuple[str, int]]:
    """Tokenize every part that is not done; yields the source and the bytes of text of each when it is."""
    return each(_tokenised, _jobs(sources, held_out, folders), tokenizer, workers)


def measure(
    sources: Sequence[Source], tokenizer: Tokenizer, held_out: HeldOutSet, workers: int
) -> Iterator[tuple[str, int, dict[str, NDArray[Any]]]]:
    """Source, number and columns (draw.COLUMNS) of every part, as `tokenise` would make them, with nothing written."""
    return each(_measured, _jobs(sources, held_out, None), tokenizer, workers)


def _jobs(sources: Sequence[Source], held_out: HeldOutSet, folders: Folders | None) -> Iterator[_Job]:
    for source in sources:
        corpus = corpus_of(source)
        least, most = PART_CHARACTERS
        size = min(max(sum(file.size for file in corpus.files) // 64, least), most)
        # What decides of a job only its own source goes with it to another process.
        rule = replace(held_out, known={})
        part = 0
        for all_ in all_texts(source):
            for texts in _cut(held_out.without_unknown(source.name, all_), size):
                if folders is None or not folders.table(source.name, part).exists():
                    yield _Job(source.name, part, texts, rule, folders)
                part += 1


def _cut(all_: Texts, size: int) -> Iterator[Texts]:
    first = 0
    for texts in cut(all_.texts, size):
        some = slice(first, first + len(texts))
        yield Texts(all_.file, all_.first + first, texts, all_.ids[some], all_.sources[some], all_.named[some])
        first = some.stop


def _columns(job: _Job, lengths: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    hashes = np.array([id_hash(name, job.held_out.seed) for name in job.texts.sources], np.uint64)
    starts = np.cumsum(lengths) - lengths
    return {"hash": hashes, "start": starts, "n_tokens": lengths, "held_out": job.held_out.holds(hashes)}


def _measured(job: _Job) -> tuple[str, int, dict[str, NDArray[Any]]]:
    return job.source, job.part, _columns(job, tokenizer_here().lengths(job.texts.texts))


def _tokenised(job: _Job) -> tuple[str, int]:
    assert job.folders is not None
    texts = job.texts
    ids, lengths = tokenizer_here().encode(texts.texts)
    columns = _columns(job, lengths)
    table = pa.table(
        {
            "id": pa.array(texts.ids, pa.string()),
            "source_id": pa.array(texts.sources, pa.string()),
            "file": pa.array([texts.file] * len(texts.ids), pa.string()).dictionary_encode(),
            "row": pa.array(range(texts.first, texts.first + len(texts.ids)), pa.int64()),
            "hash": pa.array(columns["hash"], pa.uint64()),
            "start": pa.array(columns["start"], pa.int64()),
            "n_tokens": pa.array(lengths, pa.int64()),
            "held_out": pa.array(columns["held_out"], pa.bool_()),
        }
    )
    write_atomically(job.folders.tokens(job.source, job.part), ids.data.cast("B") if ids.size else b"")
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(job.folders.table(job.source, job.part), memoryview(buffer.getvalue()))
    return job.source, sum(len(text.encode("utf-8", "surrogatepass")) for text in texts.texts)
