"""Styles and prompts of one's own, through the public command: no pairs are asked for, and the counts add up."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mga.config import CleaningRules, load_config
from mga.errors import InputError
from mga.expand.given_pairs import GivenPairs, write_given_pairs
from mga.prompts.library import STYLES, load, reformulation_prompt
from mga.records import Document, Drop, Pair

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"
OWN = "Retell the document above as a ballad in four stanzas. {language}\n"


def expand(out: Path, *flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mga", "expand", SAMPLE, "--engine", "scripted:?flaws=0.3", "--out", out]
    return subprocess.run([*map(str, command), *map(str, flags)], capture_output=True, text=True, check=False)


def rows(run: Path) -> list[dict[str, object]]:
    files = (file for folder in ("kept", "dropped", "failed") for file in sorted((run / folder).glob("*.parquet")))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_a_style_asks_for_no_pairs_and_writes_one_text_of_each_document(tmp_path: Path) -> None:
    done = expand(tmp_path / "run", "--variant", "wiki")
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "run")
    stats = json.loads((tmp_path / "run" / "stats.json").read_text())
    assert len(found) == stats["documents"] == sum(stats["outcomes"].values()) == 12
    assert set(stats["usage"]) == {"reformulate", "judge"}
    assert {(row["genre"], row["audience"]) for row in found} == {
        ("encyclopedia article", "general readers of an encyclopedia")
    }
    prompts = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["prompts"]
    prompts.pop("languages", None)  # of the extra, where it is installed
    assert prompts == {
        "judge": f"judge@{load('judge').fingerprint}",
        "reformulate": f"reformulate_wiki@{load('reformulate_wiki').fingerprint}",
    }


def test_a_prompt_of_ones_own_is_used_by_its_name_and_a_change_of_it_is_another_run(tmp_path: Path) -> None:
    prompt = tmp_path / "ballad.md"
    prompt.write_text(OWN)
    done = expand(tmp_path / "run", "--variant", prompt)
    assert done.returncode == 0, done.stderr
    assert {(row["genre"], row["audience"]) for row in rows(tmp_path / "run")} == {("ballad", "unspecified")}
    moved = tmp_path / "elsewhere" / "ballad.md"
    moved.parent.mkdir()
    prompt.rename(moved)
    assert expand(tmp_path / "run", "--variant", moved).returncode == 0
    moved.write_text(OWN.replace("four", "five"))
    refused = expand(tmp_path / "run", "--variant", moved)
    assert refused.returncode == 2
    assert "prompts.reformulate" in refused.stderr


def test_a_prompt_of_ones_own_may_take_pairs(tmp_path: Path) -> None:
    prompt = tmp_path / "own.md"
    prompt.write_text("Write the document above as {genre} for {audience}.")
    done = expand(tmp_path / "run", "--variant", prompt, "--pairs", 2)
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "run")) == 24
    assert len({row["genre"] for row in rows(tmp_path / "run")}) > 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Rewrite {document} as prose.", "the document stands before it by itself"),
        ("Rewrite it as {genre}.", "look at {audience}"),
        ("Rewrite it in {colour}.", "look at {colour}"),
        (" \n", "is empty"),
        ("+++\ngenre = 'ode'\n" + OWN, "no second line of"),
        ("+++\ngenre = 'ode'\nmood = 'sad'\n+++\n" + OWN, "has no use for 'mood'"),
        ("+++\ngenre = ode\n+++\n" + OWN, "not valid TOML"),
        ("+++\ncleaning = 0.1\n+++\n" + OWN, "write cleaning as a table"),
        ("+++\ncleaning = { min_cover = 0.1 }\n+++\n" + OWN, "did you mean 'min_coverage'"),
        ("+++\ngenre = 'ode'\n+++\nWrite {genre} for {audience}.", "cannot say 'genre' of itself"),
    ],
)
def test_a_prompt_that_nothing_can_fill_is_refused_with_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    prompt = tmp_path / "own.md"
    prompt.write_text(text)
    with pytest.raises(InputError) as refused:
        load_config(None, {"variant": str(prompt)})
    assert message in str(refused.value)


def test_a_style_and_several_pairs_contradict_each_other() -> None:
    with pytest.raises(InputError, match=r"wiki writes one text of a document; leave out pairs = 3"):
        load_config(None, {"variant": "wiki", "pairs": 3})


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'textbook'"):
        reformulation_prompt("texbook")


@pytest.mark.parametrize("style", STYLES)
def test_a_style_says_what_it_is_and_its_thresholds_are_settings_that_given_ones_win_over(style: str) -> None:
    prompt = reformulation_prompt(style)
    assert len(prompt.genre.split()) >= 2
    assert len(prompt.audience.split()) >= 2
    config = load_config(None, {"variant": style})
    assert config.pairs == 1
    assert config.cleaning == CleaningRules(**prompt.cleaning)
    assert load_config(None, {"variant": style, "cleaning": {"min_words": 3}}).cleaning.min_words == 3


def test_given_pairs_are_written_for_and_what_the_file_lacks_is_dropped(tmp_path: Path) -> None:
    documents = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    pairs = [Pair("a letter home", "a sister abroad"), Pair("a sermon", "a village on Sunday")]
    write_given_pairs(tmp_path / "pairs.jsonl", {document["text"]: pairs for document in documents[1:]})
    config = tmp_path / "mga.toml"
    config.write_text(f"pairs = 2\n[pairing]\ngiven = '{tmp_path / 'pairs.jsonl'}'\n")
    done = expand(tmp_path / "run", "--config", config)
    assert done.returncode == 0, done.stderr
    stats = json.loads((tmp_path / "run" / "stats.json").read_text())
    assert sum(stats["outcomes"].values()) == 24
    assert stats["reasons"]["no_given_pair"] == 2
    assert "pairs" not in stats["usage"]
    assert {row["genre"] for row in rows(tmp_path / "run")} == {"a letter home", "a sermon", None}


def test_a_file_that_holds_no_pairs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"document": "x"}\n')
    with pytest.raises(InputError, match="is no file of pairs"):
        GivenPairs.read(path)
    write_given_pairs(path, {"text": [Pair("a", "b")]})
    known, lacking = GivenPairs.read(path).of(Document("d", "text", "0:0"), 2)
    assert known == Pair("a", "b")
    assert isinstance(lacking, Drop)
