"""Pairs that were found before: several runs write for the same ones, so that only their prompts differ.

A file of JSON Lines, a line for a document:
`{"document": content_id(its text), "pairs": [{"genre": …, "audience": …}, …]}`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import orjson

from mga.data.store import write_atomically
from mga.errors import InputError
from mga.records import Document, Drop, Pair, content_id


@dataclass(frozen=True, slots=True)
class GivenPairs:
    """Pairs by the text of their document. `fingerprint` names exactly these."""

    pairs: Mapping[str, Sequence[Pair]]
    fingerprint: str

    @classmethod
    def read(cls, path: Path) -> "GivenPairs":
        """The pairs in a file. Raises InputError when it cannot be read or is no such file."""
        try:
            data = path.read_bytes()
            rows = [orjson.loads(line) for line in data.splitlines()]
            pairs = {row["document"]: [Pair(pair["genre"], pair["audience"]) for pair in row["pairs"]] for row in rows}
        except OSError as error:
            raise InputError(f"Cannot read the pairs in {path}: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no file of pairs: {error!r}.") from error
        return cls(pairs, blake2b(data, digest_size=6).hexdigest())

    def of(self, document: Document, count: int) -> list[Pair | Drop]:
        """So many pairs of a document; a Drop for each that the file does not have."""
        known = list(self.pairs.get(content_id(document.text), ()))[:count]
        return [*known, *[Drop("no_given_pair", "the file of pairs has no more for this text")] * (count - len(known))]


def write_given_pairs(path: Path, pairs: Mapping[str, Sequence[Pair]]) -> None:
    """A file of pairs, by the text of their document; texts in order."""
    lines = [
        orjson.dumps(
            {"document": content_id(text), "pairs": [{"genre": p.genre, "audience": p.audience} for p in of]},
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for text, of in pairs.items()
    ]
    write_atomically(path, b"".join(lines))
