"""Input that changes while a run reads it: the run stops and names the file; none ends with rows missing or mixed."""

import asyncio
import json
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mga.config import ExpandConfig
from mga.data.documents import find_files
from mga.data.outcomes import read_rows
from mga.data.published import STATUSES
from mga.data.reading import Reader
from mga.engines.scripted import ScriptedEngine
from mga.errors import InputError, StopError
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run

TEXT = "Harbour number {:03} was rebuilt slowly after the storm. Its masons carried stones every morning, and sang."
ROWS = [json.dumps({"id": f"d{i:03}", "text": TEXT.format(i)}) + "\n" for i in range(40)]


def shorter(file: Path) -> None:
    file.write_text("".join(ROWS[:20]))


def cut_in_a_line(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 30)


def of_the_same_length(file: Path) -> None:
    file.write_text("".join(reversed(ROWS)))


def longer(file: Path) -> None:
    file.write_text("".join([*ROWS, *ROWS]))


def replaced(file: Path) -> None:
    other = file.with_suffix(".new")
    other.write_text("".join(ROWS))
    other.replace(file)


def deleted(file: Path) -> None:
    file.unlink()


def with_the_old_time(file: Path) -> None:
    """Of the same length, under the same inode and time: only its content tells."""
    before = file.stat()
    file.write_text("".join(reversed(ROWS)))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("requests", [1, 60])
@pytest.mark.parametrize(
    "change", [shorter, cut_in_a_line, of_the_same_length, longer, replaced, deleted, with_the_old_time]
)
def test_a_run_whose_input_changes_stops_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], requests: int
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("".join(ROWS))
    asked, ask = 0, ScriptedEngine.ask

    async def counted(self: ScriptedEngine, request: object) -> object:
        nonlocal asked
        asked += 1
        if asked == requests:
            change(file)
        return await ask(self, request)  # type: ignore[arg-type]

    monkeypatch.setattr(ScriptedEngine, "ask", counted)
    config = ExpandConfig(input=[str(file)], engine="scripted:", pairs=1, concurrency=2, shard_size=8)
    with pytest.raises(StopError, match=r"in\.jsonl has changed"):
        asyncio.run(expand(config, Run(tmp_path / "run"), Progress(Console(file=StringIO()), quiet=True)))
    assert not (tmp_path / "run" / "stats.json").exists()
    if file.exists() and change is not replaced:
        with pytest.raises((InputError, StopError)):
            asyncio.run(expand(config, Run(tmp_path / "run"), Progress(Console(file=StringIO()), quiet=True)))
    file.write_text("".join(ROWS))
    stats = asyncio.run(expand(config, Run(tmp_path / "run"), Progress(Console(file=StringIO()), quiet=True)))
    assert stats is not None
    assert (stats.documents, stats.problems) == (40, ())
    outcomes = [row for status in STATUSES for row in read_rows(tmp_path / "run" / status)]
    assert sorted(row["source_id"] for row in outcomes) == [f"d{i:03}" for i in range(40)]


def test_rows_that_were_counted_and_are_not_there_are_never_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(ROWS[:3]))
    (tmp_path / "b.jsonl").write_text("".join(ROWS[:3]))
    files = find_files([str(tmp_path)])
    assert len(list(Reader(files, [3, 3]).rows(0, 6))) == 6
    with pytest.raises(StopError, match=r"a\.jsonl has changed .* fewer rows than the 4 counted"):
        list(Reader(files, [4, 3]).rows(0, 7))
    with pytest.raises(StopError, match=r"b\.jsonl has changed"):
        list(Reader(files, [3, 5]).rows(3, 8))
