"""Collapse on purpose at its smallest: the whole way through the command, continued after a stop, and the table."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mga.cli import app
from mga.errors import InputError

WORDS = [f"{a}{b}" for a in ("har", "vel", "mon", "tir", "sa", "ou", "pel") for b in ("vest", "lo", "tic", "ran", "um")]


def corpus(path: Path, documents: int, words: int) -> Path:
    random = np.random.default_rng(0)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    rows = []
    for i in range(documents):
        text = " ".join(random.choice(WORDS, words, p=weights / weights.sum()))
        rows.append(json.dumps({"id": str(i), "text": text, "kind": "ab"[i % 2]}))
    path.write_text("\n".join(rows))
    return path


def test_detectors_are_ordered_by_how_well_they_tell() -> None:
    pytest.importorskip("numba")
    from mga.evaluate.detectors import table_of

    cases = [
        {"generation": g, "kind": kind, "values": {"good": g + i / 10, "blind": i / 10, "overconfidence": 0.02 * g}}
        for g, kind in ((0, "seed"), (0, "half"), (1, "collapsed"), (2, "collapsed"))
        for i in range(5)
    ]
    rows = {row["name"]: row for row in table_of(cases)}
    assert next(iter(rows)) in ("good", "overconfidence")
    assert rows["good"]["auc"] == 1
    assert rows["good"]["auc_by_generation"] == {"1": 1, "2": 1}
    assert rows["blind"]["auc"] == 0.5
    assert rows["blind"]["auc_by_kind"] == {"seed": 0.5, "half": 0.5}
    assert rows["good"]["sensitivity"] is None
    assert (rows["overconfidence"]["sensitivity"], rows["overconfidence"]["false_alarms"]) == (0.5, 0)


@pytest.mark.torch
def test_models_learn_from_each_other_and_are_judged(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from mga.corpus.files import open_corpus
    from mga.evaluate.generations import Plan, collapse_on_purpose
    from mga.evaluate.table import generations_report

    docs = open_corpus([corpus(tmp_path / "docs.jsonl", 60, 900)])
    out = tmp_path / "out"
    plan = Plan(generations=1, rows=64, epochs=2, held_out=24, chunks=2)
    record = collapse_on_purpose(docs, out, plan, "kind")
    Console().print(generations_report(record))
    names = ["real", "other-seed", "other-documents", "half-trained", "other-sources", "generation-1"]
    assert [model["name"] for model in record["models"]] == names
    assert record["cases"] == 2 * 5
    real, written = (np.load(out / "texts" / f"{name}.npy") for name in ("real", "generation-1"))
    assert real.shape == written.shape == (64, 129)
    assert (real[:, :33] == written[:, :33]).all()
    assert (real[:, 33:] != written[:, 33:]).any()
    before = (out / "generations.json").read_bytes()
    (out / "generations.json").unlink()
    (out / "cases" / "generation-1.json").unlink()
    collapse_on_purpose(docs, out, plan, "kind")
    assert (out / "generations.json").read_bytes() == before
    command = ["collapse-generations", str(tmp_path / "docs.jsonl"), "--out", str(out), "--seed", "3"]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, InputError)
    assert "seed (0 → 3)" in str(done.exception)
