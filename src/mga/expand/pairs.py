"""Stage 1: five different (genre, audience) pairs for a document (paper §2, "genre-audience pair expansion")."""

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import json_repair

from mga.engines.engine import Request
from mga.expand.recipe import Ask, Recipe, derived_seed
from mga.records import Document, Drop, Pair
from mga.words import similarity

GENRE_LENGTH = 400
AUDIENCE_LENGTH = 300


async def propose_pairs(document: Document, ask: Ask, recipe: Recipe) -> list[Pair | Drop]:
    """As many different pairs as the recipe wants; a Drop stands for each that could not be had.

    Pairs too like an earlier one are asked for again with the earlier ones given as used. `attempts`
    bounds the rounds; what still repeats is dropped as repeated_pair, what never parses as invalid_pairs.
    """
    settings = recipe.config.pairing
    wanted = recipe.config.pairs
    pairs: list[Pair] = []
    reason, detail = "repeated_pair", ""
    at_once = wanted if settings.recipe == "together" else 1
    rounds = settings.attempts if at_once > 1 else wanted + settings.attempts - 1
    for attempt in range(rounds):
        missing = wanted - len(pairs)
        if not missing:
            break
        reply = await ask(pairs_request(document, recipe, min(missing, at_once), pairs, attempt))
        found = parse_pairs(reply.text)
        if not found:
            reason, detail = "invalid_pairs", f"no pair in: {reply.text[:200]!r}"
        for pair in found[:missing]:
            if any(near_identical(pair, other, settings.near_identical) for other in pairs):
                reason, detail = "repeated_pair", f"{pair.genre} / {pair.audience}"
            else:
                pairs.append(pair)
    return [*pairs, *(Drop(reason, detail) for _ in range(wanted - len(pairs)))]


def parse_pairs(text: str) -> list[Pair]:
    """The complete pairs in a reply, leniently: fences, missing brackets and unnumbered keys are understood."""
    value = json_repair.loads(text)
    objects = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else [value]
    pairs = []
    for entry in objects:
        if not isinstance(entry, dict):
            continue
        for key in entry:
            stem, _, number = str(key).partition("_")
            if stem.casefold() != "genre":
                continue
            genre = _clean(entry[key])
            audience = _clean(entry.get(f"audience_{number}" if number else "audience"))
            if genre and audience:
                pairs.append(Pair(genre, audience))
    return pairs


def near_identical(a: Pair, b: Pair, threshold: float) -> bool:
    """Whether two pairs would lead to the same text: their words overlap (Jaccard) beyond the threshold."""
    return similarity(f"{a.genre} {a.audience}", f"{b.genre} {b.audience}") > threshold


def pair_schema(count: int) -> dict[str, Any]:
    """JSON Schema of a reply with so many pairs, in the paper's keys (unnumbered for a single pair)."""
    keys = _keys(count)
    lengths = {"genre": GENRE_LENGTH, "audience": AUDIENCE_LENGTH}
    properties = {key: {"type": "string", "minLength": 8, "maxLength": lengths[key.partition("_")[0]]} for key in keys}
    return {"type": "object", "properties": properties, "required": keys, "additionalProperties": False}


def pairs_request(document: Document, recipe: Recipe, count: int, used: Sequence[Pair], attempt: int) -> Request:
    settings = recipe.config.pairing
    prompt = recipe.pairs_prompt if settings.recipe == "together" else recipe.pair_prompt
    keys = _keys(count)
    values = {
        "count": str(count),
        "keys": ", ".join(keys),
        "used": _used(used),
        "directions": _directions(document, recipe, count, len(used), attempt) if settings.seeds else "",
    }
    return Request(
        prompt=prompt.render(document.text, values),
        max_tokens=settings.max_tokens,
        seed=derived_seed(recipe.config.seed, document.key, "pairs", attempt),
        purpose="pairs",
        affinity=document.key,
        sampling=settings.sampling.wire(),
        schema=pair_schema(count),
    )


def _keys(count: int) -> list[str]:
    if count == 1:
        return ["genre", "audience"]
    return [f"{kind}_{i}" for i in range(1, count + 1) for kind in ("audience", "genre")]


def _used(used: Sequence[Pair]) -> str:
    if not used:
        return ""
    lines = [f"- {pair.genre} / {pair.audience}" for pair in used]
    return "\n".join(["Already used, so choose something quite different:", *lines, ""])


def _directions(document: Document, recipe: Recipe, count: int, start: int, attempt: int) -> str:
    genres, audiences = _seeds()
    rng = Random(derived_seed(recipe.config.seed, document.key, "directions"))
    drawn_genres = rng.sample(genres, len(genres))
    drawn_audiences = rng.sample(audiences, len(audiences))
    lines = []
    for i in range(count):
        at = start + i + attempt
        lines.append(f"- {drawn_genres[at % len(genres)]}, for {drawn_audiences[at % len(audiences)]}")
    return "\n".join(["", "Develop this idea for the document:" if count == 1 else "Develop these ideas:", *lines])


@cache
def _seeds() -> tuple[list[str], list[str]]:
    seeds = tomllib.loads((Path(__file__).parent / "pair_seeds.toml").read_text(encoding="utf-8"))
    return seeds["genres"], seeds["audiences"]


def _clean(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
