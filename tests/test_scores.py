"""The judge's rates: those that the paper prints come out of the counts that it prints, wherever mga shows them."""

from io import StringIO
from typing import Any

import orjson
import pytest
from rich.console import Console

from mga.expand.shard import ShardStats, _stats
from mga.records import Document, Outcome, Pair, Reformulation, Verdict
from mga.runs.card import _scores as card_scores
from mga.runs.show import totals
from mga.scores import Scores

SAMPLES = 15_355  # arXiv 2502.04235, the judged samples of Table 1, with the rates it prints
PAPER: dict[str, tuple[dict[str, int], dict[str, str]]] = {
    "labeler": ({"5": 4120, "4": 7143, "3": 3034, "2": 661, "1": 214}, {"at_least_3": "93.11%"}),
    "tool": (
        {"5": 3788, "4": 7124, "3": 3224, "2": 736, "1": 285},
        {"at_least_3": "92.06%", "at_most_2": "6.65%", "at_least_4": "71.06%", "equal_5": "24.67%"},
    ),
    "strict": (
        {"5": 6814, "4": 5220, "3": 2384, "2": 520, "1": 227},
        {"at_most_2": "4.86%", "at_least_4": "78.37%", "equal_5": "44.38%"},
    ),
    "relaxed": (
        {"5": 408, "4": 1685, "3": 3889, "2": 4156, "1": 5086},
        {"at_most_2": "60.19%", "at_least_4": "13.63%", "equal_5": "2.66%"},
    ),
}
NO_VERDICT = {name: SAMPLES - sum(counts.values()) for name, (counts, _) in PAPER.items()}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_rates_are_of_all_that_was_asked(name: str) -> None:
    counts, printed = PAPER[name]
    found = Scores.of(counts, NO_VERDICT[name])
    assert found.asked == SAMPLES
    for rate, expected in printed.items():
        assert f"{found.of_asked(rate) or 0:.2%}" == expected


def test_the_rates_of_the_judged_are_others() -> None:
    found = Scores.of(PAPER["labeler"][0], 183)
    assert (found.judged, found.no_verdict) == (15_172, 183)
    assert f"{found.of_judged('at_least_3') or 0:.2%}" == "94.23%"
    assert found.in_words() == "≥ 3: 93.11% of 15,355 asked, 94.23% of 15,172 judged"
    nothing = Scores.of({})
    assert (nothing.of_asked("at_least_3"), nothing.of_judged("at_least_3"), nothing.mean) == (None, None, None)
    assert Scores.of({}, 4).in_words() == "no verdict on 4 texts"


def shown(thing: Any) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(thing)
    return console.export_text()


def paper_stats(name: str) -> ShardStats:
    return ShardStats(documents=1, chunks=1, scores=PAPER[name][0], reasons={"no_verdict": NO_VERDICT[name]})


def test_status_card_and_page_of_a_run_name_both_rates() -> None:
    from mga.report.blocks import Share, Table
    from mga.report.sections import score_blocks, score_tiles

    stats = paper_stats("labeler")
    for text in (shown(totals(stats, 5)), card_scores(stats)):
        assert "93.11% of 15,355 asked" in text
        assert "94.23% of 15,172 judged" in text
    assert score_tiles(stats.judging) == [("score of 3 and more", "93.1%", "of 15,355 asked; 94.2% of 15,172 judged")]
    table = score_blocks(["run"], [stats.judging])[1]
    assert isinstance(table, Table)
    rows = {str(row[0]): row[1] for row in table.rows}
    assert rows["asked"] == 15_355
    assert rows["≥ 3, of the asked"] == Share(14_297 / 15_355, "93.11%")
    assert rows["≥ 3, of the judged"] == Share(14_297 / 15_172, "94.23%")


def test_tables_of_comparisons_name_both_rates() -> None:
    from mga.prompt_comparison.tables import _scores as scores_table

    values = orjson.loads(orjson.dumps(Scores.of(PAPER["tool"][0], NO_VERDICT["tool"]).as_values()))
    table = scores_table({"variants": {"base": {"scores": values}}})
    row = dict(zip(table["columns"], table["rows"][0], strict=True))
    assert row["≥ 3 asked / judged"] == "92.1% / 93.3%"
    assert row["none"] == "198"


def test_a_text_that_the_judge_failed_on_was_asked_and_one_that_never_was_written_was_not() -> None:
    document, pair, text = Document("d", "text", "0:0", n_tokens=1), Pair("g", "a"), Reformulation("t", 1)
    outcomes = [
        Outcome(document, 0, "kept", pair, text, Verdict(4, "")),
        Outcome(document, 1, "dropped", pair, text, None, "no_verdict"),
        Outcome(document, 2, "failed", pair, text, None, "engine_gave_up"),
        Outcome(document, 3, "failed", pair, None, None, "engine_gave_up"),
        Outcome(document, 4, "dropped", pair, text, None, "too_short"),
        Outcome(document, 5, "kept", pair, text),  # not in the judged share
    ]
    stats = _stats(1, [document], outcomes, ())
    assert (stats.judging.asked, stats.judging.judged, (stats + stats).judging.no_verdict) == (3, 1, 4)
    assert stats.judging.as_values()["of_asked"]["at_least_3"] == pytest.approx(1 / 3)
