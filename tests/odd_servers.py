"""Forms of reply that real servers have sent, each as a mode of the test server: what is odd, and what mga does.

`MODES` is read by tests/test_replies.py (which asserts it), tests/replies.py (which prints it) and docs/replies.md
(which explains it). A mode changes the answers for a document alone, unless it says that it is so `from_start`.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import regex
from aiohttp import web
from servers import CHAT, MODELS, TOKENIZE, ChatServer, Fault, answer, body, redirect, status

THOUGHT = "Okay, the user wants a rewrite. I should keep the facts and plan the outline first."
PAIRS = 3
Change = Callable[
    [dict[str, Any], str], Any
]  # an answer, what was asked for → another one, a Fault, or None: unchanged


@dataclass(frozen=True)
class Mode:
    """One form of reply. `kept`: so many of the texts; `reason`: why the others are not kept; `stops`: what the command
    says when it does not begin; `marks`: what must be said or left."""

    form: str
    change: Change = lambda answer, purpose: None
    kept: int = PAIRS
    reason: str = ""
    stops: str = ""
    says: str = ""
    cut: str = ""
    from_start: bool = False
    setup: Callable[[ChatServer], object] = lambda server: None
    options: tuple[str, ...] = ()


@contextmanager
def serving(mode: Mode) -> Iterator[ChatServer]:
    """A server that answers in this form."""
    with ChatServer() as server:
        mode.setup(server)
        server.change = lambda asked, given: _changed(mode, asked, given)
        yield server


def _changed(mode: Mode, asked: dict[str, Any], given: dict[str, Any]) -> Any:
    prompt = asked["prompt"] if "prompt" in asked else asked["messages"][-1]["content"]
    if "<document>" not in prompt:
        purpose = "start"
    else:
        purpose = "judge" if "<rewrite>\n" in prompt else "pairs" if "genre_1" in prompt else "rewrite"
    if purpose == "pairs":
        given["choices"][0]["message" if "messages" in asked else "text"] = _with_the_papers_keys(given, asked)
    if purpose == "start" and not mode.from_start:
        return None
    return mode.change(given, purpose)


def _with_the_papers_keys(given: dict[str, Any], asked: dict[str, Any]) -> Any:
    """The pairs under the keys of the paper, genre_1, audience_1, …: the forms below are made of these."""
    chat = "messages" in asked
    found = json.loads(message(given)["content"] if chat else given["choices"][0]["text"])
    texts = found.get("texts", [found])
    flat = {f"genre_{i}": one["kind_of_text"] for i, one in enumerate(texts, 1)}
    flat |= {f"audience_{i}": one["readers"] for i, one in enumerate(texts, 1)}
    return {**message(given), "content": json.dumps(flat)} if chat else json.dumps(flat)


def message(answer: dict[str, Any]) -> dict[str, Any]:
    return dict(answer["choices"][0]["message"])


def said(change: Callable[[str], object], *purposes: str) -> Change:
    """The content of all replies (or of those for these purposes) changed."""

    def changed(given: dict[str, Any], purpose: str) -> Any:
        if purposes and purpose not in purposes:
            return None
        given["choices"][0]["message"]["content"] = change(message(given)["content"])
        return given

    return changed


def with_fields(*purposes: str, choice: dict[str, Any] | None = None, **fields: Any) -> Change:
    """Fields of the message set (and of the choice), or taken out where they are `...`."""

    def changed(given: dict[str, Any], purpose: str) -> Any:
        if purposes and purpose not in purposes:
            return None
        for target, values in ((given["choices"][0], choice or {}), (given["choices"][0]["message"], fields)):
            for name, value in values.items():
                if value is ...:
                    target.pop(name, None)
                else:
                    target[name] = value
        return given

    return changed


def whole(**fields: Any) -> Change:
    """Fields of the whole answer set, or taken out where they are `...`."""

    def changed(given: dict[str, Any], purpose: str) -> Any:
        return {name: value for name, value in {**given, **fields}.items() if value is not ...}

    return changed


def instead(fault: Fault, *purposes: str) -> Change:
    return lambda given, purpose: fault if not purposes or purpose in purposes else None


def raw(change: Callable[[bytes], bytes], *purposes: str, content_type: str = "application/json") -> Change:
    """The bytes of the answer changed."""
    return lambda given, purpose: (
        body(change(orjson.dumps(given)), content_type) if not purposes or purpose in purposes else None
    )


def finished(reason: object) -> Change:
    """Rewrites cut in the middle of a word, for this reason."""

    def changed(given: dict[str, Any], purpose: str) -> Any:
        if purpose != "rewrite":
            return None
        text = message(given)["content"]
        cut = regex.match(r".*\w(?=\w)", text[: len(text) * 6 // 10], regex.DOTALL)
        given["choices"][0] |= {"message": {"content": cut[0] if cut else text}, "finish_reason": reason}
        return given

    return changed


def whole_without_reason(given: dict[str, Any], purpose: str) -> Any:
    """No reason to finish, and rewrites that end with a full stop."""
    content = message(given)["content"] + ("." if purpose == "rewrite" else "")
    given["choices"][0] |= {"message": {"content": content}, "finish_reason": None}
    return given


def pairs_as(change: Callable[[list[dict[str, str]]], str]) -> Change:
    def of(text: str) -> str:
        flat = json.loads(text)
        count = len(flat) // 2
        return change([{k: flat[f"{k}_{i}"] for k in ("genre", "audience")} for i in range(1, count + 1)])

    return said(of, "pairs")


def verdict(text: str) -> Change:
    return said(lambda _: text, "judge")


def refusing(*names: str, words: str) -> Callable[[ChatServer], object]:
    """Requests with one of these fields are refused in these words."""

    def setup(server: ChatServer) -> None:
        def fault(asked: dict[str, Any]) -> Fault | None:
            found = [name for name in names if name in asked]
            return status(400, words.format(name=found[0], value=asked[found[0]])) if found else None

        server.fault_for = fault

    return setup


def at(path: str, value: object) -> Callable[[ChatServer], object]:
    """This value, or these bytes, at a path beside the replies."""
    data = value if isinstance(value, bytes) else orjson.dumps(value)

    def setup(server: ChatServer) -> None:
        server.files[path] = data
        server.lists_models = path != MODELS and server.lists_models

    return setup


def compressed(data: Callable[[bytes], bytes], encoding: str) -> Change:
    def changed(given: dict[str, Any], purpose: str) -> Any:
        async def fault(_request: web.Request, _server: ChatServer) -> web.StreamResponse:
            packed = data(orjson.dumps(given))
            return web.Response(body=packed, headers={"Content-Encoding": encoding, "Content-Type": "application/json"})

        return fault

    return changed


async def endless(request: web.Request, _server: ChatServer) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * (1 << 20))
    except ConnectionError:
        return response


def sse(given: bytes) -> bytes:
    """An answer as the events of a stream, its text in pieces."""
    value = orjson.loads(given)
    choice = value["choices"][0]
    text = choice["message"]["content"]
    deltas = [{"role": "assistant", "content": ""}, *({"content": text[i : i + 40]} for i in range(0, len(text), 40))]
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    chunks.append({"choices": [], "usage": value.get("usage")})
    return b"".join(b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


BOMB = gzip.compress(b" " * (256 << 20), 1)
GONE = "engine_gave_up"

MODES: dict[str, Mode] = {
    # thoughts
    "thought_tags": Mode("<think>…</think> before the text", said(lambda t: f"<think>\n{THOUGHT}\n</think>\n\n{t}")),
    "thought_closed_alone": Mode("…</think> before the text", said(lambda t: f"{THOUGHT}\n</think>\n\n{t}")),
    "thought_harmony": Mode(
        "<|channel|>analysis<|message|>…<|channel|>final<|message|>",
        said(
            lambda t: f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{t}"
        ),
    ),
    "thought_tokens": Mode("[THINK]…[/THINK]", said(lambda t: f"[THINK]{THOUGHT}[/THINK]{t}")),
    "thought_field": Mode("in a field reasoning_content", with_fields(reasoning_content=THOUGHT)),
    "thought_parts": Mode(
        "in a part of type thinking",
        said(
            lambda t: [
                {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                {"type": "text", "text": t},
            ]
        ),
    ),
    "thought_unclosed": Mode(
        "<think>… without an end", said(lambda t: f"<think>{THOUGHT} {t}", "rewrite"), 0, "empty_reply"
    ),
    "thought_only": Mode(
        "reasoning and no content, cut off",
        with_fields("rewrite", choice={"finish_reason": "length"}, content=..., reasoning_content=THOUGHT),
        0,
        "cut_off",
    ),
    # ends
    "end_token": Mode("<|im_end|> after the text", said(lambda t: f"{t}<|im_end|>"), cut="end_of_turn"),
    "second_turn": Mode(
        "another turn after the text",
        said(lambda t: f"{t}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nAnother version.", "rewrite"),
        cut="end_of_turn",
    ),
    "own_tags": Mode(
        "<document>…</document > around the text", said(lambda t: f"<document>{t}</document >", "rewrite"), cut="tags"
    ),
    "finish_abort": Mode("given up by the server: abort, error, …", finished("abort"), 0, GONE),
    "finish_filter": Mode("finish_reason content_filter", finished("content_filter"), 0, "content_filter"),
    "finish_wild": Mode("a finish_reason that mga does not know", finished("wild"), 0, "unknown_finish"),
    "finish_object": Mode("a finish_reason that is no text", finished({"type": "x"}), 0, "unknown_finish"),
    "finish_null_cut": Mode("no finish_reason, and the text breaks off", finished(None), 0, "unknown_finish"),
    "finish_null": Mode("no finish_reason, and the text ends", whole_without_reason),
    "finish_other_word": Mode(
        "another word for a whole reply, from the start",
        with_fields(choice={"finish_reason": "done"}),
        from_start=True,
        says="says 'done' for a whole reply",
    ),
    "finish_max_tokens": Mode("finish_reason MAX_TOKENS", finished("MAX_TOKENS"), 0, "cut_off"),
    "refusal_field": Mode(
        "a refusal in a field of its own",
        with_fields("rewrite", content=None, refusal="I can't do that."),
        0,
        "refusal",
    ),
    # contents
    "content_absent": Mode("no content", with_fields("rewrite", content=...), 0, "empty_reply"),
    "content_null": Mode("content null", with_fields("rewrite", content=None), 0, "empty_reply"),
    "content_parts": Mode(
        "content in parts", said(lambda t: [{"type": "text", "text": t[:50]}, {"type": "text", "text": t[50:]}])
    ),
    "content_number": Mode("content that is no text", said(lambda t: 7, "rewrite"), 0, GONE),
    "half_surrogate": Mode("half of a character", raw(lambda b: b.replace(b'"content":"', b'"content":"\\ud83d '))),
    "control_characters": Mode(
        "control characters and what a terminal obeys in the text",
        said(lambda t: f"\x00\x1b[2J\x1b[1;31m{t}\x1b]0;a title\x07\x1b[0m", "rewrite"),
    ),
    "choices_empty": Mode("no choices", whole(choices=[]), 0, GONE),
    "html": Mode("a page of HTML", instead(body("<html>Please log in</html>", "text/html")), 0, GONE),
    "error_200": Mode(
        "an error under HTTP 200",
        instead(answer(error={"message": "upstream overloaded", "code": 502}), "rewrite"),
        0,
        GONE,
    ),
    "error_200_refused": Mode(
        "a refusal of the request under HTTP 200",
        instead(answer(error={"message": "too long", "type": "invalid_request_error"}), "rewrite"),
        0,
        "request_refused",
    ),
    "sse": Mode("events although none were asked for", raw(sse, content_type="text/event-stream")),
    "sse_cut": Mode("events that break off", raw(lambda b: sse(b)[:200], content_type="text/event-stream"), 0, GONE),
    "sse_one": Mode("a whole answer as one event", raw(lambda b: b"data: " + b + b"\n\ndata: [DONE]\n\n")),
    "white_space": Mode("white space or a byte order mark before the answer", raw(lambda b: b"\xef\xbb\xbf\n  " + b)),
    "in_a_list": Mode("the answer in a list", raw(lambda b: b"[" + b + b"]")),
    "status_201": Mode("HTTP 201", lambda given, _: _with_status(201, given)),
    # bookkeeping
    "usage_absent": Mode("no usage", whole(usage=...)),
    "usage_words": Mode("usage in words", whole(usage={"prompt_tokens": "many", "completion_tokens": "3"})),
    "usage_list": Mode("usage as a list", whole(usage=[1, 2])),
    "usage_wild": Mode(
        "usage beyond all bounds", raw(lambda b: b.replace(b'"completion_tokens":', b'"completion_tokens":1e400,"x":'))
    ),
    "logprobs_words": Mode("logprobs as a text", with_fields(choice={"logprobs": "none"})),
    "logprobs_wild": Mode(
        "log-probabilities that are none",
        with_fields(
            choice={
                "logprobs": {
                    "content": [
                        {
                            "token": None,
                            "top_logprobs": [{"token": 5, "logprob": None}, {"token": "4", "logprob": 1e308}],
                        }
                    ]
                }
            }
        ),
    ),
    # JSON
    "pairs_list": Mode("pairs in a list", pairs_as(json.dumps)),
    "pairs_numbered": Mode(
        "pairs numbered in prose",
        pairs_as(lambda p: "\n".join(f"{i}. {json.dumps(one)}" for i, one in enumerate(p, 1))),
    ),
    "pairs_wrapped": Mode("pairs in another object", pairs_as(lambda p: json.dumps({"pairs": p}))),
    "pairs_other_keys": Mode(
        "genre1, Audience 1, …", said(lambda t: t.replace("genre_", "genre").replace("audience_", "Audience "), "pairs")
    ),
    "pairs_quotes": Mode("single quotes, trailing commas", said(lambda t: str(json.loads(t))[:-1] + ",}", "pairs")),
    "score_first": Mode("the score before the analysis", verdict('{"score": 4, "analysis": "2 of 5 facts"}')),
    "score_words": Mode("a score in words, as a share", verdict('{"Analysis": "close", "Score": "4/5"}')),
    "verdict_list": Mode(
        "the verdict in a list, a note after it", verdict('[{"analysis": "x", "score": 4}]\n\nScale: [1, 2, 3, 4, 5].')
    ),
    "verdict_missing": Mode("no verdict", verdict("It is fine."), 0, "no_verdict"),
    # what a server does not take
    "max_completion_tokens": Mode(
        "max_tokens refused",
        setup=refusing(
            "max_tokens",
            words="Unsupported parameter: '{name}' is not supported. Use 'max_completion_tokens' instead.",
        ),
    ),
    "temperature_refused": Mode(
        "a field of the sampling refused",
        setup=refusing("temperature", words="Unsupported value: '{name}' does not support {value} with this model."),
        says="without temperature",
    ),
    # other addresses
    "models_null": Mode("a model list that is none", setup=at(MODELS, {"object": "list", "data": None})),
    "models_other": Mode(
        "a model list without the model", setup=at(MODELS, {"data": [{"id": "a/*"}, {"id": ["x"]}, 3]})
    ),
    "models_odd_length": Mode(
        "a context that is no number", setup=at(MODELS, {"data": [{"id": "tiny", "max_model_len": "8192"}]})
    ),
    "models_negative": Mode(
        "a context below nothing", setup=at(MODELS, {"data": [{"id": "tiny", "max_model_len": -5}]})
    ),
    "tokenize_fails": Mode("a tokenizer that fails", setup=at(TOKENIZE, b"<html>")),
    "tokenize_lies": Mode("a tokenizer that lies", setup=at(TOKENIZE, {"count": 10**9})),
    "redirect_elsewhere": Mode(
        "a redirect to another host",
        instead(redirect("http://198.51.100.7/v1/chat/completions")),
        stops="redirects to http://198.51.100.7/v1/chat/completions",
    ),
    "redirect_in_circles": Mode("a redirect to itself", instead(redirect(CHAT)), stops="redirects again and again"),
    "gzip": Mode("compressed although not asked", compressed(gzip.compress, "gzip")),
    "gzip_bomb": Mode("256 MB of nothing, compressed", compressed(lambda _: BOMB, "gzip"), 0, GONE),
    "other_encoding": Mode("an encoding that was not asked for", compressed(lambda b: b, "br"), 0, GONE),
    "endless": Mode("a body without an end", instead(endless), 0, GONE),
    "retry_after_wild": Mode("Retry-After beyond all bounds", lambda given, purpose: _once(given)),
    "refusal_words": Mode(
        "a refusal in other words",
        said(lambda t: "I will not rewrite the document, since it is about lamps.", "rewrite"),
        0,
        "refusal",
    ),
}


def _with_status(code: int, given: dict[str, Any]) -> Fault:
    async def fault(_request: web.Request, _server: ChatServer) -> web.StreamResponse:
        return web.json_response(given, status=code)

    return fault


_WILD = ["nan", "-5", "Mon, 01 Jan 99999999999999 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "x" * 5000, "1e999"]
_seen: dict[int, int] = {}


def _once(given: dict[str, Any]) -> Any:
    """Every other request is answered by 429 with another wait."""
    _seen[0] = _seen.get(0, -1) + 1
    return None if _seen[0] % 2 else status(429, "slow down", _WILD[_seen[0] // 2 % len(_WILD)])
