"""Folders that a command on whole corpora has written are shown, told of and exported as runs are."""

import asyncio
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from mga.cli.main import main
from mga.config import load_config
from mga.curation.clean import clean_again, policy_of
from mga.curation.stage import Stage, reasons_of
from mga.data.corpus_files import Batch, open_corpus
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run

DOCUMENT = (
    "Le café numéro {0} ferma en été. Masons carried {0} stones up the hill every morning. 灯塔在暴风雨之后重建。"
)


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Mga = Callable[..., Said]


@pytest.fixture
def mga(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mga:
    """Run `mga` with these arguments, from its entry point, in this process."""
    monkeypatch.setenv("COLUMNS", "300")

    def command(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["mga", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        return Said(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, a third of whose replies are flawed."""
    folder = tmp_path_factory.mktemp("export")
    rows = [json.dumps({"id": f"doc-{i}", "text": DOCUMENT.format(i) * 3}, ensure_ascii=False) for i in range(24)]
    (folder / "in.jsonl").write_text("\n".join(rows), encoding="utf-8")
    flags = {"input": [str(folder / "in.jsonl")], "engine": "scripted:?flaws=0.35", "shard_size": 8}
    asyncio.run(expand(load_config(None, flags), Run(folder / "run"), Progress(Console(stderr=True), quiet=True)))
    return folder / "run"


@pytest.fixture(scope="module")
def cleaned(run: Path) -> Path:
    """The run cleaned again: a stage in a run's layout."""
    clean_again(run, run.parent / "cleaned", policy_of(Run(run).record(), None, {"min_score": 4}))
    return run.parent / "cleaned"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """JSON Lines of someone else's, of which a stage has dropped the second."""
    rows = [
        {"body": "The first text.", "nr": 1},
        {"body": "Une deuxième \x1b[2J.", "nr": 2},
        {"body": "第三篇", "nr": 3},
    ]
    (tmp_path / "foreign.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    corpus = open_corpus([tmp_path / "foreign.jsonl"], text_key="body")
    stage = Stage(tmp_path / "staged", "dedup", corpus, {})

    def decided() -> Iterator[tuple[Batch, pa.Array, pa.Array]]:
        for batch in corpus.batches(corpus.files[0]):
            yield batch, *reasons_of(batch.rows.num_rows, {1: ("near_duplicate", "0.9 like foreign.jsonl:1")})

    with stage.work():
        stage.write(0, decided())
        stage.finish()
    return tmp_path / "staged"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def assert_refused(said: Said, *words: str) -> None:
    assert said.code == 2, said
    assert said.err.startswith("mga: ")
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1
    for word in words:
        assert word in said.err


@pytest.mark.parametrize("schema", ["plain", "mgacorpus"])
def test_what_a_verb_has_made_of_a_run_is_exported(mga: Mga, cleaned: Path, tmp_path: Path, schema: str) -> None:
    said = mga("export", cleaned, tmp_path / "out", "--schema", schema)
    kept = rows_of(cleaned / "kept")
    assert kept
    assert (said.code, said.out) == (0, f"{len(kept)} rows in {tmp_path / 'out'}\n")
    text = "content_split" if schema == "mgacorpus" else "text"
    assert [row[text] for row in rows_of(tmp_path / "out")] == [row["text"] for row in kept]


def test_names_of_files_in_folders_are_kept(mga: Mga, cleaned: Path, tmp_path: Path) -> None:
    staged = shutil.copytree(cleaned, tmp_path / "staged")
    (staged / "kept" / "a").mkdir()
    (staged / "kept" / "00000.parquet").rename(staged / "kept" / "a" / "00000.parquet")
    assert mga("export", staged, tmp_path / "out").code == 0
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.parquet")}
    assert names == {str(path.relative_to(staged / "kept")) for path in (staged / "kept").rglob("*.parquet")}


def test_what_no_run_has_written_is_not_exported(mga: Mga, foreign: Path, cleaned: Path, tmp_path: Path) -> None:
    assert_refused(mga("export", foreign, tmp_path / "out"), "foreign.jsonl", "JSON Lines", "mga expand")
    staged = shutil.copytree(cleaned, tmp_path / "columns")
    victim = staged / "kept" / "00001.parquet"
    pq.write_table(pq.read_table(victim).drop_columns(["genre", "raw_text"]), victim)
    assert_refused(mga("export", staged, tmp_path / "out"), "00001.parquet", "lacks the columns genre, raw_text")
    assert not (tmp_path / "out").exists()


def test_an_unfinished_stage_is_not_exported(mga: Mga, cleaned: Path, tmp_path: Path) -> None:
    staged = shutil.copytree(cleaned, tmp_path / "staged")
    record = json.loads((staged / "stage.json").read_bytes())
    (staged / "stage.json").write_bytes(orjson.dumps({k: v for k, v in record.items() if k != "counts"}))
    assert_refused(mga("export", staged, tmp_path / "out"), "not finished", "mga clean")
    (staged / "parts" / "00001.json").unlink()
    said = mga("status", staged)
    assert said.code == 0
    assert "not complete" in said.out
    assert 0 < int(_figures(said.out)["rows"]) < record["counts"]["rows"]


def _figures(out: str) -> dict[str, str]:
    """The count of each line of a status, under its name or (behind "because") its reason."""
    lines = [line.split() for line in out.splitlines() if line.strip()]
    return {(words[2] if words[0] == "because" else words[0]): words[1] for words in lines if len(words) > 1}


def test_status_tells_the_verb_and_the_counts(mga: Mga, cleaned: Path, run: Path) -> None:
    said = mga("status", cleaned)
    assert (said.code, said.err) == (0, "")
    assert "mga clean" in said.out
    assert "complete" in said.out
    assert str(run) in said.out
    record = json.loads((cleaned / "stage.json").read_bytes())
    figures = _figures(said.out)
    assert (figures["rows"], figures["kept"]) == (str(record["counts"]["rows"]), str(record["counts"]["kept"]))
    assert {name: int(figures[name]) for name in record["counts"]["reasons"]} == record["counts"]["reasons"]
    assert int(figures["failed"]) == record["failed"] == len(rows_of(run / "failed"))


def test_show_sets_originals_beside_texts(mga: Mga, cleaned: Path) -> None:
    said = mga("show", cleaned, "-n", 2)
    assert said.code == 0
    assert said.out.count("original") == 2
    shown = [row for row in rows_of(cleaned / "kept") if row["chunk_id"] in said.out.split()]
    assert said.out.count("genre: ") == len(shown) > 0
    assert "灯塔" in said.out


def test_show_dropped_gives_the_reasons(mga: Mga, cleaned: Path) -> None:
    said = mga("show", cleaned, "--dropped", "-n", 200)
    assert said.code == 0
    reasons = json.loads((cleaned / "stage.json").read_bytes())["counts"]["reasons"]
    assert reasons
    for reason, count in reasons.items():
        assert said.out.count(f"{reason}: ") == count


def test_show_and_status_of_what_no_run_has_written(mga: Mga, foreign: Path) -> None:
    said = mga("show", foreign)
    assert said.code == 0
    assert "The first text." in said.out
    assert "第三篇" in said.out
    assert "deuxième" not in said.out
    said = mga("show", foreign, "--dropped")
    assert "near_duplicate: 0.9 like foreign.jsonl:1" in said.out
    assert "deuxième" in said.out
    assert "\x1b[2J" not in said.out
    assert "near_duplicate" in mga("status", foreign).out


@pytest.mark.parametrize("folder", ["run", "cleaned"])
@pytest.mark.parametrize("command", ["show", "export"])
def test_a_damaged_file_is_one_sentence(
    mga: Mga, request: pytest.FixtureRequest, tmp_path: Path, folder: str, command: str
) -> None:
    damaged = shutil.copytree(request.getfixturevalue(folder), tmp_path / "damaged")
    victim = damaged / "kept" / "00000.parquet"
    data = victim.read_bytes()
    more = [tmp_path / "out"] if command == "export" else []
    for broken in (data[:-300], b"", data[:4] + bytes(len(data) - 600) + data[-596:]):
        victim.write_bytes(broken)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        assert_refused(mga(command, damaged, *more), "00000.parquet", "cannot be read")


def test_a_foreign_stage_json_is_refused(mga: Mga, tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text("[]")
    for command in ("show", "status"):
        assert_refused(mga(command, tmp_path), "not of mga")
