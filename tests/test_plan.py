"""Plans: the simulated fleet, the size of a corpus from a sample, and the command against real runs."""

import gzip
import json
import math
import random
import re
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from mga.cli.main import app
from mga.cli.main import main as cli
from mga.data.documents import find_files
from mga.errors import InputError
from mga.expand.shard import Cut
from mga.planning import corpus_size, simulation
from mga.planning.corpus_size import Figure, measure_corpus, ratio, stated_corpus
from mga.planning.forecast import Prices, advice, forecast, forecast_for, work_of
from mga.planning.measured import Demand, measured
from mga.planning.simulation import Fleet, Job, shard_rows, simulate
from mga.planning.table import shown
from mga.text.words import estimate_tokens

PAPER = ["--tokens", "195B", "--documents", "190168005", "--judge", "none"]
WORDS = ["orchard", "harvest", "cider", "barrel", "frost", "blossom", "mill", "quince", "grafted", "spring"]


def text(rng: random.Random) -> str:
    """A passage of 20 to 300 words."""
    count = int(20 * 15 ** rng.random())
    return " ".join(" ".join(rng.choices(WORDS, k=8)).capitalize() + "." for _ in range(count // 8 + 1))


def texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [text(rng) for _ in range(count)]


def jsonl(rows: list[str]) -> bytes:
    return b"".join(orjson.dumps({"text": row}, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def mga(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The command line's exit code."""
    monkeypatch.setattr(sys, "argv", ["mga", *map(str, arguments)])
    try:
        cli()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


# The simulation


@given(st.integers(0, 5000), st.integers(1, 700))
def test_shards_are_those_of_a_run(rows: int, size: int) -> None:
    cut = Cut(rows, size)
    assert shard_rows(rows, size) == [len(cut[index]) for index in range(len(cut))]


@given(st.integers(1, 3000), st.integers(1, 200), st.integers(1, 40))
def test_equal_workers_end_within_a_shard_of_each_other(rows: int, size: int, workers: int) -> None:
    done = simulate(Job(rows, size, row_s=2.0), Fleet(workers, start_s=7.0), seed=0)
    ideal = 7 + rows * 2 / workers
    assert ideal - 1e-6 <= done.wall_s <= ideal + size * 2 + 1e-6  # Graham's bound for shards taken as they come
    assert done.busy * done.wall_s * workers == pytest.approx(rows * 2)


@given(st.integers(0, 10_000), st.floats(20, 500), st.floats(0, 30))
def test_a_lone_worker_pays_for_each_death_and_for_nothing_else(seed: int, lifetime: float, lost: float) -> None:
    fleet = Fleet(1, lifetime_s=lifetime, start_s=5, replace_s=11, lost_s=lost)
    done = simulate(Job(8, 8, row_s=30.0), fleet, seed)
    assert done.wall_s == pytest.approx(5 + 240 + done.redone_s + done.deaths * 16)
    assert done.redone_s <= done.deaths * lost + 1e-9


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_no_work_is_lost_and_none_counted_twice(seed: int, workers: int) -> None:
    fleet = Fleet(workers, lifetime_s=150.0, start_s=2, replace_s=3, lease_s=20, lost_s=5)
    done = simulate(Job(400, 20, row_s=1.0), fleet, seed)
    assert done.busy * done.wall_s * workers == pytest.approx(400)


def test_a_dead_workers_shard_waits_for_the_lease() -> None:
    job, fleet = Job(8, 8, row_s=30.0), Fleet(2, lifetime_s=400.0, lost_s=0.0)
    for seed in range(200):
        short, long = (simulate(job, replace(fleet, lease_s=lease), seed) for lease in (1.0, 60.0))
        if short.deaths == 1 and short.wall_s > 240:  # the one that had the shard
            assert short.wall_s == pytest.approx(241)
            assert long.wall_s >= 300 - 1e-6
            return
    raise AssertionError("no course with one death")


def test_many_shards_taken_together_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(200_000, 100, row_s=1.0)
    fleet = Fleet(4, spread=0.2, lifetime_s=20_000.0, start_s=60, replace_s=60, lease_s=60, lost_s=30)
    together = [simulate(job, fleet, seed) for seed in range(8)]
    monkeypatch.setattr(simulation, "PARTS_PER_WORKER", 10**6)
    one_by_one = [simulate(job, fleet, seed) for seed in range(8)]
    mean = [sum(run.wall_s for run in runs) / 8 for runs in (together, one_by_one)]
    assert mean[0] == pytest.approx(mean[1], rel=0.02)
    assert sum(run.deaths for run in together) > 50


def test_slow_and_mortal_workers_cost_time() -> None:
    job, fleet = Job(20_000, 100, row_s=1.0), Fleet(16)
    kinds = [fleet, replace(fleet, spread=0.4), replace(fleet, spread=0.4, lifetime_s=2000.0, replace_s=200)]
    walls = [sum(simulate(job, kind, seed).wall_s for seed in range(10)) for kind in kinds]
    assert walls == sorted(walls)
    assert walls[2] > 1.05 * walls[0]


# The size of a corpus


def write(folder: Path, rows: list[str], kind: str) -> list[str]:
    """The rows in files of unequal size."""
    folder.mkdir()
    for i, part in enumerate((rows[: len(rows) // 5], rows[len(rows) // 5 :])):
        if kind == "parquet":
            pq.write_table(pa.table({"text": part}), folder / f"{i}.parquet", row_group_size=500)
        elif kind == "jsonl":
            (folder / f"{i}.jsonl").write_bytes(jsonl(part))
        else:
            (folder / f"{i}.jsonl.gz").write_bytes(gzip.compress(jsonl(part)))
    return [str(folder)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["lines", "array", "indented array"])
def test_arrays_and_nested_texts_are_sized_like_lines(
    layout: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = texts(3000)
    rows = [{"meta": {"body": text}} for text in written]
    lines = "\n".join(map(json.dumps, rows)) + "\n"
    data = lines if layout == "lines" else json.dumps(rows, indent=1 if layout == "indented array" else None)
    file = tmp_path / f"corpus.jsonl{'.gz' if packed else ''}"
    file.write_bytes(gzip.compress(data.encode()) if packed else data.encode())
    truth = sum(map(estimate_tokens, written))
    whole = measure_corpus(find_files([str(file)]), "meta.body", longest=200)
    assert (whole.rows.value, whole.documents.value) == (3000, 3000)
    assert whole.tokens.value == pytest.approx(truth)
    monkeypatch.setattr(corpus_size, "WHOLE_BYTES", 0)
    sample = measure_corpus(find_files([str(file)]), "meta.body", longest=200)
    assert sample.rows.value == pytest.approx(3000, rel=0.05)
    assert sample.tokens.value == pytest.approx(truth, rel=0.05)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "gz"])
def test_a_sample_tells_the_size_of_a_corpus(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = texts(6000)
    for empty in random.Random(1).sample(range(6000), 600):
        rows[empty] = " … "
    files = find_files(write(tmp_path / "corpus", rows, kind))
    whole = measure_corpus(files, "text", longest=200)
    sizes = [estimate_tokens(row) for row in rows if "a" in row or "e" in row or "i" in row]
    for name, value in (
        ("PIECE_BYTES", 65536 if kind == "gz" else 8192),
        ("WHOLE_BYTES", 0),
        ("ROWS_PER_PLACE", 8),
        ("PLACES", 40),
    ):
        monkeypatch.setattr(corpus_size, name, value)
    covered = dict.fromkeys(("documents", "chunks", "tokens"), 0)
    truth = {"documents": len(sizes), "tokens": sum(sizes), "chunks": sum(-(-n // 200) for n in sizes)}
    for seed in range(20):
        sample = measure_corpus(files, "text", 200, seed=seed)
        assert sample.sampled < 0.75 * len(rows)
        for name, real in truth.items():
            low, high = getattr(sample, name).bounds
            covered[name] += low <= real <= high
            assert getattr(sample, name).value == pytest.approx(real, rel=0.2)
    if kind != "gz":  # read from the beginning alone, always the same
        assert min(covered.values()) >= 16  # of 20 ranges that should hold 95%
    if kind != "parquet":
        assert {name: round(getattr(whole, name).value) for name in truth} == truth
        assert whole.tokens.error == 0


def test_damaged_and_useless_files_count_as_empty(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_bytes(jsonl(texts(50)))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(jsonl(texts(50)))[:-20])
    pq.write_table(pa.table({"other": ["x"] * 30}), tmp_path / "other.parquet")
    assert measure_corpus(find_files([str(tmp_path)]), "text", 4000).rows == Figure(50.0)
    with pytest.raises(InputError, match="holds no document"):
        measure_corpus(find_files([str(tmp_path / "other.parquet")]), "text", 4000)


def test_the_range_of_a_ratio_holds_the_truth() -> None:
    rng = random.Random(1)
    held = 0
    for _ in range(300):
        below = [rng.uniform(1, 5) for _ in range(30)]
        low, high = ratio([b * rng.gauss(2, 0.5) for b in below], below).bounds
        held += low <= 2 <= high
    assert 270 <= held <= 297


# The command


def expand(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path, *more: object) -> None:
    engine = "scripted:?flaws=0.1&latency=0.001"
    assert mga(monkeypatch, "expand", source, "--engine", engine, "--out", out, "--quiet", *more) == 0


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(jsonl(texts(450)))
    return path


def test_a_plan_from_a_small_run_foretells_the_whole_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expand(monkeypatch, corpus, tmp_path / "small", "--limit", 120)
    expand(monkeypatch, corpus, tmp_path / "whole")
    plan = tmp_path / "plan.json"
    flags = ["--measured", tmp_path / "small", "--gpus", 3, "--seeds", 4, "--gpu-price", 2, "--out", plan]
    assert mga(monkeypatch, "plan", corpus, *flags) == 0
    told = orjson.loads(plan.read_bytes())
    stats = orjson.loads((tmp_path / "whole" / "stats.json").read_bytes())
    spent = stats["usage"].values()
    real = {
        "tokens": stats["source_tokens"],
        "kept": stats["kept_tokens"],
        "requests": sum(use["requests"] for use in spent),
        "prompt_tokens": sum(use["prompt_tokens"] for use in spent),
        "generated": sum(use["generated_tokens"] for use in spent),
    }
    assert {name: told[name]["value"] for name in real} == pytest.approx(real, rel=0.05)
    assert told["shards"] == len(list((tmp_path / "whole" / "shards").iterdir()))
    stored = sum(
        file.stat().st_size for s in ("kept", "dropped", "failed") for file in (tmp_path / "whole" / s).iterdir()
    )
    assert told["run_folder_bytes"] == pytest.approx(stored, rel=0.3)
    assert told["cost"]["median"] == pytest.approx(told["hours"]["median"] * 3 * 2)


def test_the_rate_is_that_of_the_runs_sessions(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expand(monkeypatch, corpus, tmp_path / "run", "--limit", 10)
    sessions = [orjson.loads(path.read_bytes()) for path in (tmp_path / "run" / "sessions").iterdir()]
    rate = sessions[0]["spent"]["generated_tokens"] / sessions[0]["seconds"]
    assert measured(tmp_path / "run").rate == pytest.approx(rate)
    assert any("too few" in note for note in measured(tmp_path / "run").notes)
    flags = ["--measured", tmp_path / "run", "--measured-gpus", 2, "--gpus", 1, "--out", tmp_path / "plan.json"]
    assert mga(monkeypatch, "plan", corpus, *flags) == 0
    told = orjson.loads((tmp_path / "plan.json").read_bytes())
    assert told["tokens_per_second_and_gpu"] == pytest.approx(rate / 2)
    assert "too few" in capsys.readouterr().out


def test_the_papers_job_takes_the_papers_gpu_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """195B tokens become 770B in 256 × 64 + 1024 × 130 GPU hours (paper §2)."""
    flags = ["--tokens-per-second", 1590, "--gpus", 1024, "--out", tmp_path / "plan.json"]
    assert mga(monkeypatch, "plan", *PAPER, *flags) == 0
    told = orjson.loads((tmp_path / "plan.json").read_bytes())
    assert told["gpu_hours_of_work"] == pytest.approx(256 * 64 + 1024 * 130, rel=0.001)
    assert told["kept"]["value"] == pytest.approx(770e9)
    assert 1024 * told["hours"]["median"] > told["gpu_hours_of_work"]


def work(rows: int = 100_000, shard_size: int = 100) -> Any:
    demand = Demand(11, 900, Figure(4, 0.1), 1000, 11, 0.5, Figure(3.8, 0.1), 6.0)
    return work_of(stated_corpus(rows * 1000.0, rows, 3000), demand, shard_size)


def test_the_gpus_for_a_deadline_are_enough_and_few() -> None:
    fleet = Fleet(1, spread=0.1, lifetime_s=1e6, start_s=300, replace_s=600, lease_s=60, lost_s=30)
    found = forecast_for(12.0, work(), 1500.0, fleet, 2, 10)
    assert found.hours[2] <= 12.0
    assert found.gpus == 2 * found.fleet.workers
    fewer = replace(fleet, workers=math.floor(found.fleet.workers / 1.02) - 1)
    assert forecast(work(), 1500.0, fewer, 2, 10).hours[2] > 12.0


def test_one_worker_is_never_told_that_some_are_idle_and_is_one_worker() -> None:
    job = work(rows=40, shard_size=20)
    alone, several = (forecast(job, 1500.0, Fleet(workers), 1, 2) for workers in (1, 5))
    assert advice(job, alone) == []
    assert "workers idle" in advice(job, several)[0]
    for found, device, said in ((alone, "CPU machine", "1 worker"), (several, "GPU", "5 workers")):
        console = Console(width=160, file=StringIO())
        console.print(shown(job, found, Prices(), [], device))
        told = console.file.getvalue()  # type: ignore[attr-defined]
        assert re.search(rf"{device}s +{found.gpus} +{said}\s", told)
        assert ("GPU" in told) == (device == "GPU")


@pytest.mark.parametrize(("features", "on_cpu"), [("cpu, float32", True), ("cuda, bfloat16", False), ("chat", False)])
def test_a_run_on_a_cpu_says_so(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features: str, on_cpu: bool
) -> None:
    expand(monkeypatch, corpus, tmp_path / "run", "--limit", 3)
    (session,) = (tmp_path / "run" / "sessions").iterdir()
    said = orjson.loads(session.read_bytes())
    said["engines"] = [{**engine, "features": features} for engine in said["engines"]]
    session.write_bytes(orjson.dumps(said))
    assert measured(tmp_path / "run").on_cpu == on_cpu


def test_no_number_of_gpus_beats_the_longest_shard() -> None:
    with pytest.raises(InputError, match="smaller --shard-size"):
        forecast_for(1.0, work(1000, 500), 10.0, Fleet(1), 1, 3)


def test_uncertain_work_gives_uncertain_hours() -> None:
    certain = replace(work(), generated=Figure(work().generated.value))
    spans = []
    for job in (certain, work()):
        low, _, high = forecast(job, 1500.0, Fleet(64), 1, 30).hours
        spans.append(high - low)
    assert spans[1] > 3 * spans[0]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "either --gpus or --hours"),
        (["--gpus", 8, "--hours", 2], "either --gpus or --hours"),
        (["--gpus", 8], "either --measured RUN"),
        (["--gpus", 8, "--tokens-per-second", 10], "by both --tokens and --documents"),
        (["--gpus", 8, "--tokens-per-second", 10, "--tokens", "5B"], "by both --tokens and --documents"),
        (
            ["--gpus", 8, "--tokens-per-second", 10, "--tokens", "five", "--documents", 3],
            "--tokens 'five' is not a number",
        ),
        (["--gpus", 8, "--tokens-per-second", 10, "--tokens", "5B", "--documents", "nan"], "'nan' is not a number"),
        (["--gpus", 8, "--measured", "nowhere", *PAPER[:4]], "holds no run"),
        (["--gpus", 8, "--measured", "nowhere", *PAPER], "leave out --config, --pairs and --judge"),
        (["--hours", 0.02, "--tokens-per-second", 10, *PAPER], "No number of GPUs"),
        (["nowhere/*.jsonl", "--gpus", 8, "--tokens-per-second", 10], "matches no file"),
    ],
)
def test_mistakes_are_named_in_a_sentence(
    flags: list[object], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mga(monkeypatch, "plan", *flags) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_a_run_without_a_finished_shard_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expand(monkeypatch, corpus, tmp_path / "run", "--limit", 5)
    for done in (tmp_path / "run" / "shards").iterdir():
        done.unlink()
    assert mga(monkeypatch, "plan", corpus, "--measured", tmp_path / "run", "--gpus", 1) == 2
    assert "no finished shard" in capsys.readouterr().err


def test_the_help_names_every_flag() -> None:
    shown = CliRunner().invoke(app, ["plan", "--help"], env={"COLUMNS": "200"}).output
    for flag in ("--measured", "--hours", "--gpus", "--tokens-per-second", "--gpu-lifetime", "--lease-seconds"):
        assert flag in shown
