"""The parts of a run's page that are figures: what became of the input, scores, reasons, labels, lengths."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from statistics import quantiles
from urllib.parse import urlencode

from mga.report.blocks import Bars, Block, Cell, Folded, Histogram, Label, Prose, Section, Share, Table, Tiles
from mga.report.cost import hours
from mga.report.labels import Labels, labels_of
from mga.report.scan import Scan
from mga.report.source import Source
from mga.scores import RATES, SCORES, Scores

BINS = 30
PROBLEMS_SHOWN = 100
DETAIL = 300


def totals(sources: Sequence[Source]) -> Section:
    """From input to kept; the counts add up."""
    tiles = [Tiles(source.name if len(sources) > 1 else "In short", _short(source)) for source in sources]
    rows = _input_counts(sources)
    for end in ("kept", "dropped", "failed"):
        rows.append([Label(end, 1), *(source.stats.outcomes.get(end, 0) for source in sources)])
    rows.append(["kept + dropped + failed", *(source.rows for source in sources)])
    for name, tokens in (
        ("tokens of the documents", [source.stats.source_tokens for source in sources]),
        ("tokens kept", [source.stats.kept_tokens for source in sources]),
    ):
        if any(tokens):
            rows.append([name, *_of_runs(sources, tokens)])
    blocks: list[Block] = [*tiles, Table("Counts, from input to kept", ["", *_names(sources)], rows)]
    for source in sources:
        if problems := source.stats.problems:
            listed: list[list[Cell]] = [[Label(str(problem))] for problem in problems[:PROBLEMS_SHOWN]]
            summary = f"{len(problems):,} input rows that could not be used: {source.name}"
            blocks.append(Folded(summary, [Table(f"{source.name}: the first {len(listed)}", ["row"], listed)]))
    return Section("totals", "From input to kept", blocks)


def _input_counts(sources: Sequence[Source]) -> list[list[Cell]]:
    """From input rows to pairs; of stages, the rows they have read."""
    rows: list[list[Cell]] = []
    if any(source.is_run for source in sources):
        stats = [source.stats for source in sources]
        rows.append(["input rows", *_of_runs(sources, [of.documents + len(of.problems) for of in stats])])
        for kind in _union(_problem_kinds(source) for source in sources):
            counts = [_problem_kinds(source).get(kind, 0) for source in sources]
            rows.append([Label(f"skipped: {kind}", 1), *_of_runs(sources, counts)])
        rows.append([Label("documents", 1), *_of_runs(sources, [of.documents for of in stats])])
        rows.append(["chunks of documents", *_of_runs(sources, [of.chunks for of in stats])])
        pairs = [source.stats.chunks * source.record["config"]["pairs"] if source.is_run else 0 for source in sources]
        rows.append(["pairs (genre, audience)", *_of_runs(sources, pairs)])
    if not all(source.is_run for source in sources):
        rows.append(["rows read", *(None if source.is_run else source.rows for source in sources)])
    return rows


def _of_runs(sources: Sequence[Source], figures: Sequence[int]) -> list[int | None]:
    """Figures that stages do not have."""
    return [figure if source.is_run else None for source, figure in zip(sources, figures, strict=True)]


def _short(source: Source) -> list[tuple[str, str, str]]:
    stats = source.stats
    kept = stats.outcomes.get("kept", 0)
    figures = [("kept", f"{kept:,}", f"{kept / source.rows:.1%} of {source.rows:,}")]
    if source.is_run:
        growth = stats.kept_tokens / stats.source_tokens if stats.source_tokens else 0.0
        figures.append(("expansion", f"{growth:.2f} ×", f"{stats.kept_tokens:,} tokens from {stats.source_tokens:,}"))
    figures += score_tiles(stats.judging)
    if spent := source.sessions.spent.generated_tokens:
        rate = spent / max(source.sessions.seconds, 1e-9)
        figures.append(("speed", f"{rate:,.0f} tokens/s", f"generated, over {hours(source.sessions.seconds)}"))
    figures.append(("state", "complete" if source.complete else "not complete", f"mga {source.command}"))
    return figures


def score_tiles(found: Scores) -> list[tuple[str, str, str]]:
    """The share of 3 and more, over the asked and over the judged; none where nothing was judged."""
    asked, judged = found.of_asked("at_least_3"), found.of_judged("at_least_3")
    if asked is None or judged is None:
        return []
    note = f"of {found.asked:,} asked; {judged:.1%} of {found.judged:,} judged"
    return [("score of 3 and more", f"{asked:.1%}", note)]


def scores(sources: Sequence[Source], scans: Sequence[Scan]) -> Section | None:
    """How the judge has scored; the table has the rates of the paper's Table 2. None when nothing was judged."""
    counts = [_score_counts(source, scan) for source, scan in zip(sources, scans, strict=True)]
    if not any(of.asked for of in counts):
        return None
    note = "Scores are the judge's word, 1–5, on whether a text can be recognised as a rewrite of its document. "
    note += "They are worth as much as the judge is."
    return Section("scores", "Scores", [*score_blocks(_names(sources), counts), Prose(note)])


def score_blocks(names: Sequence[str], found: Sequence[Scores]) -> list[Block]:
    """A chart and a table of texts with score 1 … 5, by name of the run, with the paper's rates over the asked and over
    the judged."""
    counts = [[of.counts[score] for score in range(1, 6)] for of in found]
    shares = [[n / max(of.judged, 1) for n in held] for held, of in zip(counts, found, strict=True)]
    chart = Bars("Share of judged texts by score", names, list("12345"), shares, counts, upright=True)
    rows: list[list[Cell]] = [["asked", *(of.asked for of in found)], ["judged", *(of.judged for of in found)]]
    rows.append(["no verdict", *(of.no_verdict for of in found)])
    rows += [[f"score {score}", *(of.counts[score] for of in found)] for score in SCORES]
    for rate, (sign, _) in RATES.items():
        rows.append([f"{sign}, of the asked", *(_rate(of.of_asked(rate)) for of in found)])
        rows.append([f"{sign}, of the judged", *(_rate(of.of_judged(rate)) for of in found)])
    means = (of.mean for of in found)
    rows.append(["mean of the judged", *(None if mean is None else round(mean, 3) for mean in means)])
    return [chart, Table("Scores and rates", ["", *names], rows)]


def _rate(value: float | None) -> Cell:
    return None if value is None else Share(value, f"{value:.2%}")


def _score_counts(source: Source, scan: Scan) -> Scores:
    """What the judge said: of all texts of a run, of the rows read of a stage."""
    if source.is_run:
        return source.stats.judging
    lacking = source.stats.judging.no_verdict if scan.rows >= source.rows else 0
    return Scores({score: scan.scores[score] for score in SCORES}, lacking)


def reasons(sources: Sequence[Source], scans: Sequence[Scan]) -> Section | None:
    """Why texts were not kept, with what was said of one, and a link to examples. None when all were kept."""
    names = _by_count([source.stats.reasons for source in sources])
    if not names:
        return None
    counts = [[source.stats.reasons.get(name, 0) for name in names] for source in sources]
    shares = [[n / source.rows for n in of] for of, source in zip(counts, sources, strict=True)]
    chart = Bars("Share of all outcomes, by the reason why they were not kept", _names(sources), names, shares, counts)
    rows: list[list[Cell]] = []
    for at, name in enumerate(names):
        cells = (Share(of[at], f"{n[at]:,} ({of[at]:.1%})") for of, n in zip(shares, counts, strict=True))
        rows.append([Label(name, to=f"#{urlencode({'end': name})}"), *cells, _said_of(name, scans)])
    columns = ["", *_names(sources), "said of one"]
    blocks: list[Block] = [chart, Table("Reasons; each leads to examples of it", columns, rows)]
    if cuts := _union(source.stats.cuts for source in sources):
        cut: list[list[Cell]] = [[name, *(source.stats.cuts.get(name, 0) for source in sources)] for name in cuts]
        blocks.append(Folded("Phrases cut from kept texts", [Table("Cut phrases", ["", *_names(sources)], cut)]))
    return Section("reasons", "Why texts were not kept", blocks)


def _said_of(reason: str, scans: Sequence[Scan]) -> str | None:
    """The detail of a text that was not kept for this reason."""
    rows = (row for scan in scans for row in scan.sample.of_reason(reason))
    return next((str(row["detail"])[:DETAIL] for row in rows if row.get("detail")), None)


def labels(sources: Sequence[Source], scans: Sequence[Scan]) -> Section | None:
    """Genres and audiences of the kept texts: the most frequent, some rare ones, and the effective number."""
    blocks: list[Block] = []
    for name, counted in (("genre", [scan.genres for scan in scans]), ("audience", [scan.audiences for scan in scans])):
        found = [labels_of(of, scan.sample.originals()) for of, scan in zip(counted, scans, strict=True)]
        if not any(of.rows for of in found):
            continue
        blocks.append(Table(f"Kinds of {name}s", ["", *_names(sources)], _label_figures(name, found)))
        for source, of in zip(sources, found, strict=True):
            blocks.append(_label_table(name, source.name if len(sources) > 1 else "", of))
    if not blocks:
        return None
    note = "The effective number says how many equally frequent kinds would be as diverse (exp of Shannon's entropy). "
    note += "Wordings that say the same in the main are one kind, named by its most frequent wording. "
    note += _read(sources, scans) + " mga diversity measures more."
    return Section("labels", "Genres and audiences", [*blocks, Prose(note)])


def _label_figures(name: str, found: Sequence[Labels]) -> list[list[Cell]]:
    rows: list[list[Cell]] = [[f"texts with a {name}" if name == "genre" else f"texts with an {name}"]]
    rows += [["different wordings"], ["kinds"], ["effective number of kinds"]]
    for of in found:
        kinds: Cell = "needs mga[corpus]" if of.kinds is None else of.kinds
        for row, cell in zip(rows, (of.rows, of.distinct, kinds, round(of.effective, 1)), strict=True):
            row.append(cell)
    return rows


def _label_table(name: str, run: str, of: Labels) -> Table:
    def row(label: str, count: int) -> list[Cell]:
        return [label[:DETAIL], Share(count / max(of.rows, 1), f"{count:,} ({count / max(of.rows, 1):.1%})")]

    rows = [row(label, count) for label, count in of.often]
    if of.rare:
        rows.append([Label("… and some of the rarest"), None])
        rows += [row(label, count) for label, count in of.rare]
    return Table(f"Most frequent {name}s{f': {run}' if run else ''}", [name, "texts"], rows)


def lengths(sources: Sequence[Source], scans: Sequence[Scan]) -> Section | None:
    """How long kept texts are, and how much longer than their originals."""
    blocks: list[Block] = []
    names = _names(sources)
    if any(scan.tokens for scan in scans):
        blocks.append(_histogram("Tokens of kept texts", "tokens", names, [scan.tokens for scan in scans]))
    if any(scan.growth for scan in scans):
        caption = "Length of kept texts as a multiple of their document's, in characters"
        blocks.append(_histogram(caption, "× the document", names, [scan.growth for scan in scans]))
    if not blocks:
        return None
    rows: list[list[Cell]] = []
    if any(source.is_run for source in sources):
        growth = (s.stats.kept_tokens / s.stats.source_tokens if s.stats.source_tokens else None for s in sources)
        rows.append(["tokens kept / tokens of documents", *(None if g is None else round(g, 3) for g in growth)])
    for name, percent in (("a tenth has at most", 10), ("median", 50), ("nine tenths have at most", 90)):
        rows.append([f"tokens of a kept text: {name}", *(_percentile(scan.tokens, percent) for scan in scans)])
    blocks.append(Table("Lengths and growth", ["", *names], rows))
    return Section("lengths", "Lengths and expansion", [*blocks, Prose(_read(sources, scans))])


def _histogram(caption: str, unit: str, names: Sequence[str], values: Sequence[Sequence[float]]) -> Histogram:
    """Equal bins from 0 to the length that 99% of all stay under, the same for every series."""
    end = max(_percentile(of, 99) or 0 for of in values) or 1
    width = ceil(end / BINS) if unit == "tokens" else end / BINS
    edges = [round(width * i, 6) for i in range(BINS + 1)]
    counts, beyond = [], []
    for of in values:
        bins = [0] * (BINS + 1)
        for value in of:
            bins[BINS if value > edges[-1] else min(int(value / width), BINS - 1)] += 1
        counts.append(bins[:BINS])
        beyond.append(bins[BINS])
    return Histogram(caption, unit, names, edges, counts, beyond, [_percentile(of, 50) for of in values])


def _percentile(values: Sequence[float], percent: int) -> float | None:
    """The value that so many percent stay under (1–99), between the two nearest; None without values."""
    if len(values) < 2:
        return values[0] if values else None
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def _read(sources: Sequence[Source], scans: Sequence[Scan]) -> str:
    """Of how many rows a section's figures are."""
    if all(scan.rows >= source.rows for source, scan in zip(sources, scans, strict=True)):
        return "Of all rows."
    parts = (f"{scan.rows:,} of {source.rows:,}" for source, scan in zip(sources, scans, strict=True))
    return f"Of files spread evenly: {', '.join(parts)} rows."


def _names(sources: Sequence[Source]) -> list[str]:
    return [source.name for source in sources]


def _problem_kinds(source: Source) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for problem in source.stats.problems:
        kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
    return kinds


def _by_count(found: Sequence[Mapping[str, int]]) -> list[str]:
    """All names, the most frequent of all runs together first."""
    return [name for name, _ in sum((Counter(of) for of in found), Counter[str]()).most_common()]


def _union(found: Iterable[Iterable[str]]) -> list[str]:
    """All names, those of the first run first."""
    return list(dict.fromkeys(name for names in found for name in names))
