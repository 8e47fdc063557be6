"""The vocabulary of a GGUF file as a tokenizer.json: SmolLM's byte-level BPE, which gives the ids llama.cpp gives."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mga.errors import InputError

CONTROL, USER_DEFINED = 3, 4
END = "<|endoftext|>"
PRE_TOKENIZERS = ("smollm",)
"""llama.cpp's names of ways to cut texts before BPE; each one here is proven equal in the tests."""


def definition_of(path: Path) -> tuple[str, str]:
    """The tokenizer.json that a GGUF file's vocabulary makes, and the name of its end-of-text token.

    Raises InputError for vocabularies of another kind.
    """
    try:
        from gguf import GGUFReader
    except ImportError:
        raise InputError("Reading a GGUF file needs its library: pip install 'mga[llamacpp]'.") from None

    try:
        fields = GGUFReader(path).fields
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is no GGUF file: {error}.") from error
    held = {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.ggml.")}
    kind, cut = held.get("tokenizer.ggml.model"), held.get("tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in PRE_TOKENIZERS:
        raise InputError(f"{path} has a vocabulary of kind {kind}/{cut}; take the model's own tokenizer.json instead.")
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
