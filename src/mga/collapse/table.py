"""The figures of `mga losses` and `mga collapse` on a terminal."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mga.terminal import printable

NONE = "–"
_BARS = " ▁▂▃▄▅▆▇█"
_MUCH, _SOME = 2.0, 0.5
_CASE_CHARACTERS = 700
_GOOD = 0.95


def losses_report(record: dict[str, Any]) -> RenderableType:
    """Loss per source of a folder of losses."""
    table = _table("loss", "documents", "tokens", "nats per token", "bits per byte")
    for row in record["by_source"]:
        table.add_row(
            Text(printable(row["name"])),
            f"{row['documents']:,}",
            f"{row['tokens']:,}",
            _number(row["loss"], 4),
            _number(row["bits_per_byte"], 4),
        )
    skipped = sum(record["counts"]["skipped"].values())
    note = [Text(f"{skipped:,} rows without a text were skipped.", style="yellow")] if skipped else []
    return Group(table, *note)


def collapse_report(figures: dict[str, Any]) -> RenderableType:
    """Everything that was compared; the verdict last."""
    parts: list[RenderableType] = [_models(figures), _losses(figures)]
    for group in figures["groups"]:
        parts += [_positions(group, figures["settings"]), _kinds(group)]
    parts.append(_certainty(figures))
    if figures["history"]:
        parts.append(_history(figures["history"]))
    if figures["texts"]:
        parts.append(_texts(figures["texts"]))
    parts += [
        _case(case, group["name"]) for group in figures["groups"] for case in group["cases"][:2] if case["passes"]
    ]
    parts.append(_verdict(figures["verdict"]))
    return Group(*(part for pair in ((part, Text()) for part in parts) for part in pair))


def generations_report(record: dict[str, Any]) -> RenderableType:
    """The models of collapse on purpose, and how well each detector tells the collapsed from the healthy."""
    models = _table("models: loss on real text against the first", "differs in", "loss", "of each seed")
    for model in record["models"]:
        kind = f"generation {model['generation']}" if model["generation"] else model["kind"]
        seeds = " ".join(_signed(value, 2) for value in model["by_seed"])
        models.add_row(model["name"], kind, _signed(model["loss_difference"]), seeds)
    detectors = record["detectors"]
    generations = list(detectors[0]["auc_by_generation"])
    kinds = list(detectors[0]["auc_by_kind"])
    title = "detectors: AUC of collapsed against healthy"
    table = _table(title, "all", "95%", *(f"gen {g}" for g in generations), "sign above", "found", "false")
    apart = _table("all collapsed against each kind of healthy model", *kinds)
    for row in detectors:
        table.add_row(
            row["name"],
            _number(row["auc"], 2),
            NONE if row["auc_low"] is None else f"{row['auc_low']:.2f}–{row['auc_high']:.2f}",
            *(_number(row["auc_by_generation"][g], 2) for g in generations),
            _number(row["threshold"], 2),
            NONE if row["sensitivity"] is None else f"{row['sensitivity']:.0%}",
            NONE if row["false_alarms"] is None else f"{row['false_alarms']:.0%}",
        )
        apart.add_row(row["name"], *(_number(row["auc_by_kind"][kind], 2) for kind in kinds))
    good = [row["name"] for row in detectors if (row["auc"] or 0) >= _GOOD]
    bad = [row["name"] for row in detectors if (row["auc"] or 0) < _GOOD]
    words = Text(f"AUC {_GOOD} and more: {', '.join(good) or 'none'}. Below: {', '.join(bad) or 'none'}.")
    return Group(models, Text(), table, Text(), apart, words)


def _models(figures: dict[str, Any]) -> Text:
    real, synt = (figures["models"][name]["folder"] for name in ("real", "synt"))
    return Text(f"real-trained: {printable(real)} · synthetic-trained: {printable(synt)} · differences: synt − real")


def _losses(figures: dict[str, Any]) -> Table:
    table = _table(
        "loss, nats per token", "documents", "tokens", "real", "synt", "difference", "95%", "bits/byte real", "synt"
    )
    for group in figures["groups"]:
        loss, difference = group["loss"], group["loss"]["difference"]
        table.add_row(
            Text(printable(group["name"])),
            f"{group['documents']:,}",
            f"{group['tokens']:,}",
            _number(loss["real"], 4),
            _number(loss["synt"], 4),
            _signed(difference["value"]),
            _range(difference["low"], difference["high"]),
            _number(loss["bits_per_byte"]["real"], 4),
            _number(loss["bits_per_byte"]["synt"], 4),
        )
    return table


def _positions(group: dict[str, Any], settings: dict[str, Any]) -> Table:
    rule = f"window {settings['window']:.0%}, k = {settings['k']:g}"
    title = f"{printable(group['name'])}: first anomaly ({rule}), by mean difference"
    table = _table(
        title, "documents", "found", "start … end", "by chance", "mean %", "chance %", "later", "95%", "p later"
    )
    for band in group["positions"]:
        if band["documents"]:
            table.add_row(
                band["name"],
                f"{band['documents']:,}",
                f"{band['found']:,}",
                _bars(band["bins"]),
                _bars(band["chance"]),
                _number(band["mean"], 1),
                _number(band["chance_mean"], 1),
                _signed(band["later"], 1),
                _range(band["later_low"], band["later_high"], 1),
                _number(band["p_later"], 3),
            )
    if (last := group["profile"]["last_fifth"]) is not None:
        table.caption = (
            f"difference over the document {_bars(_shifted(group['profile']['mean']))}   "
            f"last fifth less what is before: {_signed(last['value'])} ({_range(last['low'], last['high'])})"
        )
    return table


def _kinds(group: dict[str, Any]) -> Table:
    table = _table(f"{printable(group['name'])}: difference by kind of token", "tokens", "share", "difference", "95%")
    for title, key in (("rank", "ranks"), ("frequency", "frequencies"), ("", "classes")):
        for row in group[key]:
            if row["tokens"]:
                table.add_row(
                    f"{title} {row['name']}".strip(),
                    f"{row['tokens']:,}",
                    f"{row['share']:.1%}",
                    _signed(row["value"]),
                    _range(row["low"], row["high"]),
                )
        table.add_section()
    return table


def _certainty(figures: dict[str, Any]) -> Table:
    table = _table(
        "certainty and memory",
        "model",
        "entropy",
        "confidence",
        "accuracy",
        "calibration error",
        "exact continuations",
        "longest",
    )
    for group in figures["groups"]:
        for name in ("real", "synt"):
            sure, exact = group["calibration"][name], group["continuation"][name]
            table.add_row(
                Text(printable(group["name"])) if name == "real" else "",
                name,
                _number(sure["entropy"], 3),
                _number(sure["confidence"], 3),
                _number(sure["accuracy"], 3),
                _number(sure["ece"], 3),
                f"{exact['exact']:,} of {exact['spans']:,}",
                f"{exact['longest']:,}",
            )
    return table


def _history(history: list[dict[str, Any]]) -> Table:
    names = list(dict.fromkeys(row["name"] for point in history for row in point["by_source"]))
    table = _table("loss over training, nats per token", "step", *map(printable, names))
    for point in history:
        losses = {row["name"]: row["loss"] for row in point["by_source"]}
        step = NONE if point["step"] is None else f"{point['step']:,}"
        table.add_row(Text(printable(point["run"])), step, *(_number(losses.get(name), 4) for name in names))
    return table


def _texts(texts: dict[str, Any]) -> Table:
    columns = ("distinct_1", "distinct_2", "distinct_3", "self_bleu", "vendi", "tail_coverage", "compression")
    table = _table("the models' samples", "texts", *(name.replace("_", " ") for name in columns))
    for name in ("human", "real", "synt"):
        row = texts[name]
        label = {"human": "real continuations", "real": "real-trained model", "synt": "synthetic-trained model"}[name]
        table.add_row(label, f"{row['texts']:,}", *(_number(row[column], 3) for column in columns))
    return table


def _case(case: dict[str, Any], group: str) -> RenderableType:
    place = "no anomaly" if case["position"] < 0 else f"first anomaly at token {case['position']:,}"
    head = Text(
        f"{printable(group)}: {printable(case['document'])}, mean difference {case['mean_difference']:+.2f}, "
        f"{place} in {case['tokens']:,} tokens",
        style="bold",
    )
    body = Text()
    for piece, difference in case["pieces"]:
        style = "white on red" if difference > _MUCH else "red" if difference > _SOME else ""
        style = "green" if difference < -_SOME else style
        body.append(printable(piece), style)
        if len(body) > _CASE_CHARACTERS:
            body.append(" …")
            break
    key = Text(f"red: worse by {_SOME:g} nats, on red: by {_MUCH:g}; green: better by {_SOME:g}", style="dim")
    return Group(head, body, key)


def _verdict(verdict: dict[str, Any]) -> RenderableType:
    lines = [Text(printable(verdict["headline"]), style="bold")]
    for check in verdict["checks"]:
        mark, style = {True: ("✗", "red"), False: ("✓", "green"), None: ("·", "")}[check["sign"]]
        lines.append(Text(f"{mark} {printable(check['text'])}", style=style))
    lines += [Text(f"  {printable(caveat)}", style="dim") for caveat in verdict["caveats"]]
    return Group(*lines)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", title_style="bold")
    table.add_column("", min_width=18)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:+,.{digits}f}"


def _range(low: float | None, high: float | None, digits: int = 3) -> str:
    return NONE if low is None or high is None else f"{low:+.{digits}f} to {high:+.{digits}f}"


def _bars(values: list[float] | None) -> str:
    if not values or not max(values):
        return NONE
    return "".join(_BARS[round(max(value, 0) / max(values) * (len(_BARS) - 1))] for value in values)


def _shifted(values: list[float]) -> list[float]:
    return [value - min(values) for value in values]
