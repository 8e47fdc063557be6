"""The step between datatrove's own reader and writer, by datatrove's own executor."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from test_command_line import document, documents, in_a_process, rows, write_jsonl

pytest.importorskip("datatrove", reason="datatrove is not installed: pip install 'mga[datatrove]'")

ENGINE = "scripted:?flaws=0.3"
PIPELINE = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from mga.runs.executors.datatrove import Expand

folder, engine, tasks = sys.argv[1], sys.argv[2], int(sys.argv[3])
excluded = JsonlWriter(f"{folder}/excluded", compression=None)
LocalPipelineExecutor(
    [
        JsonlReader(f"{folder}/in"),
        Expand(f"{folder}/journal", excluded, engine=engine, shard_size=7),
        JsonlWriter(f"{folder}/out", compression=None),
    ],
    tasks=tasks, workers=1, logging_dir=f"{folder}/logs",
).run()
"""


def pipeline(folder: Path, engine: str, tasks: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PIPELINE, str(folder), engine, str(tasks)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(folder: Path, engine: str, tasks: int) -> None:
    process = pipeline(folder, engine, tasks)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 0, said


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def given(folder: Path, files: int, each: int) -> None:
    (folder / "in").mkdir(parents=True)
    for number in range(files):
        rows_of = [{"id": f"{number}-{i}", "text": document(number * each + i), "lang": "en"} for i in range(each)]
        write_jsonl(folder / "in" / f"{number}.jsonl", rows_of)


def test_the_texts_are_those_of_mga_expand(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    documents(tmp_path / "in" / "a.jsonl", 30)
    finish(tmp_path, ENGINE, 1)
    assert in_a_process("expand", tmp_path / "in", "--out", tmp_path / "run", "--engine", ENGINE).code == 0
    kept = rows(tmp_path / "run" / "kept")
    out = lines(tmp_path / "out")
    assert [(row["id"], row["text"]) for row in out] == [(row["id"], row["text"]) for row in kept]
    for name in ("source_id", "chunk_id", "genre", "audience", "score"):
        assert [row["metadata"][name] for row in out] == [row[name] for row in kept]
    others = rows(tmp_path / "run" / "dropped") + rows(tmp_path / "run" / "failed")
    reasons = Counter(row["metadata"]["reason"] for row in lines(tmp_path / "excluded"))
    assert reasons == Counter(row["reason"] for row in others)
    stats = json.loads((tmp_path / "logs" / "stats.json").read_bytes())
    counted = next(step["stats"] for step in stats if "mga expand" in step["name"])
    assert counted["kept"] == len(kept)


def test_a_task_that_is_killed_and_run_again_asks_nothing_twice(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        given(folder, files=2, each=25)
    finish(whole, f"{ENGINE}&log={whole}/asked", 2)
    process = pipeline(killed, f"{ENGINE}&latency=0.05&log={killed}/asked", 2)
    deadline = time.monotonic() + 60
    while not any((killed / "journal").glob("00001-*.jsonl")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finish(killed, f"{ENGINE}&log={killed}/asked", 2)
    assert [row["id"] for row in lines(killed / "out")] == [row["id"] for row in lines(whole / "out")]
    texts = {
        folder: [(row["text"], row["metadata"]["score"]) for row in lines(folder / "out")] for folder in (whole, killed)
    }
    assert texts[killed] == texts[whole]
    assert {row["metadata"]["lang"] for row in lines(whole / "out")} == {"en"}
    asked = Counter((killed / "asked").read_text().splitlines())
    again = sum(times - 1 for times in asked.values())
    refused = sum("refused" in str(row["metadata"]["reason"]) for row in lines(whole / "excluded"))
    assert again <= 64 + refused, "more was asked again than was in flight"


def test_settings_that_cannot_be_are_refused_before_any_task() -> None:
    from mga.errors import InputError
    from mga.runs.executors.datatrove import Expand

    with pytest.raises(InputError, match="'pairs'"):
        Expand("journal", engine=ENGINE, pairs=0)
    with pytest.raises(InputError, match="engine"):
        Expand("journal", engin=ENGINE)
