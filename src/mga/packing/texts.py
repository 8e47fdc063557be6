"""Texts of a source, about 16 MB at a time, with the ids that say where each comes from."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mga.data.corpus_files import Batch, Corpus, open_corpus
from mga.data.documents import InputFile
from mga.mixture.recipe import Source
from mga.records import content_id

SOURCE_KEY = "source_id"


@dataclass(frozen=True, slots=True)
class Texts:
    """Neighbouring rows of one file: their text ("" where there is none), id, and source document's id."""

    file: str
    first: int
    texts: list[str]
    ids: list[str]
    sources: list[str]


def corpus_of(source: Source) -> Corpus:
    """The files of a source. Raises InputError when there are none."""
    return open_corpus(source.paths, source.text_key, source.id_key)


def columns_in(source: Source, corpus: Corpus, file: InputFile) -> list[str]:
    """The columns to read of a file: the text, and those of the ids that it has."""
    present = corpus.columns(file)
    wanted = [source.id_key, source.source_key or SOURCE_KEY]
    # A named source column must be there: Corpus.batches says so of Parquet.
    return [source.text_key, *(name for name in wanted if name in present or name == source.source_key)]


def texts_of(source: Source, batch: Batch, file: str) -> Texts:
    """The texts of a batch. An id that is missing is made from the text, as `mga expand` makes it; a source
    document's id that is missing is the row's own."""
    texts = [text or "" for text in batch.column(source.text_key).to_pylist()]
    ids = _ids(batch, source.id_key)
    named = [given if given is not None else content_id(text) for given, text in zip(ids, texts, strict=True)]
    of = _ids(batch, source.source_key or SOURCE_KEY)
    sources = [given if given is not None else own for given, own in zip(of, named, strict=True)]
    return Texts(file, batch.first, texts, named, sources)


def batches_of(source: Source, corpus: Corpus, file: InputFile) -> Iterator[Batch]:
    """A file's rows with the columns that `texts_of` needs."""
    return corpus.batches(file, columns_in(source, corpus, file))


def _ids(batch: Batch, name: str) -> list[str | None]:
    if name not in batch.rows.schema.names:
        return [None] * batch.rows.num_rows
    values = batch.column(name)
    if not (pa.types.is_large_string(values.type) or pa.types.is_integer(values.type)):
        return [None] * len(values)
    return [value or None for value in pc.cast(values, pa.large_string()).to_pylist()]
