"""`mga boilerplate`: what a model repeats all over is proposed, what the documents say is not, decisions stay."""

import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mga.cli.boilerplate import boilerplate
from mga.curation.boilerplate.mining import (
    ANYWHERE,
    CLOSING,
    ENDING,
    EXACT,
    LONG,
    LONGEST,
    OPENING,
    SHORT,
    Filter,
    Tally,
    closing_words,
    phrases_in,
)
from mga.curation.boilerplate.patterns import log_odds
from mga.errors import InputError
from mga.expand.corpus_boilerplate import _FOLD, Pattern, closing_starts, phrase_words, read_patterns, word_spans
from mga.text.tokens import JOINS, folding, tokens_of

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(boilerplate)
ROOT = Path(__file__).parents[1]

DOCUMENTS = 250
TEXTS = 4
Row = dict[str, Any]


def prose(rng: random.Random, sentences: int) -> str:
    """Sentences of made-up words, of which few runs of three occur twice."""
    made = []
    for _ in range(sentences):
        words = ["".join(rng.choices("abdeiklmnorstu", k=rng.randint(2, 8))) for _ in range(rng.randint(6, 12))]
        made.append(f"{' '.join(words).capitalize()}.")
    return " ".join(made)


def corpus(plant: Any = lambda text, row, rng: text, original: Any = lambda text, document, rng: text) -> list[Row]:
    """1,000 texts of 250 documents; `plant` puts a phrase into a text, `original` into a document."""
    rng = random.Random(5)
    rows = []
    for document in range(DOCUMENTS):
        raw = original(prose(rng, 12), document, rng)
        for text in range(TEXTS):
            row = document * TEXTS + text
            rows.append(
                {
                    "id": str(row),
                    "text": plant(prose(rng, 4), row, rng),
                    "source_id": f"d{document}",
                    "raw_text": raw,
                }
            )
    return rows


def parquet(path: Path, rows: list[Row]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def found(path: Path, out: Path, *options: str) -> tuple[list[Pattern], str]:
    """What the command writes, and what it says."""
    result = CliRunner().invoke(APP, [str(path), "--out", str(out), *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return read_patterns(out), " ".join(result.output.split())


def phrases(proposed: list[Pattern]) -> set[tuple[str, str]]:
    return {(pattern.where, " ".join(phrase_words(pattern.phrase))) for pattern in proposed}


def every(n: int, change: Any) -> Any:
    """A change to every n-th row."""
    return lambda text, row, rng: change(text, rng) if row % n == 0 else text


def into(text: str, phrase: str, rng: random.Random) -> str:
    words = text.split()
    at = rng.randint(len(words) // 3, 2 * len(words) // 3)
    return " ".join([*words[:at], phrase, *words[at:]])


def planted(text: str, row: int, rng: random.Random) -> str:
    """Six phrases, each in 4% of the texts, written in different ways."""
    name = rng.choice(["Ann", "the moon", "old Tom", "rye bread", "Lee"]) + f" {row}"
    return {
        0: f"{rng.choice(['Once upon a time', 'ONCE UPON A TIME,', '“Once, upon a time'])} {text}",
        1: f"{text} {rng.choice(['Thanks for', 'thanks  for'])} reading, {name}!",
        2: f"{text}\n\nAnd so the tale of {name} ends",
        3: into(text, rng.choice(["is a true testament to", "is a true—testament to"]), rng),
        4: f"親愛的讀者，{text}",
        5: into(text, rng.choice(["à la manière d’antan", "a la maniere d'antan"]), rng),
    }.get(row % 25, text)


PLANTED = {
    ("opening", "once upon a time"),
    ("closing", "thanks for reading"),
    ("closing", "and so the tale of"),
    ("anywhere", "is a true testament to"),
    ("opening", "親 愛 的 讀 者"),
    ("anywhere", "a la maniere d antan"),
}


@pytest.fixture(scope="module")
def planted_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parquet(tmp_path_factory.mktemp("planted") / "texts.parquet", corpus(planted))


def test_what_is_planted_is_found_in_its_place_and_nothing_else(planted_corpus: Path, tmp_path: Path) -> None:
    proposed, said = found(planted_corpus, tmp_path / "patterns.toml")
    assert phrases(proposed) == PLANTED
    assert {(p.texts, p.share, p.originals) for p in proposed} == {(40, 0.04, 0.0)}
    assert all(p.z is not None and p.z >= 3 for p in proposed)
    assert "2 openings, 2 closings, 2 anywhere" in said
    assert all(1 <= len(p.examples) <= 3 and p.phrase in p.examples[0] for p in proposed)


def test_a_run_and_json_lines_give_what_parquet_gives(planted_corpus: Path, tmp_path: Path) -> None:
    rows = pq.read_table(planted_corpus).to_pylist()
    run = tmp_path / "run"
    (run / "kept").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    parquet(run / "kept" / "00000.parquet", rows[:600])
    parquet(run / "kept" / "00001.parquet", rows[600:])
    lines = tmp_path / "texts.jsonl"
    lines.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows) + b"not a row\n\n")
    of_run, _ = found(run, tmp_path / "run.toml")
    of_lines, _ = found(lines, tmp_path / "lines.toml")
    of_parquet, _ = found(planted_corpus, tmp_path / "parquet.toml")
    assert of_run == of_parquet
    assert {(*p.key, p.texts, p.share) for p in of_lines} == {(*p.key, p.texts, p.share) for p in of_parquet}


def test_any_number_of_threads_and_a_second_time_give_the_same_file(planted_corpus: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "a.toml", tmp_path / "b.toml"
    found(planted_corpus, out, "--workers", "1")
    found(planted_corpus, other, "--workers", "3")
    assert out.read_bytes() == other.read_bytes()
    _, said = found(planted_corpus, out)
    assert out.read_bytes() == other.read_bytes()
    assert "0 new, 6 found again, 0 kept from before" in said


def test_what_the_originals_say_too_is_not_proposed(tmp_path: Path) -> None:
    topic = "the silent wheels of the mill"
    rows = corpus(
        every(10, lambda text, rng: f"The silent wheels of the mill {text}"),
        lambda text, document, rng: into(text, topic, rng) if document % 10 == 0 else text,
    )
    assert found(parquet(tmp_path / "both.parquet", rows), tmp_path / "p.toml")[0] == []


def test_what_few_sources_say_is_not_proposed(tmp_path: Path) -> None:
    rows = corpus(lambda text, row, rng: into(text, "the lamp of the keeper", rng) if row < 80 else text)
    for row in rows:
        row["source_id"] = f"d{int(row['source_id'][1:]) // 4}"
    texts = parquet(tmp_path / "few.parquet", rows)
    assert found(texts, tmp_path / "few.toml")[0] == []
    parquet(texts, [{k: v for k, v in row.items() if k != "source_id"} for row in rows])
    assert phrases(found(texts, tmp_path / "none.toml")[0]) == {("anywhere", "the lamp of the keeper")}


def test_what_few_texts_say_is_not_proposed(tmp_path: Path) -> None:
    texts = parquet(tmp_path / "rare.parquet", corpus(every(30, lambda text, rng: f"Picture a quiet harbour {text}")))
    assert len(found(texts, tmp_path / "often.toml")[0]) == 1
    assert found(texts, tmp_path / "share.toml", "--min-share", "0.04")[0] == []
    assert found(texts, tmp_path / "texts.toml", "--min-texts", "35")[0] == []


def test_one_phrase_stands_for_its_parts_and_variants(tmp_path: Path) -> None:
    def tell(text: str, rng: random.Random) -> str:
        return f"Once upon a time {rng.choice(['there was a king who', 'there was a fox who', 'in'])} {text}"

    texts = parquet(tmp_path / "tales.parquet", corpus(every(8, tell)))
    assert phrases(found(texts, tmp_path / "p.toml")[0]) == {("opening", "once upon a time")}


def test_a_long_passage_is_proposed_once(tmp_path: Path) -> None:
    passage = "this was written to be read aloud in the evening by the fire with a cup of warm milk beside you"
    texts = parquet(tmp_path / "long.parquet", corpus(every(12, lambda text, rng: into(text, passage, rng))))
    assert phrases(found(texts, tmp_path / "p.toml")[0]) == {("anywhere", " ".join(passage.split()[:LONGEST]))}


def test_only_talk_about_the_task_is_proposed_to_be_cut(tmp_path: Path) -> None:
    def say(text: str, row: int, rng: random.Random) -> str:
        said = {
            0: f"Here is the reformulated piece for {rng.choice(['Ann', 'Bo', 'Cy'])}:\n\n{text}",
            1: f"Once upon a time {text}",
            2: f"{text} The original text was kept in {rng.choice(['mind', 'view', 'sight'])}.",
            3: into(text, "as rewritten for the target audience", rng),
        }
        return said.get(row % 16, text)

    proposed, _ = found(parquet(tmp_path / "remarks.parquet", corpus(say)), tmp_path / "p.toml")
    assert {p.phrase: (p.where, p.action) for p in proposed} == {
        "Here is the reformulated piece for": ("opening", "cut"),
        "Once upon a time": ("opening", "ignore"),
        "The original text was kept in": ("closing", "cut"),
        "as rewritten for the target audience": ("anywhere", "ignore"),
    }


def test_decisions_notes_and_entries_of_ones_own_are_kept(planted_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "patterns.toml"
    found(planted_corpus, out)
    text = re.sub(r'(where = "anywhere"\naction = )"ignore"', r'\1"drop"\nnote = "seen by \\"me\\""', out.read_text())
    text = re.sub(r'(phrase = ")Once([^"]*"\nwhere = "opening"\naction = )"ignore"', r'\1ONCE\2"cut"', text)
    out.write_text(text + '\n[[pattern]]\nphrase = "My own"\nwhere = "closing"\naction = "cut"\n')
    before = {p.key: (p.action, p.note) for p in read_patterns(out)}
    after, said = found(planted_corpus, out)
    assert {p.key: (p.action, p.note) for p in after} == before
    assert "0 new, 6 found again, 1 kept from before" in said
    assert Counter(p.action for p in after) == {"drop": 2, "cut": 2, "ignore": 3}


def test_without_originals_it_says_so_and_proposes_less(planted_corpus: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(planted_corpus, columns=["text"]), bare)
    proposed, said = found(bare, tmp_path / "p.toml")
    assert phrases(proposed) == {p for p in PLANTED if len(p[1].split()) >= 5}
    assert {p.action for p in proposed} == {"ignore"}
    assert {p.originals for p in proposed} == {None}
    assert "no originals to compare with" in said
    assert "no originals" in (tmp_path / "p.toml").read_text()


def test_originals_may_be_files_of_their_own(tmp_path: Path) -> None:
    rows = corpus(planted, lambda text, document, rng: into(text, "is a true testament to", rng))
    texts = parquet(tmp_path / "texts.parquet", [{"body": row["text"]} for row in rows])
    originals = tmp_path / "originals.jsonl"
    originals.write_bytes(b"".join(orjson.dumps({"said": row["raw_text"]}) + b"\n" for row in rows[::TEXTS]))
    options = ["--text-key", "body", "--originals", str(originals), "--original-key", "said"]
    proposed, _ = found(texts, tmp_path / "p.toml", *options)
    assert phrases(proposed) == PLANTED - {("anywhere", "is a true testament to")}


def test_a_sample_is_drawn_by_seed_and_said(planted_corpus: Path, tmp_path: Path) -> None:
    options = ["--sample", "500", "--seed"]
    found(planted_corpus, tmp_path / "a.toml", *options, "3")
    found(planted_corpus, tmp_path / "b.toml", *options, "3")
    found(planted_corpus, tmp_path / "c.toml", *options, "4")
    a, b, c = ((tmp_path / f"{name}.toml").read_text() for name in "abc")
    assert a == b
    assert a != c
    drawn = re.search(r"Counted on (\d+) texts, drawn from 1,000 rows by seed 3", a)
    assert drawn
    assert 420 < int(drawn[1]) < 580


def test_strange_rows_are_no_obstacle(tmp_path: Path) -> None:
    rows = corpus(every(20, lambda text, rng: f"Listen up, dear sailors: {text}"))
    rows += [{"id": "e", "text": text, "source_id": None, "raw_text": None} for text in (None, "", "…", "a", "\0 \x7f")]
    proposed, _ = found(parquet(tmp_path / "t.parquet", rows), tmp_path / "p.toml")
    assert phrases(proposed) == {("opening", "listen up dear sailors")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--text-key", "body"], "has no column 'body'; it has: id, text"),
        (["--original-key", "nothing"], "has a column 'nothing'.*--original-key"),
        (["--originals", "{corpus}", "--original-key", "nothing"], "has no column 'nothing'.*--original-key"),
    ],
)
def test_columns_that_are_not_there_are_named(
    planted_corpus: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    given_options = [option.format(corpus=planted_corpus) for option in options]
    with pytest.raises(InputError, match=message):
        found(planted_corpus, tmp_path / "p.toml", *given_options)


def test_a_file_that_is_something_else_is_not_written_over(planted_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.toml"
    out.write_text('title = "mine"\n')
    with pytest.raises(InputError, match="unknown key 'title'"):
        found(planted_corpus, out)
    assert out.read_text() == 'title = "mine"\n'
    with pytest.raises(InputError, match="is a folder; name a file"):
        found(planted_corpus, tmp_path)


def test_a_corpus_without_words_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has a text with words in it in 'text'"):
        found(parquet(tmp_path / "none.parquet", [{"text": "…"}, {"text": None}]), tmp_path / "p.toml")


def test_a_process_killed_leaves_the_old_file_and_the_same_command_writes_the_new(
    planted_corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "patterns.toml"
    found(planted_corpus, out, "--min-texts", "39", "--min-z", "1")
    held = out.read_bytes()
    code = "import typer; from mga.cli.boilerplate import boilerplate; typer.run(boilerplate)"
    command = [sys.executable, "-c", code, str(planted_corpus), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr
        assert b"reading 1" in process.stderr.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert out.read_bytes() == held
    found(planted_corpus, out)
    found(planted_corpus, tmp_path / "other.toml")
    assert out.read_bytes() == (tmp_path / "other.toml").read_bytes()


def test_the_file_says_how_to_review_it_and_is_toml(planted_corpus: Path, tmp_path: Path) -> None:
    found(planted_corpus, tmp_path / "p.toml")
    text = (tmp_path / "p.toml").read_text()
    assert 'patterns = "patterns.toml"' in text.partition("[[pattern]]")[0]
    assert set(tomllib.loads(text)["pattern"][0]) == {
        "phrase", "where", "action", "texts", "share", "originals", "z", "examples"
    }  # fmt: skip


def test_the_benchmark_finds_all_that_is_planted_and_nothing_else(tmp_path: Path) -> None:
    rng = random.Random(1)
    source = parquet(tmp_path / "s.parquet", [{"text": f"Title\n\n{prose(rng, 30)}"} for _ in range(60)])
    command = [sys.executable, str(ROOT / "bench" / "boilerplate.py"), str(source), "--texts", "12000"]
    done = subprocess.run([*command, "--planted", "0.02"], capture_output=True, text=True, timeout=120, check=True)
    assert "recall 1.000" in done.stdout, done.stdout
    assert "precision 1.000" in done.stdout, done.stdout
    assert "controls found: 0 of 9" in done.stdout, done.stdout


def slow_counts(texts: list[str], least: int) -> dict[tuple[int, tuple[int, ...]], int]:
    """Texts that have each phrase of each kind, where there are enough: counted in the plainest way."""
    column = pa.array(texts, pa.large_string())
    tokens = tokens_of(column)
    closings = closing_words(column, tokens)
    counts: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for i in range(len(texts)):
        words = tuple(tokens.hashes[tokens.offsets[i] : tokens.offsets[i + 1]].tolist())
        here = {(ANYWHERE, words[at : at + n]) for n in range(3, LONGEST + 1) for at in range(len(words) - n + 1)}
        for n in range(2, min(LONGEST, len(words)) + 1):
            here |= {(OPENING, words[:n]), (ENDING, words[-n:])}
            here |= {(CLOSING, words[at : at + n]) for at in closings[i].tolist() if 0 <= at <= len(words) - n}
        counts.update(here)
    return {phrase: count for phrase, count in counts.items() if count >= least}


TEXT = st.lists(st.sampled_from(["a ", "b ", "b ", "b. ", "c\n\n", "蜂", "。", "é "]), max_size=30).map("".join)


@given(st.lists(TEXT, min_size=1, max_size=12))
def test_three_readings_count_what_plain_counting_counts(texts: list[str]) -> None:
    least = 2
    column = pa.array(texts, pa.large_string())
    tokens = tokens_of(column)
    closings = closing_words(column, tokens)
    short, long, tally = Filter(12), Filter(12), Tally()
    for reading, filled in ((SHORT, short), (LONG, long)):
        for part in phrases_in(tokens, closings, reading, short, long):
            filled.add(part.keys)
        filled.close(least)
    for part in phrases_in(tokens, closings, EXACT, short, long):
        tally.add(part, tokens, np.arange(len(texts), dtype=np.uint64), 0)
    counted = {
        (int(tally.kinds[i]), tuple(tally.words[i, : tally.lengths[i]].tolist())): int(tally.counts[0, i])
        for i in range(tally.size)
        if tally.counts[0, i] >= least
    }
    assert counted == slow_counts(texts, least)


def test_the_last_sentence_and_paragraph_are_where_cleaning_finds_them() -> None:
    rng = random.Random(3)
    ends = [". ", "! ", "?” ", "… ", "。", "।", ".\n\n", "\n\n", "\n--- ", " ", ", ", ".", '." ', ".) ", "؟ "]
    for _ in range(300):
        text = "".join(f"w{i}{rng.choice(ends)}" for i in range(rng.randint(1, 12))) + rng.choice(["w", "w."])
        column = pa.array([text])
        tokens = tokens_of(column)
        spans = list(word_spans(text))
        starts = [next(i for i, (_, end) in enumerate(spans) if end > at) for at in closing_starts(text)]
        assert set(closing_words(column, tokens)[0].tolist()) - {-1} == set(starts), text


def test_patterns_fold_every_character_as_the_tokens_do() -> None:
    table = folding()
    for code in range(0x110000):
        letter = _FOLD[code]
        folded = 0 if letter == " " else 1 if not letter else ord(letter.strip()) | (len(letter) > 1) << 31
        assert folded == int(table[code]) & ~JOINS, f"U+{code:04X}"


@given(st.text(max_size=40))
def test_words_of_patterns_are_the_tokens_words(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    spans = list(word_spans(text))
    tokens = tokens_of(pa.array([text]))
    assert len(spans) == len(phrase_words(text)) == len(tokens.hashes)
    for (start, end), first, last in zip(spans, tokens.starts, tokens.ends, strict=True):
        written = text.encode()[first:last].decode()
        assert phrase_words(text[start:end]) == phrase_words(written)


def test_log_odds_are_those_of_the_paper() -> None:
    y, n, yo, no, weight = 30.0, 1000.0, 2.0, 400.0, 40.0
    a = weight * (y + yo) / (n + no)
    delta = log((y + a) / (n + weight - y - a)) - log((yo + a) / (no + weight - yo - a))
    ratio, z = log_odds(np.array([y]), n, np.array([yo]), no, weight / no)
    assert ratio[0] == pytest.approx(delta)
    assert z[0] == pytest.approx(delta / sqrt(1 / (y + a) + 1 / (yo + a)))
