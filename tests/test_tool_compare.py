"""A tool model beside its teacher: intervals that can be computed by hand, and whole comparisons without a model."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.data.outcomes import read_rows
from mga.errors import InputError
from mga.expand.pairs import pair_schema
from mga.stats import wilson
from mga.toolmodel.compare.compare import CompareSettings, compare, prompt_beside
from mga.toolmodel.compare.comparison_table import statement
from mga.toolmodel.compare.paired import difference
from mga.toolmodel.compare.proposals import is_valid

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"


def silent(line: str) -> None:
    pass


def compared(student: str, out: Path, teacher: str | None = "scripted:", documents: Path = SAMPLE, **more: Any) -> Any:
    settings = CompareSettings(**{"pairs": 3, **more})
    return compare(teacher, student, "scripted:", [str(documents)], out, settings, silent)


def test_intervals_of_shares_are_those_of_the_literature() -> None:
    # Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29
    known = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    for successes, of, low, high in known:
        found = wilson(successes, of)
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    nothing = wilson(0, 0)
    assert (nothing.share, nothing.low, nothing.high) == (None, 0.0, 1.0)


def test_the_interval_of_a_difference_by_hand() -> None:
    # Four documents, d = 0, −1/2, 0, −1: Σd = −1.5, Σd² = 1.25; with two more: mean −1.5/6, variance 2.25/6 − 1/16.
    found = difference([0.0, -0.5, 0.0, -1.0], 0.02)
    half = 2.570582 * ((2.25 / 6 - 0.0625) / 6) ** 0.5  # Student's quantile, 5 degrees of freedom
    assert (found.low, found.high) == pytest.approx((-0.25 - half, -0.25 + half))
    assert found.mean == -0.375
    assert found.verdict == "cannot tell"
    assert found.needed == -(-((1.959964 + 0.841621) ** 2 * 0.3125 / 0.355**2) // 1)
    # Nothing differs: two documents say little, a thousand say enough.
    assert difference([0.0] * 2, 0.02).verdict == "cannot tell"
    assert difference([0.0] * 1000, 0.02).verdict == "non-inferior"
    assert difference([-0.5] * 1000, 0.02).verdict == "worse"
    assert difference([], 0.02).verdict == "cannot tell"


@given(st.lists(st.sampled_from([-1.0, -0.6, 0.0, 0.2, 1.0]), max_size=60), st.floats(0.0, 0.5))
def test_an_interval_holds_its_adjusted_mean_and_the_verdict_follows_from_it(apart: list[float], margin: float) -> None:
    found = difference(apart, margin)
    assert found.low <= sum(apart) / (len(apart) + 2) <= found.high
    verdict = "non-inferior" if found.low > -margin else "worse" if found.high < -margin else "cannot tell"
    assert found.verdict == verdict


@pytest.mark.parametrize(("documents", "right"), [(30, 0.93), (300, 0.9)])
def test_nineteen_of_twenty_intervals_hold_the_truth_though_texts_of_a_document_go_together(
    documents: int, right: float
) -> None:
    random = Random(7)
    held = 0
    for _ in range(400):
        apart = []
        for _ in range(documents):
            luck = random.choice([0.05, 0.0, -0.2])  # of this document's five texts together
            teacher, student = (sum(random.random() < right + luck - less for _ in range(5)) / 5 for less in (0, 0.05))
            apart.append(student - teacher)
        truth = -sum(min(1, right + luck) - (right + luck - 0.05) for luck in (0.05, 0.0, -0.2)) / 3
        found = difference(apart, 0.02)
        held += found.low <= truth <= found.high
    assert held / 400 >= 0.93


def test_a_student_as_good_as_its_teacher_agrees_with_it_in_every_text(tmp_path: Path) -> None:
    found = compared("scripted:", tmp_path / "out", margin=0.2)
    assert found["difference"]["verdict"] == "non-inferior"
    assert found["agreement"]["texts"] == {"both": 36, "only_teacher": 0, "only_student": 0, "neither": 0}
    assert found["teacher"]["scores"] == found["student"]["scores"]
    assert found["teacher"]["pairs"]["valid_at_once"]["share"] == 1.0
    assert found["student"]["pairs"] is None
    runs = [tmp_path / "out" / "runs" / side / "kept" for side in ("teacher", "student")]
    rows = [{(row["raw_text"], row["genre"], row["audience"]) for row in read_rows(run)} for run in runs]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 36


def test_every_text_of_a_flawed_student_is_counted_once_and_what_is_missing_is_not_acceptable(tmp_path: Path) -> None:
    found = compared("scripted:?flaws=0.4", tmp_path / "out")
    student = found["student"]
    scores = student["scores"]
    assert scores["judged"] + sum(student["missing"].values()) == student["asked"] == 36
    assert sum(scores[str(score)] for score in range(1, 6)) == scores["judged"]
    acceptable = sum(scores[str(score)] for score in (3, 4, 5))
    assert student["acceptable"]["of"] == 36
    assert student["acceptable"]["share"] == pytest.approx(acceptable / 36)
    assert student["acceptable"]["share"] < found["teacher"]["acceptable"]["share"] == 1.0
    texts = found["agreement"]["texts"]
    assert texts["only_teacher"] == 36 - acceptable
    assert texts["both"] == acceptable
    assert found["difference"]["verdict"] == "worse"
    assert "worse than it by more than 2.0%" in statement(found)


def test_pairs_that_are_not_json_show_in_stage_one_and_as_texts_that_never_came(tmp_path: Path) -> None:
    found = compared("scripted:?flaws=0.6", tmp_path / "out", stage="pairs")
    pairs = found["student"]["pairs"]
    assert pairs["valid_at_once"]["of"] == 12
    assert pairs["valid_at_once"]["share"] < found["teacher"]["pairs"]["valid_at_once"]["share"] == 1.0
    assert pairs["requests"] > 12
    assert found["student"]["missing"].get("no_given_pair", 0) == 36 - pairs["pairs"]
    assert found["student"]["tokens_per_second"] is None  # the teacher wrote
    assert found["teacher"]["tokens_per_second"] > 0


def test_valid_means_exactly_what_was_asked_for_unmended() -> None:
    schema = pair_schema(1)
    good = {"kind_of_text": "A field notebook in short notes.", "readers": "Retired pilots who doubt the subject."}
    assert is_valid(json.dumps(good), schema)
    for bad in (
        json.dumps(good)[:-1],
        f"```json\n{json.dumps(good)}\n```",
        json.dumps({**good, "more": "words of no use"}),
        json.dumps({"kind_of_text": good["kind_of_text"]}),
        json.dumps({**good, "readers": "x"}),
        json.dumps({**good, "readers": 3}),
    ):
        assert not is_valid(bad, schema), bad


def examples(folder: Path, documents: list[str]) -> Path:
    """What mga tool examples leaves, with two reformulations of each document held out."""
    rows = [
        {
            "messages": [{"role": "user", "content": f"Rewrite: {text}"}, {"role": "assistant", "content": text}],
            "source_id": f"doc-{number}",
            "raw_text": text,
            "genre": genre,
            "audience": "night nurses who love detail",
        }
        for number, text in enumerate(documents)
        for genre in ("a fable of animals", "an open letter to all")
    ]
    (folder / "reformulate").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "reformulate" / "held_out.parquet")
    (folder / "examples.json").write_text("{}")
    return folder


def test_a_student_alone_writes_for_the_pairs_of_the_examples(tmp_path: Path) -> None:
    texts = [json.loads(line)["text"] for line in SAMPLE.read_text().splitlines()][:4]
    data = examples(tmp_path / "data", texts)
    found = compared("scripted:", tmp_path / "out", None, data, pairs=2)
    assert found["documents"] == 4
    assert found["student"]["acceptable"]["of"] == 8
    assert found["difference"] is None
    kept = list(read_rows(tmp_path / "out" / "runs" / "student" / "kept"))
    assert {row["genre"] for row in kept} == {"a fable of animals", "an open letter to all"}
    with pytest.raises(InputError, match="Without a --teacher, the pairs"):
        compared("scripted:", tmp_path / "other", None)
    with pytest.raises(InputError, match="To compare pairs, name a --teacher"):
        compared("scripted:", tmp_path / "other", None, stage="pairs")
    alone = compared("scripted:", tmp_path / "other", None, stage="both", sample=3)
    assert alone["student"]["pairs"]["valid_at_once"]["of"] == 3


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mga", "tool", "compare", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)


def test_the_command_continues_asks_nothing_again_and_refuses_other_settings(tmp_path: Path) -> None:
    log, out = tmp_path / "asked.log", tmp_path / "out"
    first = (SAMPLE, "--teacher", "scripted:", "--student", f"scripted:?flaws=0.2&log={log}")
    same = (*first, "--judge-engine", "scripted:", "--pairs", 2, "--sample", 6)
    done = command(*same, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "≥ 3, of the judged" in done.stdout
    assert "mga report" in done.stderr
    asked = log.read_bytes()
    assert asked
    figures = (out / "comparison.json").read_bytes()
    (out / "comparison.json").unlink()
    assert command(*same, "--out", out).returncode == 0
    assert log.read_bytes() == asked
    assert (out / "comparison.json").read_bytes() == figures
    refused = command(*same, "--seed", 3, "--out", out)
    assert refused.returncode == 2
    assert "was made otherwise" in refused.stderr
    assert "seed (0 → 3)" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "--stage is pairs, reformulate or both" in command(*same, "--stage", "all", "--out", out).stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "is not empty (thesis.txt" in command(*same, "--out", tmp_path / "full").stderr


def test_the_prompt_in_a_models_folder_is_the_students_own(tmp_path: Path) -> None:
    (tmp_path / "model" / "prompts").mkdir(parents=True)
    prompt = tmp_path / "model" / "prompts" / "reformulate_base.md"
    prompt.write_text("Write the document above as {genre} for {audience}.")
    assert prompt_beside(f"transformers:{tmp_path / 'model'}") == str(prompt)
    (tmp_path / "model" / "model.Q8_0.gguf").touch()
    assert prompt_beside(f"llamacpp:{tmp_path / 'model' / 'model.Q8_0.gguf'}") == str(prompt)
    assert prompt_beside("scripted:") is None
    found = compared("scripted:", tmp_path / "out", student_variant=str(prompt), sample=3)
    runs = [json.loads((tmp_path / "out" / "runs" / s / "run.json").read_text()) for s in ("teacher", "student")]
    assert runs[0]["identity"]["prompts"]["reformulate"] != runs[1]["identity"]["prompts"]["reformulate"]
    assert found["settings"]["stage"] == "reformulate"
