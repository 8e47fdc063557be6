"""The functions that notebooks call: rows in memory, a loop that runs already, a run read back as tables."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest

from mga import api
from mga.errors import InputError

HARBOUR = "The harbour of Aldmouth was built in 1834. It cost 45,000 pounds and took seven years to finish. "
ROWS = [{"id": f"harbour-{i}", "text": f"{i}. {HARBOUR * 3}", "year": 1834 + i} for i in range(4)]
SETTINGS = {"engine": "scripted:", "pairs": 2}


def test_rows_in_memory_are_expanded_like_a_file_of_them(tmp_path: Path) -> None:
    run = api.expand(ROWS, tmp_path / "run", **SETTINGS)
    assert run.complete
    assert run.stats.documents == 4
    kept = run.table(columns=["source_id", "text"])
    assert sorted(set(kept["source_id"].to_pylist())) == [row["id"] for row in ROWS]
    assert kept.num_rows == run.stats.outcomes["kept"] == 8
    (written,) = (tmp_path / "run-input").glob("*.jsonl")
    from_file = api.expand(written, tmp_path / "from-file", **SETTINGS)
    assert from_file.table(columns=["text"]) == run.table(columns=["text"])


def test_an_arrow_table_is_a_source_and_a_call_inside_a_loop_works(tmp_path: Path) -> None:
    async def notebook() -> api.ExpandedRun:
        return api.expand(pa.Table.from_pylist(ROWS), tmp_path / "run", **SETTINGS)

    assert asyncio.run(notebook()).stats.documents == 4
    awaited = asyncio.run(api.expand_async(ROWS, tmp_path / "other", **SETTINGS))
    assert awaited.stats.outcomes == api.open_run(tmp_path / "run").stats.outcomes


def test_the_same_call_continues_and_other_rows_are_refused(tmp_path: Path) -> None:
    log = tmp_path / "asked.log"
    settings = {**SETTINGS, "engine": f"scripted:?log={log}"}
    api.expand(ROWS, tmp_path / "run", **settings)
    asked = log.read_text().count("\n")
    assert asked > 0
    api.expand(iter(ROWS), tmp_path / "run", **settings)
    assert log.read_text().count("\n") == asked
    with pytest.raises(InputError, match="holds a run with other settings: input"):
        api.expand(ROWS[:3], tmp_path / "run", **settings)


def test_a_preview_shows_all_outcomes_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shown = api.preview(ROWS, 2, engine="scripted:?flaws=0.2", pairs=3)
    assert shown.num_rows == 6
    assert set(shown["status"].to_pylist()) >= {"kept", "dropped"}
    assert set(shown["source_id"].to_pylist()) == {"harbour-0", "harbour-1"}
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'min_words'"):
        api.expand(ROWS, tmp_path / "run", engine="scripted:", cleaning={"min_wrods": 3})
    with pytest.raises(InputError, match="A document in memory is a dict of columns, not str"):
        api.expand(iter(["text"]), tmp_path / "run", engine="scripted:")
    with pytest.raises(InputError, match="holds no run"):
        api.open_run(tmp_path / "elsewhere")
    run = api.expand(ROWS, tmp_path / "run", **SETTINGS)
    with pytest.raises(InputError, match="There is no column 'txt'; there are: id, text"):
        run.table(columns=["txt"])
