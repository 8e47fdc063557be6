"""Diversity: labels and their kinds, what texts share, spread, signs of collapse, and the command."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from mga.cli.diversity import diversity
from mga.curation.diversity import held
from mga.curation.diversity.labels import Kinds, kinds_of
from mga.curation.diversity.measures import measure
from mga.curation.diversity.overlap import (
    new_share,
    shared_grams,
    stems_of,
    token_estimates,
)
from mga.curation.diversity.spread import (
    HLL_REGISTERS,
    compression_ratio,
    distinct_estimate,
    effective_numbers,
    gram_registers,
    vendi_score,
)
from mga.data.corpus_files import open_corpus
from mga.errors import InputError
from mga.text import words
from mga.text.tokens import ngrams_of, tokens_of

APP = typer.Typer()
APP.command()(diversity)

SYLLABLES = [a + b for a in ("b", "d", "f", "gr", "l", "m", "pl", "r", "st", "v") for b in ("a", "e", "i", "o", "u")]
COMMON = ["the", "of", "and", "to", "in", "that", "was", "his", "he", "it", "with", "is", "for", "as", "had", "not"]
ADJECTIVES = ["retired", "young", "curious", "sceptical", "busy", "anxious", "proud", "elderly", "devout", "lonely"]
TRADES = [
    *("fisherman", "nurse", "engineer", "beekeeper", "teacher", "farmer", "driver", "historian", "violinist"),
    *("chess player", "paramedic", "carpenter", "astronomer", "analyst", "chef", "librarian", "runner", "sculptor"),
]
HABITS = [
    *("distrusts science", "collects stamps", "likes short sentences", "prefers numbers", "fears flying"),
    *("reads at night", "wants practical advice", "loves maps", "enjoys gossip", "keeps a diary", "quotes proverbs"),
]
FRAMES = ["A {} {} who {} and {}", "a {} {} that {}; {}", "The {} {} who {}, and {}.", "{} {}, one who {}, {}"]

ORDINARY = [
    "one of the men who is called by a name that is very much in use, and for that",
    "in the house with the old people, who is it that comes and is called today",
    "a very good day for one of us is much like the day in spring",
] * 20 + [*ADJECTIVES, *TRADES, *HABITS]

Persona = tuple[str, str, str, str]


def word(rng: random.Random) -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.randint(2, 4)))


def prose(rng: random.Random, count: int, lexicon: list[str]) -> str:
    return " ".join(rng.choice(COMMON) if rng.random() < 0.5 else rng.choice(lexicon) for _ in range(count))


def persona(rng: random.Random) -> Persona:
    first, second = rng.sample(HABITS, 2)
    return rng.choice(ADJECTIVES), rng.choice(TRADES), first, second


def said(who: Persona, rng: random.Random) -> str:
    ending = rng.choice(["", " today", " in spring", f" and is called {word(rng)}", " very much"])
    text = rng.choice(FRAMES).format(*who) + ending
    return text.upper() if rng.random() < 0.1 else text


def run_of(kind: str, documents: int = 200) -> list[dict[str, Any]]:
    """Rows of a synthetic run: `diverse`; `collapsed` onto a few pairs and one template; `declining` from one to
    the other."""
    rng = random.Random(5)
    lexicon = [word(rng) for _ in range(3000)]
    few = [persona(rng) for _ in range(4)]
    rows = []
    for number in range(documents):
        own = rng.sample(lexicon, 150)
        raw = prose(rng, 250, own)
        collapsed = kind == "collapsed" or (kind == "declining" and rng.random() < number / documents * 1.3 - 0.1)
        for sibling in range(5):
            text = prose(rng, 160, own + rng.sample(lexicon, 30))
            genre = f"{word(rng)} {word(rng)} story"
            audience = said(persona(rng), rng) + f" with {word(rng)} {word(rng)}"
            if collapsed:
                opening = "imagine dear reader that you sit in a quiet room while somebody tells you about this matter "
                text = opening * 2 + prose(random.Random(number), 40, own) + " " + opening * 2
                genre, audience = "bedtime story", said(few[rng.randrange(4)], rng)
            rows.append(
                {
                    "id": f"{number}-{sibling}",
                    "text": text,
                    "source_id": f"s{number}",
                    "chunk_id": f"c{number}",
                    "genre": genre,
                    "audience": audience,
                    "model": f"model-{number % 2}",
                    "raw_text": raw,
                }
            )
    return rows


def write_run(folder: Path, rows: list[dict[str, Any]], files: int = 2) -> Path:
    (folder / "kept").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    size = -(-len(rows) // files)
    for number in range(files):
        table = pa.Table.from_pylist(rows[number * size :][:size])
        pq.write_table(table, folder / "kept" / f"{number:05}.parquet", row_group_size=137)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {kind: write_run(folder / kind, run_of(kind)) for kind in ("diverse", "collapsed", "declining")}


@pytest.fixture(scope="module")
def figures(runs: dict[str, Path]) -> dict[str, dict[str, Any]]:
    return {kind: measure(open_corpus([run]), workers=2) for kind, run in runs.items()}


def signs(figures: dict[str, Any]) -> set[str]:
    return {sign["name"] for sign in figures["warnings"]}


def array(*texts: str) -> pa.Array:
    return pa.array(texts, pa.large_string())


def new(original: str, rewrite: str, n: int) -> float:
    grams = [ngrams_of(tokens_of(array(text)), n) for text in (original, rewrite)]
    return float(new_share(grams[0], np.zeros(1, np.int64), grams[1])[0])


def kinds(labels: list[str], ordinary: list[str] | None = None) -> Kinds:
    texts = array(*(ordinary or ORDINARY))
    return kinds_of(labels, np.ones(len(labels), np.int64), stems_of(texts, tokens_of(texts)))


def test_keyword_coverage_is_that_of_words_on_an_even_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    originals = array("The harvest filled ninety barrels; the cider press ran.", "蜜蜂住在蜂箱里，春天采花蜜。")
    rewrites = array("They harvested barrels of cider.", "春天一到，蜜蜂就去采花蜜。", "No original.", "Frost fell.")
    of, known = np.array([0, 1, 0, 0]), np.array([True, True, False, True])
    found = held._coverage(rewrites, originals, of, known)
    expected = [words.keyword_coverage(originals[int(of[i])].as_py(), rewrites[i].as_py()) for i in (0, 1, 3)]
    assert found[[0, 1, 3]].tolist() == pytest.approx(expected)
    assert np.isnan(found[2])
    monkeypatch.setattr(held, "COVERAGE_ROWS", 2)
    assert np.isnan(held._coverage(rewrites, originals, of, known)).tolist() == [False, True, True, False]


def test_new_ngrams_are_those_the_original_lacks() -> None:
    assert new("one two three four", "One, two; five", 1) == pytest.approx(1 / 3)
    assert new("one two three four", "two three four five", 3) == pytest.approx(1 / 2)
    assert new("a b c", "a b c", 3) == 0
    assert new("a b c", "", 1) == 0


def test_shared_ngrams_are_sets() -> None:
    grams = ngrams_of(tokens_of(array("a b c d a b", "a b c e", "", "")), 2)
    jaccard, containment = shared_grams(*grams, np.array([0, 2, 0]), np.array([1, 3, 2]))
    assert jaccard.tolist() == pytest.approx([2 / 5, 1, 0])
    assert containment.tolist() == pytest.approx([2 / 3, 1, 0])


@pytest.mark.parametrize("text", ["plain words", "Bäume über alles", "蜜蜂住在蜂箱里", "👩‍👩‍👧", ""])
def test_token_estimates_are_those_of_words(text: str) -> None:
    assert abs(token_estimates(array(text))[0] - words.estimate_tokens(text)) <= 0.5


def test_effective_numbers_count_equally_frequent_kinds() -> None:
    assert effective_numbers(np.array([5, 5, 5, 5, 0])) == pytest.approx((4, 4))
    first, second = effective_numbers(np.array([97, 1, 1, 1]))
    assert 1 < second < first < 1.3
    assert effective_numbers(np.zeros(0, np.int64)) == (0, 0)


def test_the_vendi_score_counts_different_texts() -> None:
    assert vendi_score(np.eye(7)) == pytest.approx(7)
    assert vendi_score(np.ones((7, 7))) == pytest.approx(1)
    assert vendi_score(np.kron(np.eye(3), np.ones((4, 4)))) == pytest.approx(3)


@pytest.mark.parametrize("count", [100, 20_000, 300_000])
def test_distinct_hashes_are_estimated_within_three_standard_errors(count: int) -> None:
    hashes = np.random.default_rng(0).integers(0, 2**64, count, np.uint64)
    registers = np.zeros((1, HLL_REGISTERS), np.uint8)
    for _ in range(2):
        gram_registers(hashes, np.array([0, count]), np.zeros(1, np.int64), registers)
    assert distinct_estimate(registers[0]) == pytest.approx(count, rel=0.025)


def test_repeated_texts_compress_more_and_too_few_bytes_say_nothing() -> None:
    rng = random.Random(2)
    varied = [prose(rng, 100, [word(rng) for _ in range(90)]).encode() for _ in range(40)]
    plain, repeated = compression_ratio(varied, 8192), compression_ratio([varied[0]] * 40, 8192)
    assert plain is not None
    assert repeated is not None
    assert repeated > 3 * plain
    assert compression_ratio(varied, 1 << 20) is None


def test_case_punctuation_accents_and_articles_make_no_other_label() -> None:
    fillers = [f"a {word(random.Random(i))} {i}" for i in range(40)]
    same = ["A retired fisherman.", "retired FISHERMAN", "a rétired, fisherman!"]
    found = kinds([*same, *fillers])
    assert len(set(found.normal[:3])) == 1
    assert len(set(found.normal)) == 41


def test_an_article_of_any_language_is_one_but_a_short_noun_is_none() -> None:
    rng = random.Random(3)
    found = kinds(["der Fischer", "Fischer", *(f"der {word(rng)}{i}" for i in range(30)), "AI nurse", "nurse"])
    assert found.normal[0] == found.normal[1]
    assert found.normal[-1] != found.normal[-2]


@pytest.mark.parametrize("ordinary", [ORDINARY, ["蜜蜂住在蜂箱里"]], ids=["same language", "another language"])
def test_ten_audiences_said_in_hundreds_of_ways_are_ten(ordinary: list[str]) -> None:
    """A labelled set: the persona behind each label is known."""
    rng = random.Random(4)
    ten = [(ADJECTIVES[i], TRADES[i], HABITS[i], HABITS[(i + 5) % len(HABITS)]) for i in range(10)]
    labels: dict[str, int] = {}
    for _ in range(1500):
        who = rng.randrange(10)
        labels[said(ten[who], rng)] = who
    found = kinds(list(labels), ordinary)
    assert len(labels) > 300
    pairs, together, both = counted_pairs(np.array(list(labels.values())), found.cluster)
    assert both / together >= 0.97  # precision
    assert both / pairs >= 0.95  # recall
    assert 10 <= len(found.leaders) <= 15


def counted_pairs(truth: Any, cluster: Any) -> tuple[int, int, int]:
    """Pairs of labels of one truth, of one cluster, of both."""

    def alike(*keys: Any) -> int:
        _, counts = np.unique(np.stack(keys), axis=1, return_counts=True)
        return int((counts * (counts - 1) // 2).sum())

    return alike(truth), alike(cluster), alike(truth, cluster)


def test_different_audiences_stay_apart() -> None:
    rng = random.Random(6)
    labels = [f"A {word(rng)} {word(rng)} who {word(rng)} {word(rng)}" for _ in range(500)]
    found = kinds(labels)
    assert len(found.leaders) >= 495


def test_clusters_do_not_depend_on_the_order_of_labels() -> None:
    rng = random.Random(7)
    labels = list({said(persona(rng), rng) for _ in range(400)})
    mixed = sorted(labels)
    one, other = kinds(labels), kinds(mixed)
    of = dict(zip(labels, one.cluster, strict=True))
    assert [of[label] for label in mixed] == other.cluster.tolist()


def test_labels_that_came_after_the_last_leader_join_or_stand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mga.curation.diversity.labels.LEADERS", 2)
    labels = ["retired fisherman", "proud violinist", "retired fishermen", "devout astronomer"]
    counts = np.array([9, 8, 1, 1])
    texts = array("who")
    found = kinds_of(labels, counts, stems_of(texts, tokens_of(texts)), workers=2)
    assert found.cluster[0] == found.cluster[2]
    assert (len(found.leaders), found.alone) == (3, 1)


def test_labels_in_chinese_are_clustered() -> None:
    found = kinds(["一位退休的渔夫，不相信科学", "退休的渔夫，不相信科学", "喜欢地图的年轻护士"])
    assert found.cluster[0] == found.cluster[1] != found.cluster[2]


def test_a_diverse_run_has_no_sign_of_collapse(figures: dict[str, dict[str, Any]]) -> None:
    assert figures["diverse"]["warnings"] == []


def test_a_collapsed_run_shows_it_in_labels_siblings_and_texts(figures: dict[str, dict[str, Any]]) -> None:
    assert signs(figures["collapsed"]) == {
        *("few_genres", "few_audiences", "large_genre_cluster", "large_audience_cluster"),
        *("same_pairs", "alike_siblings", "compressible", "low_vendi"),
    }
    audiences = figures["collapsed"]["labels"]["audience"]
    assert audiences["as_written"]["distinct"] > 40
    assert audiences["clustered"]["distinct"] <= 10
    few = next(sign for sign in figures["collapsed"]["warnings"] if sign["name"] == "few_genres")
    assert (few["value"], few["threshold"]) == (0.001, 0.05)
    assert "1.0 effective clusters" in few["text"]


def test_a_run_that_declines_shows_it_over_time(figures: dict[str, dict[str, Any]]) -> None:
    assert {"declining_genre", "declining_audience"} <= signs(figures["declining"])
    effective = [part["labels"]["audience"] for part in figures["declining"]["over_time"]]
    assert effective[0] > 1.5 * effective[-1]


def test_copies_of_the_originals_are_noticed(tmp_path: Path) -> None:
    rows = [{**row, "text": row["raw_text"][:800]} for row in run_of("diverse", 60)]
    found = measure(open_corpus([write_run(tmp_path / "run", rows)]))
    assert {"copies", "alike_siblings"} <= signs(found)
    assert found["whole"]["new_3"]["mean"] < 0.02


def test_few_rows_give_no_warning(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", run_of("collapsed", 19))
    assert measure(open_corpus([run]))["warnings"] == []


def test_figures_add_up_and_stand_beside_the_originals(figures: dict[str, dict[str, Any]]) -> None:
    found = figures["diverse"]
    assert (found["corpus"]["rows"], found["sample"]["rows"]) == (1000, 1000)
    assert sum(part["rows"] for part in found["over_time"]) == 1000
    assert found["whole"]["siblings"]["pairs"] == 2000
    assert found["whole"]["originals"]["vendi"] > 100
    lengths = found["whole"]["length_ratio"]
    assert lengths["quartile_1"] <= lengths["median"] <= lengths["quartile_3"]
    assert found["missing"] == []


def test_the_same_figures_come_from_jsonl_and_any_number_of_threads(runs: dict[str, Path], tmp_path: Path) -> None:
    lines = [orjson.dumps(row) + b"\n" for file in sorted((runs["diverse"] / "kept").iterdir()) for row in
             pq.read_table(file).to_pylist()]  # fmt: skip
    (tmp_path / "all.jsonl").write_bytes(b"".join(lines))
    one, other = (measure(open_corpus([tmp_path / "all.jsonl"]), "model", workers=workers) for workers in (1, 3))
    assert orjson.dumps(one) == orjson.dumps(other)
    run = measure(open_corpus([runs["diverse"]]), "model", workers=2)
    assert run["labels"] == one["labels"]
    assert run["whole"]["distinct_grams"] == one["whole"]["distinct_grams"]


def test_more_rows_than_are_held_leave_a_share_of_the_originals(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "ROWS", 400)
    monkeypatch.setattr(held, "ORIGINALS", 30)
    monkeypatch.setattr(held, "ROWS_AT_ONCE", 64)
    one, other = (measure(open_corpus([runs["diverse"]]), workers=workers) for workers in (1, 2))
    assert orjson.dumps(one) == orjson.dumps(other)
    sample = one["sample"]
    assert one["corpus"]["rows"] == 1000
    assert 100 < sample["rows"] <= 400
    assert sample["share_of_originals"] < 1
    assert sample["originals"] == 30
    assert sample["texts"] == 150
    assert one["whole"]["coverage"]["mean"] == pytest.approx(
        measure(open_corpus([runs["diverse"]]))["whole"]["coverage"]["mean"], abs=0.03
    )


def test_another_seed_gives_another_sample(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "ORIGINALS", 30)
    one, other = (measure(open_corpus([runs["diverse"]]), seed=seed)["whole"] for seed in (0, 1))
    assert one["siblings"]["jaccard"] != other["siblings"]["jaccard"]
    assert one["coverage"] == other["coverage"]


def test_a_corpus_of_texts_alone_is_measured_and_what_is_missing_said(tmp_path: Path) -> None:
    rows = [{"text": row["text"]} for row in run_of("diverse", 60)] + [{"text": None}, {"text": "  "}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "texts.parquet")
    found = measure(open_corpus([tmp_path / "texts.parquet"]))
    assert (found["corpus"]["rows"], found["corpus"]["without_text"], found["sample"]["rows"]) == (302, 2, 300)
    assert len(found["missing"]) == 4
    assert found["whole"]["texts"]["distinct_2"] > 0.3
    assert found["whole"]["originals"] is found["whole"]["siblings"] is found["labels"]["genre"] is None
    assert found["whole"]["texts"]["vendi"] > 50


def test_equal_texts_have_a_vendi_score_of_one_and_hold_no_more_than_one_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["the same words again"] * 120}), tmp_path / "texts.parquet")
    assert measure(open_corpus([tmp_path / "texts.parquet"]))["whole"]["texts"]["vendi"] == pytest.approx(1)


def test_a_column_groups_the_figures(runs: dict[str, Path]) -> None:
    groups = measure(open_corpus([runs["diverse"]]), "model")["by_column"]
    assert [(group["name"], group["rows"]) for group in groups] == [("model-0", 500), ("model-1", 500)]
    with pytest.raises(InputError, match=r"No file has the column 'modle' of --by; there are: .*model"):
        measure(open_corpus([runs["diverse"]]), "modle")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"content": ["a"]}, "has no column 'text'"),
        ({"text": [1, 2]}, "'text' of t.parquet holds int64, not text"),
        ({"text": ["", None]}, "no row has text in 'text'"),
        ({"text": ["a b"], "genre": [[1]]}, "'genre' holds list"),
    ],
)
def test_what_cannot_be_measured_is_said(tmp_path: Path, table: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=message):
        measure(open_corpus([tmp_path / "t.parquet"]))


def test_the_verb_shows_a_table_and_writes_the_same_file_twice(runs: dict[str, Path], tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in runs["collapsed"].rglob("*") if file.is_file()}
    out = tmp_path / "figures.json"
    contents = []
    for _ in range(2):
        done = CliRunner().invoke(APP, [str(runs["collapsed"]), "--out", str(out), "--by", "model"])
        assert done.exit_code == 0, done.output
        contents.append(out.read_bytes())
    assert contents[0] == contents[1]
    assert "warning: " in done.output
    assert "bedtime story" in done.output
    assert orjson.loads(contents[0])["version"] == 1
    assert {file: file.read_bytes() for file in runs["collapsed"].rglob("*") if file.is_file()} == before


def test_a_file_among_the_corpus_is_not_written(runs: dict[str, Path]) -> None:
    inside = runs["diverse"] / "kept" / "figures.json"
    for out, message in ((inside, "lies among the files"), (runs["diverse"], "is a folder")):
        done = CliRunner().invoke(APP, [str(runs["diverse"]), "--out", str(out)])
        assert isinstance(done.exception, InputError)
        assert message in str(done.exception)
    assert not inside.exists()


def test_a_killed_process_leaves_nothing_and_the_same_command_measures(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    code = "import typer; from mga.cli.diversity import diversity; typer.run(diversity)"
    command = [sys.executable, "-c", code, str(runs["diverse"]), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.6)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(tmp_path.iterdir())
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert orjson.loads(out.read_bytes())["corpus"]["rows"] == 1000
