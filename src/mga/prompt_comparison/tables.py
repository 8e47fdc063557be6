"""The figures of a comparison as tables: one form for JSON, a terminal and Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mga.prompt_comparison.overlap import SHIFTS_BELOW
from mga.prompt_comparison.reliability import RANKS
from mga.scores import RATES
from mga.terminal import printable

NONE = "–"
Figures = Mapping[str, Any]


def tables_of(comparison: Figures) -> list[dict[str, Any]]:
    """All tables: title, columns, rows of cells as text, note."""
    return [_scores(comparison), _texts(comparison), _overlap(comparison), _judge(comparison)]


def as_markdown(comparison: Figures) -> str:
    """The comparison as a page of Markdown, beside map.svg."""
    parts = [f"# Comparison of {', '.join(map(_cell, comparison['variants']))}", _head(comparison)]
    for table in comparison["tables"]:
        lines = [
            " | ".join(["", *map(_cell, table["columns"]), ""]).strip(),
            "|---" * len(table["columns"]) + "|",
            *(" | ".join(["", *map(_cell, row), ""]).strip() for row in table["rows"]),
        ]
        parts += [f"## {table['title']}", "\n".join(lines), table["note"]]
    parts += [f"**{comparison['judge']['statement']}**", "![Originals and variants on one map](map.svg)"]
    return "\n\n".join(parts) + "\n"


def shown(comparison: Figures) -> RenderableType:
    """The comparison on a terminal."""
    parts: list[RenderableType] = [Text(_head(comparison)), Text()]
    for table in comparison["tables"]:
        drawn = Table(box=None, pad_edge=False, title=table["title"], title_justify="left", title_style="bold")
        for place, column in enumerate(table["columns"]):
            drawn.add_column(
                printable(column), justify="right" if place else "left", no_wrap=not place, overflow="fold"
            )
        for row in table["rows"]:
            drawn.add_row(*(Text(printable(cell)) for cell in row))
        parts += [drawn, Text(table["note"], style="dim"), Text()]
    return Group(*parts, Text(comparison["judge"]["statement"], style="bold"))


def _head(comparison: Figures) -> str:
    sample, engines = comparison["sample"], comparison["engines"]
    return (
        f"{sample['documents']:,} documents ({sample['tokens']:,} tokens, estimated). "
        f"Written by {engines['generator']}, judged by {engines['judge']}, embedded by {engines['embedder']}."
    )


def _scores(comparison: Figures) -> dict[str, Any]:
    rows = []
    for name, figures in comparison["variants"].items():
        scores = figures["scores"]
        counts = [f"{scores[score]:,}" for score in ("5", "4", "3", "2", "1", "no_verdict")]
        rates = [f"{_share(scores['of_asked'][rate])} / {_share(scores['of_judged'][rate])}" for rate in RATES]
        rows.append([name, *counts, *rates])
    return {
        "title": "Scores",
        "columns": ["variant", *"54321", "none", *(f"{sign} asked / judged" for sign, _ in RATES.values())],
        "rows": rows,
        "note": "Counts; rates of all texts that the judge was asked about, and of those it has judged (none: no "
        "verdict). What they are worth: see the judge below.",
    }


def _texts(comparison: Figures) -> dict[str, Any]:
    rows = []
    for name, figures in comparison["variants"].items():
        siblings = figures["siblings"]
        rows.append(
            [
                name,
                f"{figures['texts']:,}",
                _reasons(figures["missing"]),
                *(_number(figures[key], ".2f") for key in ("length_ratio", "new_3", "coverage")),
                _number(siblings and siblings["jaccard"], ".3f"),
                _number(figures["vendi_ratio"], ".2f"),
                _reasons(figures["rules_would_drop"]),
            ]
        )
    return {
        "title": "Texts",
        "columns": [
            *("variant", "texts", "no text", "length", "new", "keywords"),
            *("siblings", "Vendi", "rules would drop"),
        ],
        "rows": rows,
        "note": "Length: tokens over the document's. New: share of 3-grams that the document does not have. Keywords: "
        "share of the document's that are used. Siblings: Jaccard of the 3-grams of two texts of one document. Vendi: "
        "of the texts over that of their documents. Rules: what cleaning would drop of these texts; no such rule was "
        "applied here.",
    }


def _overlap(comparison: Figures) -> dict[str, Any]:
    rows = [[name, *_place(figures["overlap"])] for name, figures in comparison["variants"].items()]
    words = [f"{name} {figures['place'] or 'has no text'}" for name, figures in comparison["variants"].items()]
    controls = comparison["controls"]
    rows.append(["(shortened)", *_place(controls["shortened"])])
    rows.append(["(another)", *_place(controls["other_document"])])
    return {
        "title": "Place beside the originals",
        "columns": ["variant", "close", "own nearest", "coverage", "density", "outside", "MMD²", "p"],
        "rows": rows,
        "note": f"{'; '.join(words)}. Close: 1 a copy of the own document, 0 no nearer than another document. Stays "
        "close: as close as the document's own text with a third of its sentences left out (shortened), or closer. "
        f"Shifts away: below {SHIFTS_BELOW}. Extends while overlapping: between. Own nearest: texts whose nearest "
        "original is their own. "
        "Coverage, density (Naeem et al. 2020), outside (in no original's neighbourhood), MMD² and its p-value: of one "
        "text a document, beside all originals.",
    }


def _judge(comparison: Figures) -> dict[str, Any]:
    judge = comparison["judge"]
    rows = []
    first = next(iter(comparison["variants"]))
    for kind, name in (("planted", "shortened documents"), ("swapped", f"texts of {first}")):
        figures = judge[kind]
        if figures:
            low, high = figures["interval"]
            cells = [f"{figures['auc']:.2f}", f"{low:.2f}–{high:.2f}", figures["answer"]]
            cells += [_number(figures["auc_expected"], ".2f")]
            cells += [f"{figures[f'mean_{side}']:.2f}" for side in ("faithful", "unrelated")]
            cells += [_share(figures["faithful_dropped"]), _share(figures["unrelated_kept"])]
            rows.append([name, f"{figures['pairs']:,}", f"{figures['no_verdict']:,}", *cells])
    note = (
        "Texts beside their own document and beside another. None: no verdict. AUC: how often the own one scores "
        f"higher, 0.5 is a coin; fit: all of its interval is at {RANKS} or above, unfit: all below, inconclusive: "
        "neither; the same by expected scores. Own, other: mean scores. Dropped, kept: shares of the own "
        f"and of the other by a least score of {comparison['min_score']}."
    )
    if repeated := judge["repeated"]:
        note += (
            f" Drawn again: {repeated['texts']:,} texts, {repeated['judgements_each']} times each; alpha "
            f"{_number(repeated['alpha'], '.2f')}, the same score {_share(repeated['same_score'])}, the same decision "
            f"{_share(repeated['same_decision'])}."
        )
    return {
        "title": "The judge",
        "columns": [
            *("tested on", "asked", "none", "AUC", "95%", "is", "expected", "own", "other"),
            *("dropped", "kept"),
        ],
        "rows": rows,
        "note": note,
    }


def _place(figures: Figures | None) -> Iterator[str]:
    if figures is None:
        yield from [NONE] * 7
        return
    yield f"{figures['closeness']:.2f}"
    yield _share(figures["own_nearest"])
    yield f"{figures['coverage']:.2f}"
    yield f"{figures['density']:.2f}"
    yield _share(figures["outside"])
    yield f"{figures['mmd']:.4f}"
    yield f"{figures['mmd_p']:.3f}"


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or NONE


def _share(value: float | None) -> str:
    return _number(value, ".1%")


def _number(value: float | None, shape: str) -> str:
    return NONE if value is None else format(value, shape)


def _cell(text: str) -> str:
    """Text that cannot leave its cell or become markup."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return " ".join(printable(text).split())
