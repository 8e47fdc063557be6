"""The judge: a score is read or missing, never invented."""

import asyncio
import json
import math
import re
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.config import load_config
from mga.engines.engine import Reply, Request, Token
from mga.expand.judge import SCHEMA, expected_score, is_judged, judge, parse_verdict
from mga.expand.recipe import Recipe
from mga.records import Document, Drop, Reformulation, Verdict, content_id
from mga.text.words import estimate_tokens

REWRITE = Reformulation("Martha's apples, retold.", 9, "Here is the rewrite: ", "")


def ask_judge(document: Document, replies: Sequence[Reply], **settings: object) -> tuple[Verdict | Drop, list[Request]]:
    asked: list[Request] = []

    async def count(text: str) -> int:
        return estimate_tokens(text)

    async def ask(request: Request) -> Reply:
        asked.append(request)
        return replies[len(asked) - 1]

    recipe = Recipe(load_config(None, {"engine": "scripted:", "judging": settings}), count)
    return asyncio.run(judge(document, REWRITE, ask, recipe)), asked


@pytest.mark.parametrize(
    "reply",
    [
        '{"analysis": "close", "score": 4}',
        '{"analysis": "close", "score": "4"}',
        '{"analysis": "close", "score": " 4 "}',
        '{"analysis": "close", "score": 4.0}',
        '{"score": 4, "analysis": "close"}',
        '```json\n{"analysis": "close", "score": 4}\n```',
        'My verdict: {"analysis": "close", "score": 4}',
        '{"analysis": "close", "score": 4',
        '{analysis: "close", score: 4}',
        # as small models write it
        "{'analysis': 'close', 'score': 4}",
        '{"analysis": "close", "score": 4,}',
        '[{"analysis": "close", "score": 4}]',
        '1. {"analysis": "close", "score": 4}',
        '{"verdict": {"analysis": "close", "score": 4}}',
        '{"Analysis": "close", "Score": "4"}',
        '{"analysis": "close", "final_score": 4}',
        '{"analysis": "close", "score ": "4/5"}',
        '{"analysis": "close", "score": "4 out of 5"}',
        '{"analysis": "close", "score": "four"}',
        '{"analysis": "close", "score": "Four - most of it is kept"}',
        '{"analysis": "close", "score": "4 (close)"}',
        'My rating uses the scale {1-5}.\n```json\n{"analysis": "close", "score": 4}\n```',
        '{"analysis": "close", "score": 4}\n\nNote: scored on the scale [1, 2, 3, 4, 5].',
        '{"analysis": "a first thought", "score": 2}\n\nOn reflection:\n{"analysis": "close", "score": 4}',
        '{"analysis": "close", "score": 4}<|im_end|>\n<|im_start|>user\n{"analysis": "another", "score": 1}',
    ],
)
def test_a_verdict_is_read_leniently(reply: str) -> None:
    verdict = parse_verdict(reply)
    assert verdict == Verdict(4, "close")
    assert isinstance(verdict, Verdict)
    assert type(verdict.score) is int


@pytest.mark.parametrize(
    "reply",
    [
        *("", "4", "Score: 4", "null", "[4]", '{"analysis": "close"}', '{"score": null}', '{"score": true}'),
        *(
            '{"score": 0}',
            '{"score": 6}',
            '{"score": -3}',
            '{"score": 3.5}',
            '{"score": "4/10"}',
            '{"score": "fourth"}',
        ),
        *(
            '{"score": "3.5"}',
            '{"score": "45"}',
            '{"score": "4/5/5"}',
            '{"score": "between 3 and 4"}',
            '{"scores": [4]}',
        ),
        *('{"score": [4]}', '{"score": {"value": 4}}', '{"score": NaN}', '{"score": 1e999}', '{"score": "１"}'),
        *('{"score":', "[" * 4000, '{"a":' * 3000),
    ],
    ids=lambda reply: reply[:20],
)
def test_without_a_whole_number_from_1_to_5_there_is_no_score(reply: str) -> None:
    verdict = parse_verdict(reply)
    assert isinstance(verdict, str)
    assert verdict


@given(st.text(max_size=60) | st.text('{}[]":,scoreanlyi 0123456789.-', max_size=60))
def test_no_reply_is_an_error(reply: str) -> None:
    verdict = parse_verdict(reply)
    assert isinstance(verdict, str) or verdict.score in (1, 2, 3, 4, 5)


def test_half_a_character_in_an_analysis_can_be_stored() -> None:
    verdict = parse_verdict('{"analysis": "cut off \\ud83d", "score": 4}')
    assert verdict == Verdict(4, "cut off \N{REPLACEMENT CHARACTER}")
    assert orjson.dumps(verdict)


def test_a_garbled_verdict_is_asked_for_again_with_another_seed(orchard: Document) -> None:
    replies = [Reply("hm", "stop", 0, 0), Reply('{"analysis": "close", "score": 5}', "stop", 0, 0)]
    verdict, asked = ask_judge(orchard, replies)
    assert verdict == Verdict(5, "close")
    assert asked[0].seed != asked[1].seed
    assert asked[0].schema == SCHEMA
    assert "no JSON object in: 'hm'" in asked[1].prompt
    assert REWRITE.text in asked[0].prompt
    assert REWRITE.head not in asked[0].prompt


def test_a_verdict_that_never_comes_is_a_drop_with_the_reason(orchard: Document) -> None:
    drop, asked = ask_judge(orchard, [Reply('{"score": 9}', "stop", 0, 0)] * 3, attempts=3)
    assert isinstance(drop, Drop)
    assert (drop.reason, drop.detail) == ("no_verdict", "the score is 9, not a whole number from 1 to 5")
    assert len(asked) == 3


def test_probabilities_are_asked_for_only_when_they_are_wanted(orchard: Document) -> None:
    reply = Reply('{"score": 4}', "stop", 0, 0, 0, (Token("4", {"4": math.log(0.75), "2": math.log(0.25)}),))
    verdict, asked = ask_judge(orchard, [reply], expected_score=True)
    assert verdict == Verdict(4, "", 3.5)
    assert asked[0].top_logprobs >= 5
    assert ask_judge(orchard, [reply])[1][0].top_logprobs == 0


def test_the_expected_score_is_the_mean_over_the_digits_among_the_alternatives() -> None:
    spread = {"5": math.log(0.4), " 4": math.log(0.2), "4": math.log(0.2), "x": math.log(0.1), "9": math.log(0.1)}
    assert expected_score([Token("5", spread)], 5) == 4.5


def judged(text: str, pieces: str = r"\d|\w+|\W") -> list[Token]:
    """The tokens of a reply; each digit 1 to 5 is 4.0 less likely to be a 1, in natural logarithms."""
    return [
        Token(
            piece, {piece: -0.05, piece.replace(digit[0], "1"): -4.05} if (digit := re.findall("[1-5]", piece)) else {}
        )
        for piece in re.findall(pieces, text)
    ]


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"analysis": "keeps 2 of 5 facts", "score": 4}', 4),
        ('{"score": 4, "analysis": "keeps the tone and 2 of the facts, 4 of 5"}', 4),
        ('{"Score": "4/5", "analysis": "2"}', 4),
        ("{'final_score' : 4}", 4),
        ('{"analysis": "first", "score": 2}\n\nOn reflection:\n{"analysis": "2 of 5 facts", "score": 4}', 4),
        ('{"analysis": "x", "score": 4}\n\nNote: scored on the scale [1, 2, 3, 4, 5].', 4),
    ],
)
@pytest.mark.parametrize("pieces", [r"\d|\w+|\W", r"\W*\w+", r"\w+\W*"], ids=["alone", "with what precedes", "follows"])
def test_the_expected_score_is_read_where_the_score_stands(reply: str, score: int, pieces: str) -> None:
    """p(4) : p(1) = 1 : e^-4, so (4 + e^-4) / (1 + e^-4) = 3.946."""
    assert parse_verdict(reply).score == score  # type: ignore[union-attr]
    assert expected_score(judged(reply, pieces), score) == pytest.approx(
        (4 + math.exp(-4)) / (1 + math.exp(-4)), abs=1e-4
    )


def test_a_score_in_words_has_an_expected_score_too() -> None:
    tokens = [Token('{"score": "', {}), Token("four", {"four": math.log(0.75), "Two": math.log(0.25)}), Token('"}', {})]
    assert expected_score(tokens, 4) == 3.5


def test_without_its_key_the_place_of_the_score_is_the_only_digit_that_is_it() -> None:
    tokens = [Token("1", {"1": 0.0}), Token(" 3", {"3": 0.0}), Token("}", {"}": 0.0}), Token("9", {"9": 0.0})]
    assert expected_score(tokens, 3) == 3.0
    assert expected_score([*tokens, Token("3", {"3": 0.0})], 3) is None


@pytest.mark.parametrize(
    "tokens",
    [
        *([], [Token("seven", {"4": 0.0})], [Token("4", {})], [Token("4", {"x": 0.0})], [Token("4", {"3": -0.1})]),
        *([Token("4", {"4": math.inf})], [Token("4", {"4": math.nan})], [Token('"score": 2', {"2": 0.0})]),
    ],
)
def test_without_digits_and_probabilities_there_is_no_expected_score(tokens: list[Token]) -> None:
    assert expected_score(tokens, 4) is None


@given(st.dictionaries(st.sampled_from([*"12345", " 1", " 5", "6", "a"]), st.floats(-1e308, 1e308)))
def test_an_expected_score_lies_between_1_and_5(alternatives: dict[str, float]) -> None:
    expected = expected_score([Token("3", alternatives)], 3)
    assert expected is None or 1 <= expected <= 5


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_the_judged_share_is_about_right_and_grows_by_adding(share: float) -> None:
    ids = [content_id(i) for i in range(4000)]
    judged = {i for i in ids if is_judged(i, share)}
    assert abs(len(judged) / len(ids) - share) < 0.03
    assert judged <= {i for i in ids if is_judged(i, min(1.0, share + 0.1))}
    assert judged == {i for i in reversed(ids) if is_judged(i, share)}


def test_all_and_none_are_all_and_none() -> None:
    ids = [content_id(i) for i in range(100)] + ["f" * 32, "0" * 32]
    assert all(is_judged(i, "all") and is_judged(i, 1.0) for i in ids)
    assert not any(is_judged(i, "none") or is_judged(i, 0.0) for i in ids)


def test_the_schema_allows_exactly_the_scores() -> None:
    assert json.loads(json.dumps(SCHEMA))["properties"]["score"]["enum"] == [1, 2, 3, 4, 5]
