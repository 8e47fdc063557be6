"""Pages of models compared: what mga collapse and mga collapse-generations have written, in pictures."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loss_folders import write_losses
from test_collapse import FILES, base, late
from test_collapse import run as run_collapse
from test_report import HOSTILE, MOST_BYTES, Mga, block, expanded, mga, parsed, tables

from mga.collapse.generations.detectors import table_of

__all__ = ["mga"]  # the fixture


def figures_of(folder: Path) -> Path:
    """What mga collapse writes about two models, each at two steps; the later one differs late in real documents."""
    losses = {}
    for step, more in ((50, 0.5), (100, 0.0)):
        for name, loss in (("real", base), ("synt", late)):
            losses[name, step] = write_losses(
                folder / f"{name}-{step}", FILES, lambda n, i, f=loss, m=more: f(n, i) + m, run=name, step=step
            )
    out = folder / "collapse.json"
    earlier = ("--history", losses["real", 50], "--history", losses["synt", 50])
    done = run_collapse(losses["real", 100], losses["synt", 100], *earlier, "--out", out)
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def compared(tmp_path: Path) -> Path:
    return figures_of(tmp_path)


def generations_of(path: Path) -> Path:
    """generations.json of an experiment in which one detector works and one is a coin."""
    random = np.random.default_rng(0)
    cases = [
        {
            "seed": seed,
            "generation": generation,
            "kind": "collapsed" if generation else "another seed",
            "values": {"overconfidence": generation + random.random() / 2, "validation loss": random.random()},
        }
        for seed in (0, 1, 2)
        for generation in (0, 1, 2)
        for _ in range(40)
    ]
    models = [
        {"name": f"m{g}", "kind": "first", "generation": g, "loss_difference": 0.1 * g, "by_seed": [0.1 * g] * 3}
        for g in (0, 1, 2)
    ]
    path.write_text(json.dumps({"settings": {}, "models": models, "cases": len(cases), "detectors": table_of(cases)}))
    return path


def figures_in(data: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """The blocks of a kind, by caption."""
    return {
        block["caption"]: block for section in data["sections"] for block in section["blocks"] if block["kind"] == kind
    }


def test_the_pictures_are_of_the_figures(mga: Mga, compared: Path) -> None:
    code, out, err = mga("report", compared)
    assert (code, err) == (0, "")
    assert str(compared.with_suffix(".html")) in out
    _, data = parsed(compared.with_suffix(".html"))
    figures = json.loads(compared.read_bytes())
    real = figures["groups"][0]
    verdict = data["sections"][0]
    assert verdict["id"] == "collapse"
    assert verdict["blocks"][0]["text"] == figures["verdict"]["headline"]
    evidence = tables(data)["Evidence"]
    assert len(evidence) == len(figures["verdict"]["checks"])
    assert [row[-1] for row in evidence.values()] == [check["text"] for check in figures["verdict"]["checks"]]
    assert set(tables(data)["What limits this verdict"]) == set(figures["verdict"]["caveats"])
    scatter = block(data, "collapse-losses", "points")
    assert (scatter["x"], scatter["y"]) == (real["scatter"]["real"], real["scatter"]["synt"])
    assert scatter["diagonal"]
    assert len(scatter["x"]) == real["documents"] == 60
    lines = figures_in(data, "lines")
    over = lines["Loss over training: real.jsonl"]
    assert (over["series"], over["x"]) == (["real", "synt"], [[50, 100], [50, 100]])
    every, chance = figures_in(data, "histogram")["First anomalies, real.jsonl: all documents"], real["positions"][0]
    assert sum(every["counts"][0]) == chance["found"] == 60
    assert every["counts"][0].index(max(every["counts"][0])) == 15, "at 75 to 80% of the document"
    assert every["expected"][0]["high"] == chance["chance_high"]
    intervals = list(figures_in(data, "intervals").values())
    assert [of["series"] for of in intervals] == [["real.jsonl", "synthetic.jsonl"]] * 3
    assert intervals[0]["values"][0]["middle"] == [row["value"] for row in real["ranks"]]
    assert sum("Calibration" in caption for caption in lines) == 2


def test_a_case_is_the_text_with_what_is_worse_marked(mga: Mga, compared: Path) -> None:
    assert mga("report", compared)[0] == 0
    _, data = parsed(compared.with_suffix(".html"))
    case = json.loads(compared.read_bytes())["groups"][0]["cases"][0]
    shown = figures_in(data, "marked")[case["document"]]
    before = [text for text, mark in shown["pieces"][: [mark for _, mark in shown["pieces"]].index("here")]]
    whole = "".join(text for text, mark in shown["pieces"] if mark != "here")
    assert whole == "".join(text for text, _ in case["pieces"]) == FILES["real.jsonl"][case["document"]]
    assert len("".join(before).split()) == case["position"], "the words before the mark are those before the anomaly"
    worse = "".join(text for text, mark in shown["pieces"] if mark in ("worse", "much-worse"))
    assert worse.split() == "".join(text for text, difference in case["pieces"] if difference > 0.5).split()


def hostile(compared: Path) -> Path:
    """The same figures with names and texts that a careless page would run."""
    figures = json.loads(compared.read_bytes())
    for group, text in zip(figures["groups"], HOSTILE, strict=False):
        group["name"] = text
        group["scatter"]["ids"] = [text] * len(group["scatter"]["ids"])
        for case in group["cases"]:
            case["document"] = text + case["document"]
            case["pieces"] = [[text, 3.0], [text, 0.0], [text, -1.0]]
    path = compared.with_name("hostile.json")
    path.write_text(json.dumps(figures))
    return path


def test_names_and_texts_stay_text(mga: Mga, compared: Path) -> None:
    assert mga("report", hostile(compared))[0] == 0
    found, data = parsed(compared.with_name("hostile.html"))
    assert len(found.scripts) == 5
    assert {"img", "details", "section"} & set(found.tags) == set()
    shown = [block for block in figures_in(data, "marked").values() if block["caption"].startswith(HOSTILE[0])]
    assert shown[0]["pieces"] == [[HOSTILE[0], "much-worse"], [HOSTILE[0], ""], [HOSTILE[0], "better"]]


def test_a_run_two_comparisons_and_detectors_on_one_page(mga: Mga, compared: Path, tmp_path: Path) -> None:
    run = expanded(tmp_path, "run")
    again = tmp_path / "again.json"
    again.write_bytes(compared.read_bytes())
    generations = generations_of(tmp_path / "generations.json")
    page = tmp_path / "page.html"
    code, _, err = mga("report", run, compared, again, generations, "--out", page)
    assert (code, err) == (0, "")
    assert page.stat().st_size < MOST_BYTES
    _, data = parsed(page)
    ids = [section["id"] for section in data["sections"]]
    assert len(set(ids)) == len(ids)
    assert {"totals", "recipe", "collapse", "collapse-2", "collapse-cases-2", "detectors"} <= set(ids)
    assert [section["title"] for section in data["sections"] if section["id"] == "collapse-2"] == [
        "Has the model collapsed?: again.json"
    ]
    assert data["runs"] == ["run"]
    aucs = tables(data)["AUC of collapsed models against healthy ones"]
    assert list(aucs) == ["overconfidence", "validation loss"]
    assert aucs["overconfidence"][0]["share"] == 1
    assert aucs["overconfidence"][1] == "0.37–1.00"  # three perfect seeds: 0.05^(1/3)
    assert re.fullmatch(r"0\.\d\d–0\.\d\d", aucs["validation loss"][1])
    assert aucs["validation loss"][0]["share"] == pytest.approx(0.5, abs=0.15)


def test_what_has_no_page_is_refused_in_a_sentence(mga: Mga, compared: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"version": 1}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "cut.json").write_bytes(compared.read_bytes()[:1000])
    (tmp_path / "newer.json").write_bytes(compared.read_bytes().replace(b'"version": 1', b'"version": 2'))
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "prompt-comparison.json").write_text("{}")
    for arguments, said in (
        ([tmp_path / "other.json"], "holds no figures"),
        ([tmp_path / "list.json"], "is not of mga"),
        ([tmp_path / "cut.json"], "is damaged"),
        ([tmp_path / "newer.json"], "holds no figures that this version shows"),
        ([tmp_path / "none.json"], "holds no run"),
        ([tmp_path / "unfinished"], "is not finished"),
        ([tmp_path / "unfinished", compared], "a page of its own"),
        ([compared, compared], "named twice"),
    ):
        code, _, err = mga("report", *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err
