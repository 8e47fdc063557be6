"""A published shard that is missing or truncated: every command that reads runs says so before all else."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mga.cli.main import app
from mga.errors import InputError


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with texts in kept/, dropped/ and failed/, over several shards."""
    room = tmp_path_factory.mktemp("published")
    text = "Harbour number {} was rebuilt slowly after the storm. Its masons carried {} stones every morning."
    rows = [json.dumps({"id": f"d{i}", "text": text.format(i, i + 7)}) for i in range(60)]
    (room / "in.jsonl").write_text("\n".join([*rows, ""]))
    command = [sys.executable, "-m", "mga", "expand", str(room / "in.jsonl"), "--out", str(room / "run"), "--quiet"]
    subprocess.run([*command, "--engine", "scripted:?flaws=0.5"], check=True, capture_output=True, timeout=120)
    assert all(list((room / "run" / status).glob("*.parquet")) for status in ("kept", "dropped", "failed"))
    return room / "run"


def truncated(file: Path) -> str:
    os.truncate(file, file.stat().st_size // 2)
    return f"{file} cannot be read (it is truncated or damaged)"


def emptied(file: Path) -> str:
    os.truncate(file, 0)
    return f"{file} cannot be read (it is truncated or damaged)"


def missing(file: Path) -> str:
    file.unlink()
    return f"{file} is missing"


def another(file: Path) -> str:
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)
    return f"{file} holds {table.num_rows - 1:,} rows instead of {table.num_rows:,}"


READERS: dict[str, list[str]] = {
    "expand": ["expand", "{run}/../in.jsonl", "--out", "{run}", "--engine", "scripted:?flaws=0.5", "--quiet"],
    "status": ["status", "{run}"],
    "top": ["top", "{run}", "--once"],
    "show": ["show", "{run}"],
    "export": ["export", "{run}", "{out}"],
    "report": ["report", "{run}", "--out", "{out}"],
    "dedup": ["dedup", "{run}", "--out", "{out}"],
    "diversity": ["diversity", "{run}"],
    "boilerplate": ["boilerplate", "{run}", "--out", "{out}"],
    "decontaminate": ["decontaminate", "{run}", "--against", "{run}/../in.jsonl", "--out", "{out}"],
    "clean": ["clean", "{run}", "--out", "{out}"],
    "plan": ["plan", "{run}/../in.jsonl", "--measured", "{run}", "--gpus", "1"],
    "tool examples": ["tool", "examples", "{run}", "--out", "{out}"],
}


@pytest.mark.parametrize("command", READERS)
def test_every_reader_names_the_file(finished: Path, tmp_path: Path, command: str) -> None:
    run = tmp_path / "run"
    copytree(finished, run)
    (tmp_path / "in.jsonl").write_bytes((finished.parent / "in.jsonl").read_bytes())
    said = truncated(sorted((run / "kept").glob("*.parquet"))[-1])
    words = [word.format(run=run, out=tmp_path / "out") for word in READERS[command]]
    ended = CliRunner().invoke(app, words)
    assert isinstance(ended.exception, InputError), (ended.output, ended.exception)
    assert said in str(ended.exception)
    assert not (tmp_path / "out" / "kept").exists()


@pytest.mark.parametrize("harm", [truncated, emptied, missing, another])
@pytest.mark.parametrize("status", ["kept", "dropped", "failed"])
def test_whatever_has_happened_to_a_file(
    finished: Path, tmp_path: Path, harm: Callable[[Path], str], status: str
) -> None:
    from mga.data.published import check_published

    copytree(finished, tmp_path / "run")
    check_published(tmp_path / "run")
    said = harm(sorted((tmp_path / "run" / status).glob("*.parquet"))[0])
    with pytest.raises(InputError) as refused:
        check_published(tmp_path / "run")
    assert str(refused.value).startswith(said)
