"""The part of a page that comes from the JSON of `mga collapse` (keys: evaluate/collapse.py): pictures and a verdict.

Differences are the synthetic-trained model's loss less the real-trained one's, in nats per token.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mga.report.blocks import (
    Band,
    Block,
    Cell,
    Folded,
    Histogram,
    Intervals,
    Label,
    Lines,
    Points,
    Prose,
    Section,
    Share,
    Table,
    Tiles,
)
from mga.report.cases import SHOWN_ID, cases

Figures = Mapping[str, Any]

FEWEST = 10
"""Documents with an anomaly, from which a histogram of their places is drawn; the table has all."""

_MODELS = {"real": "real-trained", "synt": "synthetic-trained"}
_SIGNS = {True: "yes", False: "no", None: "only told"}
_NATS = "difference, nats per token"


def collapse(figures: Figures, number: int = 1, name: str = "") -> list[Section]:
    """The sections of one comparison. `number` tells those of several apart in links, `name` in headings."""
    found = (
        _verdict(figures),
        _losses(figures),
        _positions(figures),
        _kinds(figures),
        _certainty(figures),
        _texts(figures),
        cases(figures["groups"]),
    )
    ids = "" if number == 1 else f"-{number}"
    return [
        Section(f"{section.id}{ids}", f"{section.title}{f': {name}' if name else ''}", section.blocks)
        for section in found
        if section is not None
    ]


def _verdict(figures: Figures) -> Section:
    verdict = figures["verdict"]
    tiles = []
    for group in figures["groups"]:
        difference = group["loss"]["difference"]
        interval = _interval(difference)
        remark = f"nats, {group['documents']:,} documents{f'; 95% {interval}' if interval else ''}"
        tiles.append((f"loss on {group['name']}", f"{difference['value']:+.3f}", remark))
    rows: list[list[Cell]] = []
    for check in verdict["checks"]:
        named = f"{check['name'].replace('_', ' ')}: {check['group']}"
        value = None if check["value"] is None else f"{check['value']:+.3f}"
        interval = _interval(check)
        rows.append([named, _SIGNS[check["sign"]], value, interval, check["threshold"], check["text"]])
    columns = ["check", "a sign", "value", "95%", "threshold", "what was found"]
    blocks: list[Block] = [
        Prose(verdict["headline"]),
        Tiles("The synthetic-trained model's loss less the real-trained one's", tiles),
        Table("Evidence", columns, rows),
    ]
    if verdict["caveats"]:
        caveats: list[list[Cell]] = [[Label(caveat)] for caveat in verdict["caveats"]]
        blocks.append(Table("What limits this verdict", ["caveat"], caveats))
    return Section("collapse", "Has the model collapsed?", blocks)


def _losses(figures: Figures) -> Section:
    rows: list[list[Cell]] = []
    blocks: list[Block] = []
    for group in figures["groups"]:
        loss = group["loss"]
        per_byte = [round(loss["bits_per_byte"][model], 4) for model in _MODELS]
        means = [round(loss[model], 4) for model in _MODELS]
        difference = f"{loss['difference']['value']:+.4f}"
        interval = _interval(loss["difference"])
        rows.append([group["name"], group["documents"], group["tokens"], *means, difference, interval, *per_byte])
    columns = ["documents", "tokens", *_MODELS.values(), "difference", "95%"]
    columns += [f"bits per byte: {name}" for name in _MODELS.values()]
    for group in figures["groups"]:
        scatter = group["scatter"]
        blocks.append(
            Points(
                f"Mean loss of each document, {group['name']}; above the line the synthetic-trained model is worse",
                [group["name"]],
                [0] * len(scatter["ids"]),
                scatter["real"],
                scatter["synt"],
                [str(name)[:SHOWN_ID] for name in scatter["ids"]],
                "real-trained, nats per token",
                "synthetic-trained, nats per token",
                diagonal=True,
            )
        )
    models = [[named, _plain(figures["models"][key]["model"])] for key, named in _MODELS.items()]
    blocks += [Table("Loss, nats per token", ["", *columns], rows), Table("Models", ["", "model"], models)]
    return Section("collapse-losses", "Losses", [*blocks, *_history(figures["history"])])


def _history(history: Sequence[Figures]) -> Iterator[Block]:
    """Curves of the loss over training, a chart for each source; a table of them all."""
    if not history:
        return
    sources = list(dict.fromkeys(row["name"] for point in history for row in point["by_source"]))
    losses = [{row["name"]: row["loss"] for row in point["by_source"]} for point in history]
    runs = list(dict.fromkeys(point["run"] for point in history))
    for source in sources:
        x: list[list[float]] = []
        y: list[Band] = []
        for run in runs:
            steps = [
                (point["step"], of[source])
                for point, of in zip(history, losses, strict=True)
                if point["run"] == run and point["step"] is not None and of.get(source) is not None
            ]
            x.append([step for step, _ in steps])
            y.append(Band([], [loss for _, loss in steps], []))
        if any(len(steps) > 1 for steps in x):
            yield Lines(f"Loss over training: {source}", "step", "nats per token", runs, x, y)
    rows: list[list[Cell]] = []
    for point, of in zip(history, losses, strict=True):
        rows.append([point["run"], point["step"], *(_rounded(of.get(source)) for source in sources)])
    yield Table("Losses over training, nats per token", ["run", "step", *sources], rows)


def _positions(figures: Figures) -> Section:
    settings = figures["settings"]
    blocks: list[Block] = []
    tables: list[Block] = []
    for group in figures["groups"]:
        rows: list[list[Cell]] = []
        for band in group["positions"]:
            if not band["documents"]:
                continue
            title = "all documents" if band["low"] is band["high"] is None else f"mean difference {band['name']}"
            if band["found"] >= FEWEST:
                blocks.append(_histogram(band, f"First anomalies, {group['name']}: {title}"))
            worse = None if band["worse"] is None else Share(band["worse"], f"{band['worse']:.0%}")
            places = [_rounded(band[key], 1) for key in ("mean", "chance_mean")]
            later = None if band["later"] is None else f"{band['later']:+.1f}"
            between = None if band["later_low"] is None else f"{band['later_low']:+.1f} to {band['later_high']:+.1f}"
            cells = [band["documents"], band["found"], worse, *places, later, between, _rounded(band["p_later"], 3)]
            rows.append([title, *cells])
        columns = [
            "documents",
            "with an anomaly",
            "of them worse",
            "mean position, %",
            "by chance, %",
            "later by",
            "95%",
        ]
        tables.append(Table(f"First anomalies by band, {group['name']}", ["", *columns, "p (later)"], rows))
        if group["profile"]["mean"] is not None:
            blocks.append(_profile(group))
    note = f"The first anomaly is the first window ({settings['window']:.0%} of the document) whose mean difference, "
    note += (
        f"taken absolutely, exceeds the document's by more than {settings['k']:g} σ (reading: {settings['reading']}); "
    )
    note += "its position is a share of the document. A search from the start finds early anomalies first, so chance "
    note += (
        "alone gives no flat picture: shaded is where 95% of the bars lie, with their mean as a line, when the same "
    )
    note += (
        f"differences are shifted circularly {settings['circular_shifts']:,} times. Histograms are drawn from {FEWEST} "
    )
    note += f"anomalies on; documents of fewer than {settings['least_tokens']:,} tokens are left out."
    return Section("collapse-positions", "Where in the documents they differ", [*blocks, *tables, Prose(note)])


def _histogram(band: Figures, caption: str) -> Histogram:
    counts = [round(share * band["found"]) for share in band["bins"]]
    edges = [100 * i / len(counts) for i in range(len(counts) + 1)]
    expected = None
    if band["chance"] is not None:
        expected = Band(band["chance_low"], band["chance"], band["chance_high"])
    return Histogram(caption, "% of the document", ["documents"], edges, [counts], [0], [None], [expected])


def _profile(group: Figures) -> Lines:
    profile = group["profile"]
    parts = len(profile["mean"])
    return Lines(
        f"Mean difference over the course of the documents, {group['name']}, with 95%",
        "% of the document",
        _NATS,
        [group["name"]],
        [[100 * (i + 0.5) / parts for i in range(parts)]],
        [Band(profile["low"], profile["mean"], profile["high"])],
    )


def _kinds(figures: Figures) -> Section:
    groups = figures["groups"]
    blocks: list[Block] = []
    counts: list[Block] = []
    for key, caption in (
        ("ranks", "Difference by the token's rank under the real-trained model (1: the likeliest), with 95%"),
        ("frequencies", "Difference by the token's share of all tokens compared, with 95%"),
        ("classes", "Difference by what the token is in the text, with 95%"),
    ):
        labels = [row["name"] for row in groups[0][key]]
        found = [{row["name"]: row for row in group[key]} for group in groups]
        values = [
            Band(*([of.get(label, {}).get(end) for label in labels] for end in ("low", "value", "high")))
            for of in found
        ]
        blocks.append(Intervals(caption, _NATS, [group["name"] for group in groups], labels, values))
        tokens: list[list[Cell]] = [[label, *(of.get(label, {}).get("tokens") for of in found)] for label in labels]
        columns = ["", *(group["name"] for group in groups)]
        counts.append(Table(f"Tokens: {caption.removesuffix(', with 95%')}", columns, tokens))
    blocks.append(Folded("How many tokens", counts))
    words = [f"{group['name']}: {', '.join(group['function_words'])}." for group in groups if group["function_words"]]
    if words:
        blocks.append(Folded("What was taken for function words", [Prose(each) for each in words]))
    return Section("collapse-kinds", "Which tokens differ", blocks)


def _certainty(figures: Figures) -> Section:
    blocks: list[Block] = []
    rows: list[list[Cell]] = []
    for group in figures["groups"]:
        bins = [[of for of in group["calibration"][key]["bins"] if of["tokens"]] for key in _MODELS]
        blocks.append(
            Lines(
                f"Calibration, {group['name']}: on the line a model is right as often as it thinks",
                "confidence",
                "accuracy",
                list(_MODELS.values()),
                [[of["confidence"] for of in model] for model in bins],
                [Band([], [of["accuracy"] for of in model], []) for model in bins],
                diagonal=True,
            )
        )
        for key, named in _MODELS.items():
            sure, exact = group["calibration"][key], group["continuation"][key]
            cells = [_rounded(sure[of]) for of in ("entropy", "confidence", "accuracy", "overconfidence", "ece")]
            known = f"{exact['exact']:,} of {exact['spans']:,}"
            rows.append([f"{group['name']}: {named}", *cells, known, exact["longest"]])
    columns = ["", "entropy, nats", "confidence", "accuracy", "overconfidence", "calibration error"]
    columns += ["spans continued exactly", "longest run of likeliest tokens"]
    blocks.append(Table("Certainty, and what is known by heart", columns, rows))
    if memory := figures["memorisation"]:
        blocks.append(_memory(memory))
    return Section("collapse-certainty", "Calibration and memory", blocks)


def _memory(memory: Figures) -> Table:
    rows: list[list[Cell]] = []
    for key, named in _MODELS.items():
        one = memory[key]
        losses = [_rounded(one[which]["value"]) for which in ("seen", "unseen")]
        interval = _interval(one["difference"])
        rows.append([named, *losses, f"{one['difference']['value']:+.3f}", interval, round(one["auc"], 3)])
    columns = ["", "loss on seen", "loss on unseen", "unseen less seen", "95%", "AUC (0.5: not told apart)"]
    return Table("Documents that were trained on, and others", columns, rows)


def _texts(figures: Figures) -> Section | None:
    if not figures["texts"]:
        return None
    names = {"human": "real continuations", "real": "real-trained model", "synt": "synthetic-trained model"}
    keys = ("distinct_1", "distinct_2", "distinct_3", "self_bleu", "vendi", "tail_coverage", "compression")
    titles = ("different words", "different pairs", "different triples", "self-BLEU", "Vendi score")
    columns = ["", "texts", *titles, "rare words covered", "compression ratio"]
    rows: list[list[Cell]] = []
    for key, named in names.items():
        of = figures["texts"][key]
        rows.append([named, of["texts"], *(_rounded(of[column]) for column in keys)])
    return Section("collapse-texts", "The models' samples", [Table("How varied they are", columns, rows)])


def _interval(estimate: Figures) -> str | None:
    return None if estimate["low"] is None else f"{estimate['low']:+.3f} to {estimate['high']:+.3f}"


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def _plain(value: object) -> str:
    return "–" if value is None else str(value)
