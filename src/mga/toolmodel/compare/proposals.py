"""Stage 1 alone: the pairs a model proposes for documents, and whether its first reply was the JSON asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from mga.config import ExpandConfig
from mga.data.store import read_json, write_json
from mga.engines.engine import Reply, Request
from mga.expand.given_pairs import write_given_pairs
from mga.expand.pair_validity import what_is_wrong
from mga.expand.pairs import pairs_reply, parse_pairs, propose_pairs
from mga.expand.recipe import Ask, Recipe
from mga.records import Document, Pair
from mga.runs.asking import ask_all


@dataclass(frozen=True, slots=True)
class Proposed:
    """Of one document: its pairs, the requests they took, and whether the first reply was valid as it stood."""

    pairs: tuple[Pair, ...]
    requests: int
    valid_at_once: bool


async def propose_all(
    uri: str, config: ExpandConfig, documents: Sequence[Document], pairs_file: Path, logs: Path, say: Any
) -> dict[str, Any]:
    """Let a model propose pairs for every document, into a file of given pairs; the figures of it, saved beside.

    Asked again, the figures that are there are returned. Raises InputError and StopError with what was received kept.
    """
    record = pairs_file.with_suffix(".figures.json")
    if record.exists():
        return dict(read_json(record))
    journal = pairs_file.with_suffix(".journal.jsonl")
    asked = await ask_all(uri, config, documents, _propose, journal, logs, say)
    found = asked.answers
    pairs = {document.text: proposed.pairs for document, proposed in zip(documents, found, strict=True)}
    write_given_pairs(pairs_file, pairs)
    figures: dict[str, Any] = {
        "model": asked.model,
        "documents": len(found),
        "wanted": config.pairs * len(found),
        "pairs": sum(len(proposed.pairs) for proposed in found),
        "requests": sum(proposed.requests for proposed in found),
        "valid_at_once": sum(proposed.valid_at_once for proposed in found),
        "spent": asdict(asked.spent),
        "seconds": asked.seconds,
    }
    write_json(record, figures)
    journal.unlink(missing_ok=True)
    return figures


async def _propose(document: Document, ask: Ask, recipe: Recipe) -> Proposed:
    asked: list[tuple[Request, str]] = []

    async def ask_and_remember(request: Request) -> Reply:
        reply = await ask(request)
        asked.append((request, reply.text))
        return reply

    pairs = tuple(pair for pair in await propose_pairs(document, ask_and_remember, recipe) if isinstance(pair, Pair))
    valid = bool(asked) and is_valid(asked[0][1], asked[0][0].schema or {})
    return Proposed(pairs, len(asked), valid)


def is_valid(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether a reply, unmended, is the object of pairs that was asked for: these keys, no others, and pairs that the
    run would take."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    pairs = parse_pairs(text)
    wanted = schema["properties"].get("texts", {}).get("minItems", 1)
    return len(pairs) == wanted and value == pairs_reply(pairs) and not any(map(what_is_wrong, pairs))
