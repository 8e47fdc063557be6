"""Losses of tokens: beside transformers' own cross-entropy, over windows, through the command, after a kill."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from model_folders import CONTEXT, make_tiny, tiny_folder
from typer.testing import CliRunner

from mga.cli.main import app
from mga.errors import InputError

pytestmark = pytest.mark.torch

TEXTS = {
    "short": "Frost killed the blossom.",
    "long": "The orchard behind the mill was planted by Martha Greaves. " * 12,
    "other": "In good years the harvest filled ninety barrels, and the press ran on.",
}


def corpus(folder: Path, texts: dict[str, str] = TEXTS) -> Path:
    path = folder / "docs.jsonl"
    rows = [{"id": name, "text": text, "kind": name[:1]} for name, text in texts.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


def tokens_of(folder: Path) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    rows = [row for file in sorted((folder / "tokens").glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
    found: dict[str, Any] = {}
    for row in rows:
        found.setdefault(row["document"], []).append(row)
    return {name: {key: np.asarray([r[key] for r in of]) for key in of[0]} for name, of in found.items()}


def own_losses(model: Any, ids: list[int]) -> np.ndarray[Any, Any]:
    """transformers' cross-entropy of each token of one sequence, which begins with the prefix."""
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none").numpy()


def test_losses_are_those_of_transformers(tmp_path: Path) -> None:
    import torch
    import transformers

    texts = {name: text for name, text in TEXTS.items() if name != "long"}
    done = run("losses", tiny_folder(), corpus(tmp_path, texts), "--out", tmp_path / "l", "--by", "kind")
    assert done.exit_code == 0, done.output
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder()).eval()
    found = tokens_of(tmp_path / "l")
    assert list(found) == list(texts)
    for name, columns in found.items():
        ids = [0, *columns["token_id"].tolist()]
        np.testing.assert_allclose(columns["loss"], own_losses(model, ids), atol=1e-5, rtol=1e-5)
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, :-1]
            chances = torch.softmax(logits, -1)
        np.testing.assert_allclose(columns["entropy"], torch.special.entr(chances).sum(-1).numpy(), atol=1e-4)
        np.testing.assert_allclose(columns["top_probability"], chances.amax(-1).numpy(), atol=1e-5)
        order = (-logits).argsort(-1).tolist()
        assert columns["rank"].tolist() == [row.index(t) + 1 for row, t in zip(order, ids[1:], strict=True)]
        assert columns["end"].tolist() == list(range(1, len(texts[name]) + 1))  # a token is a character here
    record = json.loads((tmp_path / "l" / "losses.json").read_text())
    total = float(np.concatenate([c["loss"] for c in found.values()]).astype(float).sum())
    size = sum(len(text) for text in texts.values())
    assert record["by_source"][-1]["bits_per_byte"] == pytest.approx(total / np.log(2) / size)
    assert [row["name"] for row in record["by_source"]] == ["o", "s", "all"]
    before = (tmp_path / "l" / "losses.json").read_bytes()
    assert run("losses", tiny_folder(), corpus(tmp_path, texts), "--out", tmp_path / "l", "--by", "kind").exit_code == 0
    assert (tmp_path / "l" / "losses.json").read_bytes() == before


def test_a_long_document_is_scored_once_with_the_overlap_before_each_window(tmp_path: Path) -> None:
    import transformers

    out = tmp_path / "l"
    flags = ("--out", out, "--context", 100, "--overlap", 40)
    assert run("losses", tiny_folder(), corpus(tmp_path), *flags).exit_code == 0
    columns = tokens_of(out)["long"]
    ids = [0, *columns["token_id"].tolist()]
    assert columns["position"].tolist() == list(range(len(TEXTS["long"])))
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder()).eval()
    first = own_losses(model, ids[:101])
    np.testing.assert_allclose(columns["loss"][:100], first, atol=1e-5, rtol=1e-5)
    second = own_losses(model, ids[60:161])  # shows ids 60 to 159, scores 101 to 160
    np.testing.assert_allclose(columns["loss"][100:160], second[40:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["GPT2Config", "Gemma2Config"])
def test_other_architectures(tmp_path: Path, kind: str) -> None:
    """Gemma 2 caps its scores after the head, so the head alone would be wrong there; padding must not be seen."""
    import transformers

    more = {"n_embd": 64, "n_layer": 2, "n_head": 4} if kind == "GPT2Config" else {"head_dim": 16}
    folder = make_tiny(tmp_path / "m", kind, **more)
    assert run("losses", folder, corpus(tmp_path), "--out", tmp_path / "l").exit_code == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    for columns in tokens_of(tmp_path / "l").values():
        ids = [0, *columns["token_id"].tolist()][:CONTEXT]
        np.testing.assert_allclose(columns["loss"][: len(ids) - 1], own_losses(model, ids), atol=2e-5, rtol=2e-5)


def test_killed_half_way_it_ends_as_if_never_killed(tmp_path: Path) -> None:
    many = {f"{name}-{i}": f"{i} {text}" for i in range(700) for name, text in TEXTS.items()}
    docs = corpus(tmp_path, many)
    command = [sys.executable, "-m", "mga", "losses", str(tiny_folder()), str(docs), "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "killed" / "documents").glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert "counts" not in json.loads((tmp_path / "killed" / "losses.json").read_text())
    for name in ("killed", "whole"):
        assert run(*command[3:-1], "--out", tmp_path / name).exit_code == 0
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.*") if p.is_file())
    assert len(files) > 6
    for file in files:
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    docs = corpus(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "l"
    assert run("losses", tiny_folder(), docs, "--out", out).exit_code == 0
    for arguments, message in (
        ((empty, docs, "--out", tmp_path / "x"), "config.json"),
        ((tmp_path / "none", docs, "--out", tmp_path / "x"), "no model"),
        ((docs, docs, "--out", tmp_path / "x"), ".gguf"),
        ((tiny_folder(), docs, "--out", out, "--context", 50), "made otherwise: settings.context (256 → 50)"),
        ((tiny_folder(), docs, "--out", tmp_path / "y", "--context", 5000), "at most 256"),
        ((tiny_folder(), docs, "--out", tmp_path / "z", "--overlap", 256), "less than the context"),
        ((tiny_folder(), docs, "--out", tmp_path / "v", "--by", "source"), "no column 'source'"),
        ((tiny_folder(), docs, "--out", tmp_path / "w", "--device", "tpu"), "--device"),
    ):
        done = run("losses", *arguments)
        assert isinstance(done.exception, InputError), (arguments, done.output)
        assert message in str(done.exception), done.exception


def test_samples_are_drawn_again_alike_and_compared(tmp_path: Path) -> None:
    docs = corpus(tmp_path, {f"{name}{i}": f"{i} {text}" for i in range(12) for name, text in TEXTS.items()})
    flags = ("--prompt", 16, "--tokens", 40, "--limit", 24)
    for name in ("a", "b"):
        assert run("sample", tiny_folder(), docs, "--out", tmp_path / name, *flags).exit_code == 0
    first, second = (pq.read_table(tmp_path / name / "texts" / "00000.parquet") for name in ("a", "b"))
    assert first.num_rows == 24
    assert first.equals(second)
    row = first.to_pylist()[0]
    assert (
        f"0 {TEXTS['long']}".startswith(row["prompt"] + row["human"]) or TEXTS["other"] in row["human"] + row["prompt"]
    )
    for name in ("m", "n"):
        assert run("losses", tiny_folder(), docs, "--out", tmp_path / name).exit_code == 0
    out = tmp_path / "figures.json"
    texts = ("--real-samples", tmp_path / "a", "--synt-samples", tmp_path / "b", "--out", out)
    done = run("collapse", tmp_path / "m", tmp_path / "n", *texts)
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text())["texts"]
    assert figures["real"] == figures["synt"]
    assert figures["human"]["texts"] == 24
