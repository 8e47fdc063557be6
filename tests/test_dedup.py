"""Deduplication of a corpus: what goes is like something that stays, what stays is like nothing else that stays."""

import random
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("numba")

import numpy as np

from mga.cli.dedup import dedup as dedup_command
from mga.cli.dedup import size_of
from mga.curation.duplicates.bands import Groups, shared_buckets
from mga.curation.duplicates.dedup import Rules
from mga.curation.duplicates.dedup import dedup as work
from mga.curation.duplicates.minhash import Shingle, band_hashes, banding_for, shingle_sets, shingles_of
from mga.curation.duplicates.verify import jaccard
from mga.curation.stage import Counts
from mga.data.corpus_files import open_corpus
from mga.data.store import read_json
from mga.errors import InputError

Row = dict[str, Any]
SIMILARITIES = (0.3, 0.5, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
WORDS = [a + b + c for a in "bdfgklmn" for b in ("a", "ei", "o", "u") for c in ("lt", "rn", "sk", "ve", "mp", "gra")]


def prose(random_: random.Random, words: int = 105) -> str:
    return " ".join(random_.choices(WORDS, k=words)).capitalize() + "."


def shingle_set(text: str, n: int = 5) -> set[tuple[str, ...]]:
    words = text.lower().replace(".", "").split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def similarity(one: str, other: str) -> float:
    left, right = shingle_set(one), shingle_set(other)
    return len(left & right) / len(left | right)


def changed(text: str, target: float, random_: random.Random) -> str:
    """The text with its end replaced, as far as leaves it at least that similar in 5-word shingles."""
    words, others = text.split(), random_.choices(WORDS, k=len(text.split()))
    copies = [" ".join(words[:n] + others[n:]) for n in range(5, len(words) + 1)]
    return copies[bisect_left(copies, target, key=lambda copy: similarity(text, copy))]


def parquet(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def jsonl(path: Path, rows: Sequence[Row]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def rows_of(folder: Path) -> list[Row]:
    found: list[Row] = []
    for file in sorted(folder.rglob("*.*")):
        if file.suffix == ".parquet":
            found += pq.read_table(file).to_pylist()
        else:
            found += [orjson.loads(line) for line in file.read_bytes().splitlines()]
    return found


def run(*given: Path, out: Path, **more: Any) -> Counts:
    rules = {name: more.pop(name) for name in list(more) if name in Rules.__dataclass_fields__}
    return work(open_corpus(given), out, Rules(**rules), **more)


def kept(out: Path) -> list[Any]:
    return [row["id"] for row in rows_of(out / "kept")]


def dropped(out: Path) -> dict[Any, tuple[str, str]]:
    return {row["id"]: (row["reason"], row["detail"]) for row in rows_of(out / "dropped")}


@pytest.fixture
def texts() -> Iterator[Callable[[], str]]:
    random_ = random.Random(4)
    yield lambda: prose(random_)


# What is a duplicate


def test_planted_near_duplicates_are_found_and_nothing_else_goes(tmp_path: Path) -> None:
    random_ = random.Random(11)
    rows, planted = [], {}
    for target in SIMILARITIES:
        for i in range(150):
            text = prose(random_)
            copy = changed(text, target, random_)
            rows += [{"id": f"{target}-{i}", "text": text}, {"id": f"copy-{target}-{i}", "text": copy}]
            planted[f"copy-{target}-{i}"] = similarity(text, copy)
    random_.shuffle(rows)
    counts = run(parquet(tmp_path / "in.parquet", rows), out=tmp_path / "out", workers=2)
    gone = {name.removeprefix("copy-") for name in dropped(tmp_path / "out")}
    found: dict[float, list[bool]] = {level: [] for level in SIMILARITIES}
    for name, exact in planted.items():
        pair = name.removeprefix("copy-")
        if exact >= 0.8:
            found[float(pair.split("-")[0])].append(pair in gone)
        else:
            assert pair not in gone, f"{pair} has only {exact:.3f}"
    assert sum(found[0.8]) / len(found[0.8]) >= 0.95
    for level in (0.85, 0.9, 0.95):
        assert len(found[level]) == 150
        assert sum(found[level]) / len(found[level]) >= 0.99
    assert counts.reasons.keys() == {"near_duplicate"}
    assert counts.rows == len(rows) == counts.kept + counts.reasons.total()


def test_every_removed_text_is_as_similar_to_a_kept_one_as_its_detail_says(tmp_path: Path) -> None:
    """Chains, where each text resembles the next and the ends nothing: no one goes for a text that is gone."""
    random_ = random.Random(5)
    rows = []
    for chain in range(40):
        text = prose(random_)
        for link in range(8):
            rows.append({"id": f"{chain}-{link}", "text": text})
            words = text.split()
            text = " ".join(words[5:] + random_.choices(WORDS, k=5))
    random_.shuffle(rows)
    run(parquet(tmp_path / "in.parquet", rows), out=tmp_path / "out")
    text_of = {row["id"]: row["text"] for row in rows}
    stays, gone = set(kept(tmp_path / "out")), dropped(tmp_path / "out")
    assert len(gone) > 40
    for name, (reason, detail) in gone.items():
        other, _, stated = detail.partition(", Jaccard ")
        assert reason == "near_duplicate"
        assert other in stays
        exact = similarity(text_of[name], text_of[other])
        assert exact >= 0.8
        assert f"{exact:.3f}" == stated


def test_a_corpus_without_its_duplicates_has_none(tmp_path: Path, texts: Callable[[], str]) -> None:
    random_ = random.Random(2)
    rows = [
        {"id": f"{i}-{k}", "text": changed(text, 0.85, random_)} for i in range(20) for text in [texts()] for k in "abc"
    ]
    run(parquet(tmp_path / "in.parquet", rows), out=tmp_path / "once")
    again = run(tmp_path / "once", out=tmp_path / "twice")
    assert again.kept == again.rows < len(rows)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Orchard, behind the mill!", "the orchard behind the mill"),
        ("Die Bäume im Garten – blühen.", "die BÄUME im Garten blühen"),
        ("Cafe\u0301 au lait", "café, au lait"),
        ("果园在磨坊后面。", "果园 在磨坊后面"),
        ("ＡＢＣ １２", "abc 12"),
        ("мой", "мои"),
    ],
)
def test_texts_of_the_same_words_are_near_duplicates(tmp_path: Path, one: str, other: str) -> None:
    path = jsonl(tmp_path / "in.jsonl", [{"id": "a", "text": one}, {"id": "b", "text": other}])
    run(path, out=tmp_path / "out")
    assert kept(tmp_path / "out") == ["a"]
    assert dropped(tmp_path / "out") == {"b": ("near_duplicate", "a, Jaccard 1.000")}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cafe\u0301 au lait!", "Café au lait!"),
        ("각하", "\u1100\u1161\u11a8\u1112\u1161"),
        ("ガラス", "カ\u3099ラス"),
        ("\u0958", "\u0915\u093c"),
        (" one\r\n\ttwo\u00a0\u3000three\u2028", "one two three"),
        ("…", "…"),
        ("", " "),
    ],
)
def test_exact_duplicates_are_equal_up_to_white_space_and_unicode_form(tmp_path: Path, one: str, other: str) -> None:
    path = jsonl(tmp_path / "in.jsonl", [{"id": "a", "text": one}, {"id": "b", "text": other}])
    run(path, out=tmp_path / "out")
    assert kept(tmp_path / "out") == ["a"]
    assert dropped(tmp_path / "out")["b"][0] == "exact_duplicate"


def test_symbols_tell_short_texts_apart(tmp_path: Path) -> None:
    texts = ["C", "C#", "C++", "1.5 kg", "1,5 kg", "15 kg", "if (a < b && b > 0) { x = -1; }"]
    texts += ["if (a > b || b < 0) { x = +1; }", "🎉🎉🎉", "😢", "∑ ∫ √ ≠", "x → y", "x y"]
    texts += [f"Compute {a} {op} {b}." for a in range(10, 20) for b in range(20, 30) for op in "+-*/"]
    rows = [{"id": i, "text": text} for i, text in enumerate(texts)]
    assert run(jsonl(tmp_path / "in.jsonl", rows), out=tmp_path / "out").kept == len(texts)


@pytest.mark.parametrize(
    ("one", "other"),
    [("…", "!"), ("a b", "ab"), ("one two", "two one"), ("果园", "园果"), ("a b c d e f", "a b c d e g")],
)
def test_texts_that_only_look_alike_stay(tmp_path: Path, one: str, other: str) -> None:
    path = jsonl(tmp_path / "in.jsonl", [{"id": "a", "text": one}, {"id": "b", "text": other}])
    assert run(path, out=tmp_path / "out").kept == 2


def test_near_duplicates_in_scripts_without_spaces(tmp_path: Path) -> None:
    random_ = random.Random(3)
    text = "".join(chr(random_.randrange(0x4E00, 0x9000)) for _ in range(300))
    near, far = text[:290] + "山川草木日月火水金土", text[:150] + text[:150][::-1]
    rows = [{"id": i, "text": t} for i, t in enumerate((text, near, far))]
    run(parquet(tmp_path / "in.parquet", rows), out=tmp_path / "out")
    assert kept(tmp_path / "out") == [0, 2]


def test_rows_that_cannot_be_used_go_for_that_reason_and_are_no_duplicates(tmp_path: Path) -> None:
    lines = b'{"id":1,"text":null}\n{"id":2,"text":null}\nnot json\nnot json\n'
    good = b'{"id":3,"text":"x y"}\n'
    (tmp_path / "in.jsonl").write_bytes(lines + good + b'{"id":4,"text":"x  y"}\n')
    counts = run(tmp_path / "in.jsonl", out=tmp_path / "out")
    assert (counts.rows, counts.kept) == (6, 1)
    assert counts.reasons == {"text_not_string": 2, "not_json": 2, "exact_duplicate": 1}
    assert (tmp_path / "out/kept/in.jsonl").read_bytes() == good


def test_columns_that_only_later_rows_have_count(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(40))
    rows = [{"id": "first", "text": "no score yet"}, {"id": "worse", "text": text, "score": 1}]
    rows += [{"id": "better", "text": text, "score": "5"}, {"id": 1.0, "text": "more"}, {"id": 2, "text": "more"}]
    run(jsonl(tmp_path / "in.jsonl", rows), out=tmp_path / "out")
    assert kept(tmp_path / "out") == ["first", "better", 1.0]
    assert dropped(tmp_path / "out")[2][1].startswith("1, ")


def test_a_lower_threshold_and_letters_for_shingles(tmp_path: Path, texts: Callable[[], str]) -> None:
    random_ = random.Random(8)
    pairs = [(text, changed(text, 0.65, random_)) for text in (texts() for _ in range(30))]
    rows = [{"id": f"{i}{k}", "text": text} for i, pair in enumerate(pairs) for k, text in zip("ab", pair, strict=True)]
    path = parquet(tmp_path / "in.parquet", rows)
    assert run(path, out=tmp_path / "high").kept == 60
    assert run(path, out=tmp_path / "low", threshold=0.6).kept == 30
    assert run(path, out=tmp_path / "letters", threshold=0.5, shingle=Shingle.parse("characters:8")).kept == 30


def test_a_thousand_texts_in_one_bucket_cost_no_recall(tmp_path: Path, texts: Callable[[], str]) -> None:
    random_ = random.Random(6)
    boilerplate = texts()
    rows = [{"id": i, "text": changed(boilerplate, 0.93, random_)} for i in range(1000)]
    counts = run(parquet(tmp_path / "in.parquet", rows), out=tmp_path / "out")
    shingles = {row["id"]: shingle_set(row["text"]) for row in rows}
    stays = kept(tmp_path / "out")
    assert counts.kept == len(stays) < 20
    for i, one in enumerate(stays):
        for other in stays[:i]:
            assert len(shingles[one] & shingles[other]) / len(shingles[one] | shingles[other]) < 0.8


def test_a_shared_form_is_no_duplicate_and_hides_none(tmp_path: Path) -> None:
    """So many texts of one form share buckets that these are not searched; what is planted is found all the same."""
    random_ = random.Random(17)
    form = random_.choices(WORDS, k=150)
    texts = [" ".join(form + [f"x{random_.randrange(10**6)}" for _ in range(50)]) for _ in range(600)]
    rows = [{"id": f"{i}", "text": text} for i, text in enumerate(texts)]
    rows += [{"id": f"copy-{i}", "text": changed(text, 0.81, random_)} for i, text in enumerate(texts[:100])]
    run(parquet(tmp_path / "in.parquet", rows), out=tmp_path / "out")
    gone = dropped(tmp_path / "out")
    assert [name for name in gone if not name.startswith("copy-")] == []
    assert len(gone) >= 95
    assert all(detail.startswith(f"{name.removeprefix('copy-')}, ") for name, (_, detail) in gone.items())


# Which one stays


def test_the_best_judged_stays_then_the_longer_then_the_first(tmp_path: Path, texts: Callable[[], str]) -> None:
    a, b, c = texts(), texts(), texts()
    rows = [
        {"id": "a-low", "text": a, "score": 3, "expected_score": 3.1},
        {"id": "a-high", "text": a, "score": 3, "expected_score": 3.4},
        {"id": "b-short", "text": b, "score": 4, "expected_score": None},
        {"id": "b-long", "text": f"{b} Sapa", "score": 4, "expected_score": None},
        {"id": "c-first", "text": c, "score": None, "expected_score": None},
        {"id": "c-second", "text": c, "score": None, "expected_score": None},
    ]
    path = parquet(tmp_path / "in.parquet", rows)
    run(path, out=tmp_path / "score")
    assert kept(tmp_path / "score") == ["a-high", "b-long", "c-first"]
    run(path, out=tmp_path / "first", keep="first")
    assert kept(tmp_path / "first") == ["a-low", "b-short", "c-first"]
    run(path, out=tmp_path / "longest", keep="longest")
    assert kept(tmp_path / "longest") == ["a-low", "b-long", "c-first"]


def a_run(folder: Path, sources: Sequence[tuple[str, Sequence[str]]]) -> Path:
    """A run's folder: for each source its original and the texts made from it."""
    rows = [
        {"id": f"{s}-{k}", "text": text, "source_id": f"s{s}", "chunk_id": f"s{s}#0", "score": 5, "raw_text": raw}
        for s, (raw, made) in enumerate(sources)
        for k, text in enumerate(made)
    ]
    parquet(folder / "kept" / "00000.parquet", rows)
    (folder / "run.json").write_text("{}")
    return folder


def test_near_copies_of_any_original_of_the_run_go(tmp_path: Path, texts: Callable[[], str]) -> None:
    random_ = random.Random(9)
    first, second = texts(), texts()
    folder = a_run(
        tmp_path / "run", [(first, [texts(), changed(first, 0.85, random_), second]), (second, [texts()] * 2)]
    )
    counts = run(folder, out=tmp_path / "out")
    gone = dropped(tmp_path / "out")
    assert gone["0-1"][0] == "near_copy_of_original"
    assert gone["0-1"][1].startswith("original s0, Jaccard 0.8")
    assert gone["0-2"] == ("near_copy_of_original", "original s1, Jaccard 1.000")
    assert gone["1-1"] == ("exact_duplicate", "1-0, Jaccard 1.000")
    assert (counts.kept, counts.rows) == (2, 5)
    assert run(folder, out=tmp_path / "alone", originals=False).kept == 4


def test_siblings_go_unless_they_are_to_be_kept(tmp_path: Path, texts: Callable[[], str]) -> None:
    random_ = random.Random(10)
    text, raw = texts(), texts()
    near = changed(text, 0.9, random_)
    folder = a_run(tmp_path / "run", [(raw, [text, text, near]), (texts(), [text, near, texts()])])
    run(folder, out=tmp_path / "removed")
    assert kept(tmp_path / "removed") == ["0-0", "1-2"]
    run(folder, out=tmp_path / "kept", keep_siblings=True)
    assert kept(tmp_path / "kept") == ["0-0", "0-1", "0-2", "1-2"]
    assert dropped(tmp_path / "kept")["1-0"][0] == "exact_duplicate"


def test_another_corpus_is_matched_against_and_left_alone(tmp_path: Path, texts: Callable[[], str]) -> None:
    random_ = random.Random(12)
    same, near, other = texts(), texts(), texts()
    old = jsonl(
        tmp_path / "old.jsonl", [{"id": "x", "text": same}, {"id": "y", "text": near}, {"id": "z", "text": same}]
    )
    before = old.read_bytes()
    rows = [{"id": 1, "text": same}, {"id": 2, "text": changed(near, 0.9, random_)}, {"id": 3, "text": other}]
    path = parquet(tmp_path / "in.parquet", rows)
    run(path, out=tmp_path / "out", against=open_corpus([old]))
    assert kept(tmp_path / "out") == [3]
    gone = dropped(tmp_path / "out")
    assert gone[1] == ("in_other_corpus", "x, Jaccard 1.000")
    assert gone[2][0] == "in_other_corpus"
    assert gone[2][1].startswith("y, ")
    assert old.read_bytes() == before


def test_rows_without_an_id_are_named_by_file_and_row(tmp_path: Path, texts: Callable[[], str]) -> None:
    text = texts()
    parquet(tmp_path / "c" / "one.parquet", [{"text": texts()}, {"text": text}])
    parquet(tmp_path / "c" / "two.parquet", [{"text": text}])
    run(tmp_path / "c", out=tmp_path / "out")
    assert [row["detail"] for row in rows_of(tmp_path / "out/dropped")] == ["c/one.parquet row 1, Jaccard 1.000"]
    assert pq.read_table(tmp_path / "out/kept/c/one.parquet").equals(pq.read_table(tmp_path / "c/one.parquet"))


# How it is carried


def test_threads_memory_and_the_order_of_work_change_nothing(tmp_path: Path) -> None:
    random_ = random.Random(13)
    rows = [
        {"id": f"{i}-{k}", "text": changed(text, 0.82, random_)}
        for i in range(60)
        for text in [prose(random_)]
        for k in "abcd"
    ]
    folder = tmp_path / "in"
    for i in range(4):
        parquet(folder / f"{i}.parquet", rows[i::4])
    for name, workers in ("one", 1), ("three", 3):
        run(folder, out=tmp_path / name, workers=workers)
    assert kept(tmp_path / "one") == kept(tmp_path / "three")
    assert dropped(tmp_path / "one") == dropped(tmp_path / "three")
    assert len(dropped(tmp_path / "one")) > 60


def test_a_band_sorted_by_ranges_has_the_same_buckets() -> None:
    random_ = np.random.default_rng(1)
    hashes = random_.integers(0, 2**64, 400, np.uint64)[random_.integers(0, 400, 3000)]
    places = np.arange(3000, dtype=np.uint32)

    def members(memory: int) -> set[tuple[int, ...]]:
        found: dict[int, list[int]] = {}
        for buckets, texts in shared_buckets(lambda: iter([(hashes, places)]), 3000, memory):
            for bucket, text in zip(buckets.tolist(), texts.tolist(), strict=True):
                found.setdefault(bucket, []).append(text)
        return {tuple(sorted(texts)) for texts in found.values()}

    expected: dict[int, list[int]] = {}
    for place, value in enumerate(hashes.tolist()):
        expected.setdefault(value, []).append(place)
    assert members(1 << 30) == members(8000) == {tuple(texts) for texts in expected.values() if len(texts) > 1}


def test_a_bucket_may_go_on_in_the_next_piece() -> None:
    groups = Groups(5)
    groups.join(np.array([7, 7, 9], np.int64), np.array([4, 2, 1], np.uint32))
    groups.join(np.array([9, 11], np.int64), np.array([3, 0], np.uint32))
    assert groups.roots().tolist() == [0, 1, 2, 1, 2]


def test_sketches_find_pairs_as_often_as_their_formula_says() -> None:
    """Also in short texts, where most bins are empty after the first round."""
    random_ = random.Random(14)
    banding = banding_for(0.8)
    assert banding.recall(0.8) >= 0.98
    assert banding.recall(0.9) >= 0.9999
    for words in (12, 40):
        texts = [random_.choices(WORDS, k=words) for _ in range(1500)]
        copies = [[*text[:-1], "zzzz"] for text in texts]
        exact = (words - 5) / (words - 3)
        both = pa.array([" ".join(text) for text in texts + copies])
        hashes = band_hashes(shingles_of(both, Shingle("word", 5)), banding)
        found = (hashes[:, :1500] == hashes[:, 1500:]).any(axis=0).mean()
        assert found == pytest.approx(banding.recall(exact), abs=0.03)


def test_exact_jaccard_of_sets() -> None:
    random_ = random.Random(15)
    for _ in range(300):
        left, right = (set(random_.choices(range(60), k=random_.randint(1, 50))) for _ in "ab")
        exact = len(left & right) / len(left | right)
        for threshold in (0.5, 0.8, exact):
            found = jaccard(np.array(sorted(left), np.uint64), np.array(sorted(right), np.uint64), max(threshold, 0.01))
            assert found == (exact if exact >= max(threshold, 0.01) else 0)


def test_sets_are_ascending_without_repeats() -> None:
    hashes, offsets = shingle_sets(shingles_of(pa.array(["a b a b a b a b", "c", None]), Shingle("word", 2)))
    assert np.diff(offsets).tolist() == [2, 1, 1]
    assert hashes[0] < hashes[1]


def test_running_twice_changes_nothing(tmp_path: Path, texts: Callable[[], str]) -> None:
    text = texts()
    path = parquet(tmp_path / "in.parquet", [{"id": i, "text": text} for i in range(3)])
    first = run(path, out=tmp_path / "out")
    files = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*.parquet")}
    assert run(path, out=tmp_path / "out") == first
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*.parquet")} == files
    with pytest.raises(InputError, match="threshold"):
        run(path, out=tmp_path / "out", threshold=0.9)


PROGRAM = "import typer; from mga.cli.dedup import dedup; typer.run(dedup)"


def test_killed_and_continued_gives_what_an_uninterrupted_run_gives(tmp_path: Path) -> None:
    random_ = random.Random(16)
    for i in range(6):
        rows = []
        for k in range(100):
            text = prose(random_, 300)
            rows += [{"id": f"{i}-{k}", "text": text}, {"id": f"{i}-{k}-copy", "text": changed(text, 0.9, random_)}]
        parquet(tmp_path / "in" / f"{i}.parquet", rows)
    run(tmp_path / "in", out=tmp_path / "whole")
    out, scratch = tmp_path / "out", tmp_path / "out" / ".scratch"
    kills = 0
    for done in ("signed/texts-00002", "bands/band-03", "judged/0"):
        before = {path: path.stat().st_mtime_ns for path in scratch.glob("*/*")}
        with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "in"), "--out", str(out)]) as process:
            deadline = time.monotonic() + 60
            while not (scratch / done).exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.0005)
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
        finished = {path: time_ns for path, time_ns in before.items() if not path.name.startswith(".")}
        if scratch.exists():
            assert finished == {path: path.stat().st_mtime_ns for path in finished}, "a finished pass was repeated"
    assert kills >= 2
    counts = run(tmp_path / "in", out=out)
    assert counts == run(tmp_path / "in", out=tmp_path / "whole")
    assert kept(out) == kept(tmp_path / "whole")
    assert dropped(out) == dropped(tmp_path / "whole")
    assert not (out / ".scratch").exists()


# The command


@pytest.fixture
def mga() -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(dedup_command)
    return lambda *given: CliRunner().invoke(app, [str(one) for one in given])


def test_the_verb_tells_what_it_did(tmp_path: Path, texts: Callable[[], str], mga: Callable[..., Any]) -> None:
    text = texts()
    path = jsonl(tmp_path / "in.jsonl", [{"id": 1, "text": text}, {"id": 2, "text": text}, {"id": 3, "text": texts()}])
    done = mga(path, "--out", tmp_path / "out", "--only-report")
    assert done.exit_code == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()[:2]] == [["rows", "3"], ["kept", "2"]]
    assert "1   exact_duplicate" in done.stdout
    assert not (tmp_path / "out/kept").exists()
    assert list(dropped(tmp_path / "out")) == [2]
    assert read_json(tmp_path / "out/stage.json")["counts"]["reasons"] == {"exact_duplicate": 1}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--threshold", "0.2"], "--threshold 0.2 is not between 0.5 and 1"),
        (["--shingle", "lines:5"], "--shingle lines:5 is neither"),
        (["--memory", "much"], "--memory much is no size"),
        (["--memory", "10MB"], "give at least 512MB"),
        (["--keep", "score"], "choose --keep longest or --keep first"),
        (["--originals"], "name them with --against"),
        (["--siblings", "keep"], "has no meaning here"),
        (["--text-key", "body"], "no column 'body'"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(
    tmp_path: Path, mga: Callable[..., Any], flags: list[str], sentence: str
) -> None:
    path = parquet(tmp_path / "in.parquet", [{"id": 1, "text": "one"}])
    done = mga(path, "--out", tmp_path / "out", *flags)
    assert isinstance(done.exception, InputError)
    assert sentence in str(done.exception)


def test_more_texts_than_the_memory_holds_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "in.parquet", [{"id": 1, "text": "one"}])
    monkeypatch.setattr("mga.curation.duplicates.dedup.BYTES_A_TEXT", 2 << 30)
    with pytest.raises(InputError, match="1 texts need --memory 2561MB at least"):
        run(path, out=tmp_path / "out")
    assert run(path, out=tmp_path / "out", memory=3 << 30).kept == 1


def test_sizes() -> None:
    assert [size_of(given) for given in ("512MB", "1.5 gb", "1TB")] == [512 << 20, 1536 << 20, 1 << 40]
