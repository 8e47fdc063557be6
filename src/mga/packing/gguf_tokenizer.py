"""The vocabulary of a GGUF file as a tokenizer.json: SmolLM's byte-level BPE, which gives the ids llama.cpp gives."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mga.errors import InputError
from mga.packages import require

CONTROL, USER_DEFINED = 3, 4
END = "<|endoftext|>"
PRE_TOKENIZERS = ("smollm",)
"""llama.cpp's names of ways to cut texts before BPE; each one here is proven equal in the tests."""


def definition_of(path: Path) -> tuple[str, str]:
    """The tokenizer.json that a GGUF file's vocabulary makes, and the name of its end-of-text token.

    Raises InputError for vocabularies of another kind.
    """
    held = _vocabulary(path)
    if not _is_known(held):
        kind = f"{held.get('tokenizer.ggml.model')}/{held.get('tokenizer.ggml.pre')}"
        raise InputError(f"{path} has a vocabulary of kind {kind}; take the model's own tokenizer.json instead.")
    return _definition(held)


def _is_known(held: dict[str, Any]) -> bool:
    return held.get("tokenizer.ggml.model") == "gpt2" and held.get("tokenizer.ggml.pre") in PRE_TOKENIZERS


def _definition(held: dict[str, Any]) -> tuple[str, str]:
    tokens, types = held["tokenizer.ggml.tokens"], held["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in held["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    added = [(token, kind) for token, kind in zip(tokens, types, strict=True) if kind in (CONTROL, USER_DEFINED)]
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, kind in added if kind == CONTROL])
    made.add_tokens([AddedToken(t, normalized=False) for t, kind in added if kind == USER_DEFINED])
    # Of a text; what an instruction model's vocabulary calls its end is the end of a turn.
    end = END if END in tokens else tokens[held["tokenizer.ggml.eos_token_id"]]
    return str(made.to_str()), end


def for_transformers(path: Path) -> Any:
    """A GGUF file's vocabulary as transformers' tokenizer, with its chat template.

    transformers reads GGUF files itself, but cuts texts before BPE as GPT-2 does, and mistakes which token ends a turn;
    where the vocabulary is of a known kind, the file's own words are taken.
    """
    import transformers

    held = _vocabulary(path)
    if not _is_known(held):
        return transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    definition, _ = _definition(held)
    named = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
    ids = {name: held.get(f"tokenizer.ggml.{said}_token_id") for name, said in named.items()}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(definition),
        chat_template=held.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": held["tokenizer.ggml.tokens"][i] for name, i in ids.items() if i is not None},
    )


def _vocabulary(path: Path) -> dict[str, Any]:
    """The fields of a GGUF file that describe its tokenizer."""
    require(f"Reading {path}", "llamacpp", "gguf")
    from gguf import GGUFReader

    try:
        fields = GGUFReader(path).fields
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no GGUF file: {error}.") from error
    return {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}
