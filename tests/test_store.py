"""Files that exist whole or not at all."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mga.data import store
from mga.data.outcomes import DROPPED_SCHEMA, KEPT_SCHEMA, outcome_row, read_rows, shard_files, write_rows
from mga.data.store import create, read_json, sweep, write_atomically, write_json
from mga.errors import InputError, StopError
from mga.records import Document, Drop, Outcome, Pair, Reformulation, Verdict


@pytest.fixture
def kept(orchard: Document) -> Outcome:
    text = Reformulation("The text itself.", 7, "Here is the rewrite: ", "\n\nI hope this helps!")
    return Outcome(orchard, 0, "kept", Pair("fable", "pilots"), text, Verdict(4, "close", 3.75), cuts=("opening",))


def rows(outcome: Outcome, n: int = 1) -> list[dict[str, object]]:
    return [outcome_row(outcome, "model", "base@0", "run")] * n


def test_a_kept_row_holds_text_lineage_and_the_whole_reply(kept: Outcome) -> None:
    (row,) = rows(kept)
    assert row["text"] == "The text itself."
    assert row["stripped_prefix"] + row["text"] + row["stripped_suffix"] == (
        "Here is the rewrite: The text itself.\n\nI hope this helps!"
    )
    assert (row["source_id"], row["chunk_id"], row["raw_text"]) == ("orchard", "orchard#0", kept.document.text)
    assert (row["genre"], row["audience"], row["score"], row["expected_score"]) == ("fable", "pilots", 4, 3.75)
    assert (row["model"], row["prompt"], row["run"]) == ("model", "base@0", "run")


def test_a_dropped_row_holds_its_reason_and_what_was_written(kept: Outcome) -> None:
    (row,) = rows(kept.dropped(Drop("low_score", "score 2 is below 3")))
    assert (row["reason"], row["detail"], row["text"]) == ("low_score", "score 2 is below 3", "The text itself.")
    assert (row["stripped_prefix"], row["stripped_suffix"]) == ("Here is the rewrite: ", "\n\nI hope this helps!")


def test_an_outcome_without_anything_written_is_a_row_of_nulls(orchard: Document) -> None:
    (row,) = rows(Outcome(orchard, 3, "failed", reason="engine_gave_up", detail="busy"))
    empty = (
        "text",
        "genre",
        "audience",
        "score",
        "score_reason",
        "expected_score",
        "n_tokens",
        "stripped_prefix",
        "stripped_suffix",
    )
    assert [row[name] for name in empty] == [None] * len(empty)
    assert row.keys() == set(DROPPED_SCHEMA.names)


def test_rows_come_back_as_they_were_written(tmp_path: Path, kept: Outcome) -> None:
    write_rows(tmp_path / "00001.parquet", rows(kept, 2), DROPPED_SCHEMA)
    write_rows(tmp_path / "00000.parquet", rows(kept), DROPPED_SCHEMA)
    assert list(read_rows(tmp_path)) == rows(kept, 3)
    assert [file.name for file in shard_files(tmp_path)] == ["00000.parquet", "00001.parquet"]
    assert list(read_rows(tmp_path, ["score"])) == [{"score": 4}] * 3


@pytest.mark.parametrize(
    "text", ["nul \x00", "two\r\nlines\u2028", "word " * 50_000, "<|im_end|> {audience}", "👩‍👩‍👧"]
)
def test_odd_texts_are_stored_unchanged(tmp_path: Path, text: str) -> None:
    outcome = Outcome(Document(text[:50], text, "0:0"), 0, "kept", Pair(text, text), Reformulation(text, 1, text, text))
    write_rows(tmp_path / "0.parquet", rows(outcome), KEPT_SCHEMA)
    (row,) = read_rows(tmp_path)
    assert [row[name] for name in ("text", "raw_text", "genre", "audience", "stripped_prefix", "stripped_suffix")] == [
        text
    ] * 6


def test_equal_rows_are_equal_bytes(tmp_path: Path, kept: Outcome) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / name, rows(kept, 50), KEPT_SCHEMA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pq.read_schema(tmp_path / "a").equals(KEPT_SCHEMA)


def test_without_rows_there_is_no_file_not_even_an_older_one(tmp_path: Path, kept: Outcome) -> None:
    path = tmp_path / "0.parquet"
    write_rows(path, rows(kept), KEPT_SCHEMA)
    write_rows(path, [], KEPT_SCHEMA)
    assert not path.exists()
    write_rows(path, [], KEPT_SCHEMA)
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_the_file_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    write_atomically(path, b"old and longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_beside_a_file_is_no_shard_and_is_written_over(tmp_path: Path) -> None:
    half = tmp_path / ".0.parquet.writing"
    half.write_bytes(b"half a file")
    assert shard_files(tmp_path) == []
    write_atomically(tmp_path / "0.parquet", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["0.parquet"]


@pytest.mark.parametrize("write", [write_atomically, create])
def test_a_file_that_two_write_at_once_is_whole(tmp_path: Path, write: Callable[[Path, bytes], object]) -> None:
    """The second comes while the first is in the middle, and then somebody clears up."""
    path = tmp_path / "README.md"
    with store._beside(path) as (beside, opened):
        os.write(opened, b"half of the first")
        write(path, b"the second")
        sweep(tmp_path)
        assert beside.read_bytes() == b"half of the first"
        beside.replace(path)
    assert path.read_bytes() == b"half of the first"
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_of_one_file_all_end_well(tmp_path: Path) -> None:
    path = tmp_path / "workers" / "README.md"

    def write(worker: int) -> None:
        for _ in range(40):
            write_atomically(path, bytes([65 + worker]) * 9_000)
            sweep(path.parent)
            assert len(set(path.read_bytes())) == 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert list(path.parent.iterdir()) == [path]


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    for name in (".README.md.writing", ".stats.json.0a1b2c3d.writing"):
        (tmp_path / name).write_bytes(b"half")
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_stops_the_run_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "below" / "0.parquet"
    with pytest.raises(StopError, match=r"Cannot write .*0\.parquet: Not a directory"):
        write_atomically(path, b"data")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_stops_the_run_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "0.parquet"
    path.write_bytes(b"old")
    (tmp_path / ".0.parquet.writing").symlink_to("/dev/full")
    with pytest.raises(StopError, match="No space left"):
        write_atomically(path, b"x" * 100_000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_equal_values_are_equal_json_whatever_the_order_of_their_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None], "a": "ä"})
    write_json(tmp_path / "b.json", {"a": "ä", "b": [1, None]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": "ä", "b": [1, None]}


def test_json_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Cannot read .*none\.json"):
        read_json(tmp_path / "none.json")
    (tmp_path / "half.json").write_bytes(b'{"a": ')
    with pytest.raises(InputError, match=r"half\.json is damaged"):
        read_json(tmp_path / "half.json")
