"""The command `mga boilerplate`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.options import CorpusFiles, TextKey, Workers, threads
from mga.packages import require

SHOWN = 40


def boilerplate(
    corpus: CorpusFiles,
    out: Annotated[Path, typer.Option("--out", help="pattern file to write; decisions in one that is there are kept")],
    originals: Annotated[
        list[str] | None,
        typer.Option("--originals", help="what the texts were written from, if not a column: files, folders, globs"),
    ] = None,
    original_key: Annotated[
        str | None,
        typer.Option("--original-key", help="column of the originals [default: raw_text; of --originals: text]"),
    ] = None,
    text_key: TextKey = "text",
    sample: Annotated[int, typer.Option("--sample", help="read about so many of the texts", min=1)] = 1_000_000,
    seed: Annotated[int, typer.Option("--seed", help="seed of the sample", min=0)] = 0,
    min_share: Annotated[
        float, typer.Option("--min-share", help="share of the texts that must have a phrase", min=0, max=1)
    ] = 0.0005,
    min_texts: Annotated[int, typer.Option("--min-texts", help="texts that must have it", min=2)] = 10,
    min_sources: Annotated[
        int, typer.Option("--min-sources", help="sources (source_id) that must have it", min=1)
    ] = 10,
    min_ratio: Annotated[
        float, typer.Option("--min-ratio", help="odds in the texts over odds in the originals", min=1)
    ] = 4.0,
    min_z: Annotated[float, typer.Option("--min-z", help="standard deviations of that ratio's logarithm", min=0)] = 3.0,
    workers: Workers = None,
) -> None:
    """Find the phrases that a model repeats all over a corpus, and write them down for review.

    Cleaning uses the reviewed file when a config says patterns = "FILE" under [cleaning].
    """
    require("mga boilerplate", "corpus", "numba", "numpy")
    from rich.console import Console

    from mga.checks import open_checked
    from mga.curation.boilerplate.pattern_file import held_patterns, places, table, write_patterns
    from mga.curation.boilerplate.patterns import Thresholds, mine, require_originals

    limits = Thresholds(sample, seed, min_share, min_texts, min_z, min_ratio, min_sources)
    held_patterns(out)
    ours = open_checked(corpus, text_key)
    theirs = open_checked(originals, original_key or "text", text_option="--original-key") if originals else None
    require_originals(theirs or ours, original_key)
    status = Console(stderr=True)
    mined = mine(ours, theirs, original_key or "raw_text", limits, threads(workers), lambda line: status.print(line))
    written = write_patterns(out, mined, limits)

    console = Console()
    console.print(table(mined.patterns[:SHOWN]))
    console.print(f"{mined.texts:,} texts; {mined.frequent:,} frequent phrases; proposed: {places(mined.patterns)}.")
    if not mined.pieces:
        console.print("There are no originals to compare with (--originals): read the proposals with care.")
    console.print(f"{out}: {written.new:,} new, {written.again:,} found again, {written.before:,} kept from before.")
