"""Models for tests: a tiny one with random weights as a folder, and the embedded model, if it can be had."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from mga.engines.llamacpp.embedded_model import fetch
from mga.errors import InputError

CONTEXT = 256


def make_tiny(folder: Path, kind: str = "LlamaConfig", **more: Any) -> Path:
    """A model of two layers with random weights, a token per ASCII character, no chat template."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = [*map(chr, range(ord("!"), ord("~") + 1)), "Ġ", "Ċ"]  # ASCII: every token is a text of its own
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(["<s>", "</s>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = getattr(transformers, kind)(
        vocab_size=len(fast),
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.2,
        dtype="float32",
        **sizes,
        **more,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


_KEPT: list[TemporaryDirectory[str]] = []  # removed when Python ends


@cache
def tiny_folder() -> Path:
    """The tiny Llama, made once for all tests. Skips the test where torch or transformers are missing."""
    pytest.importorskip("torch")
    _KEPT.append(TemporaryDirectory(prefix="mga-tiny-"))
    return make_tiny(Path(_KEPT[-1].name) / "tiny")


def embedded_model() -> Path:
    """The embedded model's file. Skips the test where it cannot be reached."""
    try:
        return fetch("smollm2-135m")
    except InputError as error:
        if "Cannot fetch" not in str(error):
            raise
        pytest.skip(f"the embedded model cannot be reached: {error}")
