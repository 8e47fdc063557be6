"""How many tokens a corpus has, by any tokenizer, on all cores."""

from collections.abc import Iterator
from dataclasses import dataclass

from mga.data.corpus_files import Corpus
from mga.packing.processes import each, tokenizer_here
from mga.packing.tokenizer import Tokenizer, cut

AT_ONCE = 2 << 20
"""Bytes of text that a process gets at a time."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What is in a corpus. `bytes` are those of the texts in UTF-8; rows without text count as documents of 0."""

    documents: int = 0
    empty: int = 0
    bytes: int = 0
    tokens: int = 0

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.documents + other.documents,
            self.empty + other.empty,
            self.bytes + other.bytes,
            self.tokens + other.tokens,
        )

    @property
    def unique(self) -> int:
        """Tokens to write into a recipe: with the separator that ends each text."""
        return self.tokens + self.documents - self.empty


def count(corpus: Corpus, tokenizer: Tokenizer, workers: int) -> Counted:
    """Documents, bytes and tokens of all files. Raises InputError for a file that cannot be read."""
    return sum(each(_counted, _pieces(corpus), tokenizer, workers), Counted())


def _pieces(corpus: Corpus) -> Iterator[list[str]]:
    for file in corpus.files:
        for batch in corpus.batches(file, [corpus.text_key]):
            yield from cut([text or "" for text in batch.column(corpus.text_key).to_pylist()], AT_ONCE)


def _counted(texts: list[str]) -> Counted:
    lengths = tokenizer_here().lengths(texts)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return Counted(len(texts), int((lengths == 0).sum()), size, int(lengths.sum()))
