"""Decontamination: items of benchmarks are found in whatever dress, near misses are left alone, nothing is lost."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from mga.cli.decontaminate import decontaminate
from mga.curation.contamination.benchmarks import Benchmarks, read_benchmarks
from mga.curation.contamination.decontaminate import SPAN_CHARACTERS, Index, Limits, Match, build_index, find_matches
from mga.data.documents import find_files
from mga.errors import InputError

QUESTION = (
    "A lighthouse keeper on Skerry Rock counts ninety gulls at dawn and loses a third of them by noon; how many stay?"
)
PROSE = "The ferry left late that morning, and nobody on the pier could say whether the fog would lift before evening. "


def benchmarks(folder: Path, *rows: dict[str, Any], fields: list[str] | None = None) -> Benchmarks:
    path = write_lines(folder / "bench.jsonl", rows)
    return read_benchmarks(find_files([str(path)]), fields)


def index_of(folder: Path, *rows: dict[str, Any], **limits: int) -> Index:
    return build_index(benchmarks(folder, *rows), Limits(**limits))


def matches(index: Index, *texts: str | None) -> list[Match]:
    return find_matches(index, pa.array(texts, pa.large_string()))


def write_lines(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def run_command(*arguments: object) -> Any:
    app = typer.Typer()
    app.command()(decontaminate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


# ── what is found ──


@pytest.fixture(scope="module")
def labelled() -> ModuleType:
    path = Path(__file__).parents[1] / "bench" / "decontaminate.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_decontaminate", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_all_planted_items_and_nothing_else_are_found_in_the_labelled_set(tmp_path: Path, labelled: ModuleType) -> None:
    items, texts = labelled.labelled_set(per_kind=20, seed=3)
    index = index_of(tmp_path, *items)
    found: dict[int, set[str]] = {row: set() for row in range(len(texts))}
    for match in matches(index, *(text.text for text in texts)):
        found[match.row].add(index.benchmarks.items[match.item].id)
    wrong = [(text.kind, found[row]) for row, text in enumerate(texts) if found[row] != ({text.item} - {None})]
    assert wrong == []
    assert sum(text.item is not None for text in texts) == 15 * 20
    assert sum(text.item is None for text in texts) == 7 * 20


@pytest.mark.parametrize("start", range(8))
def test_every_run_of_13_words_is_found_wherever_it_begins_and_no_run_of_12(tmp_path: Path, start: int) -> None:
    words = [f"w{i}" for i in range(40)]
    index = index_of(tmp_path, {"question": " ".join(words)})
    thirteen, twelve = " ".join(words[start : start + 13]), " ".join(words[start : start + 12])
    found = matches(index, f"so {thirteen} and", f"so {twelve} and", thirteen, twelve)
    assert [(match.row, match.tokens) for match in found] == [(0, 13), (2, 13)]


def test_a_match_is_extended_both_ways_and_stands_where_it_says(tmp_path: Path) -> None:
    question = "Où était né le père d’Amélie, qui jouait très bien de la vielle à roue près de l’église de Sées?"
    index = index_of(tmp_path, {"id": 17, "question": question})
    text = f"「序」 {PROSE}né LE PÈRE D'AMÉLIE qui jouait tre\u0300s bien de la vielle, à roue (près) de Paris. {PROSE}"
    (match,) = matches(index, text)
    assert (
        text[match.start : match.end] == "né LE PÈRE D'AMÉLIE qui jouait tre\u0300s bien de la vielle, à roue (près) de"
    )
    assert (match.tokens, match.field) == (16, "question")
    assert match.share == pytest.approx(16 / 22)
    assert index.benchmarks.items[match.item].id == "17"


def test_equal_hashes_are_not_enough(tmp_path: Path) -> None:
    index = index_of(tmp_path, {"question": QUESTION})
    assert len(matches(index, QUESTION)) == 1
    data = index.words.data.copy()
    data[index.words.starts[3]] = ord("z")  # the item's fourth word is another now, with the hash it had
    data.flags.writeable = False
    changed = index.words._replace(data=data)
    other = Index(**{name: getattr(index, name) for name in Index.__slots__} | {"words": changed})
    assert [match.tokens for match in matches(other, QUESTION)] == [18]


def test_an_item_repeated_in_a_text_counts_once_and_two_items_twice_longest_first(tmp_path: Path) -> None:
    other = "Which of the three sisters who kept bees behind the chapel at Marne sold the first jar of honey?"
    index = index_of(tmp_path, {"id": "gulls", "question": QUESTION}, {"id": "bees", "question": other})
    found = matches(index, f"{other} {QUESTION[:90]} {QUESTION} {other}")
    assert [index.benchmarks.items[match.item].id for match in found] == ["gulls", "bees"]
    assert [match.share for match in found] == [1.0, 1.0]


def test_null_and_empty_texts_match_nothing(tmp_path: Path) -> None:
    index = index_of(tmp_path, {"question": QUESTION})
    assert [match.row for match in matches(index, None, "", "…", QUESTION, None)] == [3]


def test_long_repetitions_end_soon(tmp_path: Path) -> None:
    index = index_of(tmp_path, {"question": "tick " * 500}, {"question": QUESTION})
    found = matches(index, "tick " * 20_000 + QUESTION)
    assert [match.tokens for match in found] == [500, len(QUESTION.split())]


# ── what is searched for ──


def test_short_answers_and_short_items_are_not_searched_and_counted(tmp_path: Path) -> None:
    index = index_of(
        tmp_path,
        {"question": QUESTION, "answer": "Paris"},
        {"question": "Capital of France?", "answer": "Paris"},
        {"question": "中国的首都是哪里呢"},
        {"question": ""},
    )
    assert index.too_short == 3
    assert matches(index, "Paris", "The capital of France is Paris. Capital of France?", "中国的首都是哪里呢") == []


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Who tends the blue lamp?", "choices": ["a goat", "Old Matti of Hanko"], "answer": 1},
        {"question": "Who tends the blue lamp?", "choices": ["a goat", "Old Matti of Hanko"], "answer": "B"},
        {
            "question": "Who tends the blue lamp?",
            "choices": {"text": ["a goat", "Old Matti of Hanko"], "label": ["1", "2"]},
            "answerKey": "2",
        },
        {
            "question": {
                "stem": "Who tends the blue lamp?",
                "choices": [{"label": "A", "text": "a goat"}, {"label": "B", "text": "Old Matti of Hanko"}],
            },
            "answerKey": "B",
        },
        {
            "Question": "Who tends the blue lamp?",
            "A": "a goat",
            "B": "Old Matti of Hanko",
            "C": "",
            "D": "",
            "Answer": "B",
        },
        {
            "question": "Who tends the blue lamp?",
            "options": {"A": "a goat", "B": "Old Matti of Hanko"},
            "answer_idx": "B",
        },
        {"question": "Who tends the blue lamp?", "answers": {"text": ["Old Matti of Hanko"], "answer_start": [0]}},
        {"question": "Who tends the blue lamp?", "best_answer": "Old Matti of Hanko"},
        {
            "Question": "Who tends the blue lamp?",
            "Correct Answer": "Old Matti of Hanko",
            "Incorrect Answer 1": "a goat",
        },
        {"ctx": "Who tends the blue lamp?", "endings": ["a goat", "Old Matti of Hanko"], "label": "1"},
        {"goal": "Who tends the blue lamp?", "sol1": "a goat", "sol2": "Old Matti of Hanko", "label": 1},
        {"sentence": "Who tends the blue lamp? _ of Hanko", "option1": "a goat", "option2": "Old Matti", "answer": "2"},
    ],
)
def test_a_short_question_is_found_with_its_correct_answer_only(tmp_path: Path, row: dict[str, Any]) -> None:
    index = index_of(tmp_path, row)
    found = matches(index, "Who tends the blue lamp? Old Matti of Hanko.", "Who tends the blue lamp? A goat of Hanko.")
    assert [match.row for match in found] == [0]
    assert "+" in found[0].field


def test_strings_deep_in_a_field_are_searched_and_unknown_fields_are_not(tmp_path: Path) -> None:
    long = [f"{QUESTION} {letter}" for letter in "xyz"]
    index = index_of(tmp_path, {"choices": {"text": ["Yes", {"deep": long[0]}]}, "licence": "b " * 30})
    assert [match.field for match in matches(index, long[0], "b " * 30)] == ["choices"]


def test_fields_can_be_chosen(tmp_path: Path) -> None:
    row = {"question": QUESTION, "passage": PROSE, "note": "n1 n2 n3 n4 n5 n6 n7 n8 n9"}
    index = build_index(benchmarks(tmp_path, row, fields=["Note", "question"]), Limits())
    assert [match.field for match in matches(index, row["note"], QUESTION, PROSE)] == ["note", "question"]
    with pytest.raises(InputError, match="has none of the fields answers; it has: note, passage, question"):
        benchmarks(tmp_path, row, fields=["answers"])
    with pytest.raises(InputError, match="No benchmark file has the field 'nota'"):
        benchmarks(tmp_path, row, fields=["nota", "note"])


def test_what_many_items_share_is_a_template_but_a_passage_of_many_questions_is_not(tmp_path: Path) -> None:
    stem = "Read the passage with care and then choose which of the four statements follows from what it says about"
    passage = "In the winter of the great ice the ferrymen of Torne carried salt, mail and one piano across on sledges."
    rows = [{"passage": passage, "question": f"{stem} topic{i} in region{i}"} for i in range(12)]
    index = index_of(tmp_path, *rows)
    assert index.templates > 0
    assert index.examples[0] == (12, stem)
    found = matches(index, f"{PROSE} {stem} nothing", f"{PROSE} {passage}", rows[5]["question"])
    assert [match.row for match in found] == [1] * 12 + [2]
    everything = index_of(tmp_path, *rows, template=0)
    assert {match.row for match in matches(everything, stem)} == {0}
    assert everything.templates == 0


def test_an_instruction_of_all_rows_is_a_template_and_a_question_of_many_files_is_not(tmp_path: Path) -> None:
    order = "Answer the question below with a single number, and write nothing else before it or after it, please."
    rows = [{"instruction": order, "question": f"{QUESTION} v{i}"} for i in range(3)]
    paths = [str(write_lines(tmp_path / f"copy{copy}.jsonl", rows)) for copy in range(12)]
    many = read_benchmarks(find_files(paths))
    found = matches(build_index(many, Limits(template=2)), f"{order} {PROSE}", f"{PROSE} {QUESTION}")
    assert found == []
    found = matches(build_index(many, Limits(template=3)), f"{order} {PROSE}", f"{PROSE} {QUESTION}")
    assert [len([match for match in found if match.row == row]) for row in (0, 1)] == [36, 36]


SOLUTION = (
    "He sells 48/2 = <<48/2=24>>24 loaves before lunch. So the baker now has 48-24+17 = <<48-24+17=41>>41 loaves left "
    "at noon.\n#### 41"
)
PLAIN = (
    "He sells 48/2 = 24 loaves before lunch. So the baker now has 48-24+17 = 41 loaves left at noon. The answer is 41."
)


def test_a_row_that_stands_in_a_file_many_times_is_one_item_and_no_template(tmp_path: Path) -> None:
    rows = [{"id": f"q-{i}", "problem": QUESTION, "answer": "60"} for i in range(16)]
    index = index_of(tmp_path, *rows)
    assert (index.templates, len(index.benchmarks.items)) == (0, 16)
    assert len(matches(index, f"Exercise 4. {QUESTION}")) == 16


def test_nothing_left_to_search_is_an_error(tmp_path: Path) -> None:
    rows = [{"question": QUESTION, "choices": [f"{i} gulls"]} for i in range(16)]
    with pytest.raises(InputError, match=r"Nothing is left to search for.*more than 10 items"):
        index_of(tmp_path, *rows)
    assert matches(index_of(tmp_path, *rows, template=0), QUESTION)


NESTED_ROWS = {
    "doc": {"doc_id": 0, "doc": {"question": QUESTION}, "target": "60", "resps": [["60"]]},
    "deeper": {"sample": {"input": {"stem": {"Question": QUESTION}}}},
    "input": {"instance": {"input": {"text": QUESTION}, "references": []}},
    "in a list": {"paragraphs": [{"context": "Short.", "qas": [{"question": "Who?"}, {"question": QUESTION}]}]},
    "prompt alone": {"doc_id": 0, "target": "60", "arguments": [[f"Question: {QUESTION}\nAnswer:", "Q:"]]},
    "prompt by name": {"target": "60", "arguments": {"gen_args_0": {"arg_0": f"Question: {QUESTION}\nAnswer:"}}},
}


@pytest.mark.parametrize("row", NESTED_ROWS.values(), ids=NESTED_ROWS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "json"])
def test_a_nested_question_is_found(tmp_path: Path, row: dict[str, Any], kind: str) -> None:
    path = tmp_path / f"bench.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps([row], indent=1) if kind == "json" else json.dumps(row))
    index = build_index(read_benchmarks(find_files([str(path)])), Limits())
    assert matches(index, f"Exercise 4. {QUESTION} Sixty.")
    assert not matches(index, PROSE)


def test_examples_before_a_question_in_a_prompt_are_no_items(tmp_path: Path) -> None:
    example = (
        "Question: How many loaves does the baker of the old harbour town sell on a long Sunday in May?\nAnswer: 7"
    )
    row = {"target": "60", "arguments": [[f"{example}\n\nQuestion: {QUESTION}\nAnswer:", {}]]}
    index = index_of(tmp_path, row)
    assert matches(index, QUESTION)
    assert not matches(index, example)


def test_a_nested_field_can_be_chosen_by_its_path(tmp_path: Path) -> None:
    rows = [{"doc": {"hint": QUESTION, "question": PROSE}}]
    index = build_index(benchmarks(tmp_path, *rows, fields=["doc.hint"]), Limits())
    assert matches(index, QUESTION)
    assert not matches(index, PROSE)


@pytest.mark.parametrize("text", [PLAIN, SOLUTION, SOLUTION.replace("\n#### 41", " And that is all there is to it.")])
def test_a_solution_is_found_with_its_calculator_marks_and_without_them(tmp_path: Path, text: str) -> None:
    assert matches(index_of(tmp_path, {"question": "How many?", "answer": SOLUTION}), text)


def test_a_short_solution_is_found_without_its_final_line(tmp_path: Path) -> None:
    row = {"question": "How many?", "answer": "He sells twenty four loaves before lunch on Monday.\n#### 24"}
    assert matches(index_of(tmp_path, row), "He sells twenty four loaves before lunch on Monday. Then he rests.")


def test_rows_of_the_corpus_that_cannot_be_read_are_never_called_clean(tmp_path: Path, items: Path) -> None:
    leak = json.dumps({"id": "leak", "text": QUESTION})
    lines = [leak, leak[:-1] + ', "quality": NaN}', leak.replace("A light", "\\ud83d A light"), "null", '{"id": 1}']
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, json.dumps({"id": "clean", "text": PROSE})]))
    done = run_command(tmp_path / "in.jsonl", "--against", items, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert [row["id"] for row in read_lines(tmp_path / "out/kept/in.jsonl")] == ["clean"]
    reasons = ["contaminated", "not_json", "not_unicode", "not_an_object", "no_text"]
    assert [row["reason"] for row in read_lines(tmp_path / "out/dropped/in.jsonl")] == reasons
    assert "contaminated texts            1 of 6" in done.stderr
    assert "rows not searched             4" in done.stderr


def test_limits_must_go_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--shortest is 14; it must lie between 4 and --ngram \\(13\\)"):
        Limits(13, 14)
    with pytest.raises(InputError, match="No benchmark item has 8 words or more; lower --shortest"):
        index_of(tmp_path, {"question": "Too short?"})
    index = index_of(tmp_path, {"question": "one two three four five six"}, ngram=5, shortest=4)
    assert [match.tokens for match in matches(index, "two three four five six", "two three four five")] == [5]


def test_rows_of_a_benchmark_may_differ_in_their_fields(tmp_path: Path) -> None:
    rows = [{"foo": 1}, {"question": QUESTION, "text": [1]}, {"text": f"{PROSE}{PROSE}"}]
    index = index_of(tmp_path, *rows)
    assert [match.item for match in matches(index, QUESTION, PROSE)] == [1, 2]
    assert index.too_short == 1


def test_a_damaged_line_of_a_benchmark_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"question": "a"}\n\n{"question": \n')
    with pytest.raises(InputError, match=r"broken\.jsonl, line 3 is not valid JSON"):
        read_benchmarks(find_files([str(path)]))


# ── the command ──


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two files: Parquet (rows 1 and 3 contaminated) and JSON Lines (row 0; one line is no JSON)."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    texts = [PROSE, f"{PROSE}{QUESTION.upper()}", None, f"{QUESTION[:-1]}s {PROSE}"]
    table = pa.table({"id": ["a", "b", "c", "d"], "text": texts, "score": [1, 2, 3, 4]})
    pq.write_table(table, folder / "a.parquet")
    lines = [json.dumps({"id": 1, "text": f"{PROSE}{QUESTION}", "more": [1]}), "not json", json.dumps({"text": PROSE})]
    (folder / "b.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def items(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "gulls.jsonl", [{"id": "q1", "question": QUESTION, "answer": "60"}])


def test_contaminated_rows_go_to_dropped_with_the_item_and_unusable_ones_with_their_reason(
    tmp_path: Path, corpus: Path, items: Path
) -> None:
    before = files_of(corpus)
    out = tmp_path / "out"
    done = run_command(corpus, "--against", items, "--out", out)
    assert done.exit_code == 0, done.output
    kept, dropped = (
        pq.read_table(out / "kept" / "corpus" / "a.parquet"),
        pq.read_table(out / "dropped" / "corpus" / "a.parquet").to_pylist(),
    )
    assert kept.to_pylist() == pq.read_table(corpus / "a.parquet").take([0]).to_pylist()
    assert [(row["id"], row["score"], row["reason"]) for row in dropped] == [
        ("b", 2, "contaminated"),
        ("c", 3, "text_not_string"),
        ("d", 4, "contaminated"),
    ]
    detail = json.loads(dropped[0]["detail"])
    assert (detail["benchmark"], detail["item"], detail["field"], detail["tokens"]) == (
        "gulls.jsonl",
        "q1",
        "question",
        22,
    )
    assert detail["span"] == QUESTION.upper().rstrip("?")
    assert detail["items"] == 1
    assert (out / "kept" / "corpus" / "b.jsonl").read_text().splitlines() == [json.dumps({"text": PROSE})]
    line, bad = read_lines(out / "dropped" / "corpus" / "b.jsonl")
    assert (bad["line"], bad["reason"]) == ("not json", "not_json")
    assert (line["id"], line["more"], line["reason"]) == (1, [1], "contaminated")
    assert json.loads((out / "stage.json").read_bytes())["counts"] == {
        "rows": 7,
        "kept": 2,
        "reasons": {"contaminated": 3, "not_json": 1, "text_not_string": 1},
    }
    assert files_of(corpus) == before


def test_the_report_names_text_item_and_place(tmp_path: Path, corpus: Path, items: Path) -> None:
    out = tmp_path / "out"
    done = run_command(corpus, "--against", items, "--out", out, "--workers", 2)
    report = [line for path in sorted((out / "contamination").iterdir()) for line in read_lines(path)]
    assert [(line["file"], line["row"], line["id"], line["item"]) for line in report] == [
        ("corpus/a.parquet", 1, "b", "q1"),
        ("corpus/a.parquet", 3, "d", "q1"),
        ("corpus/b.jsonl", 0, 1, "q1"),
    ]
    assert report[0]["start"] == len(PROSE)
    assert report[0]["end"] == len(PROSE) + len(QUESTION) - 1
    assert (report[0]["share"], report[1]["share"]) == (1.0, pytest.approx(21 / 22, abs=1e-3))
    found = json.loads((out / "stage.json").read_bytes())["contamination"]
    assert found["benchmarks"] == {"gulls.jsonl": {"items": 1, "items_hit": 1, "texts": 3}}
    assert "contaminated texts            3 of 7" in done.output
    assert "gulls.jsonl" in done.output


def test_a_long_span_is_shown_by_its_ends(tmp_path: Path) -> None:
    long = " ".join(f"word{i}" for i in range(200))
    data = write_lines(tmp_path / "data.jsonl", [{"text": long}])
    items = write_lines(tmp_path / "items.jsonl", [{"question": long}])
    run_command(data, "--against", items, "--out", tmp_path / "out")
    (line,) = read_lines(tmp_path / "out" / "contamination" / "00000.jsonl")
    assert line["span"].startswith("word0 ") and line["span"].endswith(" word199")
    assert len(line["span"]) == SPAN_CHARACTERS + len(" … ")
    assert (line["start"], line["end"], line["tokens"]) == (0, len(long), 200)


def test_an_audit_writes_what_would_be_removed_and_no_kept(tmp_path: Path, corpus: Path, items: Path) -> None:
    out = tmp_path / "out"
    assert run_command(corpus, "--against", items, "--out", out, "--only-report").exit_code == 0
    assert not (out / "kept").exists()
    assert pq.read_table(out / "dropped" / "corpus" / "a.parquet")["id"].to_pylist() == ["b", "c", "d"]
    assert len(read_lines(out / "contamination" / "00000.jsonl")) == 2


def test_running_twice_changes_nothing_and_other_settings_are_refused(
    tmp_path: Path, corpus: Path, items: Path
) -> None:
    out = tmp_path / "out"
    first = run_command(corpus, "--against", items, "--out", out)
    before = files_of(out)
    again = run_command(corpus, "--against", items, "--out", out)
    assert (again.exit_code, again.output) == (0, first.output)
    assert files_of(out) == before
    refused = run_command(corpus, "--against", items, "--out", out, "--ngram", 12)
    assert isinstance(refused.exception, InputError)
    assert "ngram" in str(refused.exception)
    write_lines(items, [{"question": QUESTION + " More?"}])
    changed = run_command(corpus, "--against", items, "--out", out)
    assert isinstance(changed.exception, InputError)
    assert "against" in str(changed.exception)
    assert files_of(out) == before


def test_a_run_folder_is_read_by_its_kept_texts_and_the_output_is_one(tmp_path: Path, items: Path) -> None:
    run = tmp_path / "run"
    (run / "kept").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    pq.write_table(pa.table({"id": ["a", "b"], "text": [PROSE, QUESTION]}), run / "kept" / "00000.parquet")
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_command(run, "--against", items, "--out", first).exit_code == 0
    assert pq.read_table(first / "kept" / "00000.parquet")["id"].to_pylist() == ["a"]
    assert run_command(first, "--against", items, "--out", second).exit_code == 0
    assert json.loads((second / "stage.json").read_bytes())["counts"] == {"rows": 1, "kept": 1, "reasons": {}}


def test_several_benchmarks_of_either_kind(tmp_path: Path, corpus: Path, items: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    nested = pa.array([{"text": ["no", PROSE], "label": ["A", "B"]}])
    pq.write_table(pa.table({"id": ["p"], "choices": nested}), folder / "ferry.parquet")
    out = tmp_path / "out"
    done = run_command(corpus, "--against", items, "--against", folder, "--out", out)
    assert done.exit_code == 0, done.output
    found = json.loads((out / "stage.json").read_bytes())["contamination"]["benchmarks"]
    assert found["more/ferry.parquet"] == {"items": 1, "items_hit": 1, "texts": 5}
    assert found["gulls.jsonl"]["texts"] == 3


def test_mistakes_are_said_in_a_sentence(tmp_path: Path, corpus: Path, items: Path) -> None:
    numbers = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"text": [1, 2]}), numbers)
    nothing = write_lines(tmp_path / "nothing.jsonl", [{"foo": "bar"}])
    for arguments, said in [
        ((numbers, "--against", items), "Column 'text' of numbers.parquet holds numbers, not text"),
        (
            (corpus, "--against", nothing),
            "hold questions or answers; it has: foo. Choose with --fields.",
        ),
        ((corpus, "--against", tmp_path / "absent.jsonl"), "There is no file, folder or match for"),
        ((corpus / "a.parquet", "--against", items, "--text-key", "body"), "a.parquet has no column 'body'"),
    ]:
        done = run_command(*arguments, "--out", tmp_path / "out" / str(len(said)))
        assert isinstance(done.exception, InputError)
        assert said in str(done.exception)


KILLED = """
import sys, time, typer
from mga.curation import stage
from mga.cli.decontaminate import decontaminate
real = stage.write_json
def slow(path, value):
    time.sleep(0.15 if path.parent.name == "parts" else 0)
    real(path, value)
stage.write_json = slow
typer.run(decontaminate)
"""


def test_killed_and_continued_gives_what_an_undisturbed_run_gives(tmp_path: Path, items: Path) -> None:
    folder = tmp_path / "corpus"
    for number in range(8):
        rows = [{"id": f"{number}-{i}", "text": f"{PROSE}{QUESTION if i % 7 == 0 else i}"} for i in range(50)]
        write_lines(folder / f"{number}.jsonl", rows)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run_command(folder, "--against", items, "--out", whole).exit_code == 0
    command = [sys.executable, "-c", KILLED, str(folder), "--against", str(items), "--out", str(out)]
    kills = 0
    for after in (1, 3, 6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait_for(lambda after=after: len(list((out / "parts").glob("*.json"))) >= after)
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
    assert kills == 3
    assert len(list((out / "parts").glob("*.json"))) < 8
    assert run_command(folder, "--against", items, "--out", out).exit_code == 0
    left, right = files_of(out), files_of(whole)
    for files in left, right:
        record = json.loads(files.pop("stage.json"))
        assert record["counts"] == {"rows": 400, "kept": 336, "reasons": {"contaminated": 64}}
    assert left == right


def wait_for(condition: Any, limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
