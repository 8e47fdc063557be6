"""The page of a run in a real browser: it draws itself, asks nobody, runs nothing it was given, and can be used."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_prompt_comparison import embedder, finished
from test_report import expanded
from test_report_models import figures_of, generations_of, hostile

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

pytestmark = pytest.mark.browser
__all__ = ["embedder", "finished"]  # fixtures
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def chromium(pages: dict[str, Path]) -> Iterator[Any]:
    """The system's Chromium, else the one that playwright has installed. Its loop begins when the pages are written."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> dict[str, Path]:
    """The page of a run with hostile documents, of two runs, of a prompt comparison, of models on hostile texts."""
    from mga.report.report import report

    folder = tmp_path_factory.mktemp("browser")
    report([finished], folder / "lab.html")
    compared = figures_of(folder)
    report([compared, hostile(compared), generations_of(folder / "generations.json")], folder / "models.html")
    run, strict = expanded(folder, "run"), expanded(folder, "strict", variant="strict")
    report([run], folder / "one.html")
    report([run, strict], folder / "two.html")
    return {name: folder / f"{name}.html" for name in ("one", "two", "lab", "models")}


class Opened:
    """A page, and what it has complained about or asked for."""

    def __init__(self, browser: Any, file: Path, hash_: str = "", **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda r: self.said.append(r.url) if not r.url.startswith("file:") else None)
        self.page.goto(file.as_uri() + hash_)
        self.page.wait_for_selector("body[data-ready]")
        self.page.wait_for_function(
            "document.querySelectorAll('figure').length == document.querySelectorAll('.chart > svg').length"
        )

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return found

    @property
    def status(self) -> str:
        return str(self.page.locator("[role=status]").inner_text())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["one", "two", "lab", "models"])
def test_no_fault_of_accessibility(chromium: Any, pages: dict[str, Path], name: str, size: str, scheme: str) -> None:
    opened = Opened(chromium, pages[name], viewport=SIZES[size], color_scheme=scheme)
    for folded in opened.page.locator("details").all():
        folded.evaluate("details => { details.open = true; }")
    found = axe.Axe().run(opened.page).response
    faults = [
        (fault["id"], fault["impact"], [node["html"][:200] for node in fault["nodes"][:3]])
        for fault in found["violations"]
    ]
    assert faults == []
    assert len(found["passes"]) > 20
    assert opened.page.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]
    assert opened.said == []


def test_nothing_hostile_runs(chromium: Any, pages: dict[str, Path]) -> None:
    opened = Opened(chromium, pages["one"])
    opened.page.get_by_label("Source has").fill("doc-0")
    assert "<img src=x onerror='window.pwned = 2'>" in opened.texts("article .text")[0]
    for part in ("doc-1<", "doc-2", "doc-3"):
        opened.page.get_by_label("Source has").fill(part)
        assert opened.page.locator("article .text").count() >= 1
    assert opened.page.evaluate("window.pwned") is None
    assert opened.page.locator("img, iframe, object").count() == 0
    assert opened.said == []


def test_models_compared_are_drawn_and_their_texts_are_only_text(chromium: Any, pages: dict[str, Path]) -> None:
    opened = Opened(chromium, pages["models"])
    case = opened.page.locator("#collapse-cases .marked").first
    assert case.locator("mark.here").inner_text() == "first anomaly"
    worse = " ".join(case.locator("mark.worse, mark.much-worse").all_inner_texts()).split()
    assert 75 <= len(worse) <= 90, "the last fifth of 400 words, and a few by chance"
    texts = opened.page.locator("#collapse-cases-2 .marked .text").first
    assert texts.inner_text().count("<img src=x onerror='window.pwned = 2'>") == 3
    assert opened.page.locator("#collapse-positions .chart svg rect").count() > 40
    assert opened.page.locator("#collapse-losses .chart svg circle").count() > 120
    assert opened.page.evaluate("window.pwned") is None
    assert opened.page.locator("img, iframe, object").count() == 0
    assert opened.said == []


def test_the_map_of_a_comparison_names_its_points(chromium: Any, pages: dict[str, Path]) -> None:
    opened = Opened(chromium, pages["lab"])
    titles = opened.page.locator("#comparison-map .chart svg title").all_text_contents()
    assert len({title for title in titles if title.startswith("originals: ")}) == 6
    assert any(title.startswith("ballad_of_two: ") for title in titles)
    legend = opened.texts("#comparison-map .legend li")
    assert legend == ["originals", "strict", "ballad_of_two", "wiki"]


def test_filters_pages_keys_and_links(chromium: Any, pages: dict[str, Path]) -> None:
    opened = Opened(chromium, pages["one"])
    whole = opened.status
    opened.page.get_by_label("How it ended").select_option("low_score")
    assert opened.status != whole
    assert set(opened.texts("#examples ol .how")) == {"low_score"}
    opened.page.get_by_role("button", name="Clear").click()
    playwright.expect(opened.page.locator("[role=status]")).to_have_text(whole)
    opened.page.get_by_role("button", name="Next page").click()
    assert "21 to 40 listed" in opened.status
    opened.page.locator("#examples ol a").first.focus()
    opened.page.keyboard.press("ArrowDown")
    opened.page.keyboard.press("j")
    current = opened.page.locator("#examples ol a[aria-current]")
    assert current.evaluate("link => link === document.activeElement")
    assert opened.page.locator("#examples ol a").nth(2).get_attribute("aria-current") == "true"
    shown = opened.texts("article")
    again = Opened(chromium, pages["one"], opened.page.evaluate("location.hash"))
    assert again.texts("article") == shown
    assert "21 to 40 listed" in again.status
    opened.page.locator("#reasons a").first.click()
    reason = opened.texts("#reasons th a")[0]
    assert set(opened.texts("#examples ol .how")) == {reason}


def test_a_page_prints_its_charts_at_the_papers_width(chromium: Any, pages: dict[str, Path]) -> None:
    opened = Opened(chromium, pages["two"], viewport=SIZES["desk"])
    assert opened.page.pdf(format="A4").startswith(b"%PDF")
    assert opened.said == []
