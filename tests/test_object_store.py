"""Runs whose input, folder and export lie in an object store: the same bytes as on a disk, shared, killed, slowed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_command_line import document, in_a_process, tree

pytest.importorskip("moto", reason="moto is not installed: pip install 'mga[dev]'")
pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'mga[s3]'")

from object_store import BUCKET, SLOW_DOWN, UNAVAILABLE, ObjectStore, Response

COUNT = 60
ENGINE = "scripted:?flaws=0.3"
PARTS = ("kept", "dropped", "failed", "shards")
URL = f"s3://{BUCKET}"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        for name, value in (store.environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(name, value)
        store.put("in/a.parquet", (tmp_path.parent / "in.parquet").read_bytes())
        yield store


@pytest.fixture(scope="module", autouse=True)
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the run writes on a disk. The input is one Parquet file of several row groups."""
    folder = tmp_path_factory.getbasetemp()
    table = pa.table({"id": [f"doc-{i}" for i in range(COUNT)], "text": [document(i) for i in range(COUNT)]})
    pq.write_table(table, folder / "in.parquet", row_group_size=25)
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / "a.parquet").write_bytes((folder / "in.parquet").read_bytes())
    (folder / "small.toml").write_text("shard_size = 10\n")
    run = folder / "local"
    assert in_a_process("expand", folder / "in", "--out", run, *more(folder)).code == 0
    return results(tree(run))


def more(folder: Path, latency: float = 0.0) -> tuple[object, ...]:
    return ("--config", folder / "small.toml", "--engine", f"{ENGINE}&latency={latency}")


def results(files: dict[str, bytes]) -> dict[str, bytes]:
    found = {name: data for name, data in files.items() if name.startswith(PARTS)}
    assert len(found) > 4 * 3
    return found


def started(folder: Path, name: str, latency: float, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mga", "expand", f"{URL}/in", "--out", f"{URL}/{name}"]
    command += [str(each) for each in more(folder, latency)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.05)


def test_a_run_in_a_store_is_the_run_on_a_disk_and_can_be_looked_at_and_exported(
    store: ObjectStore, local: dict[str, bytes], tmp_path: Path
) -> None:
    run = f"{URL}/run"
    said = in_a_process("expand", f"{URL}/in", "--out", run, *more(tmp_path.parent), timeout=60)
    assert said.code == 0, said.err
    assert said.out == f"{run}\n"
    found = store.tree("run")
    assert results(found) == local
    left = {name.partition("/")[0] for name in found}
    assert left == {*PARTS, "run.json", "stats.json", "README.md", "sessions", "logs"}
    lists, asked = store.asked["LIST"], store.asked.total()
    shards = sum(name.startswith("shards/") for name in found)
    assert lists < 25 + 5 * shards, f"{lists} listings for {shards} shards"
    assert asked < 200 + 30 * shards, f"{asked} requests for {shards} shards"
    assert "complete" in in_a_process("status", run).out
    assert "doc-0#0" in in_a_process("show", run, "--n", 1).out
    assert in_a_process("export", run, f"{URL}/plain").code == 0
    exported = store.tree("plain")
    assert (
        sum(pq.read_table(pa.BufferReader(data)).num_rows for data in exported.values() if data[:4] == b"PAR1")
        == (json.loads(found["stats.json"])["outcomes"]["kept"])
    )


def test_processes_share_a_run_in_a_store(store: ObjectStore, local: dict[str, bytes], tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        both = [started(tmp_path.parent, "run", latency=0.1) for _ in range(2)]
        ended = list(pool.map(lambda process: process.communicate(timeout=90), both))
    assert [process.returncode for process in both] == [0, 0], ended
    found = store.tree("run")
    assert results(found) == local
    sessions = [orjson.loads(data) for name, data in found.items() if name.startswith("sessions/")]
    assert len([session for session in sessions if session["documents"] > 0.1 * COUNT]) == 2


def test_after_a_kill_the_same_machine_asks_nothing_again(
    store: ObjectStore, local: dict[str, bytes], tmp_path: Path
) -> None:
    process = started(tmp_path.parent, "run", latency=0.3)
    until(lambda: any(name.startswith("shards/") for name in store.tree("run")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {Path(name).stem for name in store.tree("run") if name.startswith("shards/") or name.endswith(".won")}
    journals = (tmp_path / "cache" / "mga" / "journals").rglob("*.jsonl")
    received = sum(path.read_bytes().count(b"\n") for path in journals if path.name[:5] not in done)
    assert received
    said = in_a_process("expand", f"{URL}/in", "--out", f"{URL}/run", *more(tmp_path.parent), timeout=60)
    assert said.code == 0, said.err
    found = store.tree("run")
    assert results(found) == local
    sessions = [orjson.loads(data) for name, data in found.items() if name.startswith("sessions/")]
    assert max(session["reused"] for session in sessions) >= received
    assert not list((tmp_path / "cache" / "mga" / "journals").rglob("*.jsonl"))


def test_what_was_copied_to_the_store_is_known_on_another_machine(
    store: ObjectStore, local: dict[str, bytes], tmp_path: Path
) -> None:
    """A machine that is stopped in order copies its journals; another one, with another disk, goes on with them."""
    process = started(tmp_path.parent, "run", latency=0.3)
    journals = tmp_path / "cache" / "mga" / "journals"
    until(lambda: any(path.stat().st_size for path in journals.rglob("*.jsonl")))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    copied = sum(data.count(b"\n") for name, data in store.tree("run").items() if name.startswith("journal/"))
    assert copied
    other = started(tmp_path.parent, "run", latency=0.0, XDG_CACHE_HOME=str(tmp_path / "another"))
    said = other.communicate(timeout=60)[1]
    assert other.returncode == 0, said
    found = store.tree("run")
    assert results(found) == local
    sessions = [orjson.loads(data) for name, data in found.items() if name.startswith("sessions/")]
    assert max(session["reused"] for session in sessions) >= copied


def test_a_store_that_throttles_and_goes_away_for_a_while_costs_nothing(
    store: ObjectStore, local: dict[str, bytes], tmp_path: Path
) -> None:
    begun = time.monotonic()
    asked = 0

    def fault(method: str, path: str) -> Response | None:
        nonlocal asked
        asked += 1
        if 4 < time.monotonic() - begun < 7:
            return UNAVAILABLE
        return SLOW_DOWN if asked % 7 == 0 else None

    store.fault = fault
    process = started(tmp_path.parent, "run", latency=0.3)
    said = process.communicate(timeout=110)[1]
    assert process.returncode == 0, said
    assert time.monotonic() - begun > 7
    assert store.faults > 10
    assert results(store.tree("run")) == local
