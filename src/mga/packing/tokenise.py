"""The first pass of packing: every text once through the tokenizer, ids on disk, a table of where each came from.

A part is 1 to 4 MB of text. Its ids lie in scratch; its table stays, as documents/SOURCE/PART.parquet:
id, source_id, file, row, start (of its ids in the part), n_tokens, held_out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mga.data.store import write_atomically
from mga.mixture.recipe import Source
from mga.packing.held_out import HeldOutSet, id_hash
from mga.packing.processes import each, tokenizer_here
from mga.packing.texts import Texts, batches_of, corpus_of, texts_of
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
    texts: Texts
    held_out: HeldOutSet
    table: Path
    tokens: Path


def tokenise(
    sources: Sequence[Source], tokenizer: Tokenizer, held_out: HeldOutSet, folders: Folders, workers: int
) -> Iterator[tuple[str, int]]:
    """Tokenize every part that is not done; yields the source and the bytes of text of each when it is."""
    return each(_tokenised, _jobs(sources, held_out, folders), tokenizer, workers)


def _jobs(sources: Sequence[Source], held_out: HeldOutSet, folders: Folders) -> Iterator[_Job]:
    for source in sources:
        corpus = corpus_of(source)
        least, most = PART_CHARACTERS
        size = min(max(sum(file.size for file in corpus.files) // 64, least), most)
        part = 0
        for file in corpus.files:
            for batch in batches_of(source, corpus, file):
                for texts in _cut(texts_of(source, batch, file.name), size):
                    if not folders.table(source.name, part).exists():
                        yield _Job(texts, held_out, folders.table(source.name, part), folders.tokens(source.name, part))
                    part += 1


def _cut(all_: Texts, size: int) -> Iterator[Texts]:
    first = 0
    for texts in cut(all_.texts, size):
        some = slice(first, first + len(texts))
        yield Texts(all_.file, all_.first + first, texts, all_.ids[some], all_.sources[some])
        first = some.stop


def _tokenised(job: _Job) -> tuple[str, int]:
    texts = job.texts
    ids, lengths = tokenizer_here().encode(texts.texts)
    hashes = np.array([id_hash(name, job.held_out.seed) for name in texts.sources], np.uint64)
    table = pa.table(
        {
            "id": pa.array(texts.ids, pa.string()),
            "source_id": pa.array(texts.sources, pa.string()),
            "file": pa.array([texts.file] * len(texts.ids), pa.string()).dictionary_encode(),
            "row": pa.array(range(texts.first, texts.first + len(texts.ids)), pa.int64()),
            "hash": pa.array(hashes, pa.uint64()),
            "start": pa.array(np.cumsum(lengths) - lengths, pa.int64()),
            "n_tokens": pa.array(lengths, pa.int64()),
            "held_out": pa.array(job.held_out.holds(hashes), pa.bool_()),
        }
    )
    write_atomically(job.tokens, ids.data.cast("B") if ids.size else b"")
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(job.table, memoryview(buffer.getvalue()))
    return job.table.parent.name, sum(len(text.encode("utf-8", "surrogatepass")) for text in texts.texts)
