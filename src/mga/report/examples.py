"""The rows that a page shows: original and reformulation, with the document's keywords marked in both.

A text goes to the page in pieces, so that the page need not know what a word is: a string is text as it stands, and a
string behind a number is keyword number n of the original.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mga.report.inert import inert
from mga.report.sample import Row
from mga.report.scan import Scan
from mga.text.words import keywords, spans, stem

BYTES = 3 << 20
"""Of all examples in the page. With charts and scripts it stays under 5 MB."""

SHOWN = 12_000
"""Characters shown of a text."""

SHOWN_LABEL = 2_000

Piece = str | int


@dataclass
class Examples:
    """What the browser of examples reads. Rows name their original by its place in `originals`."""

    originals: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0

    def add(self, run: int, row: Row, places: dict[str, int]) -> bool:
        """Add a row of the run with this number; False, and no row, when there is no more room."""
        original = row.get("raw_text") or ""
        place = places.get(original)
        fresh = None if place is not None else _original(row, original)
        described = fresh or self.originals[place or 0]
        entry = _entry(row, run, place if place is not None else len(self.originals), described)
        size = len(inert(entry)) + (len(inert(fresh)) if fresh else 0)
        if self.bytes + size > BYTES:
            return False
        if fresh:
            places[original] = len(self.originals)
            self.originals.append(fresh)
        self.rows.append(entry)
        self.bytes += size
        return True


def examples_of(scans: Sequence[Scan]) -> Examples:
    """As many sampled rows of each run as there is room for. Those of a document stand together, and documents of
    which most rows are there come first."""
    found = Examples()
    places: dict[str, int] = {}
    seen: set[tuple[int, str]] = set()
    waiting = {run: iter(scan.sample.ranked()) for run, scan in enumerate(scans)}
    while waiting:
        for run in list(waiting):
            row = next(waiting[run], None)
            if row is None:
                del waiting[run]
            elif (key := (run, row["place"])) not in seen:
                seen.add(key)
                if not found.add(run, row, places):
                    del waiting[run]
    order = {"kept": 0, "dropped": 1, "failed": 2}
    rows = Counter(row["original"] for row in found.rows)
    found.rows.sort(
        key=lambda row: (-rows[row["original"]], row["original"], row["run"], order[row["status"]], row["id"])
    )
    return found


def _original(row: Mapping[str, Any], text: str) -> dict[str, Any]:
    words = keywords(text)
    stems = list(dict.fromkeys(map(stem, words)))
    length = row["longer"]["raw_text"]
    return {
        "name": str(row.get("chunk_id") or row.get("source_id") or ""),
        "text": pieces(text[:SHOWN], stems),
        "more": max(length - SHOWN, 0),
        "length": length,
        "stems": stems,
    }


def _entry(row: Row, run: int, place: int, original: Mapping[str, Any]) -> dict[str, Any]:
    text = row.get("text") or ""
    stems = original["stems"]
    shared = {found for _, _, found in spans(text, frozenset(stems))}
    entry = {
        "id": row["id"] or row["place"],
        "run": run,
        "original": place,
        "text": pieces(text[:SHOWN], stems),
        "more": max(row["longer"]["text"] - SHOWN, 0),
        "length": row["longer"]["text"],
        "shared": [number for number, of in enumerate(stems) if of in shared],
        "status": row["status"],
        "tokens": row.get("n_tokens"),
        "score": row.get("score"),
        "expected": row.get("expected_score"),
    }
    names = ("genre", "audience", "score_reason", "reason", "detail", "stripped_prefix", "stripped_suffix")
    return entry | {name: str(row[name])[:SHOWN_LABEL] for name in names if row.get(name)}


def pieces(text: str, stems: Sequence[str]) -> list[Piece]:
    """A text in pieces, the words of these stems behind their numbers. Joined, the strings are the text."""
    numbers = {of: number for number, of in enumerate(stems)}
    found: list[Piece] = []
    at = 0
    for start, end, of in spans(text, numbers):
        if start > at:
            found.append(text[at:start])
        found += [numbers[of], text[start:end]]
        at = end
    return [*found, text[at:]] if at < len(text) else found
