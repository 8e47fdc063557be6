"""Pretraining: schedule and settings, sizes, exact resume, several processes, masks, what a checkpoint is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.errors import InputError
from mga.pretrain.config import load_config
from mga.pretrain.schedule import rate

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
STEPS = 12


def settings(packed: Path, **changes: dict[str, Any]) -> dict[str, Any]:
    """A tiny training over packed data; sections are updated by `changes`."""
    values: dict[str, Any] = {
        "model": dict(TINY),
        "data": {"packed": str(packed)},
        "training": {"steps": STEPS, "batch_sequences": 4, "learning_rate": 1e-2, "warmup": 0.1},
        "checkpoints": {"every": 4},
        "log": {"every": 1},
    }
    for section, change in changes.items():
        values[section] = {**values.get(section, {}), **change}
    return values


@given(st.integers(1, 500), st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_rate_rises_stays_and_falls_to_nothing_after_the_last_step(steps: int, warmup: float, decay: float) -> None:
    shares = [rate(step, steps, warmup, decay) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    rising, falling = round(warmup * steps), round(decay * steps)
    assert shares[:rising] == sorted(shares[:rising])
    assert all(share == 1 for share in shares[rising : steps - falling])
    assert shares[steps - falling :] == sorted(shares[steps - falling :], reverse=True)
    if falling > rising + 1:
        assert shares[-1] == pytest.approx(1 / falling)


def test_a_branch_falls_from_where_it_begins() -> None:
    assert [rate(step, 14, 0.1, 0.25, branched_at=10) for step in range(10, 14)] == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"trainin": {}}, "did you mean 'training'"),
        ({"model": {"size": "134M"}}, "exclude each other"),
        ({"model": {"num_attention_heads": 5}}, "even number"),
        ({"training": {"tokens": "1M"}}, "exclude each other"),
        ({"training": {"tokens": "much", "steps": None}}, "no amount of tokens"),
        ({"training": {"warmup": 0.9, "decay": 0.2}}, "together 1 at most"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_config(settings(Path("data"), **change))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some texts packed into sequences of 32 tokens, a tenth of the documents held out."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from mga.mixture.recipe import load_recipe
    from mga.packing.pack import pack
    from mga.packing.tokenizer import load_tokenizer

    folder = tmp_path_factory.mktemp("packed")
    texts = [f"{a} {b} the {c} and {a} was {b} of {c}." for a in WORDS for b in WORDS for c in WORDS]
    lines = [orjson.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    (folder / "texts.jsonl").write_bytes(b"\n".join(lines))
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    made.save(str(folder / "tokenizer.json"))
    changes = {
        "budget": 6000,
        "source": [{"name": "words", "paths": [str(folder / "texts.jsonl")]}],
        "pack": {"sequence": 32, "packing": "concatenate", "held_out": {"share": 0.1}},
    }
    recipe = load_recipe("paper-styles", changes)
    pack(recipe, load_tokenizer(str(folder / "tokenizer.json")), folder / "data", 1, lambda line: None)
    return folder / "data"


WORDS = ["river", "stone", "winter", "garden", "letter", "bridge"]


def lines_of(out: Path) -> list[dict[str, Any]]:
    """What was logged, without the speed."""
    lines = [orjson.loads(line) for line in (out / "log.jsonl").read_bytes().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def train(values: dict[str, Any], out: Path) -> dict[str, Any]:
    from mga.pretrain.train import pretrain

    return pretrain(load_config(values), out, lambda line: None)


@pytest.fixture(scope="module")
def undisturbed(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training from its beginning to its end."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(settings(packed, checkpoints={"states": "all"}), out)
    return out


@pytest.mark.torch
@pytest.mark.parametrize(
    ("size", "millions", "printed"),
    [("134M", 134.2, 134), ("377M", 377.5, 377), ("1.7B", 1677.8, 1680), ("7B", 6979.6, 6980), ("13B", 12885.3, 12900)],
)
def test_sizes_have_the_totals_of_the_paper(size: str, millions: float, printed: float) -> None:
    from mga.pretrain.model import VOCABULARY, count_parameters, llama_config

    counted = count_parameters(
        llama_config(load_config(settings(Path("d"), model=sized(size))).model, VOCABULARY, 8192)
    )
    assert counted.layers / 1e6 == pytest.approx(millions, abs=0.06)
    assert counted.layers / 1e6 == pytest.approx(printed, rel=0.003)


def sized(size: str) -> dict[str, Any]:
    return {"size": size, **dict.fromkeys(TINY)}


@pytest.mark.torch
def test_the_loss_falls_and_is_that_of_the_checkpoint(packed: Path, undisturbed: Path) -> None:
    import torch
    import transformers

    from mga.packing.packed import open_packed

    lines = lines_of(undisturbed)
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == STEPS
    assert losses[-1] < losses[0] - 0.5
    held = open_packed(packed / "validation" / "words")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(undisturbed / "checkpoints" / "step-0000012").eval()
    total = count = 0.0
    for i in range(min(len(held), 64)):
        ids = torch.from_numpy(held[i].astype("int64"))[held.documents(i) >= 0]
        with torch.no_grad():
            logits = model(ids[None]).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum"))
        count += len(ids) - 1
    assert lines[-1]["validation"]["words"] == pytest.approx(total / count, abs=1e-4)


@pytest.mark.torch
def test_a_checkpoint_opens_with_its_tokenizer(undisturbed: Path) -> None:
    from mga.scoring.model import load

    scorer = load(str(undisturbed / "checkpoints" / "step-0000012"))
    ids = scorer.encode("the river and the stone").ids
    assert scorer.decode(ids) == "the river and the stone"
    assert len(scorer.score([ids], 0)[0].loss) == len(ids) - 1


@pytest.mark.torch
def test_killed_and_continued_is_bit_for_bit_the_same(packed: Path, undisturbed: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "run", tmp_path / "config.toml"
    values = settings(packed, checkpoints={"states": "all"})
    file.write_text(toml(values))
    command = [sys.executable, "-m", "mga", "pretrain", str(file), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 6/"):
            process.kill()
            break
    process.wait()
    before = len(lines_of(out))
    assert 0 < before < len(lines_of(undisturbed))
    train(values, out)
    assert lines_of(out) == lines_of(undisturbed)
    for step in ("step-0000004", "step-0000008", "step-0000012"):
        once, twice = (weights_of(folder / "checkpoints" / step) for folder in (undisturbed, out))
        assert all(bool((once[name] == twice[name]).all()) for name in once)


@pytest.mark.torch
def test_asked_to_stop_it_keeps_the_step_and_goes_on(packed: Path, undisturbed: Path, tmp_path: Path) -> None:
    values, out = settings(packed, checkpoints={"states": "all"}), tmp_path / "run"

    def say(line: str) -> None:
        if line.startswith("step 5/"):
            os.kill(os.getpid(), signal.SIGTERM)

    from mga.errors import InterruptedRunError
    from mga.pretrain.train import pretrain

    with pytest.raises(InterruptedRunError, match="goes on from there"):
        pretrain(load_config(values), out, say)
    assert (out / "state" / "step-0000006").is_dir()
    train(values, out)
    assert lines_of(out) == lines_of(undisturbed)


@pytest.mark.torch
def test_accumulated_batches_are_whole_batches(packed: Path, undisturbed: Path, tmp_path: Path) -> None:
    train(settings(packed, training={"micro_batch": 1}), tmp_path / "run")
    for whole, parts in zip(lines_of(undisturbed), lines_of(tmp_path / "run"), strict=True):
        assert parts.get("loss") == pytest.approx(whole.get("loss"), abs=2e-4)


@pytest.mark.torch
def test_two_processes_have_the_curve_of_one(packed: Path, undisturbed: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(toml(settings(packed)))
    command = [
        sys.executable,
        "-m",
        "mga.cli.main",
        "pretrain",
        str(file),
        "--out",
        str(tmp_path / "run"),
        "--processes",
        "2",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    lines = lines_of(tmp_path / "run")
    assert [line["step"] for line in lines] == [line["step"] for line in lines_of(undisturbed)]
    for one, two in zip(lines_of(undisturbed), lines, strict=True):
        assert two.get("loss") == pytest.approx(one.get("loss"), abs=2e-4)
        assert two.get("gradient_norm", 0) == pytest.approx(one.get("gradient_norm", 0), rel=2e-3)
    once, divided = (weights_of(out / "checkpoints" / "step-0000012") for out in (undisturbed, tmp_path / "run"))
    assert all(bool((once[name] - divided[name]).abs().max() < 5e-3) for name in once)


def toml(values: dict[str, Any]) -> str:
    sections = []
    for section, fields in values.items():
        sections += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())]
    return "\n".join(sections)


@pytest.mark.torch
def test_a_branch_begins_with_the_weights_and_the_data_of_its_step(
    packed: Path, undisturbed: Path, tmp_path: Path
) -> None:
    constant = tmp_path / "constant"
    train(settings(packed, training={"decay": 0.0}, checkpoints={"states": "all"}), constant)
    branch = {"run": str(constant), "step": 8}
    train(settings(packed, branch=branch, training={"steps": 10}), tmp_path / "branch")
    stayed, fell = lines_of(constant), lines_of(tmp_path / "branch")
    first = next(line for line in fell if "loss" in line)
    same = next(line for line in stayed if line["step"] == 9 and "loss" in line)
    assert first["loss"] == same["loss"]
    assert [line["learning_rate"] for line in fell if "loss" in line] == [1e-2, 5e-3]


@pytest.mark.torch
def test_no_token_sees_another_document_where_they_are_masked(packed: Path) -> None:
    import torch
    import transformers

    from mga.packing.packed import open_packed
    from mga.pretrain.data import IGNORED, read_batch
    from mga.pretrain.model import llama_config

    data = open_packed(packed)
    batch = read_batch(data, range(4), mask_documents=True)
    torch.manual_seed(0)
    model: Any = transformers.LlamaForCausalLM(llama_config(load_config(settings(packed)).model, 300, 32)).eval()
    with torch.no_grad():
        together = model(batch.ids, position_ids=batch.positions, use_cache=False).logits
    for row in range(4):
        numbers = torch.from_numpy(data.documents(row))
        assert int(numbers.max()) > 0
        for number in range(int(numbers.max()) + 1):
            mine = numbers == number
            with torch.no_grad():
                alone = model(batch.ids[row][mine][None], use_cache=False).logits[0]
            assert torch.allclose(together[row][mine], alone, atol=1e-5)
            assert int(batch.labels[row][mine][-1]) == IGNORED


@pytest.mark.torch
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": {"steps": 4000}}, "pack a larger budget"),
        ({"training": {"batch_sequences": 6, "micro_batch": 4}}, "micro_batch = 4 does not divide"),
        ({"data": {"packed": "nowhere"}}, "mga budget pack"),
        ({"training": {"attention": "flash_attention_2"}}, "needs a GPU and flash-attn"),
        ({"branch": {"run": "nowhere"}}, "no state to branch from"),
        ({"model": {**dict.fromkeys(TINY), "size": "3B"}}, "134M, 377M"),
        (
            {"training": {"learning_rate": 1e30, "clip": 1e30}},
            r"NaN or infinite at step \d+.*\[branch\]|from its beginning",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(
    packed: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    from mga.errors import MgaError

    with pytest.raises(MgaError, match=said):
        train(settings(packed, **change), tmp_path / "run")


@pytest.mark.parametrize(
    ("attention", "batch", "micro", "processes", "refused"),
    [
        ("flash_attention_2", 4, None, 1, 4),
        ("flash_attention_3", 4, 2, 1, 2),
        ("flash_attention_2", 8, None, 4, 2),
        ("flash_attention_2", 4, None, 4, None),
        ("flash_attention_2", 4, 1, 1, None),
        ("sdpa", 4, None, 1, None),
        ("eager", 4, None, 1, None),
    ],
)
def test_documents_are_masked_by_flash_attention_in_single_sequences_alone(
    attention: str, batch: int, micro: int | None, processes: int, refused: int | None
) -> None:
    from mga.pretrain.train import check_batches

    training = {"attention": attention, "batch_sequences": batch, "learning_rate": 1e-3, "micro_batch": micro}
    values = {"model": TINY, "training": training, "data": {"packed": "anywhere", "mask_documents": True}}
    if refused is None:
        check_batches(load_config(values), processes)
    else:
        with pytest.raises(InputError, match=f"here they have {refused}: set training.micro_batch = 1, or .*'sdpa'"):
            check_batches(load_config(values), processes)
    check_batches(load_config(values | {"data": {"packed": "anywhere"}}), processes)


@pytest.mark.torch
def test_refused_before_anything_is_written(packed: Path, tmp_path: Path) -> None:
    values = settings(packed, data={"mask_documents": True}, training={"attention": "flash_attention_2"})
    with pytest.raises(InputError, match="keeps documents apart only in micro-batches of one sequence"):
        train(values, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("diverges_at", "said"),
    [(5, "gradient is NaN or infinite at step 7"), (7, "Weights are NaN or infinite after step 8")],
)
def test_a_state_that_is_not_finite_is_never_saved(
    packed: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, diverges_at: int, said: str
) -> None:
    """States are saved every 4 steps, losses told every 100: the state of step 4 stays, and is gone on from."""
    from mga.errors import StopError
    from mga.pretrain import train as module

    values, out = settings(packed, log={"every": 100}, checkpoints={"states": "last"}), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(module, "rate", lambda step, *rest: float("inf") if step == diverges_at else rate(step, *rest))
        for _ in range(2):  # the second time it begins at the state that was kept
            with pytest.raises(StopError, match=said) as error:
                train(values, out)
            assert "the state of step 4, which is kept" in str(error.value)
            assert [path.name for path in (out / "state").iterdir()] == ["step-0000004"]
            assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-0000004"]
    train(values, out)
    last = Path("checkpoints", f"step-{STEPS:07}")
    whole, resumed = weights_of(undisturbed / last), weights_of(out / last)
    assert all(bool((whole[name] == resumed[name]).all()) for name in whole)


@pytest.mark.torch
def test_a_state_that_holds_nan_is_not_gone_on_from(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mga.errors import StopError
    from mga.pretrain import checkpoint
    from mga.pretrain import train as module

    values, out = settings(packed), tmp_path / "run"
    with monkeypatch.context() as patch:  # as a version without the check has left it
        patch.setattr(module, "rate", lambda step, *rest: float("inf") if step == 3 else rate(step, *rest))
        patch.setattr(module, "state_is_finite", lambda *state: True)
        with pytest.raises(StopError):
            train(values, out)
    assert checkpoint.steps_of(out / "state") == [4]
    branch = settings(packed, branch={"run": str(out), "step": 4})
    for asked, folder in ((values, out), (branch, tmp_path / "branch")):
        with pytest.raises(StopError, match="step-0000004 holds NaN or infinite weights"):
            train(asked, folder)


@pytest.mark.torch
def test_the_first_step_that_is_not_finite_is_found() -> None:
    import torch

    from mga.pretrain.finite import FiniteSteps
    from mga.pretrain.processes import Processes

    watched = FiniteSteps(Processes(0, 1, torch.device("cpu")))
    watched.see(1, torch.tensor(2.0), torch.tensor(1e30))
    assert watched.first_bad() is None
    watched.see(2, torch.tensor(2.0), torch.tensor(float("inf")))
    watched.see(3, torch.tensor(float("nan")), torch.tensor(1.0))
    assert watched.first_bad() == 2


@pytest.mark.torch
def test_other_settings_or_data_are_refused(packed: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out)
    with pytest.raises(InputError, match=r"learning_rate \(0.01 → 0.02\)"):
        train(settings(packed, checkpoints={"states": "all"}, training={"learning_rate": 2e-2}), out)
    began = time.monotonic()
    assert train(settings(packed, checkpoints={"states": "all"}), out)["totals"]["steps"] == STEPS
    assert time.monotonic() - began < 60
