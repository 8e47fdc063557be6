"""The page of one run, or of several side by side: from folders to one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from mga.errors import InputError
from mga.report import sections
from mga.report.cost import Prices, speed
from mga.report.examples import examples_of
from mga.report.page import GENERATOR, page
from mga.report.recipe import recipe
from mga.report.scan import scan
from mga.report.source import Source, sources_of
from mga.store import write_atomically


def report(folders: Sequence[Path], out: Path, prices: Prices | None = None) -> int:
    """Write the page of these folders; returns its bytes. The same folders give the same page.

    Raises InputError for a folder that holds no run, a damaged file, and an `out` that is there and no page of mga.
    """
    check_replaceable(out)
    sources = sources_of(folders)
    scans = [scan(source) for source in sources]
    found = (
        sections.totals(sources),
        sections.scores(sources, scans),
        sections.reasons(sources, scans),
        sections.labels(sources, scans),
        sections.lengths(sources, scans),
        speed(sources, prices or Prices()),
        recipe(sources),
    )
    examples = examples_of(scans)
    rows = sum(source.rows for source in sources)
    html = page(
        f"mga: {', '.join(source.name for source in sources)}",
        _note(sources),
        [part for part in found if part is not None],
        [source.name for source in sources],
        examples,
        f"{len(examples.rows):,} of {rows:,} rows: documents drawn by chance, and some rows of every score and reason.",
    )
    write_atomically(out, html)
    return len(html)


def check_replaceable(out: Path) -> None:
    """Raise InputError unless `out` is free, or holds a page that mga has written."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file with --out.")
    if not out.exists():
        return
    try:
        with out.open("rb") as file:
            head = file.read(8192)
    except OSError as error:
        raise InputError(f"{out} cannot be read: {error.strerror}; choose another --out.") from error
    if GENERATOR.encode() not in head:
        raise InputError(f"{out} is there already and no page of mga; choose another --out.")


def _note(sources: Sequence[Source]) -> str:
    made = [f"mga {source.verb}, {source.record.get('created', '')}".rstrip(", ") for source in sources]
    return made[0] if len(made) == 1 else f"{len(made)} runs side by side: {'; '.join(made)}"
