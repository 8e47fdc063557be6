"""Texts of a source, about 16 MB at a time, with the ids that say where each comes from."""

from collections.abc import Iterator
from dataclasses import dataclass

from mga.data.columns import ids_of
from mga.data.corpus_files import Batch, Corpus, is_parquet, open_corpus
from mga.data.documents import InputFile
from mga.mixture.recipe import Source
from mga.records import content_id

SOURCE_KEY = "source_id"


@dataclass(frozen=True, slots=True)
class Texts:
    """Neighbouring rows of one file: their text ("" where there is none), id, and source document's id; `named` are
    the source documents' ids as the rows have them, None where they have none."""

    file: str
    first: int
    texts: list[str]
    ids: list[str]
    sources: list[str]
    named: list[str | None]


def corpus_of(source: Source) -> Corpus:
    """The files of a source. Raises InputError when there are none."""
    return open_corpus(source.paths, source.text_key, source.id_key)


def columns_in(source: Source, corpus: Corpus, file: InputFile) -> list[str]:
    """The columns to read of a file: the text, and those of the ids that it has."""
    wanted = [source.id_key, source.source_key or SOURCE_KEY]
    if is_parquet(file):
        present = corpus.columns(file)
        # A named source column must be there: Corpus.batches says so.
        wanted = [name for name in wanted if name in present or name == source.source_key]
    return list(dict.fromkeys([source.text_key, *wanted]))


def texts_of(source: Source, batch: Batch, file: str) -> Texts:
    """The texts of a batch. An id that is missing is made from the text, as `mga expand` makes it; a source
    document's id that is missing is the row's own."""
    texts = [text or "" for text in batch.column(source.text_key).to_pylist()]
    ids = [own or content_id(text) for own, text in zip(_ids(batch, source.id_key), texts, strict=True)]
    named = _ids(batch, source.source_key or SOURCE_KEY)
    sources = [given or own for given, own in zip(named, ids, strict=True)]
    return Texts(file, batch.first, texts, ids, sources, named)


def batches_of(source: Source, corpus: Corpus, file: InputFile) -> Iterator[Batch]:
    """A file's rows with the columns that `texts_of` needs."""
    return corpus.batches(file, columns_in(source, corpus, file))


def all_texts(source: Source) -> Iterator[Texts]:
    """The texts of all files of a source, in order."""
    corpus = corpus_of(source)
    for file in corpus.files:
        for batch in batches_of(source, corpus, file):
            yield texts_of(source, batch, file.name)


def _ids(batch: Batch, name: str) -> list[str | None]:
    if name not in batch.rows.schema.names:
        return [None] * batch.rows.num_rows
    ids: list[str | None] = ids_of(batch.column(name)).to_pylist()
    return ids
