"""What every engine promises, and what client and journal make of it."""

import asyncio
import resource
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import orjson
import pytest
import servers
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import embedded_model, tiny_folder
from servers import CHAT, COMPLETIONS, MODELS, TOKENIZE, ChatServer, Fault

from mga.engine_uri import public_uri
from mga.engines import client as client_module
from mga.engines.client import ATTEMPTS, LONGEST_WAIT_S, Client
from mga.engines.engine import Engine, Reply, Request, Token, sound
from mga.engines.journal import Journal
from mga.engines.llamacpp.engine import LlamaCppEngine
from mga.engines.scripted import ScriptedEngine
from mga.engines.servers import endpoint as endpoint_module
from mga.engines.servers.endpoint import Endpoint
from mga.engines.servers.wire import Features, payload
from mga.engines.transformers.engine import TransformersEngine
from mga.errors import InputError, MgaError, StopError, TryAgainError
from mga.records import Usage
from mga.text.chat_tokens import without_thoughts
from mga.text.words import estimate_tokens

T = TypeVar("T")

PROMPT = """<document>
The ferry crossed the strait twice a day. Its captain knew every rock. Passengers brought hens and letters.
</document>

Retell it."""
ASK = Request(PROMPT, 512, 7, "reformulate", "document-1", {"temperature": 0.7})
ECHO = replace(
    ASK, prompt="Repeat this sentence: The ferry crossed the strait twice a day.", sampling={"temperature": 0.0}
)
SAY_FERRY = replace(ASK, schema={"const": "ferry"})  # so that random weights say it, too
PASSWORD, KEY = "hunter2-in-the-address", "sk-0123456789-in-the-environment"


def run(work: Awaitable[T], within_s: float = 120.0) -> T:
    """Await to the end, but never for long."""

    async def bounded() -> T:
        async with asyncio.timeout(within_s):
            return await work

    return asyncio.run(bounded())


async def started(engine: Engine, request: Request) -> Reply:
    """Start, ask once, close."""
    try:
        await engine.start()
        return await engine.ask(request)
    finally:
        await engine.close()


# ── the contract ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Scene:
    """An engine, and a request that meets the situation; with `arrange` done between start and the request."""

    engine: Engine
    request: Request = ASK
    arrange: Callable[[], object] = lambda: None
    retry_after: float | None = None


Situation = Callable[[], Any]  # a context manager that yields a Scene


@contextmanager
def scripted(options: str = "", request: Request = ASK, **more: Any) -> Iterator[Scene]:
    yield Scene(ScriptedEngine(options), request, **more)


def scripted_until(wanted: Callable[[Request], bool]) -> Situation:
    """A scripted engine that spoils everything, with the first seed that spoils in the wanted way."""
    request = next(r for seed in range(500) if wanted(r := replace(ASK, seed=seed)))
    return lambda: scripted("flaws=1", request)


def _spoilt(request: Request) -> Reply | None:
    try:
        return asyncio.run(ScriptedEngine("flaws=1").ask(request))
    except InputError:
        return None


@contextmanager
def served(*faults: Fault, request: Request = ASK, **more: Any) -> Iterator[Scene]:
    with ChatServer() as server:
        yield Scene(Endpoint(server.url, "tiny"), request, lambda: server.then(*faults), **more)


@contextmanager
def killed() -> Iterator[Scene]:
    with ChatServer() as server:
        yield Scene(Endpoint(server.url, "tiny"), arrange=server.stop)


@contextmanager
def embedded(request: Request) -> Iterator[Scene]:
    embedded_model()
    yield Scene(LlamaCppEngine("smollm2-135m", 2), request)


@contextmanager
def in_folder(request: Request) -> Iterator[Scene]:
    pytest.importorskip("llguidance")
    yield Scene(TransformersEngine(str(tiny_folder()), 2, "cpu"), request)


def served_garbage(*faults: Fault) -> Situation:
    return lambda: served(*faults)


# An engine states here how each situation comes about; what cannot happen to it is left out.
ENGINES: dict[str, Mapping[str, Situation]] = {
    "scripted": {
        "well": scripted,
        "cut off": scripted_until(lambda r: (reply := _spoilt(r)) is not None and reply.finish == "length"),
        "refused": scripted_until(lambda r: _spoilt(r) is None),
        "busy": lambda: scripted("faults=1", retry_after=0.0),
    },
    "endpoint": {
        "well": served,
        "cut off": lambda: served(request=replace(ASK, max_tokens=8)),
        "refused": lambda: served(servers.status(400, "the prompt is too long")),
        "busy": lambda: served(servers.status(429, "slow down", "7"), retry_after=7.0),
        "dead": killed,
        "hangs": lambda: served(servers.hang),
        "500": served_garbage(servers.status(500)),
        "reset": served_garbage(servers.reset),
        "truncated": served_garbage(servers.truncated),
        "not JSON": served_garbage(servers.body("<html>Bad Gateway</html>", "text/html")),
        "no object": served_garbage(servers.body("[1, 2]")),
        "no choices": served_garbage(servers.answer(choices=[])),
        "no message": served_garbage(servers.answer(choices=[{"index": 0}])),
        "content is a number": served_garbage(servers.content(7)),
        "given up": served_garbage(servers.content("half of a sen", "abort")),
        "an error": served_garbage(servers.answer(error={"message": "upstream overloaded", "code": 502})),
        "choices is a word": served_garbage(servers.answer(choices="none")),
    },
    "llamacpp": {
        "well": lambda: embedded(ECHO),
        "cut off": lambda: embedded(replace(ASK, max_tokens=8)),
        "of limited context": lambda: embedded(ECHO),
    },
    "transformers": {
        "well": lambda: in_folder(SAY_FERRY),
        "cut off": lambda: in_folder(replace(SAY_FERRY, max_tokens=3)),
        "of limited context": lambda: in_folder(SAY_FERRY),
    },
}
MARKS = {
    "llamacpp": [pytest.mark.model, pytest.mark.timeout(400)],
    "transformers": [pytest.mark.torch, pytest.mark.timeout(300)],
}
GARBAGE = (
    "500",
    "reset",
    "truncated",
    "not JSON",
    "no object",
    "no choices",
    "no message",
    "content is a number",
    "given up",
    "an error",
    "choices is a word",
)


def every_engine(*situations: str) -> pytest.MarkDecorator:
    """The test once for every engine that can meet one of the situations."""
    found = [
        pytest.param(scene, id=f"{engine}-{situation}", marks=MARKS.get(engine, []))
        for engine, scenes in ENGINES.items()
        for situation in situations
        if (scene := scenes.get(situation))
    ]
    return pytest.mark.parametrize("situation", found)


async def in_scene(scene: Scene, then: Callable[[Engine], Awaitable[T]]) -> T:
    try:
        await scene.engine.start()
        scene.arrange()
        return await then(scene.engine)
    finally:
        await scene.engine.close()


@every_engine("well")
def test_a_reply_has_text_finish_and_counts(situation: Situation) -> None:
    with situation() as scene:
        reply = run(in_scene(scene, lambda engine: engine.ask(scene.request)))
    assert "ferry" in reply.text
    assert reply.finish == "stop"
    assert reply.prompt_tokens > 10
    assert 0 < reply.generated_tokens <= scene.request.max_tokens
    assert 0 <= reply.cached_tokens <= reply.prompt_tokens


@every_engine("well")
def test_an_engine_says_what_it_is(situation: Situation) -> None:
    async def look(engine: Engine) -> tuple[str, str, int, int, int, bool, int, int]:
        some, more = await engine.count_tokens("a few words"), await engine.count_tokens("a few words " * 50)
        first, most, documents = engine.requests_in_flight, engine.most_in_flight, engine.documents_in_flight
        return engine.model, str(engine.features), first, most, documents, await engine.alive(), some, more

    with situation() as scene:
        model, features, first, most, documents, alive, some, more = run(in_scene(scene, look))
    assert model
    assert features
    assert 1 <= first <= most
    assert 1 <= documents <= most
    assert alive
    assert 0 < some < more


@every_engine("well")
def test_close_can_be_called_twice_and_before_start(situation: Situation) -> None:
    async def three_times(engine: Engine) -> str:
        await engine.close()
        await engine.start()
        text = (await engine.ask(scene.request)).text
        await engine.close()
        await engine.close()
        return text

    with situation() as scene:
        assert run(three_times(scene.engine))


@every_engine("cut off")
def test_a_cut_off_reply_ends_with_length(situation: Situation) -> None:
    with situation() as scene:
        reply = run(in_scene(scene, lambda engine: engine.ask(scene.request)))
    assert reply.finish == "length"
    assert reply.text


@every_engine("refused")
def test_a_refused_request_fails_alone(situation: Situation) -> None:
    async def ask_and_go_on(engine: Engine) -> Reply:
        with pytest.raises(InputError):
            await engine.ask(scene.request)
        for seed in range(1000, 1050):  # the scripted engine refuses some of these as well
            try:
                return await engine.ask(replace(scene.request, seed=seed))
            except InputError:
                continue
        raise AssertionError("everything is refused after one refusal")

    with situation() as scene:
        assert isinstance(run(in_scene(scene, ask_and_go_on)), Reply)


@every_engine("of limited context")
def test_a_prompt_beyond_the_context_fails_alone(situation: Situation) -> None:
    async def ask_and_go_on(engine: Engine) -> Reply:
        with pytest.raises(InputError, match="context"):
            await engine.ask(replace(scene.request, prompt="far too long " * 5000))
        return await engine.ask(scene.request)

    with situation() as scene:
        assert run(in_scene(scene, ask_and_go_on)).text


@every_engine("busy")
def test_busy_says_when_to_come_back_and_answers_then(situation: Situation) -> None:
    async def twice(engine: Engine) -> tuple[float | None, bool, Reply]:
        with pytest.raises(TryAgainError) as caught:
            await engine.ask(scene.request)
        return caught.value.retry_after, await engine.alive(), await engine.ask(scene.request)

    with situation() as scene:
        retry_after, alive, reply = run(in_scene(scene, twice))
    assert retry_after == scene.retry_after
    assert alive
    assert "ferry" in reply.text


@every_engine("dead")
def test_dead_may_come_back_and_is_not_alive(situation: Situation) -> None:
    async def ask(engine: Engine) -> bool:
        with pytest.raises(TryAgainError):
            await engine.ask(scene.request)
        return await engine.alive()

    with situation() as scene:
        assert run(in_scene(scene, ask)) is False


@every_engine("hangs")
def test_slow_is_bounded(situation: Situation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "SILENCE_TIMEOUT_S", 0.3)

    async def ask(engine: Engine) -> float:
        begun = monotonic()
        with pytest.raises(TryAgainError):
            await engine.ask(scene.request)
        return monotonic() - begun

    with situation() as scene:
        assert 0.2 < run(in_scene(scene, ask)) < 5


@every_engine(*GARBAGE)
def test_garbage_is_asked_for_again(situation: Situation) -> None:
    async def twice(engine: Engine) -> Reply:
        with pytest.raises(TryAgainError) as caught:
            await engine.ask(scene.request)
        assert str(caught.value)
        return await engine.ask(scene.request)

    with situation() as scene:
        assert "ferry" in run(in_scene(scene, twice)).text


# ── the endpoint ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running


def ask_after_start(server: ChatServer, *faults: Fault, request: Request = ASK, url: str | None = None) -> Reply:
    scene = Scene(Endpoint(url or server.url, "tiny"), request, lambda: server.then(*faults))
    return run(in_scene(scene, lambda engine: engine.ask(scene.request)))


def test_retry_after_is_read_in_every_form(server: ChatServer) -> None:
    waits = []
    for fault in (
        servers.status(503, "loading", "2.5"),
        servers.busy_until(120),
        servers.busy_until(-50),
        servers.status(429, "slow down", "soon"),
        servers.status(429),
    ):
        with pytest.raises(TryAgainError) as caught:
            ask_after_start(server, fault)
        waits.append(caught.value.retry_after)
    assert waits[0] == 2.5
    assert waits[1] == pytest.approx(120, abs=5)
    assert waits[2:] == [0.0, None, None]


def test_what_is_sent_is_the_payload_alone(server: ChatServer) -> None:
    request = replace(ASK, schema={"type": "object", "properties": {"genre": {"type": "string"}}}, top_logprobs=5)
    ask_after_start(server, request=request)
    assert server.chats()[-1] == payload(request, "tiny", Features())


def test_wrong_key_stops_and_names_the_variable(server: ChatServer) -> None:
    for code in (401, 403):
        with pytest.raises(StopError, match="MGA_API_KEY"):
            ask_after_start(server, servers.status(code, "bad key"))
    server.authorization = f"Bearer {KEY}"
    with pytest.raises(StopError, match="MGA_API_KEY"):
        run(started(Endpoint(server.url, "tiny"), ASK))


def test_key_from_the_environment_is_sent(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.authorization = f"Bearer {KEY}"
    monkeypatch.setenv("MGA_API_KEY", KEY)
    assert ask_after_start(server).text


def test_key_may_end_with_a_line_break(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in MGA_API_KEY read from a file by a launcher that does not strip it."""
    server.authorization = f"Bearer {KEY}"
    monkeypatch.setenv("MGA_API_KEY", f"{KEY}\n")
    assert ask_after_start(server).text


def test_user_and_password_of_the_address_are_sent(server: ChatServer) -> None:
    server.authorization = "Basic dXNlcjpwQHNz"  # user:p@ss
    assert ask_after_start(server, url=server.url.replace("//", "//user:p%40ss@")).text


def test_a_model_that_is_not_listed_is_tried_and_near_names_are_said_when_it_is_refused(server: ChatServer) -> None:
    server.models = ["tiny", *(f"large-{i}" for i in range(300))]
    with pytest.raises(StopError, match=r"'tinny'.*Near it are: tiny") as caught:
        run(started(Endpoint(server.url, "tinny"), ASK))
    assert "large" not in str(caught.value)
    with pytest.raises(StopError, match=r"'huge'.*It has: tiny, large-0, large-1 and 298 more"):
        run(started(Endpoint(server.url, "huge"), ASK))
    server.models_listed = ["openai/*"]
    assert run(started(Endpoint(server.url, "tiny"), ASK)).text


def test_of_several_models_one_must_be_named(server: ChatServer) -> None:
    server.models = ["tiny", "large"]
    with pytest.raises(StopError, match="It has: tiny, large"):
        run(started(Endpoint(server.url, ""), ASK))
    assert not server.chats()


def test_only_model_needs_no_name(server: ChatServer) -> None:
    engine = Endpoint(server.url, "")
    run(started(engine, ASK))
    assert engine.model == "tiny"


def test_model_that_disappears_stops(server: ChatServer) -> None:
    with pytest.raises(StopError, match="'tiny'"):
        ask_after_start(server, servers.status(404, "The model `tiny` does not exist."))


def test_server_without_a_model_list_is_used(server: ChatServer) -> None:
    server.lists_models = False
    assert ask_after_start(server).text


def test_no_server_stops_with_the_address() -> None:
    with ChatServer() as gone:
        url = gone.url
    with pytest.raises(StopError, match=url):
        run(started(Endpoint(url, "tiny"), ASK))


@pytest.mark.parametrize("url", ["http://[::1/v1", "http://127.0.0.1:port/v1", "http:///v1"])
def test_unusable_address_is_a_sentence(url: str) -> None:
    with pytest.raises((InputError, StopError)):
        run(started(Endpoint(url, "tiny"), ASK))


@pytest.mark.parametrize("path", [servers.CHAT, MODELS])
@pytest.mark.parametrize(
    "fault",
    [servers.status(429, "slow down", "0"), servers.status(503), servers.truncated, servers.body("<html>")],
    ids=["429", "503", "truncated", "not JSON"],
)
def test_start_succeeds_or_raises_what_it_promises(server: ChatServer, path: str, fault: Fault) -> None:
    server.then(fault, path=path)
    try:
        reply = run(started(Endpoint(server.url, "tiny"), ASK))
    except MgaError as error:
        assert isinstance(error, InputError | StopError), f"start() let {type(error).__name__} out"
        assert server.url in str(error)
    else:
        assert reply.text


def test_alive_answers_soon_when_the_server_hangs(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long reply may take minutes; whether the server lives must be known in seconds."""
    monkeypatch.setattr(endpoint_module, "CONNECT_TIMEOUT_S", 0.3)
    scene = Scene(Endpoint(server.url, "tiny"), arrange=lambda: server.then(servers.hang, path=MODELS))
    try:
        assert run(in_scene(scene, lambda engine: engine.alive()), within_s=4) is False
    except TimeoutError:
        pytest.fail("alive() waits as long as for a reply")


@pytest.mark.parametrize("form", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("schemas", ["response_format", "guided_json", None])
@pytest.mark.parametrize("logprobs", [True, False])
@pytest.mark.parametrize("seeds", [True, False])
def test_features_the_server_lacks_are_not_sent(
    server: ChatServer, form: str, schemas: str | None, logprobs: bool, seeds: bool
) -> None:
    server.forms, server.schema_key, server.takes_logprobs, server.takes_seeds = [form], schemas, logprobs, seeds
    wanting = replace(ASK, schema={"type": "object", "properties": {"genre": {}}}, top_logprobs=5, purpose="pairs")
    reply = ask_after_start(server, request=wanting)
    sent = server.chats()[-1]
    assert reply.text
    assert server.asked[-1].path == form
    assert sent.keys() & {"response_format", "guided_json"} == ({schemas} if schemas else set())
    assert ("logprobs" in sent) == logprobs
    assert ("seed" in sent) == seeds
    assert bool(reply.tokens) == logprobs
    if logprobs:
        assert reply.tokens[0].alternatives


def test_a_schema_that_is_taken_and_not_obeyed_is_no_feature(server: ChatServer) -> None:
    server.obeys_schemas = False
    engine = Endpoint(server.url, "tiny")
    run(started(engine, ASK))
    assert engine.features.schemas == "none"
    assert "no schemas" in str(engine.features)


def test_a_server_that_breaks_on_what_it_does_not_know_is_asked_without_it(server: ChatServer) -> None:
    broken = servers.status(500, "Internal Server Error")
    server.fault_for = lambda body: broken if "response_format" in body or "logprobs" in body else None
    engine = Endpoint(server.url, "tiny")
    assert run(started(engine, ASK)).text
    assert (engine.features.schemas, engine.features.logprobs) == ("none", False)


@pytest.mark.parametrize("taken", [True, False])
def test_thinking_is_switched_off_or_cut_out(server: ChatServer, taken: bool) -> None:
    server.thinks, server.takes_template = "The reader wants\n\na retelling.", taken
    engine = Endpoint(server.url, "tiny")
    reply = run(started(engine, ASK))
    assert "retelling" not in reply.text
    assert "<think>" not in reply.text
    assert ("chat_template_kwargs" in server.chats()[-1]) == taken
    assert str(engine.features).endswith("switched off" if taken else "cut out")


def test_thinking_in_a_field_of_its_own_is_seen(server: ChatServer) -> None:
    server.message = {"reasoning_content": "Let me see."}
    engine = Endpoint(server.url, "tiny")
    assert run(started(engine, ASK)).text
    assert engine.features.thinks


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("<think>a\nb</think>\n\nThe text.", "The text."),
        ("\n<think></think>The text.", "The text."),
        ("<think>never came to an end", ""),
        ("The tag <think>x</think> stands later.", "The tag <think>x</think> stands later."),
    ],
)
def test_thoughts_are_cut_from_the_head_alone(said: str, left: str) -> None:
    assert without_thoughts(said) == left


@pytest.mark.parametrize("form", [CHAT, COMPLETIONS])
def test_an_address_may_name_its_form(server: ChatServer, form: str) -> None:
    server.forms = [CHAT, COMPLETIONS]
    engine = Endpoint(server.url.removesuffix("/v1") + form, "tiny")
    assert run(started(engine, ASK)).text
    assert {asked.path for asked in server.asked} - {TOKENIZE} == {MODELS, form}


def test_server_that_refuses_everything_stops(server: ChatServer) -> None:
    server.fault_for = lambda body: servers.status(400, "no chat template")
    with pytest.raises(StopError, match="no chat template"):
        run(started(Endpoint(server.url, "tiny"), ASK))
    assert len(server.chats()) <= 4


def test_one_document_alone_is_refused(server: ChatServer) -> None:
    refused = replace(ASK, prompt=PROMPT.replace("ferry", "forbidden"))
    too_much = servers.status(400, "content policy")
    server.fault_for = lambda body: too_much if "forbidden" in body["messages"][0]["content"] else None
    with pytest.raises(InputError, match="content policy"):
        ask_after_start(server, request=refused)
    assert ask_after_start(server).text


def test_null_content_is_an_empty_text(server: ChatServer) -> None:
    reply = ask_after_start(server, servers.content(None, "length"))
    assert (reply.text, reply.finish) == ("", "length")


def test_reasoning_is_no_part_of_the_text(server: ChatServer) -> None:
    server.message = {"reasoning_content": "Let me think about the ferry.", "reasoning": "Let me think."}
    assert "think" not in ask_after_start(server).text


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(("stop", "stop"), ("eos_token", "stop"), ("end_turn", "stop"), ("STOP", "stop"), ("COMPLETE", "stop")),
        *(("length", "length"), ("MAX_TOKENS", "length"), ("max_output_tokens", "length"), ("model_length", "length")),
        *(("content_filter", "content_filter"), ("SAFETY", "content_filter"), ("refusal", "refusal")),
        *(("wild", "unknown"), ("tool_calls", "unknown"), (7, "unknown"), ({"a": 1}, "unknown"), ([], "unknown")),
        *((None, "unknown"), ("", "unknown")),
    ],
)
def test_a_reply_counts_as_whole_only_when_its_server_says_so(server: ChatServer, reason: Any, finish: str) -> None:
    reply = ask_after_start(server, servers.content("a text that breaks", reason))
    assert (reply.text, reply.finish) == ("a text that breaks", finish)


def test_without_a_reason_a_text_that_ends_like_one_is_whole(server: ChatServer) -> None:
    for text in ("A text that ends.", "एक पूरा पाठ।", "「終わり」", "A text that ends.)**"):
        assert ask_after_start(server, servers.content(text, None)).finish == "stop"


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled", "insufficient_system_resource", "network_error"])
def test_a_reply_that_its_server_gave_up_is_asked_for_again(server: ChatServer, reason: str) -> None:
    with pytest.raises(TryAgainError, match=reason):
        ask_after_start(server, servers.content("half of a sen", reason))


@pytest.mark.parametrize("word", ["done", None], ids=["another word", "none at all"])
def test_a_servers_own_word_for_a_whole_reply_is_learnt_from_its_first_one(
    server: ChatServer, word: str | None
) -> None:
    server.finish = {"stop": word}
    engine = Endpoint(server.url, "tiny")
    assert run(started(engine, ASK)).finish == "stop"
    assert ("no reasons to finish" if word is None else "says 'done' for a whole reply") in str(engine.features)
    server.finish = {"stop": word, "length": word}
    assert run(started(engine, replace(ASK, max_tokens=8))).finish == ("stop" if word else "length")


def test_without_usage_tokens_are_estimated(server: ChatServer) -> None:
    counted = ask_after_start(server)
    server.usage = None
    assert ask_after_start(server).generated_tokens == counted.generated_tokens > 1


def test_cached_tokens_are_counted(server: ChatServer) -> None:
    server.usage = {"prompt_tokens": 100, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 64}}
    reply = ask_after_start(server)
    assert (reply.prompt_tokens, reply.cached_tokens, reply.generated_tokens) == (100, 64, 9)
    server.usage = {"prompt_tokens": 100, "prompt_tokens_details": None}
    assert ask_after_start(server).cached_tokens == 0


def test_log_probabilities_arrive(server: ChatServer) -> None:
    reply = ask_after_start(server, request=replace(ASK, top_logprobs=5))
    assert "".join(token.text for token in reply.tokens) == reply.text
    assert all(token.text in token.alternatives for token in reply.tokens)


def count_twice(server: ChatServer) -> list[int]:
    async def count(engine: Engine) -> list[int]:
        counts = []
        for _ in range(2):
            try:
                counts.append(await engine.count_tokens("one two three"))
            except TryAgainError:
                counts.append(-1)
        return counts

    scene = Scene(Endpoint(server.url, "tiny"))
    return run(in_scene(scene, count))


def test_the_servers_tokenizer_counts(server: ChatServer) -> None:
    server.tokenizes = True
    assert count_twice(server) == [3, 3]


def test_without_a_tokenizer_tokens_are_estimated_and_it_is_asked_once(server: ChatServer) -> None:
    first, second = count_twice(server)
    assert first == second > 0
    assert sum(asked.path == TOKENIZE for asked in server.asked) == 1


def test_busy_tokenizer_is_not_taken_for_none(server: ChatServer) -> None:
    """Counts decide where documents are cut and what is asked: a moment's 503 must not change them for good."""
    server.tokenizes = True
    server.then(servers.status(503), path=TOKENIZE)
    assert count_twice(server)[1] == 3


FAULTS: dict[str, Fault] = {
    "400": servers.status(400, "too long"),
    "401": servers.status(401, "bad key"),
    "404": servers.status(404, "no model"),
    "429": servers.status(429, "slow down", "1"),
    "500": servers.status(500),
    "503": servers.status(503),
    "reset": servers.reset,
    "hang": servers.hang,
    "truncated": servers.truncated,
    "not JSON": servers.body("<html>"),
    "no choices": servers.answer(choices=[]),
}


@pytest.mark.parametrize("path", [servers.CHAT, MODELS])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_no_secret_in_any_message(server: ChatServer, path: str, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGA_API_KEY", KEY)
    monkeypatch.setattr(endpoint_module, "SILENCE_TIMEOUT_S", 0.3)
    url = server.url.replace("//", f"//someone:{PASSWORD}@")
    server.then(*[fault] * 5, path=path)
    for address in (url, server.url):
        with pytest.raises((MgaError, TimeoutError)) as caught:
            run(_start_and_ask_all(Endpoint(address, "tiny")))
        shown = "".join(traceback.format_exception(caught.value))
        assert PASSWORD not in shown
        assert KEY not in shown


async def _start_and_ask_all(engine: Endpoint) -> None:
    """Provoke what `start` raises, else what the next requests raise."""
    try:
        await engine.start()
        for seed in range(5):
            await engine.ask(replace(ASK, seed=seed))
        # A fault in the model list alone may be survived; its remaining messages come from here.
        raise TryAgainError("nothing failed")
    finally:
        await engine.close()


def test_key_repeated_by_the_server_is_not_shown(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some servers answer "Incorrect API key provided: …" with the key in it."""
    monkeypatch.setenv("MGA_API_KEY", KEY)
    server.authorization = "Bearer another"
    with pytest.raises(StopError) as caught:
        run(started(Endpoint(server.url, "tiny"), ASK))
    assert KEY not in "".join(traceback.format_exception(caught.value))


# ── the client ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Listed:
    """An engine that gives what a list says, then good replies; and says it is away while `away` lasts."""

    script: list[Exception] = field(default_factory=list)
    away: bool = False
    model: str = "listed"
    context: int | None = None
    requests_in_flight: int = 3
    most_in_flight: int = 3
    documents_in_flight: int = 3
    asks: int = 0
    at_once: int = 0
    most_at_once: int = 0

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def alive(self) -> bool:
        return not self.away

    async def count_tokens(self, text: str) -> int:
        return len(text)

    async def ask(self, request: Request) -> Reply:
        self.asks += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            if self.script:
                raise self.script.pop(0)
            self.away = False
            return Reply(f"answer {request.seed}", "stop", 11, 5, 3)
        finally:
            self.at_once -= 1


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, in seconds, which nobody waits for."""
    found: list[float] = []

    async def note(seconds: float) -> None:
        found.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(client_module._retrying, "sleep", note)
    return found


def ask_client(engine: Engine, journal: Journal, **more: Any) -> Reply:
    async def once() -> Reply:
        return await Client(engine, **more).ask(ASK, journal)

    return run(once())


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal" / "00000.jsonl")
    yield opened
    opened.close()


@pytest.mark.parametrize("error", [InputError("too long"), StopError("wrong key")], ids=["input", "stop"])
def test_what_stays_wrong_is_not_asked_again(error: MgaError, journal: Journal, waits: list[float]) -> None:
    engine = Listed([error])
    with pytest.raises(type(error)):
        ask_client(engine, journal)
    assert (engine.asks, waits) == (1, [])
    assert not journal.path.exists()


def test_what_may_pass_is_asked_again(journal: Journal, waits: list[float]) -> None:
    engine = Listed([TryAgainError("busy", 7.0), TryAgainError("reset"), TryAgainError("busy", 10_000.0)])
    assert ask_client(engine, journal).text == "answer 7"
    assert engine.asks == 4
    assert waits[0] == 7.0
    assert 0 < waits[1] <= LONGEST_WAIT_S
    assert LONGEST_WAIT_S < waits[2] < 10_000, "a server may ask for a long wait, but not for any"


def test_waits_grow_and_are_bounded(journal: Journal, waits: list[float]) -> None:
    with pytest.raises(TryAgainError):
        ask_client(Listed([TryAgainError("reset")] * ATTEMPTS), journal)
    assert len(waits) == ATTEMPTS - 1
    assert waits[0] < waits[3] < waits[5] <= max(waits) <= LONGEST_WAIT_S


def test_request_that_always_fails_fails_alone(journal: Journal, waits: list[float]) -> None:
    engine = Listed([TryAgainError("garbled")] * 100)
    with pytest.raises(TryAgainError, match="garbled"):
        ask_client(engine, journal)
    assert engine.asks == ATTEMPTS


def test_while_the_engine_is_away_requests_wait(journal: Journal, waits: list[float]) -> None:
    engine = Listed([TryAgainError("refused connection")] * (2 * ATTEMPTS + 3), away=True)
    assert ask_client(engine, journal).text == "answer 7"
    assert engine.asks == 2 * ATTEMPTS + 4


def test_patience_ends(journal: Journal, waits: list[float]) -> None:
    engine = Listed([TryAgainError("refused connection")] * 1000, away=True)
    with pytest.raises(StopError, match="refused connection"):
        ask_client(engine, journal, patience_s=0.0)
    assert engine.asks == ATTEMPTS


def test_a_reply_is_on_disk_before_it_is_used(journal: Journal) -> None:
    reply = ask_client(Listed(), journal)
    assert Journal(journal.path).get(ASK.key("listed")) == reply


def test_a_journaled_request_is_never_asked_again(journal: Journal) -> None:
    async def ask_all(client: Client, into: Journal) -> list[Reply]:
        return await asyncio.gather(*(client.ask(replace(ASK, seed=seed), into) for seed in range(20)))

    first = Client(Listed())
    replies = run(ask_all(first, journal))
    journal.close()
    again = Client(Listed([StopError("asked again")] * 20))
    assert run(ask_all(again, Journal(journal.path))) == replies
    assert (first.spent.requests, first.reused, first.spent.generated_tokens) == (20, 0, 100)
    assert (again.spent, again.reused, again.engine.asks) == (Usage(), 20, 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"max_tokens": 513}, {"sampling": {"temperature": 0.8}}, {"schema": {}}, {"prompt": "Another."}],
)
def test_every_part_that_is_sent_belongs_to_the_key(change: dict[str, Any]) -> None:
    other = replace(ASK, **change)
    assert other.key("tiny") != ASK.key("tiny") != ASK.key("large")
    assert replace(ASK, purpose="judge", affinity="elsewhere").key("tiny") == ASK.key("tiny")


def test_no_more_requests_in_flight_than_the_engine_wants(journal: Journal) -> None:
    async def many(client: Client) -> None:
        await asyncio.gather(*(client.ask(replace(ASK, seed=seed), journal) for seed in range(20)))

    engine = Listed(requests_in_flight=3)
    run(many(Client(engine)))
    assert engine.most_at_once == 3


def test_reply_that_cannot_be_kept_is_not_used(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "full.jsonl")
    journal.path.symlink_to("/dev/full")
    with pytest.raises(StopError, match=r"full\.jsonl.*No space left"):
        ask_client(Listed(), journal)
    assert journal.get(ASK.key("listed")) is None
    assert journal.usage == {}


def test_a_bad_day_against_a_real_server(server: ChatServer, journal: Journal, waits: list[float]) -> None:
    async def ask(client: Client) -> Reply:
        try:
            await client.engine.start()
            server.then(
                servers.status(429, "slow down", "3"),
                servers.reset,
                servers.status(503),
                servers.truncated,
                servers.body("<html>Bad Gateway</html>", "text/html"),
                servers.answer(choices=[]),
            )
            before = len(server.chats())
            reply = await client.ask(ASK, journal)
            assert await client.ask(ASK, journal) == reply
            assert len(server.chats()) - before == 7
            return reply
        finally:
            await client.engine.close()

    assert "ferry" in run(ask(Client(Endpoint(server.url, "tiny")))).text
    assert (len(waits), waits[0]) == (6, 3.0)


# ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────────

REPLIES = [Reply(f"text {i}\nwith a break", "stop", 10 + i, i, 3) for i in range(5)]


def filled(path: Path) -> Journal:
    journal = Journal(path)
    for i, reply in enumerate(REPLIES):
        journal.append(f"key {i}", "pairs" if i < 2 else "judge", reply)
    journal.close()
    return journal


def test_reload_gives_equal_replies_and_usage(tmp_path: Path) -> None:
    journal = filled(tmp_path / "deep" / "journal.jsonl")
    again = Journal(journal.path)
    assert [again.get(f"key {i}") for i in range(5)] == REPLIES
    assert again.get("key 5") is None
    assert again.usage == journal.usage
    assert (again.usage["pairs"].requests, again.usage["pairs"].prompt_tokens) == (2, 21)
    assert (again.usage["judge"].requests, again.usage["judge"].generated_tokens) == (3, 9)


def test_half_a_last_line_is_forgotten_and_glued_to_nothing(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole.jsonl").path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for end in range(last, len(whole)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:end])
        cut = Journal(path)
        assert [cut.get(f"key {i}") for i in range(5)] == [*REPLIES[:4], None]
        cut.append("key new", "pairs", REPLIES[0])
        cut.close()
        again = Journal(path)
        assert [again.get(f"key {i}") for i in range(5)] == [*REPLIES[:4], None]
        assert again.get("key new") == REPLIES[0]


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00" * 40,
        b"{}",
        b"7",
        b'["key 2"]',
        b'["key 2","judge",null]',
        b'["key 2","judge","t","stop"',
        b"\xff\xfe",
        b"",
        b'["key 2","judge","t","stop","many",1,0,[]]',
    ],
)
def test_damaged_line_costs_that_reply_alone(tmp_path: Path, damage: bytes) -> None:
    path = filled(tmp_path / "journal.jsonl").path
    lines = path.read_bytes().splitlines()
    lines[2] = damage
    path.write_bytes(b"\n".join([*lines, b""]))
    again = Journal(path)
    assert [again.get(f"key {i}") for i in range(5)] == [*REPLIES[:2], None, *REPLIES[3:]]
    assert again.usage["judge"].requests == 2


def test_full_disk_stops_with_the_path(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.path.symlink_to("/dev/full")
    with pytest.raises(StopError, match=r"journal\.jsonl.*No space left"):
        journal.append("key", "pairs", REPLIES[0])
    assert journal.get("key") is None


def test_journal_below_a_file_stops(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    journal = Journal(tmp_path / "file" / "journal.jsonl")
    with pytest.raises(StopError, match="file"):
        journal.append("key", "pairs", REPLIES[0])


def test_line_cut_short_by_a_full_disk_spoils_no_later_line(tmp_path: Path) -> None:
    """A limit on the size of files makes the system write the first part of a line, as a disk running full does."""
    journal = Journal(tmp_path / "journal.jsonl")
    kept: list[str] = []
    long = replace(REPLIES[0], text="x" * 300)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StopError):
            for i in range(10):
                journal.append(f"before {i}", "pairs", long)
                kept.append(f"before {i}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.append("after", "pairs", long)
    journal.close()
    again = Journal(journal.path)
    assert len(kept) == 2
    assert [again.get(key) for key in [*kept, "after"]] == [long] * 3
    assert again.usage["pairs"].requests == 3


def test_removed_journal_knows_nothing_later(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal.jsonl")
    journal.remove()
    journal.remove()
    assert not journal.path.exists()
    assert Journal(journal.path).get("key 0") is None


whole_numbers = st.integers(0, 2**40)
any_text = st.text(st.characters(exclude_categories=("Cs",)))
any_token = st.builds(
    Token,
    any_text,
    st.dictionaries(any_text, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
any_reply = st.builds(
    Reply,
    any_text,
    st.sampled_from(["stop", "length"]),
    whole_numbers,
    whole_numbers,
    whole_numbers,
    st.lists(any_token, max_size=3).map(tuple),
).map(sound)  # as the client hands them over


@settings(max_examples=60, deadline=None)
@given(replies=st.dictionaries(any_text, any_reply, max_size=6), cut=st.integers(0, 200))
def test_whatever_was_appended_is_there_after_any_cut(
    tmp_path_factory: pytest.TempPathFactory, replies: dict[str, Reply], cut: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    journal = Journal(path)
    for key, reply in replies.items():
        journal.append(key, "reformulate", reply)
    journal.close()
    assert {key: Journal(path).get(key) for key in replies} == replies
    if not replies:
        return
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)])
    whole = [orjson.loads(line)[0] for line in data[: max(0, len(data) - cut)].split(b"\n")[:-1]]
    survivor = Journal(path)
    assert {key: survivor.get(key) for key in whole} == {key: replies[key] for key in whole}
    assert [key for key in replies if survivor.get(key) is not None] == whole


def test_a_key_across_the_end_of_a_long_message_stays_hidden(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGA_API_KEY", KEY)
    server.then(servers.status(400, f"{'x' * 170} key: {KEY} bad"))
    with pytest.raises(InputError) as caught:
        run(started_and_refused(Endpoint(server.url, "tiny")))
    assert KEY[:8] not in str(caught.value)


async def started_and_refused(endpoint: Endpoint) -> Reply:
    """Ask without start, so that the fault meets the question itself."""
    try:
        return await endpoint.ask(ASK)
    finally:
        await endpoint.close()


# ── addresses, headers, secrets ──────────────────────────────────────────────────────────────────────────────────


def test_azures_address_keeps_its_query_and_sends_the_key_in_its_header(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGA_API_KEY", KEY)
    address = f"{server.url}/chat/completions?api-version=2024-10-21"
    engine = Endpoint(address, "tiny")
    assert run(started(engine, ASK)).text
    assert {asked.query for asked in server.asked} == {"api-version=2024-10-21"}
    assert {asked.headers.get("api-key") for asked in server.asked} == {KEY}
    assert not any("Authorization" in asked.headers for asked in server.asked)
    assert public_uri(f"{address}#tiny") == f"{address}#tiny"


def test_a_key_in_the_query_is_sent_and_never_shown(server: ChatServer) -> None:
    server.then(*[servers.status(400, f"bad key={KEY}")] * 9)
    with pytest.raises(StopError) as caught:
        run(started(Endpoint(f"{server.url}?key={KEY}", "tiny"), ASK))
    assert server.asked[0].query == f"key={KEY}"
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_headers_come_from_the_environment_and_the_settings(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGA_HEADERS", "X-Team: blue\nX-Token: secret-of-the-gateway\n")
    run(started(Endpoint(server.url, "tiny", headers={"X-Title": "harbour"}), ASK))
    for asked in server.asked:
        sent = [asked.headers.get(name) for name in ("X-Team", "X-Token", "X-Title")]
        assert sent == ["blue", "secret-of-the-gateway", "harbour"]
    server.then(*[servers.status(400, "no secret-of-the-gateway here")] * 9)
    with pytest.raises(StopError) as caught:
        run(started(Endpoint(server.url, "tiny"), ASK))
    assert "secret-of" not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["no colon purple", "X Team: purple", ": purple", "X-Team: purple\x07", "X-Tëam: purple"]
)
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGA_HEADERS", line)
    with pytest.raises(InputError, match="MGA_HEADERS") as caught:
        Endpoint("http://127.0.0.1:1/v1", "tiny")
    assert "purple" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        f"Incorrect API key provided: {KEY[:20]}****",
        f"Incorrect API key provided: {KEY[:4]}{'*' * 20}{KEY[-4:]}.",
        f"Incorrect API key provided: {KEY[:3]}…{KEY[-4:]}",
        f"key {KEY[8:19]} is not known",
        f"token ends with {KEY[-10:]}",
        f"Authorization: Bearer {KEY}",
    ],
)
def test_a_part_of_the_key_is_masked_too(server: ChatServer, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGA_API_KEY", KEY)
    with pytest.raises(InputError) as caught:
        ask_after_start(server, servers.status(400, said))
    shown = str(caught.value)
    assert "…" in shown
    assert not [KEY[i : i + 4] for i in range(len(KEY) - 3) if KEY[i : i + 4] in shown]


def test_what_a_server_says_holds_nothing_that_a_terminal_obeys(server: ChatServer) -> None:
    with pytest.raises(InputError) as caught:
        ask_after_start(server, servers.status(400, "\x1b[31mred\x1b]0;owned\x07 \u202eback"))
    assert all(character.isprintable() for character in str(caught.value))


def test_a_redirect_to_another_host_is_named_and_gets_neither_key_nor_text(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGA_API_KEY", KEY)
    with ChatServer() as other:
        there = other.url.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(StopError, match=there):
            ask_after_start(server, servers.redirect(there + "/chat/completions"))
        with pytest.raises(StopError, match=other.url):  # another port is another server
            ask_after_start(server, servers.redirect(other.url + "/chat/completions"))
        assert other.asked == []


def test_a_redirect_within_the_host_is_followed_with_the_same_body(server: ChatServer) -> None:
    reply = ask_after_start(server, servers.redirect("/v1/chat/completions", 308))
    assert "ferry" in reply.text
    assert server.chats()[-1] == server.chats()[-2]


@pytest.mark.parametrize("where", ["file:///etc/passwd", "http://[::1", "", "ftp://127.0.0.1/x"])
def test_a_redirect_to_nowhere_stops_with_a_sentence(server: ChatServer, where: str) -> None:
    with pytest.raises(StopError, match="redirects to"):
        ask_after_start(server, servers.redirect(where))


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ("Unsupported parameter: 'temperature'", {"temperature"}),
        ("[{'loc': ['body', 'temperature'], 'msg': 'Extra inputs are not permitted'}]", {"temperature"}),
        ("`temperature` must be strictly positive", {"temperature"}),
    ],
)
def test_a_refused_field_is_left_out_for_good_and_said(server: ChatServer, words: str, sent: set[str]) -> None:
    said: list[str] = []
    refusal = servers.status(400, words)
    server.fault_for = lambda body: refusal if sent & body.keys() else None
    engine = Endpoint(server.url, "tiny", say=said.append)

    async def twice(engine: Engine) -> None:
        await engine.ask(ASK)
        before = len(server.chats())
        await engine.ask(replace(ASK, seed=8))
        assert len(server.chats()) == before + 1

    run(in_scene(Scene(engine), twice))
    assert len(said) == 1
    assert "without temperature" in said[0]


def test_a_prompt_that_is_too_long_changes_no_features(server: ChatServer) -> None:
    words = "'max_tokens' or 'max_completion_tokens' is too large: 512. The maximum context length is 4096 tokens."
    with pytest.raises(InputError, match="too large"):
        ask_after_start(server, servers.status(400, words))
    assert not any("max_completion_tokens" in asked for asked in server.chats())


def test_tokens_of_thoughts_are_no_tokens_of_the_text(server: ChatServer) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 300, "completion_tokens_details": {"reasoning_tokens": 250}}
    fault = servers.answer(
        choices=[{"message": {"content": "A text.", "reasoning": "Hm."}, "finish_reason": "stop"}], usage=usage
    )
    reply = ask_after_start(server, fault)
    assert (reply.generated_tokens, reply.text_tokens) == (300, 50)
    reply = ask_after_start(
        server, servers.content(f"<think>{'x' * 283}</think>{'y' * 100}", usage={"completion_tokens": 40})
    )
    assert (reply.generated_tokens, reply.text_tokens) == (40, 10)
    assert ask_after_start(server).text_tokens is None


@pytest.mark.parametrize("count", ["abc", -7, 10**30, [1], 0, 1, 10**9, None, True, 5.5])
def test_a_tokenizer_that_cannot_be_right_is_not_believed(server: ChatServer, count: object) -> None:
    server.files[TOKENIZE] = orjson.dumps({"count": count, "tokens": 5}) if count != 10**30 else b'{"count": 1e30}'
    assert count_twice(server) == [estimate_tokens("one two three")] * 2
