"""Examples of judged runs: exact prompts, thresholds, every outcome accounted for, no document in both parts."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from teacher import answer, note_in, notes
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mga.config import load_config
from mga.data.store import read_json
from mga.errors import InputError
from mga.expand.pairs import parse_pairs
from mga.packing.tokenizer import Tokenizer as Loaded
from mga.packing.tokenizer import load_tokenizer
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run
from mga.toolmodel.train.data_folder import examples_in, held_out_documents
from mga.toolmodel.train.examples import ExampleSettings, collect, near_duplicates

COUNT = 24


def run_of(folder: Path, engine: str, **more: Any) -> Path:
    """A run over notes, all judged."""
    rows = [{"id": f"note-{i}", "text": note.text} for i, note in enumerate(notes(COUNT))]
    (folder / "notes.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    flags = {"input": [str(folder / "notes.jsonl")], "engine": engine, "judge": "all", **more}
    (folder / "expand.toml").write_text("[cleaning]\nmin_words = 8\nmax_copied = 1.0\n")
    config = load_config(folder / "expand.toml", flags)
    asyncio.run(expand(config, Run(folder / "run"), Progress(Console(stderr=True), quiet=True)))
    return folder / "run"


@pytest.fixture(scope="session")
def run(teacher: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of(tmp_path_factory.mktemp("taught"), teacher)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [note.text for note in notes(50)],
        trainers.BpeTrainer(vocab_size=400, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False),
    )
    made.save(str(path))
    return load_tokenizer(str(path))


SETTINGS = ExampleSettings(held_out=0.25)


def rows(data: Path, stage: str, split: str) -> list[dict[str, Any]]:
    return list(pq.read_table(data / stage / f"{split}.parquet").to_pylist())


def test_examples_are_what_the_teacher_was_asked_and_said(run: Path, tokenizer: Loaded, tmp_path: Path) -> None:
    record = collect([run], tokenizer, tmp_path / "data", SETTINGS, lambda line: None)
    texts = [row for split in ("train", "held_out") for row in rows(tmp_path / "data", "reformulate", split)]
    assert len(texts) == 5 * COUNT
    for row in texts:
        asked, said = (message["content"] for message in row["messages"])
        assert answer(asked) == said  # the same prompt gets the same answer: it is what was sent, to what matters
        assert note_in(row["raw_text"]).year in said
    pairs = [row for split in ("train", "held_out") for row in rows(tmp_path / "data", "pairs", split)]
    assert len(pairs) == COUNT
    for row in pairs:
        asked, said = (message["content"] for message in row["messages"])
        assert parse_pairs(said) == parse_pairs(answer(asked))
        assert list(orjson.loads(said)["texts"][0]) == ["kind_of_text", "readers"]
    assert record["prompts"]["reformulate"] == read_json(run / "run.json")["identity"]["prompts"]["reformulate"]
    assert (tmp_path / "data" / "prompts" / "reformulate_base.md").read_text().strip()
    lengths = tokenizer.encode([texts[0]["messages"][0]["content"]])[1]
    assert texts[0]["prompt_tokens"] == int(lengths[0])


def test_no_document_is_in_both_parts_and_both_stages_agree(run: Path, tokenizer: Loaded, tmp_path: Path) -> None:
    collect([run], tokenizer, tmp_path / "data", SETTINGS, lambda line: None)
    train, held = (
        {row["source_id"] for stage in ("pairs", "reformulate") for row in rows(tmp_path / "data", stage, split)}
        for split in ("train", "held_out")
    )
    assert train and held
    assert not train & held
    assert {document.source_id for document in held_out_documents(tmp_path / "data")} == held
    assert sum(1 for _ in examples_in(tmp_path / "data", "train")) == 6 * len(train)


def test_every_outcome_has_one_fate(teacher: str, tokenizer: Loaded, tmp_path: Path) -> None:
    flawed = run_of(tmp_path, "scripted:?flaws=0.4", pairs=3)
    settings = replace(SETTINGS, reformulations=20, threshold=1.0, reply_tokens=60)
    counts = collect([flawed], tokenizer, tmp_path / "data", settings, lambda line: None)["counts"]
    texts = counts["reformulate"]
    assert texts["train"] + texts["held_out"] + sum(texts["left_out"].values()) == 3 * COUNT
    assert {"low_score", "reply too long"} <= texts["left_out"].keys()
    pairs = counts["pairs"]
    assert pairs["train"] + pairs["held_out"] + sum(pairs["left_out"].values()) == COUNT


def test_what_is_rare_is_not_lost_when_there_are_too_many(run: Path, tokenizer: Loaded, tmp_path: Path) -> None:
    settings = replace(SETTINGS, reformulations=10, held_out=0.0)
    collect([run], tokenizer, tmp_path / "data", settings, lambda line: None)
    genres = [row["genre"] for row in rows(tmp_path / "data", "reformulate", "train")]
    assert sorted(genres.count(genre) for genre in set(genres)) == [2] * 5


def test_near_duplicates_are_found_and_others_are_not() -> None:
    base = " ".join(f"word{i}" for i in range(100))
    texts = [base, base + " more", "wholly other text " * 9, base.replace("word50", "x"), base]
    assert near_duplicates(texts, 0.8) == [0, 0, 2, 0, 0]
    assert near_duplicates(texts, 1.0) == [0, 1, 2, 3, 0]


def test_what_cannot_be_used_is_said(run: Path, teacher: str, tokenizer: Loaded, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the folder of a run"):
        collect([tmp_path], tokenizer, tmp_path / "a", SETTINGS, lambda line: None)
    unjudged = run_of(tmp_path, teacher, judge="none")
    with pytest.raises(InputError, match=r"No example is left of 120 outcomes.*--unjudged"):
        collect([unjudged], tokenizer, tmp_path / "b", SETTINGS, lambda line: None)
    taken = collect([unjudged], tokenizer, tmp_path / "c", replace(SETTINGS, unjudged=True), lambda line: None)
    assert taken["counts"]["reformulate"]["train"] > 50
    with pytest.raises(InputError, match="made otherwise: "):
        collect([run], tokenizer, tmp_path / "c", SETTINGS, lambda line: None)
    record = read_json(unjudged / "run.json")
    record["identity"]["prompts"]["reformulate"] = "reformulate_base@000000000000"
    (unjudged / "run.json").write_bytes(orjson.dumps(record))
    with pytest.raises(InputError, match="was written with the prompt reformulate_base@000000000000"):
        collect([unjudged], tokenizer, tmp_path / "d", SETTINGS, lambda line: None)
