"""Stage 1: five pairs must be five different pairs, whatever the model answers."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import asdict

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.config import load_config
from mga.engines.engine import Reply, Request
from mga.errors import InputError, TryAgainError
from mga.expand.pairs import near_identical, pair_schema, parse_pairs, propose_pairs
from mga.expand.recipe import Recipe
from mga.records import Document, Drop, Pair
from mga.text.words import estimate_tokens

FABLE, LETTER = Pair("a fable", "choir singers"), Pair("an open letter", "night nurses")
TWO = {"genre_1": FABLE.genre, "audience_1": FABLE.audience, "genre_2": LETTER.genre, "audience_2": LETTER.audience}
THEMES = ["harbour pilots fog", "young farmers soil", "chess openings endgames", "quilt patterns cloth", "tram signals"]
FIVE = [Pair(f"A text about {theme}", f"Readers who love {theme}") for theme in THEMES]


def recipe(**settings: object) -> Recipe:
    async def count(text: str) -> int:
        return estimate_tokens(text)

    return Recipe(load_config(None, {"engine": "scripted:", **settings}), count)


def answer(*pairs: Pair) -> str:
    numbered = enumerate(pairs, 1)
    return json.dumps({f"{kind}_{i}": getattr(pair, kind) for i, pair in numbered for kind in ("genre", "audience")})


class Model:
    """Answers with the given texts in turn, and remembers what it was asked."""

    def __init__(self, *replies: str) -> None:
        self.requests: list[Request] = []
        self._replies: Iterator[str] = iter(replies)

    async def ask(self, request: Request) -> Reply:
        self.requests.append(request)
        return Reply(next(self._replies), "stop", 0, 0)


def propose(document: Document, model: Model, **settings: object) -> list[Pair | Drop | InputError | TryAgainError]:
    return asyncio.run(propose_pairs(document, model.ask, recipe(**settings)))


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps(TWO),
        json.dumps(TWO, indent=2),
        f"```json\n{json.dumps(TWO)}\n```",
        f"Here are the pairs:\n```\n{json.dumps(TWO)}\n```\nI hope this helps.",
        json.dumps(TWO)[:-1],
        json.dumps(TWO)[:-2],
        json.dumps(TWO).replace('", "', '",\n"')[:-1] + ",",
        json.dumps(TWO).replace('"', "'"),
        json.dumps({key.capitalize(): value for key, value in TWO.items()}),
        json.dumps({key.upper(): value for key, value in TWO.items()}),
        json.dumps([{"genre": pair.genre, "audience": pair.audience} for pair in (FABLE, LETTER)]),
        json.dumps([{"genre": pair.genre, "audience": pair.audience} for pair in (FABLE, LETTER)])[:-1],
        json.dumps({key: f"  {value}\n ".replace(" ", "\n ") for key, value in TWO.items()}),
        # as small models write it
        json.dumps({key.replace("_", ""): value for key, value in TWO.items()}),
        json.dumps({key.replace("_", " ").title(): value for key, value in TWO.items()}),
        json.dumps({key.replace("audience", "target_audience"): value for key, value in TWO.items()}),
        json.dumps({"pairs": [{"genre": pair.genre, "audience": pair.audience} for pair in (FABLE, LETTER)]}),
        json.dumps({f"pair_{i}": {"genre": p.genre, "audience": p.audience} for i, p in enumerate((FABLE, LETTER), 1)}),
        json.dumps({"genres": [FABLE.genre, LETTER.genre], "audiences": [FABLE.audience, LETTER.audience]}),
        "\n".join(f"{i}. {json.dumps(asdict(pair))}" for i, pair in enumerate((FABLE, LETTER), 1)),
        "First {of two}:\n\n" + "\n\nThen:\n".join(json.dumps(asdict(pair)) for pair in (FABLE, LETTER)) + "\n[1, 2]",
        json.dumps([TWO]),
        json.dumps({"answer": TWO, "note": "two pairs"}),
        json.dumps(TWO) + "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" + json.dumps(TWO),
        json.dumps({"pairs": [asdict(FABLE), asdict(LETTER)]})[:-1] + ', {"genre": "cut of',
        json.dumps(TWO | {"genre_3": "a pair without readers", "remark": "done", "genre_4": "", "audience_4": "x"}),
    ],
)
def test_pairs_are_read_leniently(reply: str) -> None:
    assert parse_pairs(reply) == [FABLE, LETTER]


def test_a_single_pair_needs_no_number() -> None:
    assert parse_pairs('{"genre": "a fable", "audience": "choir singers"}') == [FABLE]


@pytest.mark.parametrize(
    "reply",
    [
        *("", "no JSON", "[]", "{}", "7", "null", '["genre"]', '{"genre": 3, "audience": null}', '{"genre": "x"}'),
        *("[" * 4000, '{"a":' * 3000),
    ],
    ids=lambda reply: reply[:20],
)
def test_what_holds_no_pair_is_no_pair_and_no_error(reply: str) -> None:
    assert parse_pairs(reply) == []


@pytest.mark.parametrize("opening", ['{"genre_1":', "{", '{"a":['])
def test_a_reply_that_only_opens_brackets_is_read_at_once(opening: str) -> None:
    began = time.monotonic()
    assert parse_pairs(opening * 40_000) == []
    assert time.monotonic() - began < 10  # minutes, when each bracket is tried


@given(st.text(max_size=60) | st.text('{}[]":,genraudic_1 \\', max_size=60))
def test_no_reply_is_an_error(reply: str) -> None:
    assert all(pair.genre and pair.audience for pair in parse_pairs(reply))


def test_a_genre_may_have_a_name_and_a_description() -> None:
    said = '{"genre_1": {"name": "a fable", "description": "with animals"}, "audience_1": {"who": "choir singers"}}'
    assert parse_pairs(said) == [Pair("a fable: with animals", "choir singers")]


def test_half_a_character_in_a_reply_can_be_sent_and_stored() -> None:
    (pair,) = parse_pairs('{"genre": "half \\ud83d of it", "audience": "whole \\ud83d\\ude00"}')
    assert pair == Pair("half \N{REPLACEMENT CHARACTER} of it", "whole 😀")
    assert orjson.dumps([pair.genre, pair.audience])


def test_five_different_pairs_come_from_one_request(orchard: Document) -> None:
    model = Model(answer(*FIVE))
    assert propose(orchard, model) == FIVE
    (request,) = model.requests
    assert request.schema == pair_schema(5)
    assert "5 objects" in request.prompt
    assert "Taken already" not in request.prompt


def test_what_is_missing_is_asked_for_again_with_the_others_given_as_used(orchard: Document) -> None:
    model = Model(answer(*FIVE[:3]), answer(*FIVE[3:]))
    assert propose(orchard, model) == FIVE
    again = model.requests[1]
    assert again.schema == pair_schema(2)
    assert [pair.genre in again.prompt for pair in FIVE] == [True, True, True, False, False]
    assert [f"{pair.genre} / {pair.audience}" in again.prompt for pair in FIVE] == [False] * 5  # nothing to copy
    assert model.requests[0].seed != again.seed


def test_a_pair_that_says_the_same_again_is_asked_for_again(orchard: Document) -> None:
    twin = Pair(FIVE[0].genre.upper() + "!", FIVE[0].audience)
    model = Model(answer(*FIVE[:4], twin), answer(FIVE[4]))
    assert propose(orchard, model) == FIVE
    assert model.requests[1].schema == pair_schema(1)


def test_what_still_repeats_is_dropped_as_repeated_and_named(orchard: Document) -> None:
    model = Model(answer(*FIVE[:3], FIVE[0], FIVE[1]), answer(FIVE[2], FIVE[1]), answer(FIVE[0]))
    pairs = propose(orchard, model)
    assert pairs[:3] == FIVE[:3]
    assert pairs[3:] == [Drop("repeated_pair", f"{FIVE[0].genre} / {FIVE[0].audience}")] * 2
    assert len(model.requests) == 3


def test_what_never_parses_is_dropped_as_invalid_with_the_reply(orchard: Document) -> None:
    model = Model("I would rather", "talk about", "something else")
    pairs = propose(orchard, model)
    assert [pair.reason for pair in pairs if isinstance(pair, Drop)] == ["invalid_pairs"] * 5
    assert all("something else" in pair.detail for pair in pairs if isinstance(pair, Drop))


def test_what_was_wrong_with_an_answer_is_shown_when_it_is_asked_for_again(orchard: Document) -> None:
    model = Model("I would rather talk", answer(*FIVE))
    assert propose(orchard, model) == FIVE
    assert "I would rather talk" in model.requests[1].prompt
    assert model.requests[1].prompt.startswith(model.requests[0].prompt)


def test_a_pair_of_too_few_words_to_write_by_is_no_pair(orchard: Document) -> None:
    bare, looping = Pair("a story", "readers"), Pair("story of a story of a story of a story", FIVE[0].audience)
    model = Model(answer(bare, looping, *FIVE[:3]), answer(*FIVE[3:]))
    assert propose(orchard, model) == FIVE


def test_more_pairs_than_wanted_are_left(orchard: Document) -> None:
    assert propose(orchard, Model(answer(*FIVE)), pairs=3) == FIVE[:3]


def test_one_by_one_asks_for_a_pair_at_a_time_and_bounds_its_requests(orchard: Document) -> None:
    replies = [json.dumps({"genre": pair.genre, "audience": pair.audience}) for pair in FIVE]
    model = Model(replies[0], replies[0], "nothing", *replies[1:])
    pairs = propose(orchard, model, pairing={"recipe": "one-by-one", "attempts": 3})
    assert pairs == FIVE
    assert len(model.requests) == 7
    assert {tuple(request.schema["properties"]) for request in model.requests} == {("kind_of_text", "readers")}
    stubborn = Model(*[replies[0]] * 7)
    pairs = propose(orchard, stubborn, pairing={"recipe": "one-by-one", "attempts": 3})
    assert [isinstance(pair, Pair) for pair in pairs] == [True, False, False, False, False]


def test_seeds_give_every_pair_a_direction_and_the_same_ones_each_time(orchard: Document) -> None:
    prompts = []
    for _ in range(2):
        model = Model(answer(*FIVE))
        propose(orchard, model, pairing={"seeds": True})
        prompts.append(model.requests[0].prompt)
    assert prompts[0] == prompts[1]
    assert prompts[0].count("\n- ") == 5


@given(st.lists(st.sampled_from(THEMES), max_size=9), st.integers(1, 8))
def test_there_is_a_pair_or_a_drop_for_every_pair_wanted(said: list[str], wanted: int) -> None:
    pairs = [Pair(f"A text about {theme}", f"Readers who love {theme}") for theme in said]
    found = propose(Document("d", "text", "0:0"), Model(*[answer(*pairs)] * 4), pairs=wanted)
    accepted = [pair for pair in found if isinstance(pair, Pair)]
    assert len(found) == wanted
    assert len(accepted) == len(set(accepted)) == min(wanted, len(set(said[:wanted])))


def test_nearness_looks_at_genre_and_audience_together() -> None:
    pilots, nurses = Pair("a field notebook", "retired pilots"), Pair("a field notebook", "tired night nurses")
    assert near_identical(pilots, pilots, 0.6)
    assert not near_identical(pilots, nurses, 0.6)
    assert near_identical(pilots, nurses, 0.2)


def test_pairs_already_found_survive_a_later_request_that_fails(orchard: Document) -> None:
    class Refusing(Model):
        async def ask(self, request: Request) -> Reply:
            if self.requests:
                raise InputError("HTTP 400: too long")
            return await super().ask(request)

    *found, failed = propose(orchard, Refusing(answer(*FIVE[:4], FIVE[0])))
    assert found == FIVE[:4]
    assert isinstance(failed, InputError)
