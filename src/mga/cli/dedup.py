"""The command `mga dedup`."""

import re
from enum import StrEnum
from typing import Annotated

import typer

from mga.cli.options import CorpusFiles, IdKey, OnlyReport, Out, TextKey, Workers, threads
from mga.errors import InputError
from mga.packages import require

_UNITS = {"MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}


class Keep(StrEnum):
    """Which of two duplicates stays."""

    SCORE = "score"
    LONGEST = "longest"
    FIRST = "first"


class Siblings(StrEnum):
    """What becomes of duplicates among texts made from the same piece of a source."""

    KEEP = "keep"
    REMOVE = "remove"


def dedup(
    corpus: CorpusFiles,
    out: Out,
    threshold: Annotated[float, typer.Option(help="Jaccard similarity from which two texts are near-duplicates")] = 0.8,
    shingle: Annotated[str, typer.Option(help="what it is counted in: words:N or characters:N in a row")] = "words:5",
    keep: Annotated[
        Keep | None,
        typer.Option(
            help="which of two stays (ties: the longer, then the first); score where there is one, else first"
        ),
    ] = None,
    siblings: Annotated[
        Siblings, typer.Option(help="keep or remove duplicates among rewrites of one text (source_id, chunk_id)")
    ] = Siblings.REMOVE,
    originals: Annotated[
        bool | None,
        typer.Option(
            "--originals/--no-originals",
            help="also remove near copies of any original (column raw_text); on where there is one",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="another corpus, whose texts are matched against and never removed; may be repeated"),
    ] = None,
    memory: Annotated[str, typer.Option(help="how much to use: 512MB, 4GB", metavar="SIZE")] = "2GB",
    workers: Workers = None,
    only_report: OnlyReport = False,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
) -> None:
    """Remove exact and near-duplicates; the best of each stays, and each removal names it.

    Run the same command again to continue where it was stopped.
    """
    require("mga dedup", "corpus", "numba", "numpy")
    import resource
    import sys
    import time

    from mga.checks import open_checked
    from mga.curation.duplicates.dedup import Rules
    from mga.curation.duplicates.dedup import dedup as work
    from mga.curation.duplicates.minhash import Shingle

    started = time.monotonic()
    counts = work(
        open_checked(corpus, text_key, id_key),
        out,
        Rules(threshold, Shingle.parse(shingle), keep.value if keep else None, siblings is Siblings.KEEP, originals),
        open_checked(against, text_key, id_key) if against else None,
        size_of(memory),
        threads(workers),
        only_report,
        lambda line: print(line, file=sys.stderr),
    )
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))
    print(f"rows    {counts.rows:>14,}   {seconds:,.1f} s, {counts.rows / seconds:,.0f} rows/s, {peak:,.0f} MB at most")
    print(f"kept    {counts.kept:>14,}" + ("   (only reported)" if only_report else ""))
    for reason, count in sorted(counts.reasons.items()):
        print(f"dropped {count:>14,}   {reason}")
    print(out)


def size_of(given: str) -> int:
    """Bytes in a size such as 512MB or 1.5GB (1024 to the next unit). Raises InputError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT]B)", given.strip().upper())
    if not found:
        raise InputError(f"--memory {given} is no size; write it as 512MB or 4GB.")
    return int(float(found[1]) * _UNITS[found[2]])
