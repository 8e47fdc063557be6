"""Proposed patterns as people see them: a table, and the file in which they decide."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import regex
from rich import box
from rich.table import Table
from rich.text import Text

from mga.curation.boilerplate.patterns import Mined, Thresholds
from mga.data.store import write_atomically
from mga.errors import InputError
from mga.expand.corpus_boilerplate import Pattern, patterns_toml, read_patterns
from mga.terminal import printable


@dataclass(frozen=True, slots=True)
class Written:
    """What a pattern file holds now: `patterns`, of which so many are `new`, found `again`, or only from `before`."""

    patterns: tuple[Pattern, ...]
    new: int
    again: int
    before: int


def write_patterns(file: Path, mined: Mined, limits: Thresholds) -> Written:
    """Write the proposals. Decisions and notes of a file that is there are kept, and so are its other entries.

    Raises InputError when the file there is no pattern file.
    """
    held = held_patterns(file)
    entries = []
    for pattern in mined.patterns:
        before = held.pop(pattern.key, None)
        entries.append((replace(pattern, action=before.action, note=before.note) if before else pattern, bool(before)))
    again = sum(found for _, found in entries)
    written = Written((*(p for p, _ in entries), *held.values()), len(entries) - again, again, len(held))
    write_atomically(file, patterns_toml(written.patterns, _header(mined, limits)).encode())
    return written


def held_patterns(file: Path) -> dict[tuple[str, ...], Pattern]:
    """The entries of the file that is to be written, if it is there. Raises InputError when it is something else."""
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a file with --out, such as {file / 'patterns.toml'}.")
    return {pattern.key: pattern for pattern in read_patterns(file)} if file.exists() else {}


def places(patterns: Iterable[Pattern]) -> str:
    """How many stand where, in words."""
    counted = Counter(pattern.where for pattern in patterns)
    return f"{counted['opening']:,} openings, {counted['closing']:,} closings, {counted['anywhere']:,} anywhere"


def table(patterns: Iterable[Pattern]) -> Table:
    """Patterns, a row each."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("where", "action", "texts", "share", "originals", "z"):
        shown.add_column(name, justify="left" if name in ("where", "action") else "right", no_wrap=True)
    shown.add_column("phrase, in a text", overflow="fold")
    for one in patterns:
        originals = "?" if one.originals is None else f"{one.originals:.3%}"
        counts = (f"{one.texts or 0:,}", f"{one.share or 0:.3%}", originals, f"{one.z or 0:.1f}")
        shown.add_row(one.where, one.action, *counts, _example(one))
    return shown


def _example(pattern: Pattern) -> Text:
    example = printable(pattern.examples[0] if pattern.examples else pattern.phrase)
    shown = Text(example)
    for match in regex.finditer(regex.escape(printable(pattern.phrase)), example):
        shown.stylize("bold", *match.span())
    return shown


def _header(mined: Mined, limits: Thresholds) -> str:
    drawn = f", drawn from {mined.rows:,} rows by seed {limits.seed}" if mined.rows > limits.sample else ""
    against = (
        f"{mined.originals:,} originals, in {mined.pieces:,} pieces as long as a text"
        if mined.pieces
        else "no originals: by a prior alone, so read with care; nothing is proposed to be cut"
    )
    return f"""Phrases that stand in far more texts of a corpus than in its originals, found by mga boilerplate.
Counted on {mined.texts:,} texts{drawn},
against {against}.
Thresholds: {limits.min_texts:,} texts, a share of {limits.min_share:g}, {limits.min_sources:,} sources, \
{limits.min_ratio:g} times the odds in the originals, z = {limits.min_z:g}.

Read the entries, correct each action, and name this file in a run's config:
  [cleaning]
  patterns = "patterns.toml"

action = "cut"     opening: cut from the start of the text to the end of the sentence or line the phrase ends in;
                   closing: cut from the start of the sentence the phrase begins in. Cut parts stay beside the text.
action = "drop"    drop the whole text, with the reason corpus_boilerplate; the one remedy for a phrase anywhere.
action = "ignore"  do nothing.

Case, accents and punctuation make no difference. texts, share, originals (share in them) and z tell how clear it is.
When patterns are found again, your actions stay, as does note = "…" in an entry; other comments are lost. To be
rid of a phrase for good, leave it here as "ignore"."""
