"""The prompt comparison through the command: the same documents and pairs for all, figures from what was written,
nothing asked twice; and its measures on texts whose place is known."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from bert_folder import make_bert
from hypothesis import given
from hypothesis import strategies as st
from test_report import block, parsed, tables

from mga.prompt_comparison.judging import Judgement
from mga.prompt_comparison.overlap import mmd, other_cosine, overlap, place
from mga.prompt_comparison.planted import corrupted, of_others, shortened
from mga.prompt_comparison.reliability import reliability
from mga.records import content_id

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"
TEXTS = [json.loads(line)["text"] for line in SAMPLE.read_text().splitlines()]
FIGURES = ("comparison.json", "comparison.md", "map.svg")


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("models") / "tiny", TEXTS)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mga", "compare-prompts", *map(str, arguments)]


def lab(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture(scope="session")
def finished(embedder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt comparison of three variants, one of them a style and one a prompt file, over six documents."""
    place = tmp_path_factory.mktemp("lab")
    (place / "ballad_of_two.md").write_text("Sing the document above as {genre} to {audience}.")
    done = lab(
        *(SAMPLE, "--out", place / "lab", "--variants", f"strict,{place / 'ballad_of_two.md'},wiki", "--sample", 6),
        *("--engine", f"scripted:?flaws=0.2&log={place / 'asked.log'}", "--embedder", embedder),
    )
    assert done.returncode == 0, done.stderr
    return place / "lab"


def comparison(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    return found


def rows(run: Path) -> list[dict[str, Any]]:
    files = (file for folder in ("kept", "dropped", "failed") for file in sorted((run / folder).glob("*.parquet")))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_all_variants_rewrite_the_same_documents_and_those_with_pairs_for_the_same_pairs(finished: Path) -> None:
    runs = {name: rows(finished / "runs" / name) for name in ("strict", "ballad_of_two", "wiki")}
    assert {name: len(found) for name, found in runs.items()} == {"strict": 12, "ballad_of_two": 12, "wiki": 6}
    sources = [{row["raw_text"] for row in found} for found in runs.values()]
    assert sources[0] == sources[1] == sources[2]
    assert len(sources[0]) == 6
    pairs = [sorted((r["source_id"], r["genre"] or "", r["audience"] or "") for r in runs[n]) for n in list(runs)[:2]]
    assert pairs[0] == pairs[1]


def test_scores_are_those_of_the_runs_low_ones_included(finished: Path) -> None:
    found = comparison(finished)
    for name, figures in found["variants"].items():
        scores = [row["score"] for row in rows(finished / "runs" / name) if row["score"] is not None]
        assert [figures["scores"][str(score)] for score in range(1, 6)] == [scores.count(s) for s in range(1, 6)]
        good = sum(s >= 3 for s in scores)
        assert figures["scores"]["of_judged"]["at_least_3"] == pytest.approx(good / len(scores), abs=1e-4)
        asked = len(scores) + figures["scores"]["no_verdict"]
        assert figures["scores"]["of_asked"]["at_least_3"] == pytest.approx(good / asked, abs=1e-4)
        assert figures["texts"] + sum(figures["missing"].values()) == len(rows(finished / "runs" / name))
        assert figures["texts"] == len(pq.read_table(finished / "texts" / f"{name}.parquet"))


def test_the_map_has_a_place_for_every_original_and_text(finished: Path) -> None:
    found = comparison(finished)
    points = found["map"]["points"]
    counted = {name: sum(point["variant"] == name for point in points) for name in (*found["variants"], "originals")}
    assert counted == {"originals": 6, **{name: figures["texts"] for name, figures in found["variants"].items()}}
    ids = {row["id"] for name in found["variants"] for row in rows(finished / "runs" / name)}
    assert {point["id"] for point in points if point["variant"] != "originals"} <= ids
    assert len({(point["x"], point["y"]) for point in points}) > 6


def test_a_finished_comparison_is_compared_anew_without_asking_and_with_the_same_result(finished: Path) -> None:
    log = finished.parent / "asked.log"
    before = {name: (finished / name).read_bytes() for name in FIGURES}
    asked = log.read_bytes()
    for name in FIGURES:
        (finished / name).unlink()
    done = lab(finished)
    assert done.returncode == 0, done.stderr
    assert "Place beside the originals" in done.stdout
    assert {name: (finished / name).read_bytes() for name in FIGURES} == before
    assert log.read_bytes() == asked


def test_other_settings_are_refused_and_named(finished: Path, embedder: Path) -> None:
    again = [SAMPLE, "--out", finished, "--variants", "strict,base,wiki", "--sample", 6, "--engine", "scripted:"]
    refused = lab(*again, "--embedder", embedder)
    assert refused.returncode == 2
    assert "ballad_of_two" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "strict,wild"], "There is no variant 'wild'"),
        (["--variants", "strict,strict"], "names strict twice"),
        (["--variants", ","], "Name the variants"),
        (["--embedder", "http://user:secret@127.0.0.1:1/v1"], "http://127.0.0.1:1/v1 is no embedder"),
        (["--embedder", "nowhere"], "There is no embedder nowhere"),
    ],
)
def test_what_cannot_work_is_said_before_any_model_is_asked(tmp_path: Path, arguments: list[str], message: str) -> None:
    log = tmp_path / "asked.log"
    refused = lab(SAMPLE, "--out", tmp_path / "lab", "--engine", f"scripted:?log={log}", *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not log.exists()


def test_a_folder_without_a_comparison_and_one_document_alone_are_refused(tmp_path: Path, embedder: Path) -> None:
    assert "Name the folder of the prompt comparison with --out" in lab(SAMPLE).stderr
    one = tmp_path / "one.jsonl"
    one.write_text(SAMPLE.read_text().splitlines()[0] + "\n")
    refused = lab(one, "--out", tmp_path / "lab", "--engine", "scripted:", "--embedder", embedder)
    assert refused.returncode == 2
    assert "two different documents" in refused.stderr


def test_documents_that_the_engine_must_cut_are_refused_with_the_setting_to_change(
    tmp_path: Path, embedder: Path
) -> None:
    config = tmp_path / "mga.toml"
    config.write_text("max_prompt_tokens = 512\n")
    refused = lab(
        *(SAMPLE, "--out", tmp_path / "lab", "--engine", "scripted:", "--embedder", embedder),
        *("--config", config, "--sample", 6),
    )
    assert refused.returncode == 2
    assert "lower --document-tokens" in refused.stderr


def test_killed_again_and_again_it_ends_the_same_and_asks_nothing_twice(
    finished: Path, embedder: Path, tmp_path: Path
) -> None:
    log, out = tmp_path / "asked.log", tmp_path / "lab"
    prompt = finished.parent / "ballad_of_two.md"

    def arguments(latency: float) -> list[object]:
        engine = f"scripted:?flaws=0.2&latency={latency}&log={log}"
        variants = f"strict,{prompt},wiki"
        return [SAMPLE, "--out", out, "--variants", variants, "--sample", 6, "--engine", engine, "--embedder", embedder]

    for wanted in (8, 40, 75):
        process = subprocess.Popen(command(*arguments(0.1)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while process.poll() is None and (not log.exists() or len(log.read_bytes().splitlines()) < wanted):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = lab(*arguments(0))
    assert done.returncode == 0, done.stderr
    assert (out / "comparison.md").read_bytes() == (finished / "comparison.md").read_bytes()
    keys = [line.split()[1] for line in log.read_text().splitlines()]
    in_flight = 16  # what a kill can catch between the question and its answer
    assert len(keys) - len(set(keys)) <= 3 * in_flight
    straight = (finished.parent / "asked.log").read_text().splitlines()
    assert set(keys) == {line.split()[1] for line in straight}


def unit(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def cloud(count: int, seed: int) -> np.ndarray[Any, Any]:
    """Documents of some subjects each, around a common direction."""
    rng = np.random.default_rng(seed)
    return unit(rng.normal(0, 1, (count, 48)) + 1.0)


def test_copies_stay_close_and_texts_of_another_kind_shift_away() -> None:
    originals, every = cloud(60, 1), list(range(60))
    copies = overlap(originals, originals, every, every)
    assert copies["closeness"] == pytest.approx(1, abs=1e-5)
    assert (copies["coverage"], copies["own_nearest"], copies["outside"]) == (1, 1, 0)
    assert copies["mmd"] == pytest.approx(0, abs=1e-9)
    assert copies["mmd_p"] == 1
    assert place(copies, 0.95) == "stays close"

    rng = np.random.default_rng(2)
    elsewhere = overlap(originals, unit(rng.normal(0, 1, (60, 48)) - 1.0), every, every)
    assert elsewhere["closeness"] < 0
    assert elsewhere["coverage"] < 0.1
    assert elsewhere["outside"] > 0.9
    assert elsewhere["mmd_p"] == pytest.approx(1 / 1000)
    assert place(elsewhere, 0.95) == "shifts away"

    others = overlap(originals, np.roll(originals, 7, axis=0), every, every)
    assert others["closeness"] == pytest.approx(0, abs=0.1)
    assert others["mmd"] == pytest.approx(0, abs=1e-9)
    assert place(others, 0.95) == "shifts away"

    nearby = overlap(originals, unit(originals + rng.normal(0, 0.12, originals.shape)), every, every)
    assert 0.5 < nearby["closeness"] < 0.95
    assert nearby["own_nearest"] > 0.9
    assert place(nearby, 0.95) == "extends while overlapping"


def test_the_mean_cosine_of_others_leaves_out_the_own() -> None:
    vectors = cloud(9, 3).astype(np.float64)
    cosines = vectors @ vectors.T
    assert other_cosine(cloud(9, 3)) == pytest.approx(cosines[~np.eye(9, dtype=bool)].mean())


def test_two_draws_of_one_distribution_have_no_small_p_and_two_of_different_ones_have() -> None:
    same = [mmd(cloud(40, seed).astype(float), cloud(40, 100 + seed).astype(float), seed)[1] for seed in range(20)]
    assert sum(p < 0.05 for p in same) <= 4
    assert np.mean(same) > 0.3
    shifted = unit(cloud(40, 5) + 0.6 * np.eye(48)[0]).astype(float)
    assert mmd(cloud(40, 4).astype(float), shifted)[1] < 0.05


def test_few_documents_leave_open_what_a_judge_is_worth_and_the_statement_says_how_many_would_tell() -> None:
    own, other = [4, 5, 3, 2, 4, 1, 5, 3, 4, 2, 3, 4], [3, 2, 4, 3, 2, 1, 3, 4, 5, 2, 1, 3]
    few = reliability(planted(own, other), 3)
    low, high = few["planted"]["interval"]
    assert low < 0.5 < 0.7 < high
    assert few["answer"] == "inconclusive"
    assert "About" in few["statement"]
    assert "documents (--judged) would tell which" in few["statement"]
    assert "fit for nothing" not in few["statement"]
    # the same scores of forty times as many documents tell
    many = reliability(planted(own * 40, other * 40), 3)
    assert many["planted"]["auc"] == pytest.approx(few["planted"]["auc"])
    assert many["answer"] == "unfit"
    between = reliability(planted([5, 5, 4, 2] * 60, [1, 2, 3, 4] * 60), 3)
    assert between["answer"] == "fit"
    assert "compare variants by their averages" in between["statement"]


def judged(kind: str, document: str, faithful: bool | None, score: int | None, repeat: int = 0) -> Judgement:
    return Judgement(kind, document, document, faithful, repeat, score, None)  # type: ignore[arg-type]


def planted(own: list[int], other: list[int]) -> list[Judgement]:
    return [
        judged("planted", str(document), faithful, score)
        for faithful, scores in ((True, own), (False, other))
        for document, score in enumerate(scores)
    ]


def test_a_judge_that_tells_is_fit_and_one_that_draws_lots_is_not() -> None:
    good = reliability(planted([5, 4, 5, 4] * 25, [1, 2, 1, 1] * 25), 3)
    assert good["planted"]["auc"] == 1
    assert good["planted"]["interval"] == pytest.approx([0.97, 1], abs=1e-3)
    assert good["answer"] == "fit"
    assert "fit to drop single texts" in good["statement"]
    assert "keeps 0% of the unrelated and drops 0% of the faithful" in good["statement"]

    few = reliability(planted([5] * 8, [1] * 8), 3)
    assert few["planted"]["interval"][0] == pytest.approx(0.05 ** (1 / 8))
    assert few["answer"] == "inconclusive"
    assert "Inconclusive" in few["statement"]
    assert "fit for nothing" not in few["statement"]

    lots = reliability(planted([1, 2, 3, 4, 5] * 20, [5, 1, 4, 2, 3] * 20), 3)
    assert lots["planted"]["auc"] == pytest.approx(0.5, abs=0.01)
    assert "fit for nothing" in lots["statement"]
    assert lots["answer"] == "unfit"


def test_verdicts_that_were_not_given_are_counted_and_never_guessed() -> None:
    answers = [*planted([5, 5, 4], [1, 2, 1]), judged("planted", "9", True, None)]
    figures = reliability(answers, 3)["planted"]
    assert (figures["pairs"], figures["no_verdict"], figures["faithful"]) == (7, 1, 3)
    assert reliability([judged("planted", "9", True, None)], 3)["planted"] is None


def test_agreement_is_one_for_a_judge_that_repeats_itself_and_missing_for_one_that_says_one_thing() -> None:
    base = planted([5, 4, 5], [1, 2, 1])
    same = [judged("repeated", str(d), None, score, r) for d, score in enumerate([5, 3, 1, 2]) for r in (1, 2, 3)]
    found = reliability([*base, *same], 3)["repeated"]
    assert found == {"texts": 4, "judgements_each": 3, "alpha": 1.0, "same_score": 1.0, "same_decision": 1.0}
    monotone = [judged("repeated", str(d), None, 4, r) for d in range(4) for r in (1, 2)]
    one = reliability([*base, *monotone], 3)
    assert one["repeated"]["alpha"] is None
    assert "always gave the same score" in one["statement"]


@given(st.lists(st.text(min_size=1), min_size=2, max_size=30, unique=True))
def test_no_text_stands_in_its_own_place_among_those_of_others(texts: list[str]) -> None:
    others = of_others(texts)
    assert sorted(others) == sorted(texts)
    assert all(own != other for own, other in zip(texts, others, strict=True))


@pytest.mark.parametrize("text", [*TEXTS, "One sentence alone has no third of its sentences to lose.", "word"])
def test_a_shortened_text_is_made_of_the_texts_own_words_and_never_empty(text: str) -> None:
    left = shortened(text)
    assert left
    assert set(left.split()) <= set(text.split())
    assert len(text) < 40 or len(left) < len(text)


def test_a_document_in_two_comparisons_keeps_its_pairs_by_its_text(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "pairs.jsonl").read_text().splitlines()]
    sample = [json.loads(line) for line in (finished / "sample.jsonl").read_text().splitlines()]
    assert [line["document"] for line in lines] == [content_id(document["text"]) for document in sample]


def test_the_page_of_a_comparison_has_its_comparison_and_its_runs(finished: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mga", "report", str(finished)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    _, data = parsed(finished / "report.html")
    figures = comparison(finished)
    names = ["strict", "ballad_of_two", "wiki"]
    assert data["runs"] == names, "in the order in which they were given"
    scores = tables(data)["Scores and rates"]
    for place_, name in enumerate(names):
        found = figures["variants"][name]["scores"]
        assert [scores[f"score {score}"][place_] for score in range(1, 6)] == [found[str(s)] for s in range(1, 6)]
        for over in ("asked", "judged"):
            rate = scores[f"≥ 3, of the {over}"][place_]["share"]
            assert rate == pytest.approx(found[f"of_{over}"]["at_least_3"], abs=1e-4)
        assert scores["≤ 2, of the asked"][place_]["share"] == pytest.approx(found["of_asked"]["at_most_2"], abs=1e-4)
    beside = tables(data)["Place beside the originals"]
    assert beside["in words"][:3] == [figures["variants"][name]["place"] for name in names]
    assert beside["close: to the own document"][3] == figures["controls"]["shortened"]["closeness"]
    points = block(data, "comparison-map", "points")
    assert points["series"] == ["originals", *names]
    assert len(points["x"]) == len(figures["map"]["points"])
    placed = {(p["variant"], p["document"], p["x"]) for p in figures["map"]["points"]}
    drawn = zip(points["of"], points["labels"], points["x"], strict=True)
    assert {(points["series"][of], label, x) for of, label, x in drawn} == placed
    assert block(data, "comparison-judge", "prose")["text"] == figures["judge"]["statement"]
    assert {"totals", "labels", "recipe"} <= {section["id"] for section in data["sections"]}
    assert {row["run"] for row in data["examples"]["rows"]} == {0, 1, 2}
    (finished / "report.html").unlink()


def test_a_corrupted_text_has_other_numbers_and_names_in_the_same_sentences() -> None:
    text = "It was built in 1862 by Martha Greaves. In 1907, Anna Bell sold 40 acres to Kent; 10 were left."
    wrong = corrupted(text)
    assert not set(re.findall(r"\d+", text)) & set(re.findall(r"\d+", wrong))
    assert sorted(re.findall(r"[A-Z]\w+", text)) == sorted(re.findall(r"[A-Z]\w+", wrong))
    assert "Martha Greaves" not in wrong
    assert [len(word) for word in re.findall(r"\d+", text)] == [len(word) for word in re.findall(r"\d+", wrong)]
    assert corrupted("nothing here can be wrong") == "nothing here can be wrong"


@given(st.text("ab A1290९٣.", max_size=60))
def test_every_digit_of_a_corrupted_text_is_another_one_of_its_script(text: str) -> None:
    wrong = corrupted(text)
    assert len(wrong) == len(text)
    for before, after in zip(text, wrong, strict=True):
        assert before.isdigit() == after.isdigit()
        assert not before.isdigit() or (before != after and after != "0" and ord(before) >> 4 == ord(after) >> 4)


def test_what_a_judge_sees_of_wrong_facts_is_said_apart_from_what_it_sees_of_other_documents() -> None:
    blind = planted([5] * 40, [1] * 40) + [judged("corrupted", f"{n}", False, 5) for n in range(40)]
    found = reliability(blind, 3)
    assert found["planted"]["auc"] == 1.0
    assert found["corrupted"]["auc"] == 0.5
    assert found["corrupted"]["unrelated_kept"] == 1.0
    assert "facts it does not see" in found["statement"]
    seeing = planted([5] * 40, [1] * 40) + [judged("corrupted", f"{n}", False, 2) for n in range(40)]
    assert "keeps 0%: facts it sees" in reliability(seeing, 3)["statement"]
    assert reliability(planted([5] * 40, [1] * 40), 3)["corrupted"] is None
