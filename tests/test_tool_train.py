"""Tool models: the loss is of replies alone, going on is exact, a student learns, and the folder is an engine."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from teacher import GENRES, READERS, answer, notes

from mga.data.outcomes import write_rows
from mga.data.store import read_json, write_json
from mga.errors import InputError
from mga.expand.pairs import pairs_request
from mga.expand.recipe import Recipe
from mga.prompts.library import load
from mga.records import Document
from mga.toolmodel.train.examples import SCHEMA, vocabulary_of

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a tokenizer and a chat template, its weights drawn by chance."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("base")
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = [note.rewritten(genre) for note in notes(40) for genre in GENRES] + [load("pairs").template] * 5
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["</s>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of examples in short prompts, so that a model of a few weights can learn them."""
    folder = tmp_path_factory.mktemp("data")
    for split, count, seed in (("train", 16, 1), ("held_out", 4, 2)):
        rows = []
        for i, note in enumerate(notes(count, seed)):
            for genre, said in list(GENRES.items())[:2]:
                messages = [
                    {"role": "user", "content": f"{note.text} Genre: {said}"},
                    {"role": "assistant", "content": note.rewritten(genre)},
                ]
                about = {"source_id": f"{split}-{i}", "raw_text": note.text, "run": "r", "score": 5}
                lengths = {"prompt_tokens": 90, "reply_tokens": 60}
                rows.append({"messages": messages, "genre": said, "audience": READERS[genre], **about, **lengths})
        (folder / "reformulate").mkdir(exist_ok=True)
        write_rows(folder / "reformulate" / f"{split}.parquet", rows, SCHEMA)
    (folder / "prompts").mkdir()
    (folder / "prompts" / "reformulate_base.md").write_text(load("reformulate_base").template)
    vocabulary = vocabulary_of((base / "tokenizer.json").read_text())
    prompts = {"pairs": "pairs@0", "reformulate": "reformulate_base@0"}
    write_json(folder / "examples.json", {"prompts": prompts, "tokenizer": {"name": "base", "vocabulary": vocabulary}})
    return folder


SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "batch": 8,
    "micro_batch": 4,
    "learning_rate": 5e-3,
    "sequence": 1024,
    "checkpoint_every": 3,
    "validation_prompts": 4,
    "tensorboard": False,
}


def settings(**changes: Any) -> Any:
    from mga.toolmodel.train.finetune import TrainSettings

    made = TrainSettings(
        epochs=3,
        batch=8,
        micro_batch=4,
        learning_rate=5e-3,
        sequence=1024,
        checkpoint_every=3,
        validation_prompts=4,
        tensorboard=False,
    )
    return replace(made, **changes)


def train(data: Path, base: Path, out: Path, **changes: Any) -> dict[str, Any]:
    from mga.toolmodel.train.finetune import finetune

    stage = changes.pop("stage", "reformulate")
    return finetune(data, str(base), stage, out, settings(**changes), lambda line: None)


@pytest.fixture(scope="module")
def trained(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "tool"
    train(data, base, out)
    return out


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


@pytest.mark.torch
def test_the_student_learns_and_says_so(trained: Path) -> None:
    record = read_json(trained / "tool.json")
    assert record["after"]["loss"] < record["before"]["loss"] - 1
    assert record["after"]["valid"]["reformulate"]["of"] == 4
    assert record["steps"] == 12
    card = (trained / "README.md").read_text()
    assert f"| {record['before']['loss']:.4f} | {record['after']['loss']:.4f} |" in card
    assert load("reformulate_base").template.strip() in card
    assert (trained / "losses.svg").stat().st_size > 1000
    assert (trained / "prompts" / "reformulate_base.md").is_file()
    assert not (trained / ".training").exists()


@pytest.mark.torch
def test_the_loss_is_of_replies_alone(data: Path, base: Path, trained: Path) -> None:
    import torch
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(trained).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    losses = []
    for row in pq.read_table(data / "reformulate" / "held_out.parquet").to_pylist():
        user, assistant = (message["content"] for message in row["messages"])
        before = tokenizer(f"<|user|>{user}</s><|assistant|>", add_special_tokens=False)["input_ids"]
        after = tokenizer(f"{assistant}</s>", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([before + after])).logits[0]
        start = len(before)
        losses.append((torch.nn.functional.cross_entropy(logits[start - 1 : -1], torch.tensor(after)), len(after)))
    expected = [float(loss) for loss, _ in losses]
    measured = read_json(trained / "tool.json")["after"]["loss"]
    assert min(expected) < measured < max(expected)
    by_batches = [
        sum(float(loss) * n for loss, n in losses[i : i + 4]) / sum(n for _, n in losses[i : i + 4]) for i in (0, 4)
    ]
    assert measured == pytest.approx(sum(by_batches) / 2, rel=2e-2)


@pytest.mark.torch
def test_labels_of_prompts_and_padding_are_masked(data: Path, base: Path, tmp_path: Path) -> None:
    import transformers

    from mga.toolmodel.train.finetune import _trainer
    from mga.toolmodel.train.training_data import read_examples

    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    examples = read_examples(data, ["reformulate"], tokenizer, 1024)
    trainer = _trainer(base, tokenizer, examples, tmp_path, settings())
    seen = 0
    for batch in trainer.get_train_dataloader():
        for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
            text = tokenizer.decode([i for i, label in zip(ids, labels, strict=True) if label != -100])
            assert text.endswith("</s>")
            assert "<|user|>" not in text
            assert tokenizer.decode(ids).partition("<|assistant|>")[2].startswith(text)
            seen += 1
    assert seen == len(examples.train) == 32


@pytest.mark.torch
@pytest.mark.parametrize("lora", [0, 4])
def test_the_loss_and_its_gradients_are_those_of_the_whole_model(
    data: Path, base: Path, tmp_path: Path, lora: int
) -> None:
    import torch
    import transformers
    from trl import SFTTrainer

    from mga.toolmodel.train.finetune import _trainer
    from mga.toolmodel.train.training_data import read_examples

    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    examples = read_examples(data, ["reformulate"], tokenizer, 1024)
    trainer = _trainer(base, tokenizer, examples, tmp_path, settings(lora=lora))
    model = trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    counted = 2 * (batch["labels"] != -100).sum()

    def measured(compute: Any, **more: Any) -> tuple[float, Any]:
        model.zero_grad()
        loss = compute(trainer, model, dict(batch), **more)
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    for more in ({}, {"num_items_in_batch": counted}):
        ours, trls = measured(type(trainer).compute_loss, **more), measured(SFTTrainer.compute_loss, **more)
        assert ours[0] == pytest.approx(trls[0], rel=1e-6)
        assert torch.allclose(ours[1], trls[1], rtol=1e-4, atol=1e-7)
        assert ours[1].abs().max() > 0


@pytest.mark.torch
def test_memory_that_does_not_suffice_is_said(
    data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mga.errors import StopError
    from mga.toolmodel.train import finetune

    def fails(*given: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(finetune, "_trainer", fails)
    with pytest.raises(StopError, match="--micro-batch 1"):
        train(data, base, tmp_path / "tool")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("poisoned", "said"),
    [(4, "gradient is NaN or infinite at step 5"), (6, "Weights are NaN or infinite after step 6")],
)
def test_a_checkpoint_that_is_not_finite_is_never_written(
    data: Path, base: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poisoned: int, said: str
) -> None:
    from transformers import TrainerCallback

    from mga.errors import StopError
    from mga.toolmodel.train import finetune

    class Poison(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            if state.global_step == poisoned:
                next(model.parameters()).data.fill_(float("nan"))

    made = finetune._trainer

    def trainer(*given: Any) -> Any:
        poisoning = made(*given)
        poisoning.add_callback(Poison())
        return poisoning

    out = tmp_path / "tool"
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "_trainer", trainer)
        with pytest.raises(StopError, match=said):
            train(data, base, out)
    assert [path.name for path in (out / ".training").glob("checkpoint-*")] == ["checkpoint-3"]
    train(data, base, out)
    once, twice = weights(trained), weights(out)
    assert all(bool((once[name] == twice[name]).all()) for name in once)


@pytest.mark.torch
def test_neighbours_in_a_batch_change_nothing(data: Path, base: Path, tmp_path: Path) -> None:
    alone = train(data, base, tmp_path / "alone", micro_batch=1, epochs=1, validation_prompts=0)
    together = train(data, base, tmp_path / "together", micro_batch=8, epochs=1, validation_prompts=0)
    one, many = ([line["loss"] for line in record["history"] if "loss" in line] for record in (alone, together))
    assert len(one) == len(many) == 4
    assert one[0] == pytest.approx(many[0], rel=1e-3)


@pytest.mark.torch
def test_killed_and_continued_is_the_same_model(data: Path, base: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "tool"
    code = (
        "import sys; from pathlib import Path; from transformers import TrainerCallback; import os, signal\n"
        "import mga.toolmodel.train.finetune as f\n"
        "class Kill(TrainerCallback):\n"
        "    def on_step_end(self, args, state, control, **more):\n"
        "        if state.global_step == 8: os.kill(os.getpid(), signal.SIGKILL)\n"
        "made = f._trainer\n"
        "def trainer(*given):\n"
        "    found = made(*given); found.add_callback(Kill()); return found\n"
        "f._trainer = trainer\n"
        f"settings = f.TrainSettings(**{SETTINGS!r})\n"
        f"f.finetune(Path({str(data)!r}), {str(base)!r}, 'reformulate', Path({str(out)!r}), settings, print)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert (out / ".training" / "checkpoint-6").is_dir()
    assert not (out / "model.safetensors").exists()
    train(data, base, out)
    once, twice = weights(trained), weights(out)
    assert all(bool((once[name] == twice[name]).all()) for name in once)


@pytest.mark.torch
def test_two_processes_train_as_one_does(data: Path, base: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "tool"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mga"]
    command += ["tool", "train", str(data), "--base", str(base), "--stage", "reformulate", "--out", str(out)]
    command += ["--batch", "8", "--micro-batch", "4", "--learning-rate", "5e-3", "--sequence", "1024"]
    command += ["--checkpoint-every", "3", "--validation-prompts", "4"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = read_json(trained / "tool.json"), read_json(out / "tool.json")
    losses = [[line["loss"] for line in record["history"] if "loss" in line] for record in (one, two)]
    assert len(losses[0]) == len(losses[1]) == 12
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert two["after"]["loss"] == pytest.approx(one["after"]["loss"], rel=2e-2)
    assert set(weights(out)) == set(weights(trained))
    assert done.stderr.count("step 12/12") + done.stdout.count("step 12/12") == 1


@pytest.mark.torch
def test_an_adapter_is_merged_into_an_ordinary_folder(data: Path, base: Path, tmp_path: Path) -> None:
    record = train(data, base, tmp_path / "tool", lora=8, learning_rate=None, epochs=2)
    assert record["after"]["loss"] < record["before"]["loss"]
    assert set(weights(tmp_path / "tool")) == set(weights(base))
    changed = [name for name, w in weights(tmp_path / "tool").items() if bool((w != weights(base)[name]).any())]
    assert any("q_proj" in name for name in changed)
    assert not any("embed" in name for name in changed)


@pytest.mark.torch
def test_the_folder_is_an_engine(trained: Path) -> None:
    import torch
    import transformers

    from mga.engines.engine import Request
    from mga.engines.transformers.engine import TransformersEngine

    prompt = f"{notes(1, 3)[0].text} Genre: {GENRES['fact sheet']}"
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32).eval()
    chat = [{"role": "user", "content": prompt}]
    shown = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**shown, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    expected = tokenizer.decode(made[0, shown["input_ids"].shape[1] :], skip_special_tokens=True)

    async def ask() -> str:
        engine = TransformersEngine(str(trained), None, "cpu")
        await engine.start()
        try:
            return (await engine.ask(Request(prompt, 8, 0, "reformulate", "a", {"temperature": 0.0}))).text
        finally:
            await engine.close()

    assert asyncio.run(ask()) == expected
    assert expected


@pytest.mark.torch
def test_what_does_not_fit_is_said_in_a_sentence(data: Path, base: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(InputError, match="no folder of mga tool examples"):
        train(tmp_path, base, tmp_path / "a")
    with pytest.raises(InputError, match="no examples to train on for pairs"):
        train(data, base, tmp_path / "b", stage="pairs")
    with pytest.raises(InputError, match="more than --sequence 64"):
        train(data, base, tmp_path / "c", sequence=64)
    with pytest.raises(InputError, match="needs a GPU and flash-attn"):
        train(data, base, tmp_path / "d", packing=True)
    other = tmp_path / "other"
    shutil.copytree(data, other)
    record = read_json(other / "examples.json")
    write_json(other / "examples.json", {**record, "tokenizer": {"name": "x", "vocabulary": "0"}})
    with pytest.raises(InputError, match="counted with another tokenizer"):
        train(other, base, tmp_path / "e")
    bare = tmp_path / "bare"
    shutil.copytree(base, bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="has no chat template"):
        train(data, bare, tmp_path / "f")
    train(data, base, tmp_path / "g", epochs=0.2, validation_prompts=0)
    with pytest.raises(InputError, match=r"lora \(0 → 4\)"):
        train(data, base, tmp_path / "g", epochs=0.2, validation_prompts=0, lora=4)


def rounds_settings() -> Any:
    from mga.toolmodel.train.examples import ExampleSettings
    from mga.toolmodel.train.rounds import RoundSettings

    return RoundSettings(
        rounds=2,
        documents=5,
        held_out=3,
        examples=ExampleSettings(held_out=0.2),
        training=settings(epochs=1, sequence=2048, validation_prompts=0),
    )


@pytest.mark.torch
def test_rounds_collect_train_compare_and_end_with_a_reason(base: Path, teacher: str, tmp_path: Path) -> None:
    from mga.toolmodel.train.rounds import rounds

    lines = [orjson.dumps({"id": f"n{i}", "text": note.text}) for i, note in enumerate(notes(13))]
    (tmp_path / "notes.jsonl").write_bytes(b"\n".join(lines))
    rules = ["max_reply_tokens = 256", "[cleaning]", "min_words = 8", "max_copied = 1.0"]
    (tmp_path / "expand.toml").write_text("\n".join([*rules, "[pairing]", "attempts = 1", "max_tokens = 64"]))
    asked = replace(rounds_settings(), config=tmp_path / "expand.toml")
    given = (teacher, teacher, str(base), [str(tmp_path / "notes.jsonl")], tmp_path / "rounds", asked)
    said: list[str] = []
    record = rounds(*given, said.append)
    assert [row["generator"] for row in record["history"]] == ["teacher", "student"]
    first, second = record["history"]
    assert first["teacher"]["share"] == 1
    assert first["student"]["share"] < 0.5  # so few weights cannot read a prompt of mga, and it is told
    assert first["difference"]["mean"] < -0.5
    assert second["examples"]["reformulate"]["train"] >= first["examples"]["reformulate"]["train"]
    assert record["ended"] == "the last round brought no gain that can be told from chance"
    held = {row["id"] for row in map(orjson.loads, (tmp_path / "rounds/documents/held_out.jsonl").open("rb"))}
    for i in (1, 2):
        rows = map(orjson.loads, (tmp_path / f"rounds/documents/round-{i}.jsonl").open("rb"))
        assert not held & {row["id"] for row in rows}
    said.clear()
    assert rounds(*given, said.append) == record
    assert said == []
    with pytest.raises(InputError, match="margin"):
        rounds(*given[:-1], replace(asked, margin=0.1), said.append)


def test_gains_have_the_interval_of_newcombe() -> None:
    from dataclasses import asdict

    from mga.stats import wilson
    from mga.toolmodel.train.rounds import gain

    # Newcombe 1998, table II, case (a): 56/70 against 48/80 is 0.2, 95% interval 0.0524 to 0.3339
    difference, low, high = gain(asdict(wilson(48, 80)), asdict(wilson(56, 70)))
    assert (difference, low, high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-3)


def test_valid_pairs_are_the_object_that_was_asked_for() -> None:
    from mga.config import ExpandConfig
    from mga.toolmodel.train.training_data import Asked
    from mga.toolmodel.train.validity import _is_pairs, _is_text

    note = notes(1)[0]
    recipe = Recipe(ExpandConfig(input=["x"]), lambda text: None)  # type: ignore[arg-type, return-value]
    prompt = pairs_request(Document("d", note.text, "0:0"), recipe, 5).prompt
    asked = Asked("pairs", prompt, note.text, answer(prompt))
    assert _is_pairs(asked, answer(prompt))
    assert not _is_pairs(asked, answer(prompt)[:-1])
    assert not _is_pairs(asked, orjson.dumps({"genre": "a long text for many", "audience": "many who read"}).decode())
    text = Asked("reformulate", "", note.text * 3, "")
    assert not _is_text(text, "  ")
    assert not _is_text(text, "the same words " * 40)
