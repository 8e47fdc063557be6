"""The figures of `diversity.measure` on a terminal."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mga.curation.diversity.collapse import MIN_ROWS
from mga.terminal import printable

Figures = dict[str, Any]
NONE = "–"


def report(figures: Figures) -> RenderableType:
    """Everything that was measured, the signs of collapse last."""
    tables = [_labels(figures), *_largest(figures), _texts(figures), _of_originals(figures["whole"])]
    parts: list[RenderableType] = [_head(figures), *(table for table in tables if table.row_count)]
    for title, key in (
        ("over time, in tenths", "over_time"),
        ("by kind of genre", "by_genre"),
        (f"by {figures['settings']['by']}", "by_column"),
    ):
        if figures[key]:
            parts.append(_sets(title, figures[key]))
    parts = [part for table in parts for part in (table, Text())]
    parts += [Text(f"missing: {what}", style="yellow") for what in figures["missing"]]
    parts += [Text(f"warning: {printable(sign['text'])}", style="bold red") for sign in figures["warnings"]]
    if figures["sample"]["rows"] < MIN_ROWS:
        parts.append(Text(f"Fewer than {MIN_ROWS} rows: too few to look for signs of collapse.", style="yellow"))
    elif not figures["warnings"]:
        parts.append(Text("No sign of collapse passed its threshold.", style="green"))
    return Group(*parts)


def _head(figures: Figures) -> Text:
    corpus, sample = figures["corpus"], figures["sample"]
    rows = f"{corpus['rows']:,} rows, {corpus['without_text']:,} of them without text; figures of "
    held = (
        "all" if sample["share_of_originals"] == 1 else f"{sample['rows']:,} rows ({sample['share_of_originals']:.2%})"
    )
    return Text(
        f"{rows}{held}; texts of {sample['originals']:,} originals compared, from seed {figures['settings']['seed']}"
    )


def _labels(figures: Figures) -> Table:
    table = _table(
        "labels: number, effective numbers of order 1, 2",
        *(f"{view} {number}" for view in ("written", "normal", "clusters") for number in ("", "1", "2")),
    )
    for name, views in figures["labels"].items():
        if views is None:
            continue
        cells = []
        for view in ("as_written", "normalised", "clustered"):
            cells += [f"{views[view]['distinct']:,}", *(f"{views[view][f'order_{n}']:,.1f}" for n in (1, 2))]
        table.add_row(name, *cells)
    return table


def _largest(figures: Figures) -> list[Table]:
    tables = []
    for name, views in figures["labels"].items():
        if views is None or "largest" not in views:
            continue
        table = _table(f"largest clusters of {name}s, for example", "share")
        for cluster in views["largest"]:
            table.add_row(Text(printable(cluster["example"])), f"{cluster['share']:.1%}")
        tables.append(table)
    return tables


def _texts(figures: Figures) -> Table:
    whole, sizes = figures["whole"], figures["sizes"]
    table = _table("texts, one of each original", "texts", "originals")
    sides = (whole["texts"], whole["originals"])
    for n in (1, 2, 3):
        table.add_row(f"distinct-{n}, of {sizes['grams']:,} n-grams", *_cells(sides, f"distinct_{n}", ".3f"))
    all_grams = (whole["distinct_grams"], whole["original_distinct_grams"])
    for n in (1, 2, 3):
        table.add_row(f"distinct-{n}, of all", *_cells(all_grams, f"distinct_{n}", ".3f"))
    table.add_row(f"compression of {sizes['bytes'] >> 10:,} KiB", *_cells(sides, "compression", ".2f"))
    table.add_row(f"Vendi score of {sizes['vendi_texts']:,}", *_cells(sides, "vendi", ",.1f"))
    return table


def _of_originals(whole: Figures) -> Table:
    table = _table("texts beside their originals", "mean", "quartile 1", "median", "quartile 3")
    for key, name in (
        ("coverage", "keywords covered"),
        *((f"new_{n}", f"new {n}-grams") for n in (1, 3, 5)),
        ("length_ratio", "length ratio (tokens)"),
    ):
        if whole[key]:
            table.add_row(name, *_cells([whole[key]] * 4, ("mean", "quartile_1", "median", "quartile_3"), ".2f"))
    siblings = whole["siblings"]
    for key, name in (
        ("jaccard", "siblings: shared 3-grams"),
        ("containment", "  contained"),
        ("unrelated_jaccard", "  unrelated texts"),
        ("same_genre", "siblings: same kind of genre"),
        ("same_audience", "  of audience"),
        ("same_pair", "  of both"),
    ):
        if siblings and siblings[key] is not None:
            table.add_row(name, f"{siblings[key]:.3f}")
    return table


def _sets(title: str, sets: list[Figures]) -> Table:
    table = _table(
        title, "share", "genres", "audiences", "distinct-2", "compr.", "Vendi ratio", "covered", "new 3", "length"
    )
    for figures in sets:
        name = printable(figures["name"])
        spreads = [figures[key] and figures[key]["median"] for key in ("coverage", "new_3", "length_ratio")]
        numbers = [
            figures["labels"].get("genre"),
            figures["labels"].get("audience"),
            figures["texts"]["distinct_2"],
            figures["texts"]["compression"],
            figures["vendi_ratio"],
            *spreads,
        ]
        formats = (",.1f", ",.1f", ".3f", ".2f", ".2f", ".2f", ".2f", ".2f")
        cells = (_number(number, shape) for number, shape in zip(numbers, formats, strict=True))
        table.add_row(Text(name), f"{figures['share']:.1%}", *cells)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(Text(title, style="bold"), overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _cells(sides: Any, keys: str | tuple[str, ...], shape: str) -> list[str]:
    """One key of several figures, or a key of each."""
    named = [keys] * len(sides) if isinstance(keys, str) else keys
    return [_number(side[key] if side else None, shape) for side, key in zip(sides, named, strict=True)]


def _number(value: float | None, shape: str) -> str:
    return NONE if value is None else format(value, shape)
