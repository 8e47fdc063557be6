"""Studies: statistics, settings, and a whole small one: equal budgets, nothing held out is trained on, going on."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from mga.data.store import read_json
from mga.errors import InputError
from mga.study.compare import curves, differences, lower_is_better, reading
from mga.study.settings import StudySettings, load_study

pytestmark = pytest.mark.timeout(300)  # trains models, which a busy machine does slowly

STUDY = """
budget = "30K"
sequence = 128
seeds = [0, 1]
tokenizer = "train:300"

[[source]]
name = "good"
paths = "good.jsonl"

[[source]]
name = "other"
paths = "other.jsonl"

[[source]]
name = "rewrites"
expands = "good"
paths = "rewrites.jsonl"

[[strategy]]
name = "repeat"

[[strategy]]
name = "expand"
strategy = "expand"
expansion = "beside"

[[size]]
name = "micro"
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 1
num_attention_heads = 2

[training]
batch_sequences = 8
learning_rate = 1e-2

[pack]
packing = "concatenate"
held_out = { share = 0.2 }

[evaluation]
own = 16
checkpoints = 2
validation_sequences = 8
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources of words that say which document they are from, and the settings of a study."""
    place = tmp_path_factory.mktemp("study")

    def text(kind: str, i: int) -> str:
        drawn = np.random.default_rng(i)
        return " ".join(f"{kind}{drawn.integers(40)}" for _ in range(80)) + f" end{i}"

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (place / name).write_bytes(b"\n".join(map(orjson.dumps, rows)))

    write("good.jsonl", [{"id": f"g{i}", "text": text("good", i)} for i in range(40)])
    write("other.jsonl", [{"id": f"o{i}", "text": text("other", i)} for i in range(40)])
    write(
        "rewrites.jsonl",
        [{"id": f"g{i}-{j}", "source_id": f"g{i}", "text": text(f"new{j}x", i)} for i in range(40) for j in range(2)],
    )
    (place / "study.toml").write_text(STUDY)
    return place


def settings_in(folder: Path) -> StudySettings:
    names = ("good", "other", "rewrites")
    return load_study(folder / "study.toml", {name: str(folder / f"{name}.jsonl") for name in names})


def row(strategy: str, seed: int, value: float, tokens: int = 10, measure: str = "own acc") -> dict[str, Any]:
    return {"strategy": strategy, "size": "s", "seed": seed, "tokens": tokens, "measure": measure, "value": value}


def test_equal_differences_of_a_few_seeds_claim_nothing() -> None:
    rows = [row("a", s, 0.25) for s in range(3)] + [row("b", s, 0.5) for s in range(3)]
    (found,) = differences(rows, "a")
    assert (found["difference"], found["low"], found["high"], found["says"]) == (0.25, None, None, "open")


def test_differences_are_taken_seed_by_seed_at_the_end() -> None:
    rows = [row("a", seed, value) for seed, value in enumerate((0.2, 0.5, 0.8))]
    rows += [row("b", seed, value) for seed, value in enumerate((0.31, 0.6, 0.89))]
    rows += [row("b", 0, 0.9, tokens=5), row("b", 7, 0.9)]
    (found,) = differences(rows, "a")
    assert found["difference"] == pytest.approx(0.1)
    assert found["seeds"] == 3
    assert found["says"] == "better"
    assert 0 < found["low"] < 0.1 < found["high"]


@pytest.mark.parametrize(
    ("measure", "better", "says"),
    [("good loss", False, "worse"), ("own acc", True, "better"), ("own bits_per_byte", False, "worse")],
)
def test_a_rise_is_better_or_worse_by_what_is_measured(measure: str, better: bool, says: str) -> None:
    rows = [row("a", s, 1 + s / 100, measure=measure) for s in range(4)]
    rows += [row("b", s, 2 + s / 99, measure=measure) for s in range(4)]
    (found,) = differences(rows, "a")
    assert found["says"] == says
    assert lower_is_better(measure) is not better


def test_nothing_is_claimed_of_two_seeds_or_of_an_interval_with_zero() -> None:
    two = [row(name, seed, value) for name, value in (("a", 0.1), ("b", 0.9)) for seed in range(2)]
    (found,) = differences(two, "a")
    assert found["says"] == "open"
    assert "2 seeds are too few" in reading([found], ["a", "b"])[0]
    noisy = [row("a", s, 0.5) for s in range(3)] + [row("b", s, v) for s, v in enumerate((0.4, 0.5, 0.7))]
    (found,) = differences(noisy, "a")
    assert found["says"] == "open"
    assert "inconclusive: own acc" in reading([found], ["a", "b"])[0]


def test_curves_are_means_over_the_seeds_that_came_so_far() -> None:
    rows = [row("a", s, v, tokens=t) for s, v in ((0, 0.0), (1, 1.0)) for t in (5, 10)] + [row("a", 0, 9.0, tokens=15)]
    (curve,) = curves(rows)
    assert curve["tokens"] == [5, 10]
    assert curve["mean"] == [0.5, 0.5]
    assert curve["seeds"] == 2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "expand"\n', 'name = "repeat"\n', "two strategies are called the same"),
        ("[training]\n", "[training]\nsteps = 3\n", "steps is the study's own"),
        ("train:300", "train:much", "train:8192"),
        ('expansion = "beside"', 'sources = ["goods"]', "'goods', which is not here"),
        ("checkpoints = 2", "checkpoint = 2", "Unknown setting 'evaluation.checkpoint'"),
        ("hidden_size = 16\n", "", "hidden_size"),
    ],
)
def test_wrong_settings_are_named(folder: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in STUDY
    (tmp_path / "study.toml").write_text(STUDY.replace(old, new))
    with pytest.raises(InputError, match=said):
        load_study(tmp_path / "study.toml", {})


def command(folder: Path, out: Path, *more: str) -> list[str]:
    places = [f"--source={name}={folder / name}.jsonl" for name in ("good", "other", "rewrites")]
    return [sys.executable, "-m", "mga", "study", str(folder / "study.toml"), "--out", str(out), *places, *more]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was killed in its second training, and went on."""
    out = tmp_path_factory.mktemp("whole") / "study"
    process = subprocess.Popen(command(folder, out, "--workers", "1"), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("── expand-micro-0"):
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert "rows" not in read_json(out / "study.json")
    from mga.study.carry import study

    study(settings_in(folder), out, "*", 1, lambda line: None)
    return out


@pytest.mark.torch
def test_a_study_that_was_killed_goes_on_to_its_end(whole: Path) -> None:
    record = read_json(whole / "study.json")
    assert record["trainings"] == {"done": 4, "of": 4}
    measures = {row["measure"] for row in record["rows"]}
    assert {"good loss", "other loss", "own acc", "own probability_norm", "own bits_per_byte"} <= measures
    assert all(row["seeds"] == 2 and row["says"] == "open" for row in record["differences"])
    steps = {read_json(path)["totals"]["steps"] for path in whole.glob("runs/*/pretrain.json")}
    assert len(steps) == 1


@pytest.mark.torch
def test_nothing_held_out_is_trained_on_and_strategies_share_it(whole: Path) -> None:
    from mga.packing.packed import open_packed

    lines = (whole / "held-out" / "passages.jsonl").read_bytes().splitlines()
    held = {orjson.loads(line)["id"] for line in lines}
    assert len(held) > 4
    for seed in (0, 1):
        for strategy in ("repeat", "expand"):
            data = open_packed(whole / "packs" / f"{strategy}-{seed}")
            sources = {
                origin.source_id for i in range(len(data)) for at in (0, 60, 127) if (origin := data.trace(i, at))
            }
            assert sources and not sources & held
    assert read_json(whole / "packs" / "expand-0" / "pack.json")["counts"]["train"]["by_source"]["rewrites"] > 1000


@pytest.mark.torch
def test_seeds_vary_weights_and_order_and_nothing_that_is_asked(whole: Path) -> None:
    import pyarrow.parquet as pq

    from mga.packing.packed import open_packed

    runs = [f"{strategy}-micro-{seed}" for strategy in ("repeat", "expand") for seed in (0, 1)]
    assert len({(whole / "evaluations" / run / "own" / "items.jsonl").read_bytes() for run in runs}) == 1
    unique, validation, first = [], [], []
    for seed in (0, 1):
        pack = whole / "packs" / f"repeat-{seed}"
        unique.append([share["unique"] for share in read_json(pack / "pack.json")["plan"].values()])
        validation.append({path.name: path.read_bytes() for path in sorted(pack.glob("validation/*/*.bin"))})
        first.append(open_packed(pack)[0].tolist())
        held = [pq.read_table(path, columns=["id", "held_out"]).to_pylist() for path in pack.rglob("*.parquet")]
        assert sum(row["held_out"] for rows in held for row in rows) > 8
    assert unique[0] == unique[1]
    assert validation[0] == validation[1]
    assert first[0] != first[1]


@pytest.mark.torch
def test_a_curve_has_as_many_points_as_were_asked_for(whole: Path) -> None:
    logs = [path.read_bytes().splitlines() for path in whole.glob("runs/*/log.jsonl")]
    steps = [[row["step"] for row in map(orjson.loads, lines) if "validation" in row] for lines in logs]
    assert steps == [[14, 28]] * 4


@pytest.mark.parametrize("asked", [1, 2, 3, 5, 7, 28, 100])
@pytest.mark.parametrize("steps", [1, 2, 27, 28, 29])
def test_no_curve_has_more_points_than_were_asked_for(folder: Path, tmp_path: Path, asked: int, steps: int) -> None:
    (tmp_path / "study.toml").write_text(STUDY.replace("checkpoints = 2", f"checkpoints = {asked}"))
    settings = load_study(tmp_path / "study.toml", {})
    every = settings.pretraining(settings.runs()[0], folder, steps).checkpoints.every
    assert every is not None
    points = {step for step in range(1, steps + 1) if step % every == 0 or step == steps}
    assert len(points) <= asked
    assert len(points) == asked or every == 1 or steps / asked > every - 1


REFUSED = [
    ('budget = "30K"', 'budget = "500"', "less than one step: a step is 1.024K tokens, the budget 500"),
    ('strategy = "expand"', 'strategy = "upsample"', "Strategy expand: upsample: mark the source"),
    (
        'strategy = "expand"',
        'strategy = "weights"\nepochs = { good = 1, other = 0 }',
        "Strategy expand: The sources add up",
    ),
    ("own = 16", "own = 6", "of the own texts have 72 words or more; continuations need 8"),
    ("held_out = { share = 0.2 }", "", "No document is held out"),
    ("own = 16", 'tasks = ["arc_easy"]\ndata = "nowhere"', "ai2_arc is not in nowhere"),
    (
        "hidden_size = 16\nintermediate_size = 32\nnum_hidden_layers = 1\nnum_attention_heads = 2\n",
        'size = "3B"',
        "size",
    ),
    ("batch_sequences = 8", "batch_sequences = 8\nmicro_batch = 3", "micro_batch = 3 does not divide"),
    ("batch_sequences = 8", 'batch_sequences = 8\nattention = "flash_attention_2"', "needs a GPU and flash-attn"),
    ("train:300", "nowhere.json", "There is no tokenizer nowhere.json"),
    ('paths = "rewrites.jsonl"', 'paths = "rewrites.jsonl"\ntext_key = "words"', "'words'"),
    (
        'paths = "rewrites.jsonl"',
        'paths = "rewrites.jsonl"\nsource_key = "id"',
        "with one that no document of good has",
    ),
]


@pytest.mark.torch
@pytest.mark.parametrize(("old", "new", "said"), REFUSED)
@pytest.mark.parametrize("how", [["--plan"], []])
def test_what_can_be_known_is_said_before_anything_is_trained(
    folder: Path, tmp_path: Path, old: str, new: str, said: str, how: list[str]
) -> None:
    from mga.cli.main import app

    assert old in STUDY
    (tmp_path / "study.toml").write_text(STUDY.replace(old, new))
    places = [f"--source={name}={folder / name}.jsonl" for name in ("good", "other", "rewrites")]
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["study", str(tmp_path / "study.toml"), "--out", str(out), "--workers=1", *places, *how]
    )
    assert isinstance(done.exception, InputError), (done.output, done.exception)
    assert said in str(done.exception)
    assert not out.exists()


@pytest.mark.torch
def test_the_page_of_a_study_has_its_curves_and_differences(whole: Path) -> None:
    from mga.report.report import report
    from mga.report.study import study

    titles = [section.title for section in study(read_json(whole / "study.json"))]
    assert titles == ["Strategies compared", "micro"]
    assert report([whole], whole / "report.html") > 10_000
    assert b"At the end: minus repeat" in (whole / "report.html").read_bytes()


@pytest.mark.torch
def test_another_study_in_the_folder_is_refused(folder: Path, whole: Path) -> None:
    from mga.study.carry import study

    settings = settings_in(folder).model_copy(update={"budget": 5000.0})
    with pytest.raises(InputError, match=r"budget \(30000.0 → 5000.0\)"):
        study(settings, whole, "*", 1, lambda line: None)
    with pytest.raises(InputError, match="No training is called big-"):
        study(settings_in(folder), whole, "big-*", 1, lambda line: None)


@pytest.mark.torch
def test_the_plan_counts_operations_and_hours(folder: Path, tmp_path: Path) -> None:
    from mga.cli.main import app

    def planned(*more: str) -> str:
        places = [f"--source={name}={folder / name}.jsonl" for name in ("good", "other", "rewrites")]
        command = ["study", str(folder / "study.toml"), "--out", str(tmp_path / "none"), "--plan", *places, *more]
        done = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done.output

    said = planned()
    # 16 wide, 300 tokens: embeddings and head of 4,800 each, a layer of 2,592, the last norm of 16
    assert said.count("12.21K") == 4
    each = 6 * (2608 + 4800 + 16 * 128) * 30_000
    assert f"{each:.2e}" in said
    assert f"{4 * each:.2e}" in said
    assert "hours" not in said
    said = planned("--speed", "1e6")
    assert f"{4 * each / 1e6 / 3600:,.2f}" in said
    assert not (tmp_path / "none").exists()
