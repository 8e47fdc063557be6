"""Documents that one model predicts worse than another, with the tokens marked (keys: evaluate/cases.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

from mga.report.blocks import Block, Folded, Mark, Marked, Prose, Section

Figures = Mapping[str, Any]

MUCH_WORSE, WORSE, BETTER = 2.0, 0.5, -0.5
"""Differences (nats) from which a token is marked."""

SHOWN_ID = 120
"""Characters shown of a document's id."""


def cases(groups: Sequence[Figures]) -> Section | None:
    """The first document of each group in full sight, the others folded. None when there are none."""
    blocks: list[Block] = []
    for group in groups:
        found: list[Block] = [_case(case) for case in group["cases"]]
        if found:
            blocks.append(found[0])
        if found[1:]:
            blocks.append(Folded(f"{len(found) - 1} more of {group['name']}", found[1:]))
    if not blocks:
        return None
    note = "The documents with the largest mean difference. Marked: tokens that the synthetic-trained model predicts "
    note += f"worse by more than {WORSE:g} nats (underlined), by more than {MUCH_WORSE:g} (filled), or better by more "
    note += f"than {-BETTER:g} (dotted)."
    return Section("collapse-cases", "Cases", [Prose(note), *blocks])


def _case(case: Figures) -> Marked:
    where = "no anomaly" if case["position"] < 0 else f"the first anomaly at token {case['position']:,}"
    note = f"Mean difference {case['mean_difference']:+.2f} nats, {where}, {case['tokens']:,} tokens"
    note += f"; shown from token {case['first_token']:,}." if case["first_token"] else "."
    pieces: list[tuple[str, Mark]] = []
    for place, (text, difference) in enumerate(case["pieces"]):
        if place == case.get("anomaly_piece"):
            pieces.append(("first anomaly", "here"))
        mark = _mark(difference)
        if pieces and pieces[-1][1] == mark:
            pieces[-1] = (pieces[-1][0] + text, mark)
        else:
            pieces.append((text, mark))
    return Marked(str(case["document"])[:SHOWN_ID], note, pieces)


def _mark(difference: float) -> Mark:
    if difference > MUCH_WORSE:
        return "much-worse"
    return "worse" if difference > WORSE else "better" if difference < BETTER else ""
