"""Packed data: every token is where it should be, from where it says, as often as planned, and nothing held out."""

import signal
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mga.cli.main import app
from mga.data.corpus_files import open_corpus
from mga.errors import InputError
from mga.mixture.recipe import load_recipe
from mga.packing.count import count
from mga.packing.pack import pack
from mga.packing.packed import Packed, open_packed
from mga.packing.rows import best_fit, cut
from mga.packing.tokenizer import load_tokenizer

WORDS = [a + b + c for a in "bdfgklmn" for b in ("a", "ei", "o", "u") for c in ("lt", "rn", "sk", "ve", "mp", "gra")]
END = "<|endoftext|>"
ORIGINALS, REWRITES, SEQUENCE = 300, 4, 64


def prose(random_: np.random.Generator, most: int = 120) -> str:
    return " ".join(random_.choice(WORDS, random_.integers(3, most))).capitalize() + "."


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, a corpus of originals (JSON Lines and Parquet), and rewrites of them."""
    folder = tmp_path_factory.mktemp("budget")
    random_ = np.random.default_rng(3)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([prose(random_) for _ in range(200)], trainer)
    made.save(str(folder / "tokenizer.json"))
    originals = [
        {"id": f"o{i}", "text": prose(random_), "split": "test" if i % 10 == 0 else "train"} for i in range(ORIGINALS)
    ]
    originals[5]["text"] = f"A text that says {END} in its midst, and goes on."
    originals[6]["text"] = ""
    (folder / "originals").mkdir()
    lines = b"".join(orjson.dumps(row) + b"\n" for row in originals[:100])
    (folder / "originals" / "a.jsonl").write_bytes(lines + b"{broken\n")
    pq.write_table(pa.Table.from_pylist(originals[100:]), folder / "originals" / "b.parquet")
    rewrites = [
        {"id": f"r{i}-{k}", "source_id": f"o{i}", "text": prose(random_)}
        for i in range(ORIGINALS)
        for k in range(REWRITES)
    ]
    random_.shuffle(rewrites)  # those of one original lie apart
    pq.write_table(pa.Table.from_pylist(rewrites), folder / "rewrites.parquet")
    (folder / "recipe.toml").write_text(
        f"""
        budget = 100_000
        strategy = "expand"
        tokenizer = "{folder}/tokenizer.json"
        [[source]]
        name = "originals"
        paths = "{folder}/originals"
        [[source]]
        name = "rewrites"
        paths = "{folder}/rewrites.parquet"
        expands = "originals"
        [pack]
        sequence = {SEQUENCE}
        shard_tokens = 20_000
        held_out = {{ share = 0.1 }}
        """,
        encoding="utf-8",
    )
    return folder


def packed(work: Path, out: Path, workers: int = 1, sources: dict[str, Any] | None = None, **changes: Any) -> Path:
    recipe = load_recipe(str(work / "recipe.toml"), changes)
    if sources:
        recipe = recipe.model_copy(update={"source": tuple(s.model_copy(update=sources) for s in recipe.source)})
    pack(recipe, load_tokenizer(str(work / "tokenizer.json")), out, workers, lambda line: None)
    return out


def texts_of(work: Path) -> dict[str, str]:
    rows = (
        pq.read_table(work / "rewrites.parquet").to_pylist()
        + pq.read_table(work / "originals" / "b.parquet").to_pylist()
    )
    rows += [orjson.loads(line) for line in (work / "originals" / "a.jsonl").read_bytes().splitlines()[:-1]]
    return {row["id"]: row["text"] for row in rows}


def checked(work: Path, data: Packed) -> Counter[tuple[str, int]]:
    """Every token is the one that its text has at that place; returns tokens of each text and epoch seen."""
    tokenizer = load_tokenizer(str(work / "tokenizer.json"))
    ids = {name: tokenizer.encode([text])[0] for name, text in texts_of(work).items()}
    tables = {path: pq.read_table(path).to_pylist() for path in data._documents.rglob("*.parquet")}
    seen: Counter[tuple[str, int]] = Counter()
    for sequence in range(len(data)):
        held, documents = data[sequence], data.documents(sequence)
        for piece in data.pieces(sequence):
            source = data._names[piece["source"]]
            row = tables[data._documents / source / f"{piece['part']:06}.parquet"][piece["row"]]
            assert not row["held_out"]
            own = ids[row["id"]]
            span = slice(piece["start"], piece["start"] + piece["length"])
            offset = int(piece["offset"])
            text = held[span][: max(0, len(own) - offset)]
            assert (text == own[offset : offset + len(text)]).all()
            if offset + piece["length"] > len(own) and tokenizer.separator in held[span]:
                assert held[span][-1] == tokenizer.separator
            seen[row["id"], int(piece["epoch"])] += len(text)
        assert (held[documents == -1] == tokenizer.separator).all()
    for (name, _), tokens in seen.items():
        assert tokens == len(ids[name])
    return seen


@pytest.mark.parametrize("packing", ["best-fit", "concatenate"])
@pytest.mark.parametrize("megadocs", [False, True])
def test_every_token_is_from_where_it_says_and_seen_as_planned(
    work: Path, tmp_path: Path, packing: str, megadocs: bool
) -> None:
    out = packed(work, tmp_path / "out", sources={"megadocs": megadocs}, pack={"packing": packing})
    record = orjson.loads((out / "pack.json").read_bytes())
    data = open_packed(out)
    seen = checked(work, data)
    epochs = Counter(name for name, _ in seen)
    times = {name: {epochs[text] for text in epochs if text[0] == name[0]} for name in ("originals", "rewrites")}
    for name, share in record["plan"].items():
        whole = int(share["epochs"])
        assert times[name] <= {whole, whole + 1}
        drawn = record["counts"]["train"]["by_source"][name]
        assert drawn == pytest.approx(share["tokens"], abs=2 * 120 * 4 * (REWRITES if megadocs else 1))
    if packing == "best-fit":
        assert record["counts"]["train"]["padding"] < 0.02 * 100_000
    else:  # only the end of the last sequence of a shard
        assert record["counts"]["train"]["padding"] < SEQUENCE * record["counts"]["train"]["shards"]


def test_nothing_held_out_is_trained_on_not_even_rewritten(work: Path, tmp_path: Path) -> None:
    out = packed(work, tmp_path / "out", pack={"held_out": {"column": "split", "values": ["test"]}})
    held = {f"o{i}" for i in range(0, ORIGINALS, 10)}
    seen: dict[str, set[str]] = {}
    for name in ("train", "validation/originals", "validation/rewrites"):
        data = open_packed(out / name)
        seen[name] = set()
        for sequence in range(len(data)):
            for piece in data.pieces(sequence):
                origin = data.trace(sequence, int(piece["start"]))
                assert origin is not None
                seen[name].add(origin.source_id)
    assert seen["train"].isdisjoint(held)
    assert seen["validation/originals"] == seen["validation/rewrites"] == held


Rows = list[dict[str, Any]]


def as_parquet(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def as_json_lines(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_bytes(b"\n".join(orjson.dumps(row, default=float) for row in rows))
    return path


class Family:
    """Originals 0…39 and two rewrites of each, which name them in any way; which rewrites are trained on, and leak."""

    def __init__(self, work: Path, folder: Path) -> None:
        self.tokenizer, self.folder = work / "tokenizer.json", folder
        self.originals = [{"id": i, "text": f"original {WORDS[i]} {WORDS[i + 40]}"} for i in range(40)]
        self.rewrites = [
            {"id": f"{i}-{j}", "source_id": i, "text": f"rewrite {i} {WORDS[i]} again {j}"}
            for i in range(40)
            for j in range(2)
        ]

    def packed(self, originals: Path, rewrites: Path, **more: Any) -> tuple[set[str], set[str]]:
        """Originals of the rewrites trained on, and those held out."""
        sources = [
            {"name": "originals", "paths": str(originals), **more.get("originals", {})},
            {"name": "rewrites", "paths": str(rewrites), "expands": "originals", **more.get("rewrites", {})},
        ]
        rule = {"share": 0.3, **more.get("held_out", {})}
        values = {"budget": 3000, "strategy": "expand", "source": sources, "pack": {"sequence": 64, "held_out": rule}}
        out = self.folder / "out"
        pack(load_recipe("paper-styles", values), load_tokenizer(str(self.tokenizer)), out, 1, lambda line: None)
        rows = pa.concat_tables([pq.read_table(path) for path in sorted((out / "documents").rglob("*.parquet"))])
        held = {row["source_id"] for row in rows.to_pylist() if row["held_out"] and not row["id"].count("-")}
        data = open_packed(out)
        trained = {data.trace(i, int(p["start"])) for i in range(len(data)) for p in data.pieces(i)}
        return {one.id.split("-")[0] for one in trained if one and one.source == "rewrites"}, held


@pytest.fixture
def family(work: Path, tmp_path: Path) -> Family:
    return Family(work, tmp_path)


@pytest.mark.parametrize("write", [as_parquet, as_json_lines])
@pytest.mark.parametrize("of_rewrites", [int, float, str, Decimal])
@pytest.mark.parametrize("of_originals", [int, float, str, Decimal])
def test_ids_that_mean_the_same_hold_out_the_same(
    family: Family, write: Any, of_originals: Any, of_rewrites: Any
) -> None:
    originals = [{**row, "id": of_originals(row["id"])} for row in family.originals]
    rewrites = [{**row, "source_id": of_rewrites(row["source_id"])} for row in family.rewrites]
    trained, held = family.packed(write(family.folder / "o", originals), write(family.folder / "r", rewrites))
    assert len(held) > 3
    assert trained == {str(i) for i in range(40)} - held


@pytest.mark.parametrize("write", [as_parquet, as_json_lines])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: {k: v for k, v in row.items() if k != "source_id"}, "80 without an id there"),
        (lambda row: {**row, "source_id": None if row["id"] == "7-1" else row["source_id"]}, "1 without an id there"),
        (
            lambda row: {**row, "source_id": float("nan") if row["id"] == "7-1" else float(row["source_id"])},
            "1 without an id",
        ),
        (lambda row: {**row, "source_id": f"doc {row['source_id']}"}, "80 with one that no document of originals has"),
        (
            lambda row: {**row, "source_id": row["source_id"] + (row["id"] == "39-1")},
            "1 with one that no document of originals",
        ),
    ],
)
def test_rewrites_of_unknown_sources_are_refused_where_something_is_held_out(
    family: Family, write: Any, change: Any, said: str
) -> None:
    originals = write(family.folder / "o", family.originals)
    rewrites = write(family.folder / "r", [change(row) for row in family.rewrites])
    with pytest.raises(InputError, match=said) as refused:
        family.packed(originals, rewrites)
    assert "column 'source_id'" in str(refused.value)
    assert not (family.folder / "out").exists()
    if said.startswith("80"):
        with pytest.raises(InputError, match="Source rewrites has no text to train on"):
            family.packed(originals, rewrites, held_out={"unknown": "leave-out"})
        return
    trained, held = family.packed(originals, rewrites, held_out={"unknown": "leave-out"})
    assert trained == {str(i) for i in range(40)} - held


def test_with_nothing_held_out_rewrites_may_be_of_anything(family: Family) -> None:
    loose = [{"id": row["id"], "text": row["text"]} for row in family.rewrites]
    places = as_parquet(family.folder / "o", family.originals), as_json_lines(family.folder / "r", loose)
    assert family.packed(*places, held_out={"share": 0.0}) == ({str(i) for i in range(40)}, set())


def test_a_first_row_without_a_source_hides_none(family: Family) -> None:
    rewrites = [{"id": "loose", "text": "a text of nobody"}, *family.rewrites]
    places = as_json_lines(family.folder / "o", family.originals), as_json_lines(family.folder / "r", rewrites)
    with pytest.raises(InputError, match=r"1 without an id there .*the first, row 1 of r.jsonl"):
        family.packed(*places)
    trained, held = family.packed(*places, held_out={"unknown": "leave-out"})
    assert trained == {str(i) for i in range(40)} - held


@pytest.mark.parametrize("write", [as_parquet, as_json_lines])
def test_held_out_by_a_column(family: Family, write: Any) -> None:
    originals = [{**row, "meta": {"fold": row["id"] % 4}} for row in family.originals]
    places = write(family.folder / "o", originals), write(family.folder / "r", family.rewrites)
    rule = {"share": 0.0, "column": "meta.fold", "values": "3"}
    with pytest.raises(InputError, match=r"No original has 5 in the column 'meta.fold' .*; most have 0, 1, 2, 3"):
        family.packed(*places, held_out={**rule, "values": "5"})
    trained, held = family.packed(*places, held_out=rule)
    assert held == {str(i) for i in range(3, 40, 4)}
    assert trained == {str(i) for i in range(40)} - held


def test_megadocs_stitch_the_rewrites_of_one_source_in_another_order_each_epoch(work: Path, tmp_path: Path) -> None:
    out = packed(work, tmp_path / "out", sources={"megadocs": True}, pack={"sequence": 4096}, budget=300_000)
    data = open_packed(out)
    documents: dict[tuple[str, int], list[str]] = {}
    for sequence in range(len(data)):
        numbers = data.documents(sequence)
        groups: dict[int, list[Any]] = {}
        for piece in data.pieces(sequence):
            origin = data.trace(sequence, int(piece["start"]))
            assert origin is not None
            if origin.source == "rewrites":
                groups.setdefault(int(numbers[piece["start"]]), []).append(origin)
        for group in groups.values():
            assert len({origin.source_id for origin in group}) == 1
            documents.setdefault((group[0].source_id, group[0].epoch), []).extend(origin.id for origin in group)
    assert all(len(set(ids)) == REWRITES for ids in documents.values())
    orders = [tuple(name.split("-")[1] for name in ids) for ids in documents.values()]
    assert len(set(orders)) > 10


@pytest.mark.parametrize("sequence", [8, 31, 64])
def test_a_megadoc_is_one_document_for_other_readers(work: Path, tmp_path: Path, sequence: int) -> None:
    """Also where one of its texts begins with a sequence, which short sequences make likely."""
    pack_ = {"sequence": sequence, "packing": "concatenate", "shard_tokens": 1 << 20}
    out = packed(work, tmp_path / "out", sources={"megadocs": True}, pack=pack_)
    counts = orjson.loads((out / "pack.json").read_bytes())["counts"]["train"]
    flat, ends = np.fromfile(out / "train" / "00000.bin", "<u2"), np.fromfile(out / "train" / "00000.ds.index", "<u8")
    assert np.frombuffer((out / "train" / "00000.idx").read_bytes(), "<u8", 1, 18)[0] == len(ends)
    assert len(ends) == counts["documents"]
    separator = load_tokenizer(str(work / "tokenizer.json")).separator
    padding = counts["padding"]
    assert np.flatnonzero(flat[: len(flat) - padding] == separator).tolist() == [
        *(ends[:-1] - 1),
        len(flat) - padding - 1,
    ]
    crossed = [int(end) for end in range(sequence, counts["tokens"], sequence) if flat[end - 1] != separator]
    assert counts["cut"] == len(crossed)


def test_positions_begin_anew_with_each_document(work: Path, tmp_path: Path) -> None:
    data = open_packed(packed(work, tmp_path / "out"))
    several = 0
    for sequence in range(len(data)):
        positions, pieces = data.positions(sequence), data.pieces(sequence)
        for piece in pieces:
            assert positions[piece["start"] : piece["start"] + piece["length"]].tolist() == list(range(piece["length"]))
        several += len(pieces) > 1
    assert several


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def test_the_same_on_any_number_of_cores_and_when_repeated(work: Path, tmp_path: Path) -> None:
    one = packed(work, tmp_path / "one")
    two = packed(work, tmp_path / "two", workers=2)
    assert files_of(one) == files_of(two)
    before = {path: path.stat().st_mtime_ns for path in one.rglob("*")}
    packed(work, one)
    assert {p: t for p, t in before.items() if p.name != ".lock"} == {
        p: p.stat().st_mtime_ns for p in before if p.name != ".lock"
    }
    assert files_of(packed(work, tmp_path / "other", pack={"seed": 1})) != files_of(one)
    with pytest.raises(InputError, match=r"made otherwise: recipe.pack.seed \(0 → 1\)"):
        packed(work, one, pack={"seed": 1})


def test_killed_and_continued_is_as_if_never_stopped(work: Path, tmp_path: Path) -> None:
    whole = packed(work, tmp_path / "whole", budget=3_000_000)
    command = [sys.executable, "-m", "mga", "budget", "pack", str(work / "recipe.toml"), "--budget", "3M"]
    command += ["--out", str(tmp_path / "killed"), "--workers", "1"]
    kills = 0
    for shards in (1, 40, 90):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list((tmp_path / "killed" / "train").glob("*.json"))) < shards:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills
    with pytest.raises(InputError, match="is not finished"):
        open_packed(tmp_path / "killed")
    subprocess.run(command, check=True, capture_output=True)
    assert files_of(tmp_path / "killed") == files_of(whole)


def test_megatrons_and_datatroves_files_say_what_ours_says(work: Path, tmp_path: Path) -> None:
    """Their documented layouts, read by hand; test_budget_readers.py opens the files with their own readers."""
    for packing in ("best-fit", "concatenate"):
        out = packed(work, tmp_path / packing, pack={"packing": packing})
        data, train = open_packed(out), out / "train"
        index = (train / "00000.idx").read_bytes()
        assert index[:9] == b"MMIDIDX\x00\x00"
        assert (np.frombuffer(index, "<u8", 1, 9)[0], index[17]) == (1, 8)
        count, documents = np.frombuffer(index, "<u8", 2, 18).tolist()
        sizes = np.frombuffer(index, "<i4", count, 34)
        places = np.frombuffer(index, "<i8", count, 34 + 4 * count)
        assert documents == count + 1
        assert (places == np.append(0, np.cumsum(sizes)[:-1]) * 2).all()
        flat = np.fromfile(train / "00000.bin", "<u2")
        assert sizes.sum() == len(flat)
        assert (train / "00000.ds").stat().st_ino == (train / "00000.bin").stat().st_ino
        ends = np.fromfile(train / "00000.ds.index", "<u8")
        assert ends[-1] == len(flat)
        separator = load_tokenizer(str(work / "tokenizer.json")).separator
        if packing == "concatenate":
            assert (flat[ends - 1] == separator).all()
            assert (sizes == np.diff(np.append(0, ends))).all()
        else:
            assert (sizes == SEQUENCE).all()
            whole = [data.documents(i) for i in range(count)]
            starts = {i * SEQUENCE + j for i, d in enumerate(whole) for j in np.flatnonzero(np.diff(d, prepend=-2) > 0)}
            assert starts <= {0, *ends.tolist()}


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(8, 128))
def test_best_fit_cuts_only_what_is_too_long_and_overfills_nothing(lengths: list[int], sequence: int) -> None:
    starts, pieces = cut(np.array(lengths, np.int64), sequence)
    assert len(pieces) == sum(-(-length // sequence) for length in lengths)
    assert pieces.sum() == sum(lengths)
    assert (starts == np.cumsum(pieces) - pieces).all()
    where, count = best_fit(pieces, sequence)
    filled = np.bincount(where, pieces, count)
    assert (filled <= sequence).all()
    assert (filled > 0).all()
    # As plain best-fit decreasing, written the slow way, does.
    room: list[int] = []
    for length in sorted(pieces.tolist(), reverse=True):
        fits = [i for i, left in enumerate(room) if left >= length]
        if fits:
            room[min(fits, key=lambda i: room[i])] -= length
        else:
            room.append(sequence - length)
    assert sorted(sequence - filled) == sorted(room)


def test_counting_counts_what_the_library_counts(work: Path) -> None:
    tokenizer = load_tokenizer(str(work / "tokenizer.json"))
    found = count(open_corpus([work / "originals"]), tokenizer, 2)
    plain = Tokenizer.from_file(str(work / "tokenizer.json"))
    plain.encode_special_tokens = True
    texts = [text for name, text in texts_of(work).items() if name.startswith("o")]
    assert found.tokens == sum(len(plain.encode(text, add_special_tokens=False).ids) for text in texts)
    assert (found.documents, found.empty) == (ORIGINALS + 1, 2)  # a broken line, an empty text
    assert found.bytes == sum(len(text.encode()) for text in texts)


def test_a_process_that_dies_at_its_start_ends_the_work_in_a_sentence(work: Path, tmp_path: Path) -> None:
    """The tokenizer is larger than a pipe holds: what a dead process has not read must not be waited for."""
    large, script = tmp_path / "tokenizer.json", tmp_path / "unguarded.py"
    large.write_text((work / "tokenizer.json").read_text() + " " * 200_000)
    script.write_text(
        "from mga.packing.count import count\n"
        "from mga.packing.tokenizer import load_tokenizer\n"
        "from mga.data.corpus_files import open_corpus\n"
        f"count(open_corpus([{str(work / 'originals')!r}]), load_tokenizer({str(large)!r}), 2)\n"  # of any process
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "A process that tokenized was ended" in done.stderr


def test_a_separators_name_in_a_text_is_text(work: Path) -> None:
    tokenizer = load_tokenizer(str(work / "tokenizer.json"))
    ids, _ = tokenizer.encode([f"say {END} again"])
    assert tokenizer.separator not in ids
    assert tokenizer.decode(ids.tolist()) == f"say {END} again"


def test_the_commands_and_what_they_refuse(work: Path, tmp_path: Path) -> None:
    run = CliRunner()
    out = tmp_path / "out"
    done = run.invoke(app, ["budget", "pack", str(work / "recipe.toml"), "--out", str(out), "--workers", "1"])
    assert done.exit_code == 0, done.exception
    assert "sequences of 64 tokens" in done.output
    shown = run.invoke(app, ["budget", "trace", str(out), "0", "0"])
    assert "source_id 'o" in shown.output
    counted = run.invoke(
        app, ["budget", "count", str(work / "originals"), "--tokenizer", str(work / "tokenizer.json"), "--workers", "1"]
    )
    assert "documents" in counted.output
    for arguments, complaint in [
        (["trace", str(out), "999999", "0"], "There are sequences 0 to"),
        (["trace", str(out), "0", "64"], "positions 0 to 63"),
        (["trace", str(work), "0", "0"], "is not part of a folder that mga budget pack has written"),
        (["pack", str(work / "recipe.toml"), "--out", str(work)], "is not empty"),
        (["pack", "paper-styles", "--out", str(tmp_path / "x"), "--tokenizer", str(work)], "has no `paths`"),
        (["count", str(work / "originals"), "--tokenizer", "nowhere"], "There is no tokenizer nowhere"),
        (["count", str(work / "originals"), "--tokenizer", str(work / "recipe.toml")], "is no tokenizer.json"),
    ]:
        refused = run.invoke(app, ["budget", *arguments])
        assert isinstance(refused.exception, InputError), refused.output
        assert complaint in str(refused.exception)
