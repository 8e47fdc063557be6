"""The heart: exactly one outcome per pair, whatever goes wrong."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.config import load_config
from mga.engines.choose import choose_engine
from mga.engines.engine import Reply, Request
from mga.errors import InputError, StopError, TryAgainError
from mga.expand.flow import Kit, expand_document
from mga.expand.limits import measure_limits
from mga.expand.recipe import Recipe
from mga.records import Document, Outcome, Pair, Reformulation, Verdict
from mga.text.words import estimate_tokens

Answer = str | Exception
Ask = Callable[[Request], Awaitable[Reply]]

PAIRS = [
    Pair("A damp field notebook", "Harbour pilots on leave"),
    Pair("One long open letter", "Night nurses, always tired"),
    Pair("Some late radio talk", "Choir singers from villages"),
    Pair("The repair shop manual", "Young farmers without land"),
    Pair("This dry court report", "Chess players who lost"),
]
ALL_PAIRS = json.dumps({f"{k}_{i}": getattr(pair, k) for i, pair in enumerate(PAIRS) for k in ("genre", "audience")})
RETOLD = (
    "Long before the mill fell silent, Martha Greaves walked her young orchard by lantern light. She had grafted the "
    "apple trees herself, forty kinds of them, and when frost threatened the blossom she kept smudge pots burning."
)
GOOD = {"pairs": ALL_PAIRS, "reformulate": RETOLD, "judge": '{"analysis": "close", "score": 4}'}


def engine(**answers: Answer) -> Ask:
    """Answers each purpose with a text or an error."""
    given = GOOD | answers

    async def ask(request: Request) -> Reply:
        answer = given[request.purpose]
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer, "stop", 0, estimate_tokens(answer))

    return ask


def expand(document: Document, ask: Ask, judging: Ask | None = None, **settings: object) -> list[Outcome]:
    async def count(text: str) -> int:
        return estimate_tokens(text)

    async def run() -> list[Outcome]:
        recipe = Recipe(load_config(None, {"engine": "scripted:", **settings}), count)
        return await expand_document(document, Kit(ask, judging or ask, recipe, await measure_limits(recipe)))

    return asyncio.run(run())


def test_a_document_becomes_a_judged_text_for_each_pair(orchard: Document) -> None:
    outcomes = expand(orchard, engine())
    text = Reformulation(RETOLD, estimate_tokens(RETOLD))
    assert outcomes == [
        Outcome(orchard, slot, "kept", pair, text, Verdict(4, "close")) for slot, pair in enumerate(PAIRS)
    ]


@pytest.mark.parametrize("purpose", ["pairs", "reformulate", "judge"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [(InputError("too long"), "request_refused"), (TryAgainError("busy"), "engine_gave_up")],
)
def test_an_error_at_any_stage_fails_the_pairs_it_touches_and_says_why(
    orchard: Document, purpose: str, error: Exception, reason: str
) -> None:
    outcomes = expand(orchard, engine(**{purpose: error}))
    assert [(o.slot, o.status, o.reason, o.detail) for o in outcomes] == [
        (slot, "failed", reason, str(error)) for slot in range(5)
    ]
    assert all((o.pair is not None) == (purpose != "pairs") for o in outcomes)
    assert all((o.reformulation is not None) == (purpose == "judge") for o in outcomes)


@pytest.mark.parametrize("purpose", ["pairs", "reformulate", "judge"])
def test_an_error_that_must_stop_the_run_passes_through(orchard: Document, purpose: str) -> None:
    with pytest.raises(StopError, match="wrong key"):
        expand(orchard, engine(**{purpose: StopError("wrong key")}))


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"pairs": "no pairs here"}, "invalid_pairs"),
        ({"reformulate": "  \n"}, "empty_reply"),
        ({"reformulate": "I'm sorry, but I can't assist with that."}, "refusal"),
        ({"reformulate": "Apples."}, "too_short"),
        ({"judge": '{"analysis": "far off", "score": 2}'}, "low_score"),
        ({"judge": "no verdict here"}, "no_verdict"),
    ],
)
def test_what_is_no_use_is_dropped_with_its_reason(orchard: Document, answers: dict[str, str], reason: str) -> None:
    outcomes = expand(orchard, engine(**answers))
    assert [(o.slot, o.status, o.reason) for o in outcomes] == [(slot, "dropped", reason) for slot in range(5)]


def test_a_reply_cut_off_by_its_limit_is_dropped_and_kept_for_reading(orchard: Document) -> None:
    good = engine()

    async def ask(request: Request) -> Reply:
        if request.purpose == "reformulate":
            return Reply("Long before the mill fell", "length", 0, request.max_tokens)
        return await good(request)

    for outcome in expand(orchard, ask):
        assert (outcome.status, outcome.reason) == ("dropped", "cut_off")
        assert outcome.reformulation is not None
        assert outcome.reformulation.text == "Long before the mill fell"


@pytest.mark.parametrize("verdict", ["no verdict here", '{"score": 1}', '{"score": 5}'])
def test_the_whole_reply_stays_with_the_outcome_however_it_is_judged(orchard: Document, verdict: str) -> None:
    reply = f"Here is the rewritten text:\n\n{RETOLD}\n\nI hope this helps!"
    for outcome in expand(orchard, engine(reformulate=reply, judge=verdict)):
        written = outcome.reformulation
        assert written is not None
        assert written.head + written.text + written.tail == reply
        assert written.n_tokens > 0


def test_pairs_that_could_not_be_had_are_dropped_and_the_others_go_on(orchard: Document) -> None:
    two = json.dumps({f"{k}_{i}": getattr(PAIRS[i], k) for i in (0, 1) for k in ("genre", "audience")})
    outcomes = expand(orchard, engine(pairs=two))
    assert [(o.slot, o.status, o.reason) for o in outcomes] == [
        (0, "kept", None),
        (1, "kept", None),
        *((slot, "dropped", "repeated_pair") for slot in (2, 3, 4)),
    ]


def test_without_a_judge_nothing_is_judged(orchard: Document) -> None:
    outcomes = expand(orchard, engine(judge=StopError("nobody may ask")), judge="none")
    assert [(o.status, o.verdict) for o in outcomes] == [("kept", None)] * 5


def test_a_score_at_the_least_score_is_kept(orchard: Document) -> None:
    assert {o.status for o in expand(orchard, engine(), min_score=4)} == {"kept"}
    assert {o.status for o in expand(orchard, engine(), min_score=5)} == {"dropped"}


def test_writing_and_judging_may_be_done_by_two_engines(orchard: Document) -> None:
    asked: dict[str, set[str]] = {"generator": set(), "judge": set()}

    def noting(name: str) -> Ask:
        async def ask(request: Request) -> Reply:
            asked[name].add(request.purpose)
            return await engine()(request)

        return ask

    expand(orchard, noting("generator"), noting("judge"))
    assert asked == {"generator": {"pairs", "reformulate"}, "judge": {"judge"}}


def test_all_requests_of_a_document_belong_together(orchard: Document) -> None:
    requests: list[Request] = []

    async def ask(request: Request) -> Reply:
        requests.append(request)
        return await engine()(request)

    expand(orchard, ask)
    assert Counter(request.purpose for request in requests) == {"pairs": 1, "reformulate": 5, "judge": 5}
    assert {request.affinity for request in requests} == {orchard.key}
    assert len({request.seed for request in requests if request.purpose == "reformulate"}) == 5


ANSWERS = st.sampled_from(
    [
        *GOOD.values(),
        *("", "{", "[" * 3000, '{"genre": "\\ud800", "audience": "x"}', '{"analysis": "\\udfff", "score": 5}'),
        *(
            "I'm sorry, but I can't assist with that.",
            '{"score": 1}',
            "</document><|im_end|>",
            "👩‍👩‍👧" * 50,
            "x" * 3000,
        ),
        *(InputError("refused"), TryAgainError("busy")),
    ]
)


@given(st.lists(ANSWERS, min_size=1, max_size=12), st.integers(1, 7))
def test_there_is_exactly_one_outcome_per_pair_whatever_goes_wrong(answers: list[Answer], pairs: int) -> None:
    asked = 0

    async def ask(request: Request) -> Reply:
        nonlocal asked
        answer = answers[asked % len(answers)]
        asked += 1
        request.key("model")
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer, "stop", 0, 1)

    outcomes = expand(Document("d", "The orchard behind the mill was planted in 1862.", "0:0"), ask, pairs=pairs)
    assert [outcome.slot for outcome in outcomes] == list(range(pairs))
    assert all((outcome.reason is None) == (outcome.status == "kept") for outcome in outcomes)


def test_the_scripted_engine_reaches_every_end(orchard: Document) -> None:
    scripted = choose_engine("scripted:?flaws=0.5")
    ends: Counter[str] = Counter()
    for i in range(30):
        document = Document(str(i), orchard.text, f"0:{i}", n_tokens=80)
        ends.update(o.reason or o.status for o in expand(document, scripted.ask))
    assert ends.total() == 150
    assert {"kept", "cut_off", "empty_reply", "refusal", "repetition_loop", "near_copy", "low_score"} <= ends.keys()
