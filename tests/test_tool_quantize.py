"""Quantized tool models: llama.cpp and transformers read them as the original, and none is silently worse."""

import asyncio
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ORCHARD
from tool_folders import make_llama, smollm_cut, tokenizer_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

from tokenizers import Regex, pre_tokenizers  # noqa: E402

from mga.cli.main import main  # noqa: E402
from mga.engines.choose import choose_engine  # noqa: E402
from mga.engines.engine import Reply, Request  # noqa: E402
from mga.engines.llamacpp.engine import LlamaCppEngine  # noqa: E402
from mga.errors import InputError, MgaError, StopError  # noqa: E402
from mga.scoring.model import load  # noqa: E402
from mga.toolmodel.compare.compare import CompareSettings, prompt_beside  # noqa: E402
from mga.toolmodel.quantize import quantize as quantizing  # noqa: E402
from mga.toolmodel.quantize.calibration import Example, encode, read_texts  # noqa: E402
from mga.toolmodel.quantize.gguf_file import safetensors_in, side_by_side, write_gguf  # noqa: E402
from mga.toolmodel.quantize.gguf_vocabulary import CUTS, vocabulary_of  # noqa: E402
from mga.toolmodel.quantize.perplexity import Losses, comparison, load_gguf, losses_of  # noqa: E402
from mga.toolmodel.quantize.q4_0 import best_scales, scales_by_texts  # noqa: E402
from mga.toolmodel.quantize.quantize import QuantizeSettings, quantize  # noqa: E402

pytestmark = pytest.mark.torch

Q4_0, quants = gguf.GGMLQuantizationType.Q4_0, gguf.quants

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


SETTINGS = QuantizeSettings(calibration_samples=8, eval_samples=4, max_seq_len=192, max_ppl_increase=0.1)


def silent(line: str) -> None:
    pass


def quantized_folder(llama: Path, scheme: Any, out: Path, **more: Any) -> dict[str, Any]:
    return quantize(llama, scheme, out, [str(SAMPLE)], replace(SETTINGS, **more), silent)


@pytest.mark.parametrize("scheme", ["w8a8", "q8_0", "q4_0"])
def test_a_quantized_model_is_there_with_its_figures_and_answers(scheme: Any, llama: Path, tmp_path: Path) -> None:
    record = quantized_folder(llama, scheme, tmp_path / "out")
    result = record["result"]
    found, made = result["perplexity"], tmp_path / "out" / result["file"]
    assert abs(found["change"]) < 0.1
    assert found["low"] <= found["change"] <= found["high"]
    assert found["change"] == pytest.approx(found["after"] / found["before"] - 1)
    assert result["bytes"]["after"] < 0.7 * result["bytes"]["before"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{found['after']:.3f}" in card
    assert f"--engine {result['engine'].partition(':')[0]}:{made.name}" in card
    assert not (tmp_path / "out" / ".work").exists()

    async def ask() -> Reply:
        engine = choose_engine(result["engine"], 1)
        await engine.start()
        try:
            return await engine.ask(Request("Say it.", 8, 0, "reformulate", "", {"temperature": 0}))
        finally:
            await engine.close()

    assert asyncio.run(ask()).generated_tokens > 0
    before = (made.stat().st_mtime_ns, (tmp_path / "out" / "quantization.json").read_bytes())
    assert quantized_folder(llama, scheme, tmp_path / "out") == record
    assert before == (made.stat().st_mtime_ns, (tmp_path / "out" / "quantization.json").read_bytes())


def test_q4_0_has_the_scales_that_the_texts_chose(llama: Path, tmp_path: Path) -> None:
    texts = read_texts([str(SAMPLE)], "text", 8, 4)
    chosen = scales_by_texts(llama, quantizing.encoded(llama, texts, SETTINGS, "calibration"))
    write_gguf(llama, tmp_path / "model.gguf", "q4_0", chosen)
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    for ours, theirs, heads in (("attn_q", "self_attn.q_proj", 4), ("ffn_down", "mlp.down_proj", None)):
        name = f"model.layers.1.{theirs}.weight"
        weights, scales = safetensors_in(llama)[name][1](), chosen[name]
        if heads is not None:
            weights, scales = side_by_side(weights, heads), side_by_side(scales, heads)
        wide = np.repeat(scales, 32, 1)
        assert stored[f"blk.1.{ours}.weight"].tensor_type == Q4_0
        held = quants.dequantize(stored[f"blk.1.{ours}.weight"].data, Q4_0)
        assert np.array_equal(held, np.clip(np.rint(weights / wide), -8, 7) * wide)


def test_scales_lose_less_of_what_matters_than_those_of_the_largest_values() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(256, 96) * torch.rand(96).mul(3).exp()
    weights = torch.randn(40, 96)
    weights[3] = 0  # a row without any
    scales = best_scales(weights, inputs.square().mean(0))
    assert not scales[3].any()
    wide = scales.repeat_interleave(32, 1)
    ours = (weights / wide).nan_to_num(0).round().clamp(-8, 7) * wide
    plain = torch.from_numpy(quants.dequantize(quants.quantize(weights.numpy(), Q4_0), Q4_0))
    errors = [((weights - found) @ inputs.T).square().sum() for found in (ours, plain)]
    assert errors[0] < 0.9 * errors[1]


def test_a_worse_model_is_refused_kept_aside_and_taken_when_asked_for(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mga(*more: object) -> int:
        words = ["tool", "quantize", llama, "--scheme", "q4_0", "--out", tmp_path / "out", "--calibration", SAMPLE]
        words += ["--max-seq-len", 128, "--calibration-samples", 4, "--max-ppl-increase", 0, *more]
        monkeypatch.setattr(sys, "argv", ["mga", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    def damaged(folder: Path, target: Path, *_: Any) -> None:
        model = original(folder)
        with torch.no_grad():
            for layer in model.model.layers:
                layer.mlp.down_proj.weight.copy_(layer.mlp.down_proj.weight.flip(0))
        copied = shutil.copytree(folder, tmp_path / "damaged")
        model.save_pretrained(copied)
        write_gguf(copied, target, "f32")

    monkeypatch.setattr(quantizing, "write_gguf", damaged)
    monkeypatch.setattr(quantizing, "scales_by_texts", lambda *_: None)
    assert mga() == 2
    said = capsys.readouterr().err
    assert "Quantized, the model is worse: its perplexity on held-out texts is" in said
    assert "--accept-worse" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").glob("*.gguf"))
    assert not (tmp_path / "out" / "README.md").exists()
    monkeypatch.setattr(quantizing, "write_gguf", None)  # what lies in .work is taken
    assert mga("--accept-worse") == 0
    assert [file.name for file in (tmp_path / "out").glob("*.gguf")] == ["tiny.Q4_0.gguf"]
    assert mga("--accept-worse", "--max-seq-len", 64) == 2
    assert "max_seq_len (128 → 64)" in capsys.readouterr().err


def test_killed_at_any_step_it_ends_with_the_same_file(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = quantized_folder(llama, "q8_0", tmp_path / "whole")
    for step in ("_before", "write_gguf", "_looked_at", "quantized_card"):
        with monkeypatch.context() as patch:
            real = getattr(quantizing, step)

            def dies(*given: Any, real: Any = real) -> Any:
                real(*given)
                raise KeyboardInterrupt

            patch.setattr(quantizing, step, dies)
            with pytest.raises(KeyboardInterrupt):
                quantized_folder(llama, "q8_0", tmp_path / "out")
            assert "result" not in json.loads((tmp_path / "out" / "quantization.json").read_text())
    record = quantized_folder(llama, "q8_0", tmp_path / "out")
    assert record["result"]["perplexity"] == whole["result"]["perplexity"]
    name = record["result"]["file"]
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_that_was_published_when_it_was_stopped_is_not_made_again(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(quantizing, "quantized_card", dies)
        quantized_folder(llama, "w8a8", tmp_path / "out")
    monkeypatch.setattr(quantizing, "compress_w8a8", dies)
    record = quantized_folder(llama, "w8a8", tmp_path / "out")
    assert abs(record["result"]["perplexity"]["change"]) < 0.1
    assert (tmp_path / "out" / "tiny.W8A8" / "model.safetensors").is_file()


def test_only_replies_are_scored_and_the_interval_is_that_of_the_texts(llama: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    texts = [Example("Say something.", ORCHARD[:90]), Example(None, ORCHARD[:200]), Example(ORCHARD * 9, "Too long.")]
    shown = encode(texts, tokenizer, tokenizer.bos_token_id, 160)
    assert len(shown) == 2
    reply = tokenizer(ORCHARD[:90], add_special_tokens=False)["input_ids"]
    assert shown[0].ids[shown[0].reply :].tolist() == reply
    assert "assistant" in tokenizer.decode(shown[0].ids[: shown[0].reply])
    assert shown[1].reply == 1
    found = losses_of(load(str(llama)), shown)
    assert found.tokens == [len(reply), len(shown[1].ids) - 1]
    model = original(llama)
    for text, total in zip(shown, found.sums, strict=True):
        logprobs = torch.log_softmax(torch.from_numpy(logits(model, text.ids.tolist())), -1)
        by_hand = -sum(float(logprobs[i - 1, text.ids[i]]) for i in range(text.reply, len(text.ids)))
        assert total == pytest.approx(by_hand, rel=1e-4)
    # Two texts of 10 and 30 tokens, worse by 1 and 5 nats: 6/40 = 0.15; residuals −0.5 and 0.5, spread √(0.5·2)/40.
    seen = comparison(Losses([10.0, 60.0], [10, 30]), Losses([11.0, 65.0], [10, 30]))
    assert seen.change == pytest.approx(np.expm1(0.15))
    assert seen.high == pytest.approx(np.expm1(0.15 + 12.706205 / 40))
    assert (seen.texts, seen.tokens) == (2, 40)


def changed(folder: Path, to: Path, **config: Any) -> Path:
    shutil.copytree(folder, to)
    held = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**held, **config}))
    return to


def test_what_cannot_be_quantized_is_refused_in_a_sentence(llama: Path, tmp_path: Path) -> None:
    def refused(model: Path, scheme: Any = "q8_0", texts: Path = SAMPLE, **more: Any) -> str:
        with pytest.raises(MgaError) as error:
            quantize(model, scheme, tmp_path / "out", [str(texts)], replace(SETTINGS, **more), silent)
        assert not list(tmp_path.glob("out/*.gguf"))
        return str(error.value)

    assert "There is no model" in refused(tmp_path / "nothing")
    assert "is a file; give the folder" in refused(llama / "model.safetensors")
    assert "is a gpt2" in refused(changed(llama, tmp_path / "gpt2", model_type="gpt2"))
    assert "is quantized already" in refused(
        changed(llama, tmp_path / "done", quantization_config={"quant_method": "compressed-tensors"}), "w8a8"
    )
    assert "the activation gelu" in refused(changed(llama, tmp_path / "gelu", hidden_act="gelu"))
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}
    assert "stretched by 'yarn'" in refused(changed(llama, tmp_path / "yarn", rope_parameters=yarn))
    no_tokenizer = changed(llama, tmp_path / "dumb")
    (no_tokenizer / "tokenizer.json").unlink()
    assert "has no tokenizer.json" in refused(no_tokenizer)
    no_weights = changed(llama, tmp_path / "empty")
    (no_weights / "model.safetensors").unlink()
    assert "has no model.safetensors" in refused(no_weights)
    one = tmp_path / "one.jsonl"
    one.write_text(json.dumps({"text": ORCHARD}) + "\n")
    assert "both are needed, so give more documents" in refused(llama, texts=one)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert "is not empty (thesis.txt" in refused(llama)


def test_too_little_memory_is_said(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: Any) -> Any:
        return torch.empty(1 << 60)

    monkeypatch.setattr(quantizing, "load", greedy)
    with pytest.raises(StopError, match="do not fit into memory"):
        quantized_folder(llama, "q8_0", tmp_path / "out")


@pytest.mark.parametrize(
    ("library", "scheme", "said"),
    [
        ("gguf", "q8_0", "mga tool quantize needs gguf"),
        ("llmcompressor", "w8a8", "The scheme w8a8 needs llmcompressor"),
    ],
)
def test_a_missing_extra_is_named(
    library: str,
    scheme: str,
    said: str,
    llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    words = ["mga", "tool", "quantize", str(llama), "--scheme", scheme, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*words, "--calibration", str(SAMPLE)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert f"{said}: pip install 'mga[quantize]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_texts_come_from_the_record_of_the_training_or_are_asked_for(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = changed(llama, tmp_path / "tool")

    def mga(scheme: str = "q8_0") -> int:
        words = ["mga", "tool", "quantize", str(model), "--scheme", scheme, "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", [*words, "--max-seq-len", "256"])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    assert mga() == 2
    assert "Name texts with --calibration" in capsys.readouterr().err
    assert mga("int3") == 2
    assert "--scheme is w8a8, q8_0 or q4_0" in capsys.readouterr().err
    for split in ("train", "held_out"):
        rows = [
            {"messages": [{"role": "user", "content": f"Retell {n}: {split}"}, {"role": "assistant", "content": text}]}
            for n, text in enumerate(TEXTS[:3])
        ]
        (tmp_path / "data" / "reformulate").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / "reformulate" / f"{split}.parquet")
    (tmp_path / "data" / "examples.json").write_text("{}")
    (model / "tool.json").write_text(json.dumps({"data": str(tmp_path / "data")}))
    (model / "prompts").mkdir()
    (model / "prompts" / "reformulate_base.md").write_text("Write the document above as {genre} for {audience}.")
    assert mga() == 0
    record = json.loads((tmp_path / "out" / "quantization.json").read_text())
    assert (record["texts"]["calibration"], record["result"]["perplexity"]["texts"]) == (3, 3)
    assert prompt_beside(record["result"]["engine"]) is not None


def test_with_a_judge_texts_of_both_models_are_judged_on_what_is_held_out(llama: Path, tmp_path: Path) -> None:
    flags = {"max_reply_tokens": 64, "pairing": {"attempts": 1}}
    judging = CompareSettings(sample=2, document_tokens=100, pairs=1, flags=flags)
    record = quantized_folder(llama, "q8_0", tmp_path / "out", judge="scripted:", judging=judging)
    judged = record["result"]["judged"]
    assert judged["teacher"]["asked"] == judged["student"]["asked"] == 2
    assert judged["difference"]["documents"] == 2
    held_out = {text.reply for text in read_texts([str(SAMPLE)], "text", 8, 4).held_out}
    sample = [json.loads(line)["text"] for line in (tmp_path / "out" / "judged" / "sample.jsonl").open()]
    assert all(any(text.startswith(beginning) for text in held_out) for beginning in sample)
    assert "texts that the judge accepts" in (tmp_path / "out" / "README.md").read_text()
