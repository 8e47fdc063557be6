"""The page of a run: its figures are the run's, its texts are only text, and it needs nothing but itself."""

import asyncio
import json
import re
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mga.cli.main import main
from mga.config import load_config
from mga.curation.clean import clean_again, policy_of
from mga.data.store import place, read, write_atomically
from mga.expand.shard import ShardStats
from mga.report import scan as scanning
from mga.report.blocks import Label, Points, Section
from mga.report.examples import Examples, pieces
from mga.report.labels import effective_number, labels_of
from mga.report.page import page
from mga.report.recipe import recipe
from mga.report.scan import scan
from mga.report.source import sources_of
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run
from mga.text.words import keywords, spans, stem

TOOLS = Path(__file__).parent.parent / "tools" / "plot"
ASSETS = Path(__file__).parent.parent / "src" / "mga" / "report" / "assets"
MOST_BYTES = 5_000_000
HOSTILE = (
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>",
    "<!-- <script> --!> javascript:window.pwned=3 <a href=\"javascript:window.pwned=4\" onclick='window.pwned=5'>",
    "\u202eright to left\u202c \x00\x1b[2J \u2028 אבג العربية 👩‍👩‍👧‍👦 &lt;script&gt; ]]> "
    "{{constructor}} ${window.pwned=6}",
)
"""What a careless page would run, or be broken by."""

Mga = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mga(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mga:
    """Run `mga` with these arguments, from its entry point, in this process: exit code, output, errors."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mga", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        return code, *capsys.readouterr()

    return command


def expanded(folder: Path, name: str, **flags: Any) -> Path:
    """A finished run of hostile and ordinary documents, with two rows that cannot be used."""
    ordinary = "Le café {0} ferma en été. Masons carried {0} stones up the hill every morning. 灯塔在暴风雨之后重建。"
    texts = [*HOSTILE, "word" * 50_000, *(ordinary.format(i) * 3 for i in range(20))]
    rows: list[Any] = [{"id": f"doc-{i}<script>", "text": text * 2} for i, text in enumerate(texts)]
    lines = [json.dumps(row, ensure_ascii=False) for row in [*rows, {"id": "empty", "text": ""}, ["not a row"]]]
    (folder / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    settings = {"input": [str(folder / "in.jsonl")], "engine": "scripted:?flaws=0.35", "shard_size": 8} | flags
    asyncio.run(expand(load_config(None, settings), Run(folder / name), Progress(Console(stderr=True), quiet=True)))
    return folder / name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a third of whose replies are flawed."""
    return expanded(tmp_path_factory.mktemp("report"), "run")


@dataclass
class Found(HTMLParser):
    """What a browser's parser would find in a page."""

    scripts: list[str] = field(default_factory=list)
    data: str = ""
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self._inside = "data" if ("id", "data") in attrs else "script"
            if self._inside == "script":
                self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == "script" else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        elif self._inside:
            self.scripts[-1] += data


def parsed(html: Path | bytes) -> tuple[Found, dict[str, Any]]:
    found = Found()
    found.feed((html if isinstance(html, bytes) else html.read_bytes()).decode())
    return found, json.loads(found.data)


def tables(data: dict[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The rows of all tables by caption and name of the row."""
    found = {}
    for section in data["sections"]:
        for block in section["blocks"]:
            if block["kind"] == "table":
                rows = {(r[0]["label"] if isinstance(r[0], dict) else r[0]): r[1:] for r in block["rows"]}
                found[block["caption"]] = rows
    return found


def block(data: dict[str, Any], section: str, kind: str) -> dict[str, Any]:
    blocks = next(part for part in data["sections"] if part["id"] == section)["blocks"]
    found: dict[str, Any] = next(block for block in blocks if block["kind"] == kind)
    return found


def test_the_figures_are_the_runs(mga: Mga, run: Path, tmp_path: Path) -> None:
    code, out, err = mga("report", run, "--out", tmp_path / "page.html", "--generated-price", 2)
    assert (code, err) == (0, "")
    assert str(tmp_path / "page.html") in out
    _, data = parsed(tmp_path / "page.html")
    stats = ShardStats.model_validate_json((run / "stats.json").read_bytes())
    counts = {name: values[0] for name, values in tables(data)["Counts, from input to kept"].items()}
    assert counts["documents"] == stats.documents == 24
    assert counts["input rows"] == stats.documents + 2
    assert sum(n for name, n in counts.items() if name.startswith("skipped: ")) == len(stats.problems) == 2
    assert {name: counts[name] for name in stats.outcomes} == stats.outcomes
    assert counts["kept + dropped + failed"] == counts["pairs (genre, audience)"] == stats.chunks * 5
    assert (counts["tokens of the documents"], counts["tokens kept"]) == (stats.source_tokens, stats.kept_tokens)
    scores = block(data, "scores", "bars")
    assert {score: n for score, n in zip(scores["labels"], scores["counts"][0], strict=True) if n} == stats.scores
    reasons = block(data, "reasons", "bars")
    assert dict(zip(reasons["labels"], reasons["counts"][0], strict=True)) == stats.reasons
    lengths = block(data, "lengths", "histogram")
    assert sum(lengths["counts"][0]) + lengths["beyond"][0] == stats.outcomes["kept"]
    spent = sum(usage.generated_tokens for usage in stats.usage.values())
    assert tables(data)["Requests and tokens"]["cost"][0] == pytest.approx(spent * 2 / 1e6, abs=0.005)
    rows = data["examples"]["rows"]
    assert {row["reason"] for row in rows if "reason" in row} == set(stats.reasons)
    assert {str(row["score"]) for row in rows if row["score"]} == set(stats.scores)


def test_texts_of_documents_and_models_stay_text(mga: Mga, run: Path) -> None:
    assert mga("report", run)[0] == 0
    found, data = parsed(run / "report.html")
    assert len(found.scripts) == 5
    assert set(found.tags) <= {
        *("html", "head", "meta", "title", "style", "body", "a", "header", "h1", "bdi", "p", "nav", "ul", "main"),
        *("noscript", "footer", "script"),
    }
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert [value for name, value in found.attributes if name in ("href", "src")] == ["#main"]
    originals = ["".join(p for p in o["text"] if isinstance(p, str)) for o in data["examples"]["originals"]]
    for text in HOSTILE:
        assert any(original.startswith(text) for original in originals)
    longest = max(data["examples"]["originals"], key=lambda original: original["length"])
    assert longest["length"] - longest["more"] < 20_000


def test_only_the_pages_own_scripts_may_run(mga: Mga, run: Path) -> None:
    assert mga("report", run)[0] == 0
    found, _ = parsed(run / "report.html")
    policy = next(value for name, value in found.attributes if name == "content" and "default-src" in str(value))
    assert policy is not None
    allowed = re.search(r"script-src ([^;]*);", policy)
    assert allowed is not None
    hashes = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in found.scripts]
    assert allowed.group(1).split() == hashes
    assert "default-src 'none'" in policy


def test_no_address_of_the_network_but_the_names_of_formats(mga: Mga, tmp_path: Path) -> None:
    empty = page("t", "n", [Section("points", "Map", [Points("m", ["a"], [0], [0.0], [1.0], ["x"])])], [], Examples())
    addresses = set(re.findall(rb"(?:https?:)?//[a-z0-9.]+\.[a-z]{2,}[^\"' `]*", empty))
    assert {address for address in addresses if b"www.w3.org" not in address} == set()
    assert b"url(" not in (ASSETS / "page.css").read_bytes()


def test_the_same_run_gives_the_same_page_and_other_files_stay(mga: Mga, run: Path, tmp_path: Path) -> None:
    assert mga("report", run)[0] == 0
    first = (run / "report.html").read_bytes()
    assert mga("report", run)[0] == 0
    assert (run / "report.html").read_bytes() == first
    (tmp_path / "thesis.html").write_text("<p>three years of work")
    code, _, err = mga("report", run, "--out", tmp_path / "thesis.html")
    assert (code, err.count("\n")) == (2, 1)
    assert "no page of mga" in err
    assert (tmp_path / "thesis.html").read_text() == "<p>three years of work"


def test_what_cannot_be_shown_is_refused_in_a_sentence(mga: Mga, run: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged").mkdir()
    for name in ("run.json", "shards", "kept"):
        source = run / name
        for file in [source] if source.is_file() else source.iterdir():
            target = tmp_path / "damaged" / file.relative_to(run)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes()[: -200 if name == "kept" else None])
    for arguments, said in (
        ([tmp_path], "holds no run"),
        ([run, run], "named twice"),
        ([run, "--out", tmp_path], "is a folder"),
        ([tmp_path / "damaged"], "cannot be read"),
    ):
        code, _, err = mga("report", *arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err


def test_runs_and_stages_stand_side_by_side(mga: Mga, run: Path, tmp_path: Path) -> None:
    strict = expanded(tmp_path, "strict", variant="strict")
    clean_again(run, tmp_path / "cleaned", policy_of(Run(run).record(), None, {"min_score": 5}))
    assert mga("report", run, strict, tmp_path / "cleaned", "--out", tmp_path / "page.html")[0] == 0
    _, data = parsed(tmp_path / "page.html")
    assert data["runs"] == ["run", "strict", "cleaned"]
    record = json.loads((tmp_path / "cleaned" / "stage.json").read_bytes())
    stage = record["counts"]
    counts = tables(data)["Counts, from input to kept"]
    assert counts["documents"][:2] == [24, 24]
    assert counts["kept"][2] == stage["kept"] < counts["kept"][0]
    assert counts["rows read"] == [None, None, stage["rows"] + record["failed"]]
    differ = tables(data)["What differs"]
    assert differ["variant"] == ["base", "strict", "–"]
    assert {row["run"] for row in data["examples"]["rows"]} == {0, 1, 2}
    shown = [{r["original"] for r in data["examples"]["rows"] if r["run"] == of} for of in (0, 1)]
    assert len(shown[0] & shown[1]) > 15, "the same documents are shown of every run"


def test_prompts_are_shown_word_for_word_or_not_at_all(run: Path) -> None:
    source = sources_of([run])[0]
    folded = {block.summary: block.blocks[0] for block in recipe([source]).blocks if block.kind == "folded"}
    name = source.record["identity"]["prompts"]["reformulate"]
    wording = folded[f"Prompt {name}"]
    assert wording.kind == "code"
    assert "{document}" in wording.text
    assert "to write {genre}" in wording.text
    del source.record["prompt_texts"]
    folded = {block.summary: block.blocks[0] for block in recipe([source]).blocks if block.kind == "folded"}
    assert folded[f"Prompt {name}"] == wording, "a run that keeps no wording is shown what is shipped"
    source.record["identity"]["prompts"]["reformulate"] = "reformulate_base@000000000000"
    folded = {block.summary: block.blocks[0] for block in recipe([source]).blocks if block.kind == "folded"}
    assert folded["Prompt reformulate_base@000000000000"].kind == "prose"


def test_a_prompt_of_ones_own_is_shown_as_it_was(tmp_path: Path) -> None:
    ballad = tmp_path / "ballad.md"
    ballad.write_text("Sing the document above as {genre} to {audience}. ```</details><script>window.pwned</script>")
    run = expanded(tmp_path, "run", variant=str(ballad))
    ballad.write_text("Hum the document above as {genre} to {audience}.")
    source = sources_of([run])[0]
    folded = {block.summary: block.blocks[0] for block in recipe([source]).blocks if block.kind == "folded"}
    wording = folded[f"Prompt {source.record['identity']['prompts']['reformulate']}"]
    assert wording.kind == "code"
    assert "Sing the document above as {genre} to {audience}. ```</details>" in wording.text
    card = (run / "README.md").read_text()
    assert wording.text.strip() in card
    assert card.count("\n````text\n") == card.count("\n````\n") == 1, "the wording cannot end its own block"


def test_a_run_on_an_object_store(mga: Mga, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there = place("memory://pages/run")
    for file in (file for file in run.rglob("*") if file.is_file() and file.name != "report.html"):
        write_atomically(there / str(file.relative_to(run)), file.read_bytes())
    assert mga("report", run, "--out", "local.html")[0] == 0
    code, out, err = mga("report", "memory://pages/run")
    assert (code, out.startswith("report.html ("), err) == (0, True, "")
    assert Path("report.html").read_bytes() == Path("local.html").read_bytes()
    assert mga("report", run, "--out", "memory://pages/page.html")[0] == 0
    assert read(place("memory://pages/page.html")) == Path("local.html").read_bytes()
    code, _, err = mga("report", "memory://pages/none")
    assert (code, err.count("\n")) == (2, 1)
    assert "holds no run" in err


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage of 12,000 rows with texts of 30 KB, 360 MB in all, every tenth dropped."""
    folder = tmp_path_factory.mktemp("large")
    text = " ".join(f"harbour{i} stones" for i in range(1_800))
    for part, documents, per in (("kept", 2_000, 5), ("dropped", 2_000, 1)):
        (folder / part).mkdir()
        rows = documents * per
        columns: dict[str, Any] = {
            "id": [f"{part}-{i}" for i in range(rows)],
            "text": [f"{i} {text}" for i in range(rows)],
            "source_id": [f"doc-{i // per}" for i in range(rows)],
            "chunk_id": [f"doc-{i // per}#0" for i in range(rows)],
            "score": pa.array([i % 5 + 1 for i in range(rows)], pa.int8()),
            "raw_text": [f"{i // per} {text}" for i in range(rows)],
        }
        if part == "dropped":
            columns["reason"] = ["near_duplicate"] * rows
        for shard in range(4):
            some = pa.table(columns).slice(shard * rows // 4, rows // 4)
            pq.write_table(some, folder / part / f"{shard:05}.parquet", compression="zstd", row_group_size=500)
    counts = {"rows": 12_000, "kept": 10_000, "reasons": {"near_duplicate": 2_000}}
    (folder / "stage.json").write_text(json.dumps({"command": "dedup", "settings": {}, "counts": counts}))
    return folder


def test_a_large_run_fits_a_page(mga: Mga, large: Path) -> None:
    assert mga("report", large)[0] == 0
    assert (large / "report.html").stat().st_size < MOST_BYTES
    _, data = parsed(large / "report.html")
    assert len(data["examples"]["rows"]) > 50
    assert {row["status"] for row in data["examples"]["rows"]} == {"kept", "dropped"}


def test_a_page_of_nothing_but_markup_fits_too(mga: Mga, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    rows = [{"id": f"{i}", "text": f"{i}" + "<>&" * 10_000, "raw_text": f"{i}" + "<b>" * 10_000} for i in range(300)]
    (tmp_path / "kept" / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    counts = {"rows": 300, "kept": 300, "reasons": {}}
    (tmp_path / "stage.json").write_text(json.dumps({"command": "dedup", "settings": {}, "counts": counts}))
    assert mga("report", tmp_path)[0] == 0
    assert (tmp_path / "report.html").stat().st_size < MOST_BYTES


def test_of_more_rows_files_spread_evenly_are_read(
    mga: Mga, large: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scanning, "ROWS", 6_000)
    source = sources_of([large])[0]
    assert scan(source).rows == 6_000
    assert mga("report", large, "--out", tmp_path / "page.html")[0] == 0
    _, data = parsed(tmp_path / "page.html")
    assert tables(data)["Counts, from input to kept"]["kept"] == [10_000]
    assert "6,000 of 12,000 rows" in json.dumps(data["sections"])


@given(st.text(alphabet=st.sampled_from("ab é\u0301灯塔ไ0_-.\n\U0001f469"), max_size=80), st.text(max_size=80))
def test_pieces_are_the_text(original: str, other: str) -> None:
    stems = [stem(word) for word in keywords(original + " harbour masons")]
    for text in (original, other, f"{original} Harbour, MASONS {other}"):
        cut = pieces(text, stems)
        assert "".join(piece for piece in cut if isinstance(piece, str)) == text
        assert all(isinstance(after, str) for before, after in pairwise(cut) if isinstance(before, int))


def test_keywords_are_marked_in_every_script_and_form() -> None:
    found = spans("The Harvested orchard, HARVEST! 灯塔守护者 cafe\u0301", {"harve", "灯塔", "守护", "café"})
    assert [of for _, _, of in found] == ["harve", "harve", "灯塔", "守护", "café"]


def test_effective_number_of_kinds() -> None:
    assert effective_number(Counter({"a": 5, "b": 5, "c": 5})) == pytest.approx(3)
    assert effective_number(Counter()) == 0
    counts = Counter({f"A retired fisherman number {i}, who doubts": 2 for i in range(30)} | {"a nurse at night": 20})
    originals = [f"Ships came in with the tide of day {i}." for i in range(200)]
    found = labels_of(counts, [*originals, "A retired fisherman, number 7, doubts that a nurse works at night."])
    assert found.rows == 80
    assert found.distinct == 31
    assert found.kinds == 2
    assert found.often[0][1] == 60


def test_links_lead_into_the_page_alone() -> None:
    script = (ASSETS / "blocks.js").read_text()
    assert 'throw new Error("links stay in the page")' in script
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        for name in ("blocks.js", "charts.js", "browser.js", "page.js"):
            assert forbidden not in (ASSETS / name).read_text()
    assert Label("a", to="#b").to == "#b"


def test_the_bundle_is_of_its_sources() -> None:
    """make report-assets writes the print of what it was built from into the bundle."""
    found = re.search(r"made by tools/plot from ([0-9a-f]{64})", (ASSETS / "plot.js").read_text()[:300])
    assert found is not None
    sources = (TOOLS / "entry.js").read_bytes() + (TOOLS / "package-lock.json").read_bytes()
    assert found.group(1) == sha256(sources).hexdigest()
    licences = (ASSETS / "plot.LICENSE").read_text()
    assert "@observablehq/plot 0.6.17" in licences
    assert all(name in licences for name in ("d3-array", "d3-scale", "d3-shape", "isoformat"))
