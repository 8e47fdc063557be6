"""Folders that version 0.1.0 has written are read by today's commands, under today's names."""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mga.api import open_run
from mga.cli.main import app
from mga.data.corpus_files import open_corpus
from mga.runs.rows import stage_record

WRITTEN = Path(__file__).parent / "data" / "first-version"
OLD = {"refusal": "model_phrases", "near_copy": "model_pattern"}
"""The folders hold no text that was dropped for a phrase; so these two reasons stand for them."""
OLD_NAMES = re.compile("cut_head|cut_tail|model_phrases|model_pattern|writer")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """`run` and `cleaned`, with all names that have changed since."""
    shutil.copytree(WRITTEN, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.rglob("*.json"):
        said = file.read_text()
        for now, old in OLD.items():
            said = said.replace(f'"{now}":', f'"{old}":')
        file.write_text(said)
    for file in tmp_path.glob("*/dropped/*.parquet"):
        table = pq.read_table(file)
        reasons = [OLD.get(reason, reason) for reason in table["reason"].to_pylist()]
        pq.write_table(table.set_column(table.schema.get_field_index("reason"), "reason", pa.array(reasons)), file)
    return tmp_path


COMMANDS = {
    "status": ["status", "run"],
    "status of a stage": ["status", "cleaned"],
    "show": ["show", "run", "-n", "30"],
    "show dropped": ["show", "run", "--dropped", "-n", "30"],
    "show dropped of a stage": ["show", "cleaned", "--dropped", "-n", "30"],
    "top": ["top", "run", "--once"],
    "report": ["report", "run", "--out", "out/page.html"],
    "report of a stage": ["report", "cleaned", "--out", "out/page.html"],
    "export": ["export", "run", "out"],
    "export of a stage": ["export", "cleaned", "out", "--schema", "mgacorpus"],
    "clean": ["clean", "run", "--out", "out"],
    "dedup": ["dedup", "run", "--out", "out"],
    "dedup of a stage": ["dedup", "cleaned", "--out", "out"],
    "diversity": ["diversity", "run"],
    "boilerplate": ["boilerplate", "run", "--out", "out/phrases.toml"],
    "plan": ["plan", "run/kept", "--text-key", "raw_text", "--measured", "run", "--gpus", "1"],
}
DROPS_SHOWN = {"status", "status of a stage", "show dropped", "show dropped of a stage", "top"}


@pytest.mark.parametrize("name", COMMANDS)
def test_read_under_todays_names(name: str, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    Path("out").mkdir()
    result = CliRunner().invoke(app, COMMANDS[name], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    written = "\n".join(_written(folders / "out"))
    assert not OLD_NAMES.search(result.output + written)
    if name in DROPS_SHOWN:
        assert "corpus_boilerplate" in result.output
        assert re.search(r"\bboilerplate", result.output)
    if name == "clean":
        assert json.loads((folders / "out" / "stage.json").read_text())["before"]["reasons"]["boilerplate"] == 2
    if name.startswith("dedup"):
        assert {"stripped_prefix", "stripped_suffix"} <= set(pq.read_table("out/kept/00000.parquet").schema.names)


def _written(folder: Path) -> Iterator[str]:
    """All names that files written by a command have: columns, reasons, and everything in text files."""
    for file in folder.rglob("*"):
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            yield from table.schema.names
            yield from _texts(table["reason"].to_pylist() if "reason" in table.schema.names else [])
        elif file.is_file():
            yield file.read_text()


def _texts(values: Sequence[str | None]) -> list[str]:
    return [value for value in values if value]


def test_rows_and_records_in_code(folders: Path) -> None:
    run = open_run(folders / "run")
    reasons = run.table("dropped", ["reason", "stripped_prefix"])["reason"].to_pylist()
    assert (reasons.count("boilerplate"), reasons.count("corpus_boilerplate")) == (2, 3)
    assert run.stats.reasons["boilerplate"] == 2
    stage = stage_record(folders / "cleaned")
    assert stage is not None
    assert (stage["command"], stage["counts"]["reasons"]["corpus_boilerplate"]) == ("clean", 3)


def test_columns_of_strangers_keep_their_names(tmp_path: Path) -> None:
    rows = pa.table({"id": ["a"], "text": ["some words"], "cut_head": ["x"], "cut_tail": ["y"]})
    pq.write_table(rows, tmp_path / "own.parquet")
    corpus = open_corpus([tmp_path / "own.parquet"])
    (batch,) = corpus.batches(corpus.files[0])
    assert batch.rows.schema.names == rows.schema.names
