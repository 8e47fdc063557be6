"""A run cleaned again is the run it would have been with the new thresholds, as far as no model need be asked."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from mga.cli.clean import clean
from mga.config import CleaningRules, load_config
from mga.curation.clean import NOT_BY_RULES, Policy, by_document, clean_again, decided, policy_of
from mga.data.corpus_files import open_corpus
from mga.data.outcomes import KEPT_SCHEMA, write_rows
from mga.errors import InputError
from mga.expand.boilerplate import load_phrases
from mga.expand.judge import is_judged
from mga.records import Document
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run

SENTENCES = {
    "en": "Harbour {0} was rebuilt slowly after the storm by masons from the northern quarry town. ",
    "fr": "Le café numéro {0} fut réparé après l’été par des élèves très fatigués du collège voisin. ",
    "zh": "第{0}座灯塔在暴风雨之后由北方采石场的工匠慢慢重建，渔民们每天清晨都从山上搬运石头。",
}
LOOSE = {"min_words": 0, "max_repeated": 1.0, "max_copied": 1.0, "min_coverage": 0.0, "max_cut": 1.0}
PARTS = ("kept", "dropped", "failed")


def texts(count: int) -> list[str]:
    kinds = list(SENTENCES.values())
    return ["".join(kinds[i % 3].format(f"{i}{k}") for k in range(3 + i % 4)) for i in range(count)]


def make_run(folder: Path, name: str, count: int = 36, **settings: Any) -> Path:
    """A run by the scripted engine, a third of whose replies are flawed."""
    source = folder / "in.jsonl"
    if not source.exists():
        rows = [json.dumps({"id": f"doc-{i}", "text": text}, ensure_ascii=False) for i, text in enumerate(texts(count))]
        source.write_text("\n".join(rows), encoding="utf-8")
    flags = {"input": [str(source)], "engine": "scripted:?flaws=0.35", "shard_size": 8, **settings}
    asyncio.run(expand(load_config(None, flags), Run(folder / name), Progress(Console(stderr=True), quiet=True)))
    return folder / name


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reclean")


@pytest.fixture(scope="module")
def judged(room: Path) -> Path:
    """A run whose texts were all judged. Tests change copies of it."""
    return make_run(room, "judged")


@pytest.fixture(scope="module")
def unjudged(room: Path) -> Path:
    """The same without a judge."""
    return make_run(room, "no-judge", judge="none")


def policy(run: Path, unjudged: Any = "drop", min_score: int | None = None, **rules: Any) -> Policy:
    return policy_of(Run(run).record(), None, {"cleaning": rules, "min_score": min_score}, unjudged)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def by_id(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({row["id"] for row in found}) == len(found)
    return {row["id"]: row for row in found}


def tree(folder: Path, parts: Sequence[str] = ("",)) -> dict[str, bytes]:
    files = (path for part in parts for path in sorted((folder / part).rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def assert_adds_up(run: Path, out: Path) -> None:
    """Every row of the run is in the result once, and the record counts what lies there."""
    before = [row["id"] for part in PARTS for row in rows(run / part)]
    after = {part: [row["id"] for row in rows(out / part)] for part in PARTS}
    assert sorted(before) == sorted(id_ for ids in after.values() for id_ in ids)
    record = json.loads((out / "stage.json").read_bytes())
    counts = record["counts"]
    assert (counts["kept"], record["failed"]) == (len(after["kept"]), len(after["failed"]))
    assert counts["reasons"] == Counter(row["reason"] for row in rows(out / "dropped"))
    assert counts["rows"] == counts["kept"] + sum(counts["reasons"].values())
    assert record["tokens_after"] == sum(row["n_tokens"] for row in rows(out / "kept"))


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_runs_own_thresholds_give_the_runs_own_files(judged: Path, tmp_path: Path) -> None:
    figures = clean_again(judged, tmp_path / "out", policy(judged))
    assert tree(tmp_path / "out", PARTS) == tree(judged, PARTS)
    assert figures.before == figures.after
    assert figures.tokens_before == figures.tokens_after == Run(judged).stats().kept_tokens
    assert_adds_up(judged, tmp_path / "out")


@pytest.mark.parametrize("rules", [LOOSE, {"min_words": 110}, {"max_copied": 0.2, "max_repeated": 0.05}])
def test_it_is_the_run_that_the_thresholds_would_have_made(
    room: Path, unjudged: Path, tmp_path: Path, rules: dict[str, float]
) -> None:
    wanted = make_run(room, f"wanted-{hash(str(rules))}", judge="none", cleaning=rules)
    clean_again(unjudged, tmp_path / "out", policy(unjudged, **rules))
    assert_adds_up(unjudged, tmp_path / "out")
    for part in ("kept", "dropped"):
        ours, theirs = by_id(rows(tmp_path / "out" / part)), by_id(rows(wanted / part))
        assert ours.keys() == theirs.keys()
        for id_, row in ours.items():
            assert row | {"run": ""} == theirs[id_] | {"run": ""}
    assert by_id(rows(tmp_path / "out" / "kept")).keys() != by_id(rows(unjudged / "kept")).keys()


def test_a_text_that_passes_now_was_never_judged(judged: Path, tmp_path: Path) -> None:
    kept_before = by_id(rows(judged / "kept")).keys()
    rule_drops = [row for row in rows(judged / "dropped") if row["reason"] not in (*NOT_BY_RULES, "low_score")]
    passing = {row["id"] for row in rule_drops if row["reason"] != "refusal"}
    assert passing
    clean_again(judged, tmp_path / "drop", policy(judged, **LOOSE))
    clean_again(judged, tmp_path / "keep", policy(judged, "keep", **LOOSE))
    gone = {row["id"]: row["detail"] for row in rows(tmp_path / "drop" / "dropped") if row["reason"] == "unjudged"}
    assert gone.keys() == passing
    assert {detail.split(" as ")[1].split(",")[0] for detail in gone.values()} == {
        row["reason"] for row in rule_drops if row["reason"] != "refusal"
    }
    kept = by_id(rows(tmp_path / "keep" / "kept"))
    assert kept.keys() == kept_before | passing
    assert {kept[id_]["score"] for id_ in passing} == {None}
    for out in ("drop", "keep"):
        assert_adds_up(judged, tmp_path / out)


def test_texts_outside_the_judged_share_are_kept_without_a_verdict(room: Path, tmp_path: Path) -> None:
    half = make_run(room, "half", judge=0.5)
    clean_again(half, tmp_path / "out", policy(half, **LOOSE))
    revived = by_id(rows(tmp_path / "out" / "kept")).keys() - by_id(rows(half / "kept")).keys()
    unjudged = {row["id"] for row in rows(tmp_path / "out" / "dropped") if row["reason"] == "unjudged"}
    assert revived
    assert unjudged
    assert not any(is_judged(id_, 0.5) for id_ in revived)
    assert all(is_judged(id_, 0.5) for id_ in unjudged)


def test_verdicts_are_judged_by_the_new_least_score(judged: Path, tmp_path: Path) -> None:
    scored = [row for part in ("kept", "dropped") for row in rows(judged / part) if row["score"] is not None]
    for least in (1, 2, 5):
        out = tmp_path / str(least)
        clean_again(judged, out, policy(judged, min_score=least))
        assert by_id(rows(out / "kept")).keys() == {row["id"] for row in scored if row["score"] >= least}
        low = [row for row in rows(out / "dropped") if row["reason"] == "low_score"]
        assert {row["detail"] for row in low} == {f"score {row['score']} is below {least}" for row in low}
        assert_adds_up(judged, out)


def test_what_only_a_model_could_change_stays_as_it_was(judged: Path, tmp_path: Path) -> None:
    clean_again(judged, tmp_path / "out", policy(judged, "keep", min_score=1, **LOOSE))
    left = by_id(rows(tmp_path / "out" / "dropped"))
    stays = [row for row in rows(judged / "dropped") if row["reason"] in (*NOT_BY_RULES, "refusal")]
    assert {row["reason"] for row in stays} >= {"invalid_pairs", "cut_off", "empty_reply", "refusal"}
    assert left == by_id(stays)
    assert tree(tmp_path / "out", ["failed"]) == tree(judged, ["failed"]) != {}


def test_rows_stay_in_order_with_a_documents_rows_together(judged: Path, tmp_path: Path) -> None:
    clean_again(judged, tmp_path / "out", policy(judged, "keep", **LOOSE))
    for part in ("kept", "dropped"):
        sources = [row["source_id"] for row in rows(tmp_path / "out" / part)]
        seen = list(dict.fromkeys(sources))
        assert sources == [source for source in seen for _ in range(sources.count(source))]
    kept = [row["id"] for row in rows(judged / "kept")]
    assert [row["id"] for row in rows(tmp_path / "out" / "kept") if row["id"] in set(kept)] == kept


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=24))
def test_documents_come_together_and_lose_no_row(drawn: list[tuple[int, bool]]) -> None:
    made = [
        {"source_id": f"{d}", "chunk_id": f"{d}#0", "raw_text": "", "n": n, "kept": k}
        for n, (d, k) in enumerate(sorted(drawn))
    ]
    kept, dropped = [row for row in made if row["kept"]], [row for row in made if not row["kept"]]
    groups = list(by_document(kept, dropped))
    assert sorted(row["n"] for group in groups for row in group) == list(range(len(made)))
    assert len(groups) == len({row["source_id"] for row in made})
    for part in (True, False):
        order = [row["n"] for group in groups for row in group if row["kept"] is part]
        assert order == sorted(order)


# ── one row ──────────────────────────────────────────────────────────────────────────────────────────────────────

BODY = "Martha walked her orchard by lantern light, and forty kinds of apple trees stood in rows behind the old mill. "


def row(text: str, head: str = "", tail: str = "", **more: Any) -> dict[str, Any]:
    empty = dict.fromkeys(KEPT_SCHEMA.names)
    parts = {"id": "ab" * 16, "text": text, "stripped_prefix": head or None, "stripped_suffix": tail or None}
    return empty | parts | {"n_tokens": 40, "score": 4, "raw_text": BODY, "source_id": "a", **more}


def decide(given_row: dict[str, Any], rules: CleaningRules, min_score: int = 3) -> dict[str, Any]:
    document = Document("a", given_row["raw_text"], "")
    return decided(given_row, document, Policy(rules, min_score, "all", False), load_phrases(rules.phrases))


def whole(given_row: dict[str, Any]) -> str:
    return (given_row["stripped_prefix"] or "") + given_row["text"] + (given_row["stripped_suffix"] or "")


def test_other_phrases_cut_anew_and_the_score_stays(tmp_path: Path) -> None:
    phrases = tmp_path / "phrases.toml"
    phrases.write_text("openings = ['Hark']\nclosings = []\nrefusals = []\n")
    rules = CleaningRules(max_copied=1.0, min_words=5, phrases=str(phrases))
    now = decide(row(BODY.strip(), "Sure! Here is the text:\n\n", "\n\nI hope this helps!"), rules)
    assert now["reason"] is None
    assert now["text"] == "Sure! Here is the text:\n\n" + BODY.strip() + "\n\nI hope this helps!"
    assert (now["stripped_prefix"], now["stripped_suffix"], now["score"]) == (None, None, 4)
    assert now["n_tokens"] > 40
    other = decide(row("Hark: " + BODY.strip()), rules)
    assert (other["text"], other["stripped_prefix"], other["score"]) == (BODY.strip(), "Hark: ", 4)
    assert other["n_tokens"] < 40


def test_a_row_that_a_rule_drops_holds_the_whole_reply_and_its_verdict() -> None:
    now = decide(row(BODY.strip(), "Sure! Here is the text:\n\n"), CleaningRules(min_words=500))
    assert (now["reason"], now["detail"]) == ("too_short", "20 words")
    assert (now["text"], now["stripped_prefix"], now["score"]) == (
        "Sure! Here is the text:\n\n" + BODY.strip(),
        None,
        4,
    )


@given(
    st.sampled_from(["", "Sure! Here is the rewritten text:\n\n", "以下是改写后的文本：", "Hark: "]),
    st.text(st.sampled_from("aé 苹果。\n."), min_size=1, max_size=60).filter(str.strip),
    st.sampled_from(["", "\n\nI hope this helps!", "\n\n注意：改写时保留了原文的数字。"]),
    st.integers(1, 3000),
)
def test_cleaning_a_row_again_keeps_the_reply_and_settles(head: str, body: str, tail: str, tokens: int) -> None:
    rules = CleaningRules.model_validate(LOOSE)
    reply = (head + body + tail).strip()
    once = decide(row(reply, n_tokens=tokens), rules)
    twice = decide({name: once[name] for name in [*KEPT_SCHEMA.names, "reason", "detail"]}, rules)
    assert whole(once) == whole(twice) == reply
    assert [twice[name] for name in KEPT_SCHEMA.names] == [once[name] for name in KEPT_SCHEMA.names]


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(clean)


def said(*arguments: object) -> str:
    """What the command printed. Its errors are raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_the_verb_prints_before_and_after(judged: Path, tmp_path: Path) -> None:
    out = said(judged, "--out", tmp_path / "out", "--min-score", 5, "--workers", 1)
    figures = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith(" ")}
    kept = len(rows(tmp_path / "out" / "kept"))
    assert figures["kept"][:2] == [str(len(rows(judged / "kept"))), str(kept)]
    low = [
        sum(row["reason"] == "low_score" for row in rows(folder / "dropped")) for folder in (judged, tmp_path / "out")
    ]
    assert figures["low_score"] == [str(low[0]), str(low[1]), f"+{low[1] - low[0]}"]
    assert figures["refusal"][0] == figures["refusal"][1]


def test_flags_win_over_the_file_and_the_file_over_the_run(room: Path, tmp_path: Path) -> None:
    strict = make_run(room, "strict", cleaning={"min_words": 33, "max_copied": 0.7})
    (tmp_path / "rules.toml").write_text("pairs = 3\nmin_score = 4\n[cleaning]\nmax_copied = 0.6\nmax_cut = 0.4\n")
    found = policy_of(Run(strict).record(), tmp_path / "rules.toml", {"cleaning": {"max_cut": 0.3, "phrases": None}})
    assert found.rules == CleaningRules(min_words=33, max_copied=0.6, max_cut=0.3)
    assert found.min_score == 4
    said(strict, "--out", tmp_path / "out", "--config", tmp_path / "rules.toml", "--max-cut", 0.3, "--workers", 1)
    settings = json.loads((tmp_path / "out" / "stage.json").read_bytes())["settings"]
    held = settings["cleaning"]
    assert (held["min_words"], held["max_copied"], held["max_cut"], settings["min_score"]) == (33, 0.6, 0.3, 4)


def test_giving_it_twice_changes_nothing_and_other_thresholds_are_refused(judged: Path, tmp_path: Path) -> None:
    arguments = (judged, "--out", tmp_path / "out", "--workers", 1)
    first = said(*arguments)
    before = tree(tmp_path / "out")
    assert said(*arguments) == first
    assert tree(tmp_path / "out") == before
    with pytest.raises(InputError, match=r"cleaning\.min_words \(20 → 7\).*another --out"):
        said(*arguments, "--min-words", 7)
    assert tree(tmp_path / "out") == before


def test_the_run_itself_is_never_changed(judged: Path, tmp_path: Path) -> None:
    before = tree(judged)
    said(judged, "--out", tmp_path / "out", "--min-words", 110, "--workers", 1)
    assert tree(judged) == before


def test_only_a_report_leaves_what_would_be_dropped(judged: Path, tmp_path: Path) -> None:
    whole_said = said(judged, "--out", tmp_path / "whole", "--min-words", 110, "--workers", 1)
    report_said = said(judged, "--out", tmp_path / "report", "--min-words", 110, "--workers", 1, "--only-report")
    assert report_said.splitlines()[:-1] == whole_said.splitlines()[:-1]
    assert tree(tmp_path / "report", ["dropped"]) == tree(tmp_path / "whole", ["dropped"])
    assert not (tmp_path / "report" / "kept").exists()


def test_processes_give_the_same_bytes_as_one(judged: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        said(judged, "--out", tmp_path / str(workers), "--min-words", 110, "--workers", workers)
    folders = (*PARTS, "parts")
    assert tree(tmp_path / "1", folders) == tree(tmp_path / "2", folders)


def test_the_result_is_a_corpus(judged: Path, tmp_path: Path) -> None:
    said(judged, "--out", tmp_path / "out", "--min-score", 5, "--workers", 1)
    corpus = open_corpus([tmp_path / "out"])
    found = sum(batch.rows.num_rows for file in corpus.files for batch in corpus.batches(file))
    assert found == len(rows(tmp_path / "out" / "kept"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--min-words", "-3"], ["cleaning.min_words", "-3"]),
        (["--max-copied", "1.5"], ["cleaning.max_copied", "1.5"]),
        (["--min-score", "9"], ["min_score", "9"]),
        (["--phrases", "nowhere.toml"], ["nowhere.toml"]),
        (["--config", "nowhere.toml"], ["nowhere.toml"]),
    ],
)
def test_bad_thresholds_are_refused(judged: Path, tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        said(judged, "--out", tmp_path / "out", *arguments)
    assert all(word in str(refused.value) for word in words)
    assert not (tmp_path / "out").exists()


def test_a_misspelt_setting_names_the_right_one(judged: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[cleaning]\nmin_word = 3\n")
    with pytest.raises(InputError, match="min_words"):
        said(judged, "--out", tmp_path / "out", "--config", tmp_path / "rules.toml")


def test_what_is_no_run_is_refused(judged: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        said(tmp_path, "--out", tmp_path / "out")
    shutil.copytree(judged, tmp_path / "begun")
    shutil.rmtree(tmp_path / "begun" / "shards")
    with pytest.raises(InputError, match="no finished shard yet"):
        said(tmp_path / "begun", "--out", tmp_path / "out")
    with pytest.raises(InputError, match="choose another --out"):
        said(judged, "--out", judged / "kept" / "out", "--workers", 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_lacks_rows_is_refused(judged: Path, tmp_path: Path, workers: int) -> None:
    run = shutil.copytree(judged, tmp_path / "run")
    victim = run / "kept" / "00001.parquet"
    victim.write_bytes(victim.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"00001\.parquet cannot be read.*Restore it"):
        said(run, "--out", tmp_path / "out", "--workers", workers)
    victim.unlink()
    with pytest.raises(InputError, match=r"00001\.parquet is missing, although its shard is finished"):
        said(run, "--out", tmp_path / "other", "--workers", workers)


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────────────────────


def start(run: Path, out: Path) -> subprocess.Popen[bytes]:
    code = "import typer; from mga.cli.clean import clean; typer.run(clean)"
    command = [sys.executable, "-c", code, str(run), "--out", str(out), "--workers", "2", "--min-words", "110"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(reached: Any, what: str) -> None:
    deadline = monotonic() + 30
    while not reached():
        assert monotonic() < deadline, what
        sleep(0.01)


def processes_below(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
def test_a_killed_one_leaves_no_process_and_goes_on_where_it_was(judged: Path, tmp_path: Path) -> None:
    run, out = shutil.copytree(judged, tmp_path / "run"), tmp_path / "out"
    last = max((run / "kept").iterdir())
    slow = [row | {"text": row["text"] * 500} for row in pq.read_table(last).to_pylist()]
    write_rows(last, slow, KEPT_SCHEMA)
    clean_again(run, tmp_path / "whole", policy(run, min_words=110))

    killed = start(run, out)
    until(lambda: len(list((out / "parts").glob("*.json"))) >= 2, "no shard was done")
    below = processes_below(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=20)
    assert len(below) >= 2
    until(lambda: not any(map(is_alive, below)), "a process outlived the one that began it")
    done = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.json")}
    assert "counts" not in json.loads((out / "stage.json").read_bytes())
    with pytest.raises(InputError, match="not finished"):
        open_corpus([out])

    again = start(run, out)
    _, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert {name: (out / "parts" / name).stat().st_mtime_ns for name in done} == done
    folders = (*PARTS, "parts")
    assert tree(out, folders) == tree(tmp_path / "whole", folders)
    assert_adds_up(run, out)
    assert not (out / ".scratch").exists()
