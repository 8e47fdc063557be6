"""The page of what the user names: runs, a prompt comparison, models compared; from folders to one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from mga.data.store import Place, write_atomically
from mga.errors import InputError
from mga.report import sections
from mga.report.blocks import Section
from mga.report.collapse import collapse
from mga.report.cost import Prices, speed
from mga.report.examples import examples_of
from mga.report.generations import detectors
from mga.report.page import GENERATOR, page
from mga.report.prompt_comparison import head, prompt_comparison
from mga.report.recipe import recipe
from mga.report.scan import Scan, scan
from mga.report.source import Source, names_of, sources_of
from mga.report.study import study
from mga.report.subjects import Subjects, subjects_of


def report(given: Sequence[Place], out: Place, prices: Prices | None = None) -> int:
    """Write the page of these folders and JSON files; returns its bytes. The same input gives the same page.

    Raises InputError for what has no page, a damaged file, and an `out` that is there and no page of mga.
    """
    check_replaceable(out)
    subjects = subjects_of(given)
    sources = sources_of(subjects.folders)
    scans = [scan(source) for source in sources]
    found = [
        *(prompt_comparison(subjects.comparison) if subjects.comparison else []),
        *(_of_runs(sources, scans, prices or Prices(), subjects.comparison is None) if sources else []),
        *_of_models(subjects),
    ]
    examples = examples_of(scans)
    rows = sum(source.rows for source in sources)
    html = page(
        f"mga: {', '.join(names_of(given))}",
        _note(subjects, sources),
        found,
        [source.name for source in sources],
        examples,
        f"{len(examples.rows):,} of {rows:,} rows: documents drawn by chance, and some rows of every score and reason.",
    )
    write_atomically(out, html)
    return len(html)


def default_place(given: Sequence[Place]) -> Place:
    """Where a page goes when no place is named: into a folder of this machine, beside a JSON file, else here."""
    first = given[0]
    if len(given) > 1 or not isinstance(first, Path):
        return Path("report.html")
    return first.with_suffix(".html") if first.suffix == ".json" and first.is_file() else first / "report.html"


def check_replaceable(out: Place) -> None:
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


def _of_runs(sources: Sequence[Source], scans: Sequence[Scan], prices: Prices, with_scores: bool) -> list[Section]:
    found = (
        sections.totals(sources),
        sections.scores(sources, scans) if with_scores else None,
        sections.reasons(sources, scans),
        sections.labels(sources, scans),
        sections.lengths(sources, scans),
        speed(sources, prices),
        recipe(sources),
    )
    return [part for part in found if part is not None]


def _of_models(subjects: Subjects) -> list[Section]:
    found: list[Section] = []
    for number, (name, figures) in enumerate(subjects.collapses.items(), 1):
        found += collapse(figures, number, name if len(subjects.collapses) > 1 else "")
    for number, (name, record) in enumerate(subjects.generations.items(), 1):
        found.append(detectors(record, number, name if len(subjects.generations) > 1 else ""))
    for number, (name, record) in enumerate(subjects.studies.items(), 1):
        found += study(record, number, name if len(subjects.studies) > 1 else "")
    return found


def _note(subjects: Subjects, sources: Sequence[Source]) -> str:
    if subjects.comparison:
        return head(subjects.comparison)
    notes = []
    if sources:
        made = [f"mga {source.command}, {source.record.get('created', '')}".rstrip(", ") for source in sources]
        notes.append(made[0] if len(made) == 1 else f"{len(made)} runs side by side: {'; '.join(made)}")
    for figures in subjects.collapses.values():
        real, synt = (figures["models"][key]["folder"] for key in ("real", "synt"))
        notes.append(f"mga collapse: {real} (trained on real text) and {synt} (on synthetic text)")
    notes += [f"mga collapse-generations: {len(of['models'])} models" for of in subjects.generations.values()]
    for figures in subjects.studies.values():
        notes.append(f"mga study: {figures['trainings']['done']} of {figures['trainings']['of']} trainings")
    return "; ".join(notes)
