"""The published layout, which mga export writes, is read by all commands under our own names for its columns."""

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mga.cli.main import app
from mga.data.columns import ABSENT, PUBLISHED, names_of, value_at
from mga.data.corpus_files import open_corpus
from mga.data.reading import count_rows, read
from mga.data.schema import columns_in
from mga.records import Document
from mga.runs.export import MGACORPUS_SCHEMA, SCHEMAS

TOPICS = ["lighthouses of the northern coast", "bees and the orchards they visit", "a clockmaker's long winter"]
OURS = [
    {
        "id": f"r{i}-{j}",
        "text": f"Reformulation {j} tells about {topic}, at length and in its own words, number {i}{j}.",
        "source_id": f"s{i}",
        "chunk_id": f"s{i}#0",
        "genre": f"genre {j}",
        "audience": f"audience {j}",
        "score": 3 + j,
        "model": "m",
        "prompt": "p",
        "run": "u",
        "raw_text": f"The original about {topic}, which has quite a few words of its own to say.",
    }
    for i, topic in enumerate(TOPICS)
    for j in range(2)
]
PUBLISHED_ROWS = [SCHEMAS["mgacorpus"][1](row) for row in OURS]
"""What mga export makes of a run's rows."""


def as_parquet(folder: Path) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(PUBLISHED_ROWS, MGACORPUS_SCHEMA), path)
    return path


def as_json_lines(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(b"\n".join(map(orjson.dumps, PUBLISHED_ROWS)))
    return path


@pytest.mark.parametrize("write", [as_parquet, as_json_lines])
def test_the_published_layout_has_our_names(tmp_path: Path, write: Any) -> None:
    corpus = open_corpus([write(tmp_path)])
    assert set(PUBLISHED) <= set(corpus.columns(corpus.files[0]))
    assert set(PUBLISHED) <= set(columns_in(corpus.files[0], ["text"])) | {"source_id"}
    (batch,) = corpus.batches(corpus.files[0], [*PUBLISHED])
    for name in PUBLISHED:
        assert batch.column(name).to_pylist() == [row[name] for row in OURS], name
    documents = [one for one in read(corpus.files, id_key="meta.chunk_id") if isinstance(one, Document)]
    assert [(one.source_id, one.text) for one in documents] == [(row["chunk_id"], row["text"]) for row in OURS]
    assert count_rows(corpus.files) == [len(OURS)]


def test_whole_rows_have_our_names_beside_their_own(tmp_path: Path) -> None:
    corpus = open_corpus([as_parquet(tmp_path)])
    (batch,) = corpus.batches(corpus.files[0])
    assert batch.rows.schema.names == ["meta", "content_split"]
    assert batch.column("source_id").to_pylist() == [row["source_id"] for row in OURS]
    assert batch.column("nothing").to_pylist() == [None] * len(OURS)


def test_our_names_stand_for_nothing_else() -> None:
    assert value_at({"meta": {"docid": "a"}, "content": "b"}, "source_id") is ABSENT
    assert value_at({"meta": {"docid": "a"}, "content_split": "b", "text": "c"}, "text") == "c"
    assert value_at({"outer": {"meta": {"docid": "a"}, "content_split": "b"}}, "outer.source_id") is ABSENT
    assert "source_id" not in names_of(pa.schema([("meta", pa.struct([("docid", pa.string())]))]))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    rows = [*PUBLISHED_ROWS, {**PUBLISHED_ROWS[0], "meta": {**PUBLISHED_ROWS[0]["meta"], "docid": "s9"}}]
    pq.write_table(pa.Table.from_pylist(rows, MGACORPUS_SCHEMA), folder / "part.parquet")
    (folder / "bench.jsonl").write_bytes(orjson.dumps({"question": OURS[3]["text"]}))
    return folder


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["dedup", "CORPUS", "--out", "OUT"], "kept"),
        (["decontaminate", "CORPUS", "--against", "BENCH", "--out", "OUT"], "contaminated"),
        (["diversity", "CORPUS"], "genre"),
        (["boilerplate", "CORPUS", "--out", "OUT"], "texts"),
        (["budget", "count", "CORPUS", "--tokenizer", "TOKENIZER", "--workers", "1"], "(0 without text)"),
    ],
)
def test_commands_on_corpora_read_the_published_layout(
    published: Path, tmp_path: Path, command: list[str], said: str
) -> None:
    places = {"CORPUS": published / "part.parquet", "OUT": tmp_path / "out", "BENCH": published / "bench.jsonl"}
    places["TOKENIZER"] = tokenizer_in(tmp_path)
    done = CliRunner().invoke(app, [str(places.get(word, word)) for word in command])
    assert done.exit_code == 0, (done.output, done.exception)
    assert said in done.output
    if command[0] in ("dedup", "decontaminate"):
        removed = pq.read_table(next((tmp_path / "out" / "dropped").rglob("*.parquet"))).to_pylist()
        expected = [OURS[0]] if command[0] == "dedup" else OURS[2:4]  # rewrites of one text share its benchmark item
        assert [row["content_split"] for row in removed] == [row["text"] for row in expected]


def test_rewrites_in_the_published_layout_are_held_out_with_their_originals(tmp_path: Path) -> None:
    from mga.mixture.recipe import load_recipe
    from mga.packing.pack import pack
    from mga.packing.tokenizer import load_tokenizer

    rows = [{**row, "source_id": f"s{i}", "chunk_id": f"s{i}#0"} for i in range(30) for row in OURS[:2]]
    folder = tmp_path / "export"
    folder.mkdir()
    pq.write_table(
        pa.Table.from_pylist([SCHEMAS["mgacorpus"][1](row) for row in rows], MGACORPUS_SCHEMA), folder / "a.parquet"
    )
    originals = tmp_path / "originals.jsonl"
    originals.write_bytes(b"\n".join(orjson.dumps({"id": f"s{i}", "text": f"original {i}"}) for i in range(30)))
    sources = [
        {"name": "originals", "paths": str(originals)},
        {"name": "rewrites", "paths": str(folder), "expands": "originals"},
    ]
    settings = {"sequence": 64, "held_out": {"share": 0.3}}
    recipe = load_recipe("paper-styles", {"budget": 900, "strategy": "expand", "source": sources, "pack": settings})
    pack(recipe, load_tokenizer(str(tokenizer_in(tmp_path))), tmp_path / "out", 1, lambda line: None)
    held: dict[str, set[str]] = {}
    for name in ("originals", "rewrites"):
        (table,) = (tmp_path / "out" / "documents" / name).glob("*.parquet")
        held[name] = {row["source_id"] for row in pq.read_table(table).to_pylist() if row["held_out"]}
    assert held["originals"] == held["rewrites"]
    assert 3 < len(held["originals"]) < 20


def tokenizer_in(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: i for i, token in enumerate([*alphabet, "<|endoftext|>"])}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"
