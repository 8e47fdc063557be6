"""A comparison on the screen: two columns of figures, and what may be said."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mga.scores import SCORES


def comparison_report(figures: Mapping[str, Any]) -> Group:
    """Table 1 of the paper for both sides, their texts, their pairs, and the verdict."""
    sides = [side for side in ("teacher", "student") if side in figures]
    table = Table(title=f"{figures['documents']:,} documents, stage {figures['stage']}", title_justify="left", box=None)
    table.add_column("")
    for side in sides:
        table.add_column(f"{side}\n{escape(figures['engines'][side])}", justify="right")
    for name, cells in _lines([figures[side] for side in sides]):
        table.add_row(name, *cells)
    return Group(table, Text(), Text(statement(figures)))


def statement(figures: Mapping[str, Any]) -> str:
    """The verdict as sentences."""
    found = figures["difference"]
    if found is None:
        return "No teacher was given, so nothing is said of the difference."
    of = f"{found['documents']:,} document{'s' if found['documents'] != 1 else ''}"
    shown = (
        f"The student's share of acceptable texts is {found['mean']:+.1%} from the teacher's "
        f"(95%: {found['low']:+.1%} to {found['high']:+.1%}, {of})"
    )
    margin = f"{figures['margin']:.1%}"
    if found["verdict"] == "non-inferior":
        return f"{shown}: not worse than it by more than {margin}."
    if found["verdict"] == "worse":
        return f"{shown}: worse than it by more than {margin}."
    if found["needed"] is None:
        return f"{shown}: whether it is worse by more than {margin} is inconclusive."
    needed = f"about {_two_digits(found['needed']):,.0f} documents would tell"
    return f"{shown}: whether it is worse by more than {margin} is inconclusive. If it is as it looks, {needed}."


def _lines(sides: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    def line(name: str, *path: str, form: str = "{:,}") -> tuple[str, list[str]]:
        return name, [_shown(_at(side, path), form) for side in sides]

    rows = [line(f"score {score}", "scores", str(score)) for score in SCORES]
    rows += [
        line("no verdict", "scores", "no_verdict"),
        ("≥ 3, of the asked", [_share(side["scores"]["at_least_3"]["of_asked"]) for side in sides]),
        ("≥ 3, of the judged", [_share(side["scores"]["at_least_3"]["of_judged"]) for side in sides]),
        ("acceptable, of all", [_share(side["acceptable"]) for side in sides]),
        line("tokens of a text", "tokens", form="{:,.0f}"),
        line("× its document", "length_ratio", form="{:.2f}"),
        line("new word 3-grams", "novelty", form="{:.1%}"),
        line("tokens/s, writing", "tokens_per_second", form="{:,.0f}"),
    ]
    if any(side["pairs"] for side in sides):
        rows += [
            (
                "pairs valid at once",
                [_share((side["pairs"] or {}).get("valid_at_once")) for side in sides],
            ),
            line("pairs had", "pairs", "pairs"),
            line("tokens/s, pairs", "pairs", "tokens_per_second", form="{:,.0f}"),
        ]
    reasons = sorted({reason for side in sides for reason in side["missing"]})
    return rows + [line(reason.replace("_", " "), "missing", reason) for reason in reasons]


def _at(side: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = side
    for key in path:
        value = (value or {}).get(key)
    return value


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _share(share: Mapping[str, Any] | None) -> str:
    return (
        ""
        if share is None or share["share"] is None
        else f"{share['share']:.2%} ({share['low']:.1%}–{share['high']:.1%})"
    )


def _two_digits(number: int) -> float:
    return float(f"{number:.2g}")
