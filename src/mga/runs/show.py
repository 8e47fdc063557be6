"""Look into a run from the terminal, or into a folder that a command on whole corpora has written: how far it is, and
originals beside what was written from them."""

from collections.abc import Iterator, Mapping
from itertools import groupby, islice
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mga.data.columns import ABSENT, PUBLISHED, value_at
from mga.data.store import Place, exists
from mga.expand.shard import ShardStats
from mga.runs.claims import workers_at_work
from mga.runs.journals import replies_kept
from mga.runs.monitoring.session import all_sessions
from mga.runs.rows import rows_in, stage_counts, stage_record
from mga.runs.run import CONTINUE, Run
from mga.terminal import printable

SIDE_BY_SIDE_WIDTH = 100


def status(run: Run) -> RenderableType:
    """How far a run (or a stage) is, its counts, and what to do next."""
    if stage := stage_record(run.folder):
        return _stage_status(run.folder, stage)
    record = run.whole().record()
    stats = run.stats()
    kept = replies_kept(run.folder, run.done())
    complete = exists(run.folder / "stats.json")
    at_work = workers_at_work(run.folder)
    rows_done = stats.documents + len(stats.problems)
    rows = f" of {record['rows']:,}" if record["rows"] else ""
    lines = Table.grid(padding=(0, 2))
    working = f"at work: {at_work:,} worker{'s' * (at_work > 1)}" if at_work else f"not complete; {CONTINUE}"
    lines.add_row("state", "complete" if complete else working)
    lines.add_row("engine", f"{record['identity']['model']} (judge: {record['identity']['judge_model']})")
    lines.add_row("input rows done", f"{rows_done:,}{rows} in {len(run.done()):,} finished shards")
    if (sessions := all_sessions(run.folder)).seconds:
        lines.add_row("speed", str(sessions))
    if kept.total():
        lines.add_row("open shards", f"{len(kept):,} with {kept.total():,} replies kept")
    return Group(Text(str(run.folder), style="bold"), lines, totals(stats, record["config"]["pairs"]))


def _stage_status(folder: Place, stage: Mapping[str, Any]) -> RenderableType:
    """Which command wrote it from what, and what became of the rows."""
    lines = Table.grid(padding=(0, 2))
    lines.add_row("state", "complete" if "counts" in stage else f"not complete; {CONTINUE}")
    lines.add_row("made by", f"mga {stage['command']}")
    lines.add_row("from", Text(printable(", ".join(stage.get("given", ())))))
    counts = stage_counts(folder, stage)
    table = Table(box=None, show_header=False, padding=(0, 2), pad_edge=False)
    for name in ("rows", "kept"):
        table.add_row(name, f"{counts[name]:,}")
    table.add_row("dropped", f"{counts['rows'] - counts['kept']:,}")
    for reason, count in sorted(counts["reasons"].items(), key=lambda item: -item[1]):
        table.add_row("  because", f"{count:,}", Text(reason, style="dim"))
    if "failed" in stage:
        table.add_row("failed", f"{stage['failed']:,}", Text("in the run, as before", style="dim"))
    return Group(Text(str(folder), style="bold"), lines, table)


def totals(stats: ShardStats, pairs: int) -> Table:
    """The sums of a run, from input to kept, which add up."""
    table = Table(box=None, show_header=False, padding=(0, 2), pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")

    def row(name: str, count: int, note: str = "") -> None:
        table.add_row(name, f"{count:,}", Text(note, style="dim"))

    row("documents", stats.documents, f"{stats.source_tokens:,} tokens")
    for kind, count in sorted(_kinds(stats).items()):
        row("  skipped input", count, kind)
    row("pairs", stats.chunks * pairs, f"{stats.chunks:,} chunks × {pairs}")
    growth = stats.kept_tokens / stats.source_tokens if stats.source_tokens else 0
    for name in ("kept", "dropped", "failed"):
        note = f"{stats.kept_tokens:,} tokens, {growth:.2f} × the documents" if name == "kept" else ""
        row(f"  {name}", stats.outcomes.get(name, 0), note)
    for reason, count in sorted(stats.reasons.items(), key=lambda item: -item[1]):
        row("    because", count, reason)
    for cut, count in stats.cuts.items():
        row("  cut phrases", count, cut)
    judging = stats.judging
    if judging.asked:
        row(
            "judged",
            judging.judged,
            "  ".join(f"{s}: {n:,}" for s, n in sorted(stats.scores.items())),
        )
        row("  no verdict", judging.no_verdict, judging.in_words())
    for purpose, usage in stats.usage.items():
        spent = f"requests; {usage.prompt_tokens:,} prompt tokens ({_share(usage.cached_tokens, usage.prompt_tokens)} "
        row(f"{purpose}", usage.requests, f"{spent}from cache), {usage.generated_tokens:,} generated")
    return table


def examples(run: Run, n: int, dropped: bool, console: Console) -> Iterator[RenderableType]:
    """Some documents of a run (or a stage) with what was written from each, kept or (`dropped`) not kept. Rows of a
    corpus that no run has written are shown as they are."""
    stage = stage_record(run.folder)
    text_key = stage["settings"].get("text_key", "text") if stage else "text"
    if stage is None:
        run.whole()
    folders = ["dropped", "failed"] if dropped else ["kept"]
    rows = (_with_our_names(row) for folder in folders for row in rows_in(run.folder / folder))
    shown = 0
    for _, group in islice(groupby(enumerate(rows), key=_source), n):
        shown += 1
        yield _document([row for _, row in group], text_key, console.width)
    if not shown:
        yield Text(f"No {'dropped' if dropped else 'kept'} texts yet in {run.folder}. ({CONTINUE})")


def _with_our_names(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the published layout has its columns under our names too."""
    return {name: value for name in PUBLISHED if (value := value_at(row, name)) is not ABSENT} | row


def _source(numbered: tuple[int, dict[str, Any]]) -> tuple[object, ...]:
    """The document a row was written from; a row that says nothing of it stands alone."""
    number, row = numbered
    return (row["chunk_id"], row["raw_text"]) if {"chunk_id", "raw_text"} <= row.keys() else (number,)


def _document(rows: list[dict[str, Any]], text_key: str, width: int) -> RenderableType:
    first = rows[0]
    texts = [_rewrite(row, text_key) for row in rows]
    name = str(first.get("chunk_id") or first.get("id") or "")
    parts: list[RenderableType] = [Rule(Text(printable(name), style="bold"))]
    if not first.get("raw_text"):
        return Group(*parts, *texts)
    original = Panel(Text(printable(first["raw_text"])), title="original", box=box.ROUNDED)
    if width < SIDE_BY_SIDE_WIDTH:
        return Group(*parts, original, *texts)
    table = Table.grid(expand=True)
    table.add_column(ratio=2)
    table.add_column(ratio=3)
    table.add_row(original, Group(*texts))
    return Group(*parts, table)


def _rewrite(row: dict[str, Any], text_key: str) -> Panel:
    head = Text()
    for name in ("genre", "audience"):
        if row.get(name):
            head.append(f"{name}: ", style="bold")
            head.append(f"{printable(str(row[name]))}\n")
    if row.get("score") is not None:
        head.append(f"score: {row['score']} ", style="bold")
        head.append(f"{printable(str(row.get('score_reason') or ''))}\n")
    if reason := row.get("reason"):
        head.append(f"{printable(str(reason))}: ", style="bold red")
        head.append(f"{printable(str(row.get('detail') or ''))}\n")
    body = Text(printable(str(row.get(text_key) or "(no text)")))
    tokens = Text(f"{row['n_tokens'] or 0:,} tokens") if "n_tokens" in row else None
    return Panel(Group(head, body), title=tokens, box=box.ROUNDED)


def _kinds(stats: ShardStats) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for problem in stats.problems:
        kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
    return kinds


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"
