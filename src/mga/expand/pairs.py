"""Stage 1: five different (genre, audience) pairs for a document (paper §2, "genre-audience pair expansion")."""

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from textwrap import shorten
from typing import Any

import regex

from mga.engines.engine import Request
from mga.errors import InputError, TryAgainError
from mga.expand.answers import Object, readings
from mga.expand.pair_validity import put_right, what_is_wrong
from mga.expand.recipe import Ask, Recipe, derived_seed
from mga.records import Document, Drop, Pair
from mga.text.words import similarity, whole

GENRE_LENGTH = 400
AUDIENCE_LENGTH = 300
USED_LENGTH = 60  # so much of a used pair is shown
MOST_AT_ONCE = 5
GENRE_KEY, AUDIENCE_KEY = "kind_of_text", "readers"  # what small models understand; the paper's keys are read as well
_PAPER = {GENRE_KEY: "genre_1, genre_2 and so on", AUDIENCE_KEY: "audience_1, audience_2 and so on"}
"""Tool models, and servers that tell requests apart by the paper's keys, know them by these."""
GENRE_LINKS, AUDIENCE_LINKS = ", | about | that | with ", ", | and | who "
_SPECIAL = regex.compile(r"[.^$*+?()\[\]{}|\\]")
_KEY = regex.compile(
    r"\W*(?:(?P<genre>genres?|kinds?[\s_-]*of[\s_-]*texts?|text[\s_-]*types?)|(?:target[\s_-]*)?(?:audiences?|readers?))"
    r"[\s_#.-]*(?P<number>\d*)\W*",
    regex.IGNORECASE,
)


Failure = InputError | TryAgainError


async def pairs_for(document: Document, ask: Ask, recipe: Recipe) -> list[Pair | Drop | Failure]:
    """The pairs to write for: a style's own, those of a given file, or else what the model proposes."""
    if not recipe.rewrite_prompt.takes_pair:
        return [Pair(recipe.rewrite_prompt.genre, recipe.rewrite_prompt.audience)]
    if recipe.given_pairs is not None:
        return list(recipe.given_pairs.of(document, recipe.config.pairs))
    return await propose_pairs(document, ask, recipe)


async def propose_pairs(document: Document, ask: Ask, recipe: Recipe) -> list[Pair | Drop | Failure]:
    """As many different pairs as the recipe wants; a Drop, or the error of a failed request, stands for each
    that could not be had.

    Pairs too like an earlier one are asked for again with the earlier ones given as used. `attempts`
    bounds the rounds; what still repeats is dropped as repeated_pair, what never parses as invalid_pairs.
    """
    settings = recipe.config.pairing
    wanted = recipe.config.pairs
    pairs: list[Pair] = []
    reason, detail, problem = "repeated_pair", "", ""
    at_once = pairs_at_once(recipe)
    task = (recipe.pairs_prompt if settings.recipe == "together" else recipe.pair_prompt).template
    rounds = -(-wanted // at_once) + settings.attempts - 1
    for attempt in range(rounds):
        missing = wanted - len(pairs)
        if not missing:
            break
        try:
            reply = await ask(pairs_request(document, recipe, min(missing, at_once), pairs, attempt, problem))
        except (InputError, TryAgainError) as error:
            return [*pairs, *([error] * missing)]  # the pairs found so far are paid for
        if reply.finish in ("content_filter", "refusal"):
            return [*pairs, *([Drop(reply.finish, reply.text[:200])] * missing)]
        found = [put_right(pair) for pair in parse_pairs(reply.text)][:missing]
        problem = "" if found else f"it holds no kind of text with its readers: {reply.text[:200]!r}"
        if problem:
            reason, detail = "invalid_pairs", problem
        for pair in found:
            if wrong := what_is_wrong(pair, task):
                reason, detail, problem = "invalid_pairs", wrong, wrong
            elif any(near_identical(pair, other, settings.near_identical) for other in pairs):
                reason, detail = "repeated_pair", f"{pair.genre} / {pair.audience}"
                problem = problem or f"{detail!r} was there already"
            else:
                pairs.append(pair)
    return [*pairs, *(Drop(reason, detail) for _ in range(wanted - len(pairs)))]


def pairs_at_once(recipe: Recipe) -> int:
    """Pairs asked for in one request: the paper's five, so that replies stay short whatever `pairs` is."""
    return min(recipe.config.pairs, MOST_AT_ONCE) if recipe.config.pairing.recipe == "together" else 1


def parse_pairs(text: str) -> list[Pair]:
    """The complete pairs in a reply, leniently: in prose or code fences, in lists, numbered, wrapped in other objects,
    with keys in any spelling (`genre_1`, `Genre 1`, `target audience`), brackets missing."""
    for objects in readings(text):
        pairs = [pair for entry in objects for pair in _pairs_in(entry)]
        if pairs:
            return pairs
    return []


def _pairs_in(entry: Object) -> list[Pair]:
    """The pairs of one object: keys of the same number belong together, lists of the same length entry by entry."""
    sides: dict[str, dict[str, object]] = {"genre": {}, "audience": {}}
    for key, value in entry.items():
        if named := _KEY.fullmatch(str(key)):
            values = value if isinstance(value, list) else [value]
            for i, one in enumerate(values):
                sides["genre" if named["genre"] else "audience"][f"{named['number']}.{i}"] = one
    pairs = []
    for number, genre in sides["genre"].items():
        sentence, audience = _clean(genre), _clean(sides["audience"].get(number))
        if sentence and audience:
            pairs.append(Pair(sentence, audience))
    return pairs


def near_identical(a: Pair, b: Pair, threshold: float) -> bool:
    """Whether two pairs would lead to the same text: their words overlap (Jaccard) beyond the threshold."""
    return similarity(f"{a.genre} {a.audience}", f"{b.genre} {b.audience}") > threshold


def pair_schema(count: int, seeds: Sequence[Pair] = ()) -> dict[str, Any]:
    """JSON Schema of a reply: one object with a kind of text and people, or `texts`, a list of so many of them.

    With `seeds`, one for each pair, every genre and audience begins with its seed and goes on from there.
    """
    if count == 1:
        return _pair_object(*seeds)
    texts = {"prefixItems": list(map(_pair_object, seeds))} if seeds else {"items": _pair_object()}
    return _object({"texts": {"type": "array", **texts, "minItems": count, "maxItems": count}})


def _pair_object(seed: Pair | None = None) -> dict[str, Any]:
    if seed is None:
        lengths = {GENRE_KEY: GENRE_LENGTH, AUDIENCE_KEY: AUDIENCE_LENGTH}
        sides = {key: {"type": "string", "minLength": 8, "maxLength": most} for key, most in lengths.items()}
        return _object({key: {**side, "description": _PAPER[key]} for key, side in sides.items()})
    patterns = {GENRE_KEY: _developed(seed.genre, GENRE_LINKS), AUDIENCE_KEY: _developed(seed.audience, AUDIENCE_LINKS)}
    return _object({key: {"type": "string", "pattern": p, "description": _PAPER[key]} for key, p in patterns.items()})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def pairs_reply(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The reply that holds exactly these pairs, in the form that is asked for."""
    texts = [{GENRE_KEY: pair.genre, AUDIENCE_KEY: pair.audience} for pair in pairs]
    return texts[0] if len(texts) == 1 else {"texts": texts}


def pairs_request(
    document: Document, recipe: Recipe, count: int, used: Sequence[Pair] = (), attempt: int = 0, problem: str = ""
) -> Request:
    """The request for `count` pairs beside those in use; `problem` says why the last answer could not be used."""
    settings = recipe.config.pairing
    prompt = recipe.pairs_prompt if settings.recipe == "together" else recipe.pair_prompt
    seeds = draw_seeds(document, recipe, count, len(used) + attempt) if settings.seeds else []
    # Seeds keep pairs apart by themselves; very small models echo a list of used pairs rather than avoid it.
    repeated = attempt > len(used) or settings.recipe == "together"
    values = {
        "count": str(count),
        "keys": _keys(count),
        "used": _used(used) if repeated or not seeds else "",
        "directions": _directions(seeds),
    }
    return Request(
        prompt=prompt.render(document.text, values, problem),
        max_tokens=settings.max_tokens,
        seed=derived_seed(recipe.config.seed, document.key, "pairs", attempt),
        purpose="pairs",
        affinity=document.key,
        sampling=settings.sampling.wire(),
        schema=pair_schema(count, seeds),
    )


def _keys(count: int) -> str:
    """The form of the reply, as the prompts show it."""
    pair = f'{{"{GENRE_KEY}": "...", "{AUDIENCE_KEY}": "..."}}'
    return pair if count == 1 else f'{{"texts": [{pair}, ...]}} with {count} objects in the list'


def _used(used: Sequence[Pair]) -> str:
    """What is taken: the beginnings of kinds and people, apart from each other and not in the form of the answer."""
    if not used:
        return ""
    kinds, readers = (
        "; ".join(map(beginning, sides)) for sides in zip(*((p.genre, p.audience) for p in used), strict=True)
    )
    return f"Taken already are the kinds {kinds}, and the readers {readers}. Choose quite different ones."


def beginning(side: str) -> str:
    """So much of a genre or an audience as names it: its first clause."""
    clause = regex.split(r"[,.;()\n，。；]", side, maxsplit=1)[0].strip() or side
    return shorten(clause, USED_LENGTH, placeholder="…")


def draw_seeds(document: Document, recipe: Recipe, count: int, start: int) -> list[Pair]:
    """So many of the document's seeds, from the one numbered `start` on. A document's order never changes."""
    genres, audiences = _seeds()
    rng = Random(derived_seed(recipe.config.seed, document.key, "directions"))
    drawn_genres, drawn_audiences = rng.sample(genres, len(genres)), rng.sample(audiences, len(audiences))
    return [
        Pair(drawn_genres[at % len(genres)], drawn_audiences[at % len(audiences)]) for at in range(start, start + count)
    ]


def _directions(seeds: Sequence[Pair]) -> str:
    if not seeds:
        return ""
    lines = [f"- {seed.genre}, for {seed.audience}" for seed in seeds]
    return "\n".join(["", "Develop this idea:" if len(seeds) == 1 else "Develop these ideas:", *lines])


def _developed(seed: str, links: str) -> str:
    """Pattern of a sentence that begins with the seed and adds something; no digits or brackets, which small
    models fall into."""
    start = _SPECIAL.sub(r"\\\g<0>", seed[:1].upper() + seed[1:])
    return rf"^{start}({links})[^0-9\"\\(){{}}\[\]<>|/:;_*#.]{{20,100}}\.$"


@cache
def _seeds() -> tuple[list[str], list[str]]:
    seeds = tomllib.loads((Path(__file__).parent / "pair_seeds.toml").read_text(encoding="utf-8"))
    return seeds["genres"], seeds["audiences"]


def _clean(value: object) -> str:
    if isinstance(value, dict):  # a name and a description, say; a pair inside is found by itself
        if any(_KEY.fullmatch(str(key)) for key in value):
            return ""
        value = ": ".join(part for part in value.values() if isinstance(part, str))
    return " ".join(whole(value).split()) if isinstance(value, str) else ""
