"""Collapse on purpose at its smallest: the whole way through the command, continued after a stop, and the table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mga.cli.main import app
from mga.errors import InputError

WORDS = [f"{a}{b}" for a in ("har", "vel", "mon", "tir", "sa", "ou", "pel") for b in ("vest", "lo", "tic", "ran", "um")]


def corpus(path: Path, documents: int, words: int, kinds: str = "ab") -> Path:
    random = np.random.default_rng(0)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    rows = []
    for i in range(documents):
        text = " ".join(random.choice(WORDS, words, p=weights / weights.sum()))
        rows.append(json.dumps({"id": str(i), "text": text, "kind": kinds[i % len(kinds)]}))
    path.write_text("\n".join(rows))
    return path


def test_detectors_are_ordered_by_how_well_they_tell() -> None:
    pytest.importorskip("numba")
    from mga.collapse.generations.detectors import table_of

    cases = [
        {
            "seed": 0,
            "generation": g,
            "kind": kind,
            "values": {"good": g + i / 10, "blind": i / 10, "overconfidence": 0.02 * g},
        }
        for g, kind in ((0, "seed"), (0, "half"), (1, "collapsed"), (2, "collapsed"))
        for i in range(5)
    ]
    rows = {row["name"]: row for row in table_of(cases)}
    assert next(iter(rows)) in ("good", "overconfidence")
    assert rows["good"]["auc"] == 1
    assert (rows["good"]["auc_low"], rows["good"]["auc_by_seed"]) == (None, [1])
    assert rows["good"]["auc_by_generation"] == {"1": 1, "2": 1}
    assert rows["blind"]["auc"] == 0.5
    assert rows["blind"]["auc_by_kind"] == {"seed": 0.5, "half": 0.5}
    assert rows["good"]["sensitivity"] is None
    assert (rows["overconfidence"]["sensitivity"], rows["overconfidence"]["false_alarms"]) == (0.5, 0)


def test_cases_are_compared_within_their_seed_and_the_interval_is_over_seeds() -> None:
    pytest.importorskip("numba")
    from mga.collapse.generations.detectors import table_of

    def seed(number: int, collapsed: list[float], healthy: list[float]) -> list[dict[str, Any]]:
        return [
            {"seed": number, "generation": g, "kind": "k", "values": {"d": value}}
            for g, values in ((1, collapsed), (0, healthy))
            for value in values
        ]

    # each seed has a level of its own: over all cases together the detector would look blind
    cases = seed(0, [2, 3], [0, 1]) + seed(1, [12, 13], [10, 11]) + seed(2, [22, 20], [21, 19])
    row = table_of(cases)[0]
    assert row["auc_by_seed"] == [1, 1, 0.75]
    assert row["auc"] == pytest.approx(2.75 / 3)
    half = 4.302653 * np.std([1, 1, 0.75], ddof=1) / np.sqrt(3)  # Student's quantile, 2 degrees of freedom
    assert row["auc_low"] == pytest.approx(2.75 / 3 - half, abs=1e-4)
    assert row["auc_high"] == 1


@pytest.mark.torch
def test_models_learn_from_each_other_and_are_judged(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from mga.collapse.generations.generations import Plan, collapse_on_purpose
    from mga.collapse.table import generations_report
    from mga.data.corpus_files import open_corpus

    docs = open_corpus([corpus(tmp_path / "docs.jsonl", 60, 900)])
    out = tmp_path / "out"
    plan = Plan(generations=1, rows=64, epochs=2, held_out=24, chunks=2)
    record = collapse_on_purpose(docs, out, plan, "kind")
    Console().print(generations_report(record))
    names = ["real", "other-seed", "other-documents", "half-trained", "other-sources", "generation-1"]
    assert [model["name"] for model in record["models"]] == names
    assert record["cases"] == 2 * 5
    real, written = (np.load(out / "seed-0" / "texts" / f"{name}.npy") for name in ("real", "generation-1"))
    assert real.shape == written.shape == (64, 129)
    assert (real[:, :33] == written[:, :33]).all()
    assert (real[:, 33:] != written[:, 33:]).any()
    before = (out / "generations.json").read_bytes()
    begun = {name: record[name] for name in ("kind", "version", "settings")}
    (out / "generations.json").write_text(json.dumps(begun))  # as a kill leaves it
    (out / "seed-0" / "cases" / "generation-1.json").unlink()
    collapse_on_purpose(docs, out, plan, "kind")
    assert (out / "generations.json").read_bytes() == before
    command = ["collapse-generations", str(tmp_path / "docs.jsonl"), "--out", str(out), "--seed", "3"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, InputError)
    assert "seed (0 → 3)" in str(done.exception)


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_models_expand_passages_into_other_genres_and_more_seeds_can_be_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from mga.collapse.generations.generations import Plan, collapse_on_purpose
    from mga.data.corpus_files import open_corpus

    docs = open_corpus([corpus(tmp_path / "docs.jsonl", 60, 900, "abc")])
    out = tmp_path / "out"
    plan = Plan(generations=1, rows=64, epochs=1, held_out=24, chunks=2, how="expand")
    collapse_on_purpose(docs, out, plan, "kind")
    kept = (out / "seed-0" / "texts" / "generation-1.npy").read_bytes()
    collapse_on_purpose(docs, out, replace(plan, seeds=2), "kind")
    assert (out / "seed-0" / "texts" / "generation-1.npy").read_bytes() == kept
    record = json.loads((out / "generations.json").read_bytes())
    assert [len(model["by_seed"]) for model in record["models"]] == [2] * 6
    assert all(len(row["auc_by_seed"]) in (0, 2) for row in record["detectors"])
    for seed in ("seed-0", "seed-1"):
        real, written = (np.load(out / seed / "texts" / f"{name}.npy") for name in ("real", "generation-1"))
        assert real.shape == written.shape == (64, 129)
        marks = set(real[:, 33].tolist())
        assert len(marks) == 3
        assert not np.isin(np.delete(written, 33, 1)[:, :33], list(marks)).any()
        for i, row in enumerate(written):  # two other genres for each passage in turn
            assert (row[:33] == real[i // 2, :33]).all()
            assert row[33] in marks - {int(real[i // 2, 33])}
        assert all(written[i, 33] != written[i + 1, 33] for i in range(0, 64, 2))
    first = [np.load(out / f"seed-{n}" / "texts" / "real.npy") for n in (0, 1)]
    assert (first[0] != first[1]).any()


@pytest.mark.torch
def test_an_expansion_needs_genres(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    docs = corpus(tmp_path / "docs.jsonl", 60, 900, "a")
    command = ["collapse-generations", str(docs), "--out", str(tmp_path / "o"), "--held-out", "24"]
    for more in (["--how", "expand"], ["--by", "kind"]):
        done = CliRunner().invoke(app, [*command, *more])
        assert isinstance(done.exception, InputError)
        assert "name a column of genres with --by" in str(done.exception)


@pytest.mark.torch
def test_a_folder_of_something_else_keeps_its_settings(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    docs = corpus(tmp_path / "docs.jsonl", 4, 900)
    other = tmp_path / "run"
    other.mkdir()
    (other / "settings.json").write_text('{"engine": "scripted:"}')
    done = CliRunner().invoke(app, ["collapse-generations", str(docs), "--out", str(other)])
    assert isinstance(done.exception, InputError)
    assert (other / "settings.json").read_text() == '{"engine": "scripted:"}'
