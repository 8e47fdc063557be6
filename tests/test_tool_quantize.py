"""Quantized tool models: llama.cpp and transformers read them as the original, and none is silently worse."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ORCHARD
from tool_folders import make_llama, smollm_cut, tokenizer_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

from tokenizers import Regex, pre_tokenizers  # noqa: E402

from mga.engines.engine import Reply, Request  # noqa: E402
from mga.engines.llamacpp.engine import LlamaCppEngine  # noqa: E402
from mga.errors import InputError  # noqa: E402
from mga.toolmodel.gguf_file import write_gguf  # noqa: E402
from mga.toolmodel.gguf_vocabulary import CUTS, vocabulary_of  # noqa: E402
from mga.toolmodel.perplexity import load_gguf  # noqa: E402

pytestmark = pytest.mark.torch

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"
TEXTS = [json.loads(line)["text"] for line in SAMPLE.read_text().splitlines()]
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}
MODELS: dict[str, dict[str, Any]] = {
    "tied": {},
    "with a head, biases, wide heads": {
        "tie_word_embeddings": False,
        "attention_bias": True,
        "mlp_bias": True,
        "head_dim": 32,
    },
    "in a stretched context": {"rope_parameters": LLAMA3_ROPE},
}


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Every token of it is a text of its own, which llama.cpp's replies need to be told token by token."""
    return tokenizer_of([text.encode("ascii", "ignore").decode() for text in TEXTS], smollm_cut(), all_bytes=False)


@pytest.fixture(scope="session")
def llama(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("models") / "tiny", tokenizer)


def logits(model: Any, ids: list[int]) -> Any:
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].float().numpy()


def original(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def by_llamacpp(file: Path, request: Request) -> Reply:
    async def ask() -> Reply:
        engine = LlamaCppEngine(str(file), 1)
        await engine.start()
        try:
            return await engine.ask(request)
        finally:
            await engine.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("more", MODELS.values(), ids=MODELS.keys())
def test_a_gguf_file_predicts_as_the_folder_does(more: dict[str, Any], tokenizer: Any, tmp_path: Path) -> None:
    folder = make_llama(tmp_path / "model", tokenizer, **more)
    write_gguf(folder, tmp_path / "model.gguf", "f32")
    model = original(folder)
    prompt = ORCHARD * 3  # beyond the first turns of a stretched rotation
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    read = load_gguf(tmp_path / "model.gguf", folder)._model
    assert np.abs(logits(read, ids) - logits(model, ids)).max() < 1e-4

    reply = by_llamacpp(tmp_path / "model.gguf", Request(prompt, 24, 0, "reformulate", "", {"temperature": 0}, None, 5))
    assert reply.prompt_tokens == len(ids)
    assert len(reply.tokens) >= 1
    for token in reply.tokens:
        logprobs = torch.log_softmax(torch.from_numpy(logits(model, ids)[-1]), -1)
        best = int(logprobs.argmax())
        assert token.text == tokenizer.decode([best])
        for text, logprob in token.alternatives.items():
            known = [float(logprobs[i]) for i in logprobs.topk(10).indices.tolist() if tokenizer.decode([i]) == text]
            assert min(abs(logprob - value) for value in known) < 0.02
        ids = [*ids, best]


HARD = (
    "It's 1862: 40,000 kinds, 3½ of them DON'T; I'LL say so\n\n\n  twice.\t\tNaïve café, 12345678 — “quoted”…\r\n"
    "日本語のテキスト 한국어 العربية हिन्दी 🍎🍏 e\u0301 x² ①②③ ٣٤٥   trailing   "
)


def cut_of(name: str) -> Any:
    made = [
        pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated")
        if step["type"] == "Split"
        else pre_tokenizers.Digits(individual_digits=True)
        if step["type"] == "Digits"
        else pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=step["use_regex"])
        for step in CUTS[name]
    ]
    return pre_tokenizers.Sequence(made)


@pytest.mark.parametrize("name", CUTS)
def test_llamacpp_cuts_texts_into_the_tokenizers_own_tokens(name: str, tmp_path: Path) -> None:
    whole_words_first = name == "llama-bpe"
    tokenizer = tokenizer_of([*TEXTS, HARD * 3], cut_of(name), 600, whole_words_first)
    write_gguf(make_llama(tmp_path / "model", tokenizer), tmp_path / "model.gguf", "f16")
    assert vocabulary_of(tmp_path / "model", 600).cut == name

    async def ids_of(texts: list[str]) -> list[list[int]]:
        engine = LlamaCppEngine(str(tmp_path / "model.gguf"), 1)
        await engine.start()
        try:
            return [(await engine._running().post("/tokenize", {"content": text}))["tokens"] for text in texts]
        finally:
            await engine.close()

    texts = [HARD, ORCHARD, *TEXTS[:6]]
    assert asyncio.run(ids_of(texts)) == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


def test_a_tokenizer_that_llamacpp_would_read_otherwise_is_refused(tmp_path: Path) -> None:
    cut = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel()])
    folder = make_llama(tmp_path / "model", tokenizer_of(TEXTS, cut))
    with pytest.raises(InputError, match=r"cuts texts in a way that llama\.cpp has no name for"):
        write_gguf(folder, tmp_path / "model.gguf", "q8_0")
    assert not list(tmp_path.glob("*.gguf*"))
