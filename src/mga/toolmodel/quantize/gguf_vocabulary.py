"""A byte-level BPE tokenizer.json as the vocabulary of a GGUF file: the ids llama.cpp gives are the tokenizer's.

llama.cpp knows a text's first cutting by name alone, so that only those tokenizers can be written whose cutting is one
of CUTS; each is proven equal in the tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFWriter, TokenType

from mga.data.store import read_json
from mga.errors import InputError

_BY_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BYTES_ALONE = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def _split(digits: str) -> dict[str, Any]:
    contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    regex = rf"{contractions}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}{rest}"
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


CUTS: dict[str, list[dict[str, Any]]] = {
    "smollm": [{"type": "Digits", "individual_digits": True}, _BY_BYTES],
    "gpt-2": [_BY_BYTES],
    "llama-bpe": [_split(r"\p{N}{1,3}"), _BYTES_ALONE],
    "qwen2": [_split(r"\p{N}"), _BYTES_ALONE],
}
"""llama.cpp's names, and the pre-tokenizers of a tokenizer.json that cut alike."""

WHOLE_WORDS_FIRST = ("llama-bpe",)
"""Cuts with which llama.cpp takes a word that is a token as it is, before any merge."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a GGUF file says of tokens. Ids are rows of the embeddings; those that no token has are unused."""

    tokens: tuple[str, ...]
    types: tuple[TokenType, ...]
    merges: tuple[str, ...]
    cut: str
    bos: int | None
    ends: tuple[int, ...]
    padding: int | None
    unknown: int | None
    adds_bos: bool
    chat_template: str | None

    def write(self, writer: GGUFWriter) -> None:
        """Add it to a file that is being written."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.cut)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        writer.add_token_merges(list(self.merges))
        writer.add_add_bos_token(self.adds_bos)
        if self.bos is not None:
            writer.add_bos_token_id(self.bos)
        for add, end in zip((writer.add_eos_token_id, writer.add_eot_token_id), self.ends, strict=False):
            add(end)
        if self.padding is not None:
            writer.add_pad_token_id(self.padding)
        if self.unknown is not None:
            writer.add_unk_token_id(self.unknown)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def vocabulary_of(folder: Path, rows: int) -> Vocabulary:
    """The vocabulary of a model folder whose embeddings have so many rows.

    Raises InputError when there is no tokenizer.json, or llama.cpp would read texts otherwise than it does.
    """
    import transformers

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{folder} has no tokenizer.json; save its tokenizer beside the model first.")
    definition = read_json(path)
    model = definition["model"]
    if model["type"] != "BPE":
        raise InputError(f"{path} is of kind {model['type']}; a GGUF file is written of byte-level BPE only.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokens, types = _tokens(definition, rows, path)
    bos = tokenizer.bos_token_id
    first = tokenizer("a")["input_ids"][:1]
    return Vocabulary(
        tokens,
        types,
        tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]),
        _cut(definition, path),
        bos,
        _ends(folder, tokenizer),
        tokenizer.pad_token_id,
        tokenizer.unk_token_id,
        bos is not None and first == [bos],
        tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
    )


def _tokens(definition: Mapping[str, Any], rows: int, path: Path) -> tuple[tuple[str, ...], tuple[TokenType, ...]]:
    tokens = {id_: token for token, id_ in definition["model"]["vocab"].items()}
    types = dict.fromkeys(tokens, TokenType.NORMAL)
    for added in definition["added_tokens"]:
        tokens[added["id"]] = added["content"]
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    if max(tokens) >= rows:
        raise InputError(f"{path} has the token id {max(tokens):,}, and the model only {rows:,} embeddings.")
    everything = [(tokens.get(i, f"[UNUSED{i}]"), types.get(i, TokenType.UNUSED)) for i in range(rows)]
    return tuple(token for token, _ in everything), tuple(kind for _, kind in everything)


def _cut(definition: Mapping[str, Any], path: Path) -> str:
    """llama.cpp's name for the tokenizer's first cutting of a text."""
    normalizer = definition.get("normalizer") or {}
    whole_first = bool(definition["model"].get("ignore_merges"))
    cuts = _steps(definition.get("pre_tokenizer") or {}, "pretokenizers")
    for name, wanted in CUTS.items():
        alike = len(cuts) == len(wanted) and all(
            step.items() >= part.items() for step, part in zip(cuts, wanted, strict=True)
        )
        if alike and whole_first == (name in WHOLE_WORDS_FIRST) and not _steps(normalizer, "normalizers"):
            return name
    raise InputError(
        f"{path} cuts texts in a way that llama.cpp has no name for here (known are those of {', '.join(CUTS)}, "
        "without normalizer); take another --scheme."
    )


def _steps(part: Mapping[str, Any], inner: str) -> list[Mapping[str, Any]]:
    if part.get("type") == "Sequence":
        return [step for held in part[inner] for step in _steps(held, inner)]
    return [part] if part else []


def _ends(folder: Path, tokenizer: Any) -> tuple[int, ...]:
    """The ids that end a reply: those of generation_config.json, of config.json, else the tokenizer's."""
    for name in ("generation_config.json", "config.json"):
        said = read_json(folder / name).get("eos_token_id") if (folder / name).is_file() else None
        if said is not None:
            return tuple(said) if isinstance(said, list) else (said,)
    return () if tokenizer.eos_token_id is None else (tokenizer.eos_token_id,)
