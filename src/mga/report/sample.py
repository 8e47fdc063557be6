"""Which rows a page shows: the documents and rows with the lowest hashes, so that equal inputs show equal documents
in every run, in whatever order rows come."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

DOCUMENTS = 400
OF_A_KIND = 12
LONGEST = 50_000
"""Characters of a text that are held: what a page shows of one is shorter still."""

Row = dict[str, Any]
Kind = tuple[str, str, str]


def order_of(*parts: object) -> int:
    """A place in an order that is as good as random and always the same."""
    digest = blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


@dataclass
class _Lowest:
    """The `most` keys with the lowest numbers, each with all its rows."""

    most: int
    rows: dict[int, list[Row]] = field(default_factory=dict)
    limit: int = 2**64

    def wants(self, number: int) -> bool:
        return number < self.limit

    def add(self, number: int, row: Row) -> None:
        self.rows.setdefault(number, []).append(row)
        if len(self.rows) > 2 * self.most:
            self.trim()

    def trim(self) -> None:
        for number in sorted(self.rows)[self.most :]:
            self.limit = min(self.limit, number)
            del self.rows[number]


@dataclass
class Sample:
    """Rows offered one after the other; some are taken: whole documents, and some rows of every kind (how a row
    ended, why, and with which score), so that what is rare can be seen too."""

    documents: _Lowest = field(default_factory=lambda: _Lowest(DOCUMENTS))
    kinds: dict[Kind, _Lowest] = field(default_factory=dict)

    def wants(self, row: Mapping[str, Any]) -> bool:
        """Whether a row, of which only the short columns need be known, would be taken now."""
        return self.documents.wants(document_order(row)) or self._kind(row).wants(_row_order(row))

    def add(self, row: Row) -> None:
        """Take a whole row, if it is still wanted."""
        row = row | {name: row[name][:LONGEST] for name in ("text", "raw_text") if row.get(name)}
        row["longer"] = {name: row.get(f"{name}_length") or 0 for name in ("text", "raw_text")}
        if self.documents.wants(number := document_order(row)):
            self.documents.add(number, row)
        if (kind := self._kind(row)).wants(number := _row_order(row)):
            kind.add(number, row)

    def ranked(self) -> Iterable[Row]:
        """The rows in the order in which a page that has little room shows them: two of each kind, then documents
        and further rows of each kind in turns. A row may come twice."""
        self.documents.trim()
        kinds = {kind: [row for _, rows in sorted(of.rows.items()) for row in rows] for kind, of in self.kinds.items()}
        for _, rows in sorted(kinds.items()):
            yield from rows[:2]
        for turn, (_, rows) in enumerate(sorted(self.documents.rows.items()), 2):
            yield from rows
            if turn < OF_A_KIND:
                for _, others in sorted(kinds.items()):
                    yield from others[turn : turn + 1]

    def of_reason(self, reason: str) -> Iterable[Row]:
        """Rows that were not kept for this reason."""
        lowest = (of for kind, of in sorted(self.kinds.items()) if kind[1] == reason)
        return (row for of in lowest for _, rows in sorted(of.rows.items()) for row in rows)

    def originals(self) -> list[str]:
        """Texts of the sampled documents, each once."""
        self.documents.trim()
        every = (row["raw_text"] for rows in self.documents.rows.values() for row in rows if row.get("raw_text"))
        return list(dict.fromkeys(every))

    def _kind(self, row: Mapping[str, Any]) -> _Lowest:
        score = row.get("score")
        kind = (row["status"], row.get("reason") or "", "" if score is None else str(score))
        return self.kinds.setdefault(kind, _Lowest(OF_A_KIND))


def document_order(row: Mapping[str, Any]) -> int:
    """The place of a row's document; a row that names none stands alone."""
    source = row.get("source_id")
    return order_of(source, row.get("chunk_id")) if source is not None else order_of(row.get("id"), row["place"])


def _row_order(row: Mapping[str, Any]) -> int:
    return order_of(row.get("id"), row["place"])
