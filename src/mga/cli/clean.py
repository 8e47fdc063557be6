"""The command `mga clean`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mga.cli.options import OnlyReport, Out, Workers, threads
from mga.config import CleaningRules, ExpandConfig

if TYPE_CHECKING:
    from rich.table import Table

    from mga.curation.clean import Figures


def _rule(name: str, flag: str) -> Any:
    """A flag for a threshold; its help is that of the setting, its default the run's own."""
    return typer.Option(flag, help=CleaningRules.model_fields[name].description, show_default=False)


def clean(
    run: Annotated[Path, typer.Argument(help="folder of a run", metavar="RUN")],
    out: Out,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML file; of its settings, [cleaning] and min_score count. Flags win"),
    ] = None,
    min_words: Annotated[int | None, _rule("min_words", "--min-words")] = None,
    max_repeated: Annotated[float | None, _rule("max_repeated", "--max-repeated")] = None,
    max_copied: Annotated[float | None, _rule("max_copied", "--max-copied")] = None,
    min_coverage: Annotated[float | None, _rule("min_coverage", "--min-coverage")] = None,
    max_cut: Annotated[float | None, _rule("max_cut", "--max-cut")] = None,
    phrases: Annotated[str | None, _rule("phrases", "--phrases")] = None,
    patterns: Annotated[str | None, _rule("patterns", "--patterns")] = None,
    min_score: Annotated[
        int | None,
        typer.Option("--min-score", help=ExpandConfig.model_fields["min_score"].description, show_default=False),
    ] = None,
    unjudged: Annotated[
        Literal["drop", "keep"],
        typer.Option("--unjudged", help="texts that pass now and that the judge, who judged others, has not seen"),
    ] = "drop",
    workers: Workers = None,
    only_report: OnlyReport = False,
) -> None:
    """Clean a run again with other thresholds, without asking a model.

    Thresholds that are not given are the run's own. The folder gets the layout of a run: kept/, dropped/ with
    reasons, failed/. Texts keep the scores they have, also where other phrases are cut from them.
    """
    from rich.console import Console
    from rich.progress import Progress

    from mga.checks import check_kind
    from mga.curation.clean import clean_again, policy_of
    from mga.data.output_folder import RUN
    from mga.runs.run import Run

    flags = {
        "min_score": min_score,
        "cleaning": {
            "min_words": min_words,
            "max_repeated": max_repeated,
            "max_copied": max_copied,
            "min_coverage": min_coverage,
            "max_cut": max_cut,
            "phrases": phrases,
            "patterns": patterns,
        },
    }
    check_kind(run, RUN)
    policy = policy_of(Run(run).record(), config, flags, unjudged)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("shards")

        def watch(done: int, shards: int) -> None:
            progress.update(bar, completed=done, total=shards)

        figures = clean_again(run, out, policy, threads(workers), only_report, watch)
    console.print(_table(figures))
    print(out)


def _table(figures: "Figures") -> "Table":
    """What became of the rows, before and after."""
    from rich.table import Table

    before, after = figures.before, figures.after
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    table.add_column("")
    for heading in ("before", "after", "change"):
        table.add_column(heading, justify="right")

    def row(name: str, old: int, new: int) -> None:
        table.add_row(name, f"{old:,}", f"{new:,}", f"{new - old:+,}" if new != old else "")

    row("rows", before.rows + figures.failed, after.rows + figures.failed)
    row("  kept", before.kept, after.kept)
    row("    tokens", figures.tokens_before, figures.tokens_after)
    row("  dropped", before.reasons.total(), after.reasons.total())
    both = before.reasons | after.reasons
    for reason in sorted(both, key=lambda name: (-both[name], name)):
        row(f"    {reason}", before.reasons[reason], after.reasons[reason])
    row("  failed", figures.failed, figures.failed)
    return table
