"""The dataset card: hubs can read its header, and it says where the texts come from and under which licence."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from rich.console import Console

from mga.config import load_config
from mga.curation.clean import clean_again, policy_of
from mga.runs.card import run_card
from mga.runs.executors.local import expand
from mga.runs.export import export
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run

DOCUMENT = "Harbour number {0} was rebuilt slowly. Its masons worked through {0} winters. Nobody counted the seagulls."


def expanded(folder: Path, **flags: Any) -> Path:
    texts = [json.dumps({"id": f"d{i}", "text": DOCUMENT.format(i) * 2}) for i in range(12)]
    (folder / "a | b.jsonl").write_text("\n".join(texts))
    settings = {"input": [str(folder / "a | b.jsonl")], "engine": "scripted:?flaws=0.2"} | flags
    asyncio.run(expand(load_config(None, settings), Run(folder / "run"), Progress(Console(stderr=True), quiet=True)))
    return folder / "run"


def card(folder: Path) -> tuple[dict[str, Any], str]:
    """The header and the text of the card in a folder, as the hub's own library reads them."""
    found = DatasetCard.load(folder / "README.md")
    header: dict[str, Any] = found.data.to_dict()
    return header, found.text


@pytest.mark.parametrize(
    ("given", "header"),
    [
        (None, {"license": "unknown"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ('Terms: of "ours" # 3', {"license": "other", "license_name": 'Terms: of "ours" # 3'}),
    ],
)
def test_the_licence_is_the_users_or_unknown(tmp_path: Path, given: str | None, header: dict[str, str]) -> None:
    found, text = card(expanded(tmp_path, license=given))
    assert {name: found[name] for name in ("license", "license_name") if name in found} == header
    assert f"Licence of the documents: {given or 'unknown'}" in text


def test_a_run_tells_its_provenance(tmp_path: Path) -> None:
    run = expanded(tmp_path, language="de")
    header, text = card(run)
    assert header["configs"] == [{"config_name": "default", "data_files": "kept/*.parquet"}]
    assert (header["language"], header["size_categories"]) == (["de"], ["n<1K"])
    record = Run(run).record()
    for prompt in record["identity"]["prompts"].values():
        assert prompt in text
    assert f"| input | a \\| b.jsonl; fingerprint {record['identity']['input']} |" in text
    assert str(tmp_path) not in text


def test_another_licence_is_no_other_run(tmp_path: Path) -> None:
    expanded(tmp_path, license="mit")
    assert card(expanded(tmp_path, license="cc0-1.0"))[0]["license"] == "mit"


@pytest.mark.parametrize("schema", ["plain", "mgacorpus"])
def test_an_export_tells_what_was_done_since(tmp_path: Path, schema: str) -> None:
    run = expanded(tmp_path, license="mit")
    clean_again(run, tmp_path / "cleaned", policy_of(Run(run).record(), None, {"min_score": 4}))
    rows = export(Run(tmp_path / "cleaned"), schema, tmp_path / "out")
    header, text = card(tmp_path / "out")
    assert header["license"] == "mit"
    assert f"{rows:,} synthetic texts" in text
    assert f"Run {Run(run).record()['run']}" in text
    counts = json.loads((tmp_path / "cleaned" / "stage.json").read_bytes())["counts"]
    assert f"| mga clean (cleaned) | {counts['rows']} | {counts['kept']} |" in text
    assert str(tmp_path) not in text
    export(Run(tmp_path / "cleaned"), schema, tmp_path / "other", "apache-2.0")
    assert card(tmp_path / "other")[0]["license"] == "apache-2.0"


def test_an_export_without_its_run_says_so(tmp_path: Path) -> None:
    run = expanded(tmp_path)
    clean_again(run, tmp_path / "cleaned", policy_of(Run(run).record(), None, {}))
    run.rename(tmp_path / "moved")
    export(Run(tmp_path / "cleaned"), "plain", tmp_path / "out")
    assert "were not at hand" in card(tmp_path / "out")[1]


def test_prompts_stand_in_the_card_word_for_word_and_decide_no_identity(tmp_path: Path) -> None:
    run = expanded(tmp_path)
    record = Run(run).record()
    _, text = card(run)
    names = {name for task, name in record["identity"]["prompts"].items() if task != "languages"}
    assert set(record["prompt_texts"]) == names
    assert len(names) == 3
    for name, wording in record["prompt_texts"].items():
        assert f"<summary>{name}</summary>" in text
        assert wording.strip() in text
    del record["prompt_texts"]
    (run / "run.json").write_text(json.dumps(record))
    again = expanded(tmp_path)  # a run begun without them is continued, and says nothing of them
    assert "<summary>" not in run_card(Run(again).record(), Run(again).stats())
