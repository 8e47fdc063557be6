"""Tokenizers by file: tokenizer.json, a folder with one, the vocabulary of a GGUF file or of the embedded model."""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HfTokenizer

from mga.data.store import read_json
from mga.errors import InputError

_AT_ONCE = 1 << 20
"""Characters given to the library at a time: what it returns takes a hundred times their room."""

ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>", "[SEP]")
"""Names of the end of text, tried where the folder's configuration names none."""


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer, and the token that ends a document. `definition` is the JSON it is made from."""

    name: str
    definition: str
    separator: int
    separator_token: str
    vocabulary: int
    _encoder: Any

    @property
    def fingerprint(self) -> str:
        """Identity of the definition and of the separator."""
        return hashlib.sha256(f"{self.separator} {self.definition}".encode()).hexdigest()[:32]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest little-endian unsigned integer that holds all ids: 2 bytes up to 65,536 of them."""
        return np.dtype("<u2" if self.vocabulary <= 1 << 16 else "<u4")

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Ids of all texts in a row (of `dtype`), and the length of each.

        Nothing is added, and a special token's name in a text is text like any other.
        """
        all_ = array(self.dtype.char)  # takes a list of Python's integers fastest
        lengths: list[int] = []
        for encoded in self._encoded(texts):
            ids = encoded.ids
            lengths.append(len(ids))
            all_.fromlist(ids)
        return np.frombuffer(all_.tobytes(), self.dtype), np.asarray(lengths, np.int64)

    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """How many ids each text has."""
        return np.fromiter(map(len, self._encoded(texts)), np.int64, len(texts))

    def _encoded(self, texts: Sequence[str]) -> Iterator[Any]:
        for some in cut(list(texts), _AT_ONCE):
            yield from self._encoder.encode_batch_fast(some, add_special_tokens=False)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        return str(self._encoder.decode(list(ids), skip_special_tokens=False))


def cut(texts: list[str], size: int) -> Iterator[list[str]]:
    """Texts in lists of about so many characters."""
    first = held = 0
    for i, text in enumerate(texts):
        held += len(text)
        if held >= size:
            yield texts[first : i + 1]
            first, held = i + 1, 0
    if first < len(texts):
        yield texts[first:]


def load_tokenizer(given: str, separator: str | None = None) -> Tokenizer:
    """The tokenizer in a tokenizer.json, in a folder with one, in a GGUF file, or of the embedded model by its name.

    Raises InputError when there is none, or no token is known to end a document.
    """
    from mga.engines.llamacpp.embedded_model import EMBEDDED_MODELS, fetch

    path = Path(given)
    ends: Sequence[str] = ENDS
    if given in EMBEDDED_MODELS and not path.exists():
        path = fetch(given)
    if path.suffix == ".gguf" and path.is_file():
        from mga.packing.gguf_tokenizer import definition_of

        definition, end = definition_of(path)
        ends = [end]
    else:
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            what = f"{path} holds no tokenizer.json" if path.is_dir() else f"There is no tokenizer {given}"
            raise InputError(
                f"{what}; give a tokenizer.json, a folder with one, a GGUF file, or {', '.join(EMBEDDED_MODELS)}."
            )
        definition = file.read_text(encoding="utf-8", errors="replace")
        ends = [*_configured_end(file.parent), *ENDS]
    return from_definition(definition, given, [separator] if separator else ends)


def from_definition(definition: str, name: str, ends: Sequence[str]) -> Tokenizer:
    """The tokenizer of a tokenizer.json's content; its separator is the first of `ends` that it knows."""
    try:
        encoder = HfTokenizer.from_str(definition)
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"{name} is no tokenizer.json: {error}.") from error
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    token = next((end for end in ends if encoder.token_to_id(end) is not None), None)
    if token is None:
        raise InputError(
            f"The tokenizer {name} has no {' or '.join(ends)}; name the token that ends a document with --separator."
        )
    vocabulary = 1 + max(encoder.get_vocab(with_added_tokens=True).values())
    return Tokenizer(name, definition, int(encoder.token_to_id(token) or 0), token, vocabulary, encoder)


def _configured_end(folder: Path) -> list[str]:
    """What tokenizer_config.json beside it calls the end of text."""
    path = folder / "tokenizer_config.json"
    named = read_json(path).get("eos_token") if path.is_file() else None
    named = named.get("content") if isinstance(named, dict) else named
    return [named] if isinstance(named, str) else []
