"""The part of a prompt comparison's page that comes from its comparison.json (keys: lab/compare.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

from mga.report.blocks import Band, Block, Cell, Intervals, Label, Points, Prose, Section, Share, Table, Tiles
from mga.report.sections import score_blocks, score_tiles
from mga.scores import Scores

Figures = Mapping[str, Any]

_ORIGINALS = "originals"
_SHOWN_ID = 120


def prompt_comparison(comparison: Figures) -> list[Section]:
    """What was compared, scores, what the judge is worth, texts, the map; variants in the order they were given."""
    variants = {name: comparison["variants"][name] for name in comparison["settings"]["variants"]}
    return [
        _short(comparison, variants),
        _scores(variants),
        _judge(comparison),
        _texts(comparison, variants),
        _map(comparison, variants),
    ]


def head(comparison: Figures) -> str:
    """What was compared, in a sentence."""
    sample, engines = comparison["sample"], comparison["engines"]
    return (
        f"The same {sample['documents']:,} documents ({sample['tokens']:,} tokens, estimated) for all variants. "
        f"Written by {engines['generator']}, judged by {engines['judge']}, embedded by {engines['embedder']}."
    )


def _short(comparison: Figures, variants: Figures) -> Section:
    blocks: list[Block] = []
    for name, figures in variants.items():
        overlap = figures["overlap"]
        tiles = [("texts", f"{figures['texts']:,}", f"{sum(figures['missing'].values()):,} asked for and not had")]
        tiles += score_tiles(_scores_of(figures))
        if overlap:
            tiles.append(("beside the originals", figures["place"], f"closeness {overlap['closeness']:.2f}"))
        if figures["length_ratio"] is not None:
            tiles.append(("length", f"{figures['length_ratio']:.2f} ×", "the document's, in tokens"))
        blocks.append(Tiles(name, tiles))
    blocks.append(Prose(f"What these scores are worth: {comparison['judge']['statement']}"))
    return Section("comparison", "Variants compared", blocks)


def _scores(variants: Figures) -> Section:
    note = "Of all texts that passed cleaning, low scores included. What scores are worth: see the judge."
    found = [_scores_of(figures) for figures in variants.values()]
    return Section("comparison-scores", "Scores", [*score_blocks(list(variants), found), Prose(note)])


def _scores_of(figures: Figures) -> Scores:
    return Scores.of(figures["scores"], figures["scores"]["no_verdict"])


def _texts(comparison: Figures, variants: Figures) -> Section:
    found = variants.values()
    rows: list[list[Cell]] = [["texts", *(figures["texts"] for figures in found)]]
    rows += _counts("no text", [figures["missing"] for figures in found])
    rows += [
        ["length, × the document's tokens", *(figures["length_ratio"] for figures in found)],
        ["new: 3-grams that the document does not have", *(_share(figures["new_3"]) for figures in found)],
        ["coverage: the document's keywords that are used", *(_share(figures["coverage"]) for figures in found)],
        ["siblings alike: 3-grams of two texts of a document", *(_sibling(figures, "jaccard") for figures in found)],
        [
            Label("the same of texts of two documents", 1),
            *(_sibling(figures, "unrelated_jaccard") for figures in found),
        ],
        ["Vendi score, over that of the documents", *(figures["vendi_ratio"] for figures in found)],
    ]
    rows += _counts("cleaning would drop", [figures["rules_would_drop"] for figures in found])
    blocks: list[Block] = [
        Table("Texts, beside their documents", ["", *variants], rows),
        Prose(_note(comparison, "Texts")),
    ]
    return Section("comparison-texts", "Texts", blocks)


def _map(comparison: Figures, variants: Figures) -> Section:
    series = [_ORIGINALS, *variants]
    points = [point for point in comparison["map"]["points"] if point["variant"] in series]
    chart = Points(
        "Originals and variants, t-SNE of their embeddings: near is alike",
        series,
        [series.index(point["variant"]) for point in points],
        [point["x"] for point in points],
        [point["y"] for point in points],
        [str(point["document"])[:_SHOWN_ID] for point in points],
    )
    controls = comparison["controls"]
    placed = {name: figures["overlap"] for name, figures in variants.items()}
    placed |= {"(shortened)": controls["shortened"], "(another)": controls["other_document"]}
    rows: list[list[Cell]] = [
        ["in words", *(figures["place"] or "no text" for figures in variants.values()), None, None],
        ["close: to the own document", *(_of(overlap, "closeness") for overlap in placed.values())],
        ["own nearest", *(_share(_of(overlap, "own_nearest")) for overlap in placed.values())],
    ]
    for name, key in (("coverage", "coverage"), ("density", "density")):
        rows.append([f"{name} of the originals", *(_of(overlap, key) for overlap in placed.values())])
    rows.append(["outside", *(_share(_of(overlap, "outside")) for overlap in placed.values())])
    rows.append(["MMD²", *(_decimals(_of(overlap, "mmd"), 4) for overlap in placed.values())])
    rows.append([Label("p", 1), *(_decimals(_of(overlap, "mmd_p"), 3) for overlap in placed.values())])
    quartiles = [_of(overlap, "closeness_quartiles") or (None, None, None) for overlap in placed.values()]
    low, middle, high = ([of[at] for of in quartiles] for at in range(3))
    close = Intervals(
        "Closeness to the own document: median, and the middle half of the texts",
        "0: as another document, 1: a copy",
        ["closeness"],
        list(placed),
        [Band(low, middle, high)],
    )
    table = Table("Place beside the originals", ["", *placed], rows)
    return Section("comparison-map", "The map", [chart, close, table, Prose(_note(comparison, table.caption))])


def _judge(comparison: Figures) -> Section:
    judge = next(table for table in comparison["tables"] if table["title"] == "The judge")
    blocks: list[Block] = [Prose(comparison["judge"]["statement"])]
    if judge["rows"]:
        blocks.append(Table("Texts whose right verdict is known", ["", *judge["columns"][1:]], judge["rows"]))
    return Section("comparison-judge", "What the judge is worth", [*blocks, Prose(judge["note"])])


def _note(comparison: Figures, title: str) -> str:
    return next(str(table["note"]) for table in comparison["tables"] if table["title"] == title)


def _counts(name: str, counts: Sequence[Mapping[str, int]]) -> list[list[Cell]]:
    """How many, then by reason."""
    reasons = list(dict.fromkeys(reason for of in counts for reason in of))
    rows: list[list[Cell]] = [[name, *(sum(of.values()) for of in counts)]]
    return rows + [[Label(reason, 1), *(of.get(reason, 0) for of in counts)] for reason in reasons]


def _sibling(figures: Figures, key: str) -> Cell:
    return figures["siblings"] and _decimals(figures["siblings"][key], 3)


def _of(overlap: Figures | None, key: str) -> Any:
    return overlap and overlap[key]


def _share(value: float | None) -> Cell:
    return None if value is None else Share(value, f"{value:.1%}")


def _decimals(value: float | None, digits: int) -> Cell:
    return None if value is None else f"{value:.{digits}f}"
