"""Look into a run from the terminal: how far it is, and originals beside what was written from them."""

from collections.abc import Iterator
from itertools import groupby, islice
from typing import Any

import regex
from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mga.expand.shard import ShardStats
from mga.runs.run import CONTINUE, Run
from mga.runs.session import all_sessions
from mga.store import read_rows

# Control characters, direction overrides and lone surrogates would move the reader's cursor or break the output.
_UNPRINTABLE = regex.compile(r"[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069--[\n\t]]", regex.V1)
SIDE_BY_SIDE_WIDTH = 100


def printable(text: str) -> str:
    """Text from documents and models, made harmless for a terminal."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text).expandtabs(4)


def status(run: Run) -> RenderableType:
    """How far a run is, its counts, and what to do next."""
    record = run.record()
    stats = run.stats()
    journals = run.open_journals()
    complete = (run.folder / "stats.json").exists()
    waiting = sum(usage.requests for journal in journals for usage in journal.usage.values())
    rows_done = stats.documents + len(stats.problems)
    rows = f" of {record['rows']:,}" if record["rows"] else ""
    lines = Table.grid(padding=(0, 2))
    lines.add_row("state", "complete" if complete else f"not complete; {CONTINUE}")
    lines.add_row("engine", f"{record['identity']['model']} (judge: {record['identity']['judge_model']})")
    lines.add_row("input rows done", f"{rows_done:,}{rows} in {len(run.done()):,} finished shards")
    if (sessions := all_sessions(run.folder)).seconds:
        lines.add_row("speed", str(sessions))
    if waiting:
        lines.add_row("open shards", f"{len(journals):,} with {waiting:,} replies kept")
    return Group(Text(str(run.folder), style="bold"), lines, totals(stats, record["config"]["pairs"]))


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
    if stats.scores:
        row(
            "judged",
            sum(stats.scores.values()),
            "  ".join(f"{s}: {n:,}" for s, n in sorted(stats.scores.items())),
        )
    for purpose, usage in stats.usage.items():
        spent = f"requests; {usage.prompt_tokens:,} prompt tokens ({_share(usage.cached_tokens, usage.prompt_tokens)} "
        row(f"{purpose}", usage.requests, f"{spent}from cache), {usage.generated_tokens:,} generated")
    return table


def examples(run: Run, n: int, dropped: bool, console: Console) -> Iterator[RenderableType]:
    """Some documents of a run with what was written from each, kept or (`dropped`) not kept."""
    run.record()
    folders = ["dropped", "failed"] if dropped else ["kept"]
    rows = (row for folder in folders for row in read_rows(run.folder / folder))
    shown = 0
    for _, group in islice(groupby(rows, key=lambda row: (row["chunk_id"], row["raw_text"])), n):
        shown += 1
        yield _document(list(group), console.width)
    if not shown:
        yield Text(f"No {'dropped' if dropped else 'kept'} texts yet in {run.folder}. ({CONTINUE})")


def _document(rows: list[dict[str, Any]], width: int) -> RenderableType:
    original = Panel(Text(printable(rows[0]["raw_text"])), title="original", box=box.ROUNDED)
    texts = [_rewrite(row) for row in rows]
    parts: list[RenderableType] = [Rule(Text(printable(rows[0]["chunk_id"]), style="bold"))]
    if width < SIDE_BY_SIDE_WIDTH:
        return Group(*parts, original, *texts)
    table = Table.grid(expand=True)
    table.add_column(ratio=2)
    table.add_column(ratio=3)
    table.add_row(original, Group(*texts))
    return Group(*parts, table)


def _rewrite(row: dict[str, Any]) -> Panel:
    head = Text()
    for name in ("genre", "audience"):
        if row[name]:
            head.append(f"{name}: ", style="bold")
            head.append(f"{printable(row[name])}\n")
    if row["score"] is not None:
        head.append(f"score: {row['score']} ", style="bold")
        head.append(f"{printable(row['score_reason'] or '')}\n")
    if reason := row.get("reason"):
        head.append(f"{reason}: ", style="bold red")
        head.append(f"{printable(row['detail'] or '')}\n")
    body = Text(printable(row["text"] or "(no text)"))
    return Panel(Group(head, body), title=Text(f"{row['n_tokens'] or 0:,} tokens"), box=box.ROUNDED)


def _kinds(stats: ShardStats) -> dict[str, int]:
    kinds: dict[str, int] = {}
    for problem in stats.problems:
        kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
    return kinds


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"
