"""A small real server on the loopback interface that speaks the OpenAI protocol and misbehaves on demand.

It answers with the logic of `ScriptedEngine`, so a whole expansion can run against it. Faults are given per
path and used up in order, or chosen by the body of a request; every request is counted and remembered.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from time import time
from types import TracebackType
from typing import Any

import orjson
from aiohttp import web

from mga.engines.engine import Purpose, Reply, Request
from mga.engines.scripted import ScriptedEngine
from mga.errors import InputError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MODELS, TOKENIZE = "/v1/models", "/tokenize"

Fault = Callable[[web.Request, "ChatServer"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    path: str
    body: dict[str, Any]
    headers: Mapping[str, str]
    query: str = ""


class ChatServer:
    """`with ChatServer() as server:` serves at `server.url` from a thread of its own until the block ends."""

    def __init__(self, model: str = "tiny", flaws: float = 0.0, port: int = 0) -> None:
        self.model = model
        self.models = [model]
        self.models_listed: list[Any] | None = None  # what the list says, where that is not the models
        self.finish: dict[str, Any] = {}  # other words for its reasons to finish
        self.lists_models = True
        self.tokenizes = False
        self.forms = [CHAT]  # the paths that answer; COMPLETIONS is the other
        self.schema_key: str | None = "response_format"  # or guided_json; None: refuses both
        self.obeys_schemas = True
        self.takes_logprobs = True
        self.takes_seeds = True
        self.thinks: str | None = None  # reasoning before each reply, unless chat_template_kwargs switch it off
        self.takes_template = False
        self.usage: dict[str, Any] | None = {}  # {}: counted; None: none is sent; other: sent beside the counts
        self.message: dict[str, Any] = {}  # sent beside the content, such as reasoning_content
        self.authorization: str | None = None  # the Authorization header that is wanted
        self.files: dict[str, bytes] = {}  # served at other paths
        self.fault_for: Callable[[dict[str, Any]], Fault | None] = lambda body: None
        # An answer as it would be, changed: another one, a fault, or None where it stays.
        self.change: Callable[[dict[str, Any], dict[str, Any]], Any] = lambda asked, given: None
        self.asked: list[Asked] = []
        self.port = port
        self._faults: dict[str, deque[Fault]] = {}
        self._engine = ScriptedEngine(f"flaws={flaws}")
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def then(self, *faults: Fault, path: str = CHAT) -> None:
        """The next requests to a path meet these faults, one each; later ones are answered well."""
        self._faults.setdefault(path, deque()).extend(faults)

    def chats(self) -> list[dict[str, Any]]:
        """Bodies of all requests for a reply so far."""
        return [asked.body for asked in self.asked if asked.path in self.forms]

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        assert self._ready.wait(10), "the test server did not start"
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop serving; hanging requests are let go. A second call does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join(10)
        assert not self._thread.is_alive(), "the test server did not stop"

    async def until_closed(self) -> None:
        """For a hanging fault: wait until the server stops."""
        await self._closing.wait()

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._closing.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = orjson.loads(raw) if raw else {}
        self.asked.append(Asked(request.path, body, dict(request.headers), request.query_string))
        given = request.headers.get("Authorization")
        if self.authorization is not None and given != self.authorization:
            return await status(401, f"Incorrect API key provided: {given}")(request, self)
        if waiting := self._faults.get(request.path):
            return await waiting.popleft()(request, self)
        if request.path == MODELS and self.lists_models:
            listed = self.models if self.models_listed is None else self.models_listed
            entries = [{"id": name} if isinstance(name, str) else name for name in listed]
            return web.json_response({"object": "list", "data": entries})
        if request.path == TOKENIZE and self.tokenizes:
            return web.json_response({"tokens": list(range(len(body["content"].split())))})
        if request.path in self.forms:
            fault = self.fault_for(body) or self._refusal(body)
            if fault is not None:
                return await fault(request, self)
            try:
                given = await self._chat(body)
                changed = self.change(body, given)
                if callable(changed):
                    return await changed(request, self)  # type: ignore[no-any-return]
                return web.json_response(given if changed is None else changed)
            except InputError as refusal:
                return await status(400, str(refusal))(request, self)
        if request.path in self.files:
            return web.Response(body=self.files[request.path])
        return await status(404, "Not Found")(request, self)

    def _refusal(self, body: Mapping[str, Any]) -> Fault | None:
        if body["model"] not in self.models:
            return status(404, f"The model `{body['model']}` does not exist.")
        unknown = {"response_format", "guided_json"} - {self.schema_key}
        unknown |= set() if self.takes_logprobs else {"logprobs"}
        unknown |= set() if self.takes_seeds else {"seed"}
        for name in sorted(unknown & body.keys()):
            return status(400, f"Unrecognized request argument supplied: {name}")
        return None

    async def _chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        reply = await self._reply(body)
        text = self._thoughts(body) + reply.text
        choice: dict[str, Any] = {"index": 0, "finish_reason": self.finish.get(reply.finish, reply.finish)}
        if "prompt" in body:
            choice["text"] = text
        else:
            choice["message"] = {"role": "assistant", "content": text} | self.message
        if reply.tokens and "prompt" in body:
            tops = [dict(token.alternatives) for token in reply.tokens]
            choice["logprobs"] = {"tokens": [token.text for token in reply.tokens], "top_logprobs": tops}
        elif reply.tokens:
            choice["logprobs"] = {"content": [_logprob(t.text, t.alternatives) for t in reply.tokens]}
        answer: dict[str, Any] = {"object": "chat.completion", "model": body["model"], "choices": [choice]}
        if self.usage is not None:
            counts = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.generated_tokens}
            answer["usage"] = counts | self.usage
        return answer

    def _thoughts(self, body: Mapping[str, Any]) -> str:
        switched_off = self.takes_template and body.get("chat_template_kwargs") == {"enable_thinking": False}
        return f"<think>\n{self.thinks}\n</think>\n\n" if self.thinks and not switched_off else ""

    async def _reply(self, body: Mapping[str, Any]) -> Reply:
        prompt = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        schema = body.get("guided_json") or (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        schema = schema if self.obeys_schemas else None
        if schema and "yes" in schema["properties"]:  # what a client tries out
            return Reply('{"yes": "yes"}', "stop", 10, 5)
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        logprobs = body.get("top_logprobs") or int(body.get("logprobs") or 0)
        request = Request(prompt, limit, body.get("seed", 0), _purpose(prompt), "", {}, schema, logprobs)
        reply = await self._engine.ask(request)
        if reply.generated_tokens <= limit:
            return reply
        return Reply(reply.text[: 4 * limit], "length", reply.prompt_tokens, limit)


def status(code: int, message: str = "no", retry_after: str | None = None) -> Fault:
    """An HTTP error in the protocol's form."""

    async def fault(_request: web.Request, _server: ChatServer) -> web.StreamResponse:
        headers = {"Retry-After": retry_after} if retry_after is not None else {}
        return web.json_response({"error": {"message": message, "code": code}}, status=code, headers=headers)

    return fault


def busy_until(seconds: float) -> Fault:
    """429 whose Retry-After is an HTTP date so many seconds from now."""
    return status(429, "slow down", formatdate(time() + seconds, usegmt=True))


def body(text: str | bytes, content_type: str = "application/json") -> Fault:
    """An answer that says it succeeded, with exactly this body."""
    raw = text.encode() if isinstance(text, str) else text

    async def fault(_request: web.Request, _server: ChatServer) -> web.StreamResponse:
        return web.Response(body=raw, content_type=content_type)

    return fault


def answer(**fields: Any) -> Fault:
    """An answer in the protocol's outer form with these fields."""
    return body(orjson.dumps({"object": "chat.completion", **fields}))


def content(text: object, finish: object = "stop", **fields: Any) -> Fault:
    """A whole answer with this as its content."""
    return answer(choices=[{"index": 0, "message": {"content": text}, "finish_reason": finish}], **fields)


def redirect(where: str, code: int = 307) -> Fault:
    """A redirect to another place."""

    async def fault(_request: web.Request, _server: ChatServer) -> web.StreamResponse:
        return web.Response(status=code, headers={"Location": where})

    return fault


async def reset(request: web.Request, _server: ChatServer) -> web.StreamResponse:
    """The connection is torn down before any answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(_request: web.Request, server: ChatServer) -> web.StreamResponse:
    """No answer for as long as the server lives."""
    await server.until_closed()
    return web.Response()


async def truncated(request: web.Request, _server: ChatServer) -> web.StreamResponse:
    """The body ends long before its announced length."""
    response = web.StreamResponse(headers={"Content-Length": "5000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"message": {"content": "half of a sen')
    assert request.transport is not None
    request.transport.close()
    return response


def _purpose(prompt: str) -> Purpose:
    if "<rewrite>\n" in prompt:
        return "judge"
    return "pairs" if "genre_1" in prompt else "reformulate"


def _logprob(token: str, alternatives: Mapping[str, float]) -> dict[str, Any]:
    top = [{"token": other, "logprob": value} for other, value in alternatives.items()]
    return {"token": token, "logprob": top[0]["logprob"], "top_logprobs": top}
