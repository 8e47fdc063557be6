"""A run carried by a real Slurm cluster on this machine: the same bytes, through requeues, kills and time limits."""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import regex
from slurm_cluster import CannotStartError, Slurm
from test_command_line import assert_adds_up, assert_refused, documents, in_a_process, rows, tree

pytestmark = pytest.mark.slurm

ENGINE = "scripted:?flaws=0.3"
PARTS = ("kept", "dropped", "failed", "shards")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.__enter__()
    except CannotStartError as error:
        pytest.skip(f"Slurm cannot start here: {error}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster
    cluster.__exit__()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("given")
    (folder / "small.toml").write_text("shard_size = 10\n")
    return (documents(folder / "in.jsonl", 120), "--config", folder / "small.toml")


@pytest.fixture(scope="module")
def local(given: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("local") / "run"
    assert in_a_process("expand", *given, "--out", run, "--engine", ENGINE).code == 0
    return results(run)


def results(run: Path) -> dict[str, bytes]:
    found = {f"{part}/{name}": data for part in PARTS for name, data in tree(run / part).items()}
    assert all(rows(run / part) for part in PARTS[:3])
    return found


def submit(given: tuple[object, ...], run: Path, latency: float, *more: object) -> str:
    """Begin a run with two workers; the number of the job."""
    engine = f"{ENGINE}&latency={latency}"
    said = in_a_process("expand", *given, "--out", run, "--engine", engine, "--on", "slurm", "--workers", 2, *more)
    assert said.code == 0, said
    found = regex.search(r"Submitted batch job (\d+)", said.out)
    assert found, said.out
    assert f"mga status {shlex.quote(str(run))}" in said.out
    return str(found.group(1))


def until(reached: Callable[[], bool], within_s: float = 90.0, run: Path | None = None) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        logs = [path.read_text() for path in (run / "logs").glob("slurm-*.log")] if run else []
        assert time.monotonic() < deadline, f"the moment never came; {logs}"
        time.sleep(0.2)


def is_complete(run: Path) -> bool:
    return (run / "stats.json").exists()


def some_shard_is_done(run: Path) -> bool:
    return bool(list((run / "shards").glob("[!.]*.json")))


def test_an_array_job_writes_what_one_process_writes(
    slurm: Slurm, given: tuple[object, ...], local: dict[str, bytes], tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    submit(given, run, 0.1, "--time", "10", "--partition", "work", "--sbatch=--comment=expansion")
    until(lambda: is_complete(run), run=run)
    until(lambda: slurm.tasks() == {})
    assert results(run) == local
    assert_adds_up(run)
    sessions = [json.loads(path.read_bytes()) for path in (run / "sessions").iterdir()]
    assert all(session["documents"] > 12 for session in sessions)
    assert len(sessions) == 2


def test_what_is_printed_is_what_is_submitted_and_slurm_takes_it(
    slurm: Slurm, given: tuple[object, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--workers", 3, "--cpus", 1, "--time", "00:05:00")
    said = in_a_process("expand", *given, "--out", run, "--engine", ENGINE, "--on", "slurm", *options, "--print-script")
    assert said.code == 0
    assert sorted(path.name for path in run.iterdir()) == ["logs", "settings.json"]
    assert "#SBATCH --array=0-2" in said.out
    assert "#SBATCH --time=00:05:00" in said.out
    assert "to start at" in slurm.ask("sbatch", "--test-only", stdin=said.out)


def test_tasks_that_are_requeued_and_killed_lose_nothing(
    slurm: Slurm, given: tuple[object, ...], local: dict[str, bytes], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = submit(given, run, 0.4)
    until(lambda: some_shard_is_done(run), run=run)
    assert "at work: 2 workers" in in_a_process("status", run).out
    slurm.ask("scontrol", "requeue", f"{job}_0")
    slurm.ask("scancel", "--signal=KILL", "--full", f"{job}_1")
    until(lambda: is_complete(run), run=run)
    assert results(run) == local


def test_a_task_that_comes_to_its_time_limit_puts_itself_back(
    slurm: Slurm, given: tuple[object, ...], local: dict[str, bytes], tmp_path: Path
) -> None:
    """The signal is the one that Slurm sends two minutes before the limit."""
    run = tmp_path / "run"
    job = submit(given, run, 0.4)
    until(lambda: some_shard_is_done(run), run=run)
    for task in (0, 1):
        slurm.ask("scancel", "--signal=USR1", "--batch", f"{job}_{task}")
    until(lambda: set(slurm.tasks().values()) == {"PENDING"}, run=run)
    assert not is_complete(run)
    assert not list((run / "workers").glob("[!.]*.json")), "they have left in order"
    until(lambda: is_complete(run), run=run)
    assert results(run) == local


def test_what_slurm_refuses_is_said_in_one_sentence(slurm: Slurm, given: tuple[object, ...], tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "run", "--engine", ENGINE, "--on", "slurm", "--partition", "nowhere")
    assert_refused(in_a_process("expand", *given, *arguments), "invalid partition")


def test_without_slurm_it_is_said_where_to_go(given: tuple[object, ...], tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "run", "--engine", ENGINE, "--on", "slurm")
    said = in_a_process("expand", *given, *arguments, PATH="/nowhere")
    assert_refused(said, "no sbatch here", "login node", "--print-script")
