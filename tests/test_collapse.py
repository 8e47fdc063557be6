"""`mga collapse` on losses whose story is known: what was planted is found, and nothing is found where nothing is."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from loss_folders import WORDS, some_documents, write_losses
from numpy.typing import NDArray
from typer.testing import CliRunner

from mga.cli.main import app
from mga.collapse.calibration import calibration_figures
from mga.collapse.kinds import CLASSES, classes_of, clustered, function_words
from mga.collapse.memorisation import auc, continuation_figures
from mga.collapse.samples import variety_of
from mga.errors import InputError

REAL = some_documents(60, 400)
SYNT = {f"s{i}": text for i, text in enumerate(some_documents(60, 400, 9).values())}
FILES = {"real.jsonl": REAL, "synthetic.jsonl": SYNT}


def base(name: str, ids: NDArray[np.int32]) -> NDArray[Any]:
    return np.random.default_rng(int(name[1:])).gamma(2, 0.8, len(ids)) + 0.1 * ids


def late(name: str, ids: NDArray[np.int32]) -> NDArray[Any]:
    """Worse in the last fifth of real documents, a little better on synthetic ones."""
    losses = base(name, ids) + np.random.default_rng(int(name[1:]) + 500).normal(0, 0.2, len(ids))
    if name.startswith("s"):
        return losses - 0.3
    losses[int(0.8 * len(ids)) :] += 1.2
    return losses


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["collapse", *map(str, arguments)])


def compared(tmp_path: Path, *arguments: str | Path, synt: Any = late) -> dict[str, Any]:
    real_folder = write_losses(tmp_path / "real", FILES, base)
    synt_folder = write_losses(tmp_path / "synt", FILES, synt)
    out = tmp_path / "figures.json"
    done = run(real_folder, synt_folder, "--out", out, *arguments)
    assert done.exit_code == 0, done.output
    figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def test_a_planted_late_difference_is_told_with_its_place(tmp_path: Path) -> None:
    figures = compared(tmp_path)
    real, synthetic = figures["groups"]
    assert (real["synthetic"], synthetic["synthetic"]) == (False, True)
    assert real["documents"] == 60
    assert real["loss"]["difference"]["value"] == pytest.approx(0.24, abs=0.02)
    assert synthetic["loss"]["difference"]["value"] == pytest.approx(-0.3, abs=0.02)
    every = real["positions"][0]
    assert every["found"] == 60
    assert every["mean"] == pytest.approx(79, abs=2)
    assert every["p_later"] < 0.01
    assert every["worse"] == 1
    assert sum(every["bins"]) == pytest.approx(1)
    assert sum(band["documents"] for band in real["positions"][1:]) == 60
    assert real["profile"]["last_fifth"]["value"] == pytest.approx(1.2, abs=0.05)
    assert synthetic["profile"]["last_fifth"]["low"] < 0 < synthetic["profile"]["last_fifth"]["high"]
    assert not any(check["sign"] for check in figures["verdict"]["checks"])
    assert "No sign of collapse" in figures["verdict"]["headline"]
    case = real["cases"][0]
    assert "".join(piece for piece, _ in case["pieces"]) in REAL[case["document"]]


def test_a_lost_tail_is_a_sign(tmp_path: Path) -> None:
    """Only rare tokens lose: the sign is raised for real text. Rare means below 1 of 1,000 tokens."""
    common = WORDS[:3]
    real = {f"d{i}": " ".join(common * 400) for i in range(40)}
    for i in range(0, 40, 2):
        real[f"d{i}"] = f"{WORDS[5 + i // 4]} {real[f'd{i}']}"
    real["d1"] = " ".join([real["d1"]] + [word for word in WORDS[4:] for _ in range(4)] * 2)

    def worse_on_rare(name: str, ids: NDArray[np.int32]) -> NDArray[Any]:
        return base(name, ids) + np.where(ids >= 4, 2.0, 0.0)

    folders = [
        write_losses(tmp_path / name, {"real.jsonl": real}, loss) for name, loss in (("a", base), ("b", worse_on_rare))
    ]
    out = tmp_path / "f.json"
    assert run(*folders, "--out", out).exit_code == 0
    figures = json.loads(out.read_text())
    tails = [check for check in figures["verdict"]["checks"] if check["name"] == "lost_tail"]
    rows = figures["groups"][0]["frequencies"]
    assert [check["sign"] for check in tails] == [True]
    assert "One sign of collapse (lost tail" in figures["verdict"]["headline"]
    assert sum(row["tokens"] for row in rows) == sum(len(text.split()) for text in real.values())


def test_equal_models_show_nothing(tmp_path: Path) -> None:
    figures = compared(tmp_path, synt=base)
    for group in figures["groups"]:
        assert group["positions"][0]["found"] == 0
        assert group["loss"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "n": 60}
    assert "No sign of collapse" in figures["verdict"]["headline"]


def test_one_short_document_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    folders = [write_losses(tmp_path / name, {"x.jsonl": {"d0": "the of and"}}, base) for name in ("a", "b")]
    out = tmp_path / "f.json"
    done = run(*folders, "--out", out)
    assert done.exit_code == 0, done.output
    group = json.loads(out.read_text())["groups"][0]
    assert (group["documents"], group["too_short"], group["positions"][0]["documents"]) == (1, 1, 0)
    assert group["loss"]["difference"] == {"value": 0.0, "low": None, "high": None, "n": 1}


def test_sets_by_ids_memory_and_history(tmp_path: Path) -> None:
    first = tmp_path / "first.jsonl"
    first.write_text("".join(json.dumps({"id": f"d{i}", "text": REAL[f"d{i}"]}) + "\n" for i in range(20)))
    rest = tmp_path / "rest.jsonl"
    rest.write_text("".join(json.dumps({"id": f"d{i}", "text": REAL[f"d{i}"]}) + "\n" for i in range(20, 60)))

    def knows_first(name: str, ids: NDArray[np.int32]) -> NDArray[Any]:
        return base(name, ids) * (0.2 if int(name[1:]) < 20 and name[0] == "d" else 1)

    step = write_losses(tmp_path / "step", FILES, base, run="synt", step=500)
    sets = ("--docs", f"seen={first}", "--docs", f"rest={rest}", "--seen", "seen", "--unseen", "rest")
    figures = compared(tmp_path, *sets, "--history", step, synt=knows_first)
    assert [group["name"] for group in figures["groups"]] == ["seen", "rest"]
    assert [group["documents"] for group in figures["groups"]] == [20, 40]
    assert figures["memorisation"]["synt"]["auc"] == 1
    assert figures["memorisation"]["real"]["auc"] == pytest.approx(0.5, abs=0.2)
    assert figures["history"][0] == {
        "run": "synt",
        "step": 500,
        "model": "step",
        "by_source": json.loads((step / "losses.json").read_text())["by_source"],
    }


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    real = write_losses(tmp_path / "real", FILES, base)
    other_text = write_losses(tmp_path / "other", {"real.jsonl": {"d0": "the of and"}}, base)
    damaged = write_losses(
        tmp_path / "damaged", FILES, lambda name, ids: np.full(len(ids), math.nan), lambda losses: np.ones(len(losses))
    )
    unfinished = write_losses(tmp_path / "unfinished", FILES, base)
    record = json.loads((unfinished / "losses.json").read_text())
    del record["counts"]
    (unfinished / "losses.json").write_text(json.dumps(record))
    elsewhere = write_losses(tmp_path / "elsewhere", {"x.jsonl": {"x1": "the of"}}, base)
    for arguments, message in (
        ((real, other_text), "different tokens"),
        ((real, damaged), "no numbers"),
        ((real, unfinished), "not finished"),
        ((real, elsewhere), "share no document"),
        ((real, tmp_path), "holds no losses"),
        ((real, real, "--reading", "mean"), "'mean'"),
        ((real, real, "--edges", "a,b"), "--edges"),
        ((real, real, "--seen", "a"), "unseen"),
        ((real, real, "--real-samples", tmp_path), "both"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, InputError), (arguments, done.output)
        assert message in str(done.exception)


def test_classes_of_tokens() -> None:
    text = "The turnips' price: 12 pence"
    pieces = ["The", " turn", "ips", "'", " price", ":", " 12", " ", "pence"]
    ends = np.cumsum([len(piece) for piece in pieces]).astype(np.int32)
    named = [CLASSES[i] for i in classes_of(text, ends, {"the"})]
    expected = ["function word", "content word", "inside a word", "punctuation", "content word", "punctuation"]
    assert named == [*expected, "number", "white space", "content word"]
    assert function_words([f"The one {'ab' * i}c" for i in range(12)]) == {"the", "one"}


def test_clustered_intervals_widen_when_tokens_of_a_document_agree() -> None:
    random = np.random.default_rng(0)
    offsets = np.arange(101) * 50
    alone = random.normal(0, 1, 5000)
    together = np.repeat(random.normal(0, 1, 100), 50)
    widths = []
    for values in (alone, together):
        row = clustered(values, np.zeros(5000, np.int64), offsets, ["all"])[0]
        assert row["value"] == pytest.approx(values.mean())
        widths.append(row["high"] - row["low"])
    assert widths[0] == pytest.approx(2 * 1.96 / 5000**0.5, rel=0.2)
    assert widths[1] == pytest.approx(2 * 1.96 / 100**0.5, rel=0.2)


def test_calibration_of_a_known_case() -> None:
    top = np.full(1000, 0.9, np.float32)
    ranks = np.asarray([1] * 600 + [2] * 400, np.int32)
    figures = calibration_figures(top, ranks, np.ones(1000, np.float32))
    assert figures["ece"] == pytest.approx(0.3, abs=1e-6)
    assert figures["overconfidence"] == pytest.approx(0.3, abs=1e-6)
    assert sum(b["tokens"] for b in figures["bins"]) == 1000


def test_exact_continuations_are_counted_in_spans_behind_the_prefix() -> None:
    ranks = np.full(250, 7, np.int32)
    ranks[100:150] = 1  # the whole second span behind a prefix of 50
    ranks[160:205] = 1
    figures = continuation_figures(ranks, np.asarray([0, 250]), 50, 50)
    assert (figures["spans"], figures["exact"], figures["longest"]) == (4, 1, 50)
    assert figures["rate"] == 0.25
    assert auc(np.asarray([2.0, 3.0]), np.asarray([1.0, 2.0])) == 0.875


def test_collapsed_texts_are_less_varied() -> None:
    random = np.random.default_rng(3)
    human = [" ".join(f"w{i}" for i in random.zipf(1.3, 80) % 5000) for _ in range(60)]
    like = [" ".join(f"w{i}" for i in random.zipf(1.3, 80) % 5000) for _ in range(60)]
    few = [" ".join(f"w{i}" for i in random.integers(1, 12, 80)) for _ in range(60)]
    found = variety_of({"human": pa.array(human), "real": pa.array(like), "synt": pa.array(few)})
    for key in ("distinct_1", "distinct_2", "vendi", "tail_coverage"):
        assert found["synt"][key] < 0.5 * found["real"][key], key
    assert found["synt"]["self_bleu"] > found["real"]["self_bleu"]
    assert found["real"]["distinct_1"] == pytest.approx(found["human"]["distinct_1"], rel=0.1)
