"""A run carried by a real Ray cluster on this machine: two workers, the same bytes, and workers that are killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from test_command_line import assert_adds_up, assert_refused, documents, in_a_process, rows, tree

pytest.importorskip("ray", reason="Ray is not installed: pip install 'mga[ray]'")

DOCUMENTS = 120
ENGINE = "scripted:?flaws=0.3"
DEADLINE_S = 150.0
pytestmark = pytest.mark.timeout(400)


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster with two cores, on the loopback interface."""
    address = f"127.0.0.1:{free_port()}"
    ray = Path(sys.executable).with_name("ray")
    # Not pytest's folder: Ray's sockets need short paths.
    own_folder = TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    start = [ray, "start", "--head", f"--port={address.partition(':')[2]}", "--num-cpus=2", "--disable-usage-stats"]
    start += ["--include-dashboard=false", "--node-ip-address=127.0.0.1", f"--temp-dir={own_folder.name}"]
    done = subprocess.run(start, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    yield address
    subprocess.run([ray, "stop", "--force", "--grace-period=2"], capture_output=True, timeout=DEADLINE_S)
    own_folder.cleanup()


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    folder = tmp_path_factory.mktemp("given")
    (folder / "small.toml").write_text("shard_size = 10\n")
    return (documents(folder / "in.jsonl", DOCUMENTS), "--config", folder / "small.toml")


@pytest.fixture(scope="module")
def local(given: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("local") / "run"
    assert in_a_process("expand", *given, "--out", run, "--engine", ENGINE).code == 0
    return results(run)


def results(run: Path) -> dict[str, bytes]:
    parts = ("kept", "dropped", "failed", "shards")
    found = {f"{part}/{name}": data for part in parts for name, data in tree(run / part).items()}
    assert all(rows(run / part) for part in parts[:3])
    return found


def started(given: tuple[object, ...], run: Path, cluster: str, latency: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mga", "expand", *map(str, given), "--out", str(run)]
    command += ["--engine", f"{ENGINE}&latency={latency}", "--on", f"ray:{cluster}", "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.02)


def pids(run: Path) -> list[int]:
    """Of the workers that have shown themselves."""
    return [json.loads(path.read_bytes())["pid"] for path in (run / "workers").glob("[!.]*.json")]


def test_two_workers_share_a_run_and_write_what_one_process_writes(
    cluster: str, given: tuple[object, ...], local: dict[str, bytes], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started(given, run, cluster, latency=0.1)
    said = process.communicate(timeout=DEADLINE_S)[1]
    assert process.returncode == 0, said
    assert results(run) == local
    assert_adds_up(run)
    sessions = [json.loads(path.read_bytes()) for path in (run / "sessions").iterdir()]
    assert len({session["pid"] for session in sessions}) == 2
    assert all(session["documents"] > 0.1 * DOCUMENTS for session in sessions)


def test_killed_workers_are_replaced_and_nothing_is_lost(
    cluster: str, given: tuple[object, ...], local: dict[str, bytes], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started(given, run, cluster, latency=0.2)
    until(lambda: len(pids(run)) == 2 and bool(list((run / "shards").glob("[!.]*.json"))))
    killed = pids(run)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    said = process.communicate(timeout=DEADLINE_S)[1]
    assert process.returncode == 0, said
    assert results(run) == local
    sessions = [json.loads(path.read_bytes()) for path in (run / "sessions").iterdir()]
    assert {session["pid"] for session in sessions} - set(killed), "nobody came after those who were killed"


def test_a_stopped_driver_stops_its_workers_and_the_run_continues_here(
    cluster: str, given: tuple[object, ...], local: dict[str, bytes], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started(given, run, cluster, latency=0.2)
    until(lambda: len(pids(run)) == 2 and bool(list((run / "shards").glob("[!.]*.json"))))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=DEADLINE_S)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.strip().splitlines()[-1].startswith("mga: Stopped.")
    until(lambda: pids(run) == [])
    assert in_a_process("expand", *given, "--out", run, "--engine", ENGINE).code == 0
    assert results(run) == local


def test_what_stops_a_worker_is_said_in_one_sentence(cluster: str, given: tuple[object, ...], tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1#m"
    arguments = ("expand", *given, "--out", tmp_path / "run", "--engine", nobody, "--on", f"ray:{cluster}")
    assert_refused(in_a_process(*arguments, timeout=60), nobody.partition("/v1")[0])


def test_a_cluster_that_is_not_there_is_said(given: tuple[object, ...], tmp_path: Path) -> None:
    arguments = ("expand", *given, "--out", tmp_path / "run", "--engine", ENGINE, "--on", "ray:127.0.0.1:1")
    assert_refused(in_a_process(*arguments, timeout=60), "Ray cluster 127.0.0.1:1")
