"""Any server that speaks the OpenAI protocol, chat or plain completions, at one address (several: `replicas.py`).

What it can do is found out by asking when it starts. An address may name its form (`…/v1/completions`).

The key comes from the environment (`MGA_API_KEY`) or from the address (`http://user:password@host`); it
appears in no file, log or message.
"""

import os
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies

import aiohttp
import orjson

from mga.engine_uri import public_uri
from mga.engines.engine import Reply, Request
from mga.engines.servers.wire import FORMS, Features, Form, Schemas, path, payload, read_reply, server_message, thinks
from mga.errors import InputError, MgaError, StopError, TryAgainError, UnreachableError
from mga.text.words import estimate_tokens

KEY_VARIABLE = "MGA_API_KEY"
# A long reply from a busy server takes minutes; a server that sends nothing for this long has hung. No limit on the
# whole of an answer: one that keeps coming is no fault, and a timer less per request.
SILENCE_TIMEOUT_S = 900.0
CONNECT_TIMEOUT_S = 10.0
# Requests in flight at first and at most, where the number is to find itself.
FIRST_IN_FLIGHT, MOST_IN_FLIGHT = 32, 1024
_BUSY = frozenset({429, 503, 504, 529})
_PASSING = frozenset({408, 409, 425})
_AWAY = frozenset({502, 503, 504})

_HELLO = Request("Answer with the word yes.", 16, 0, "judge", "start")
_YES = {"type": "object", "properties": {"yes": {"enum": ["yes"]}}, "required": ["yes"], "additionalProperties": False}
_ROOM_TO_THINK = 2048
_SCHEMAS: tuple[Schemas, ...] = ("json_schema", "guided_json")


class Endpoint:
    """Engine behind an address such as `http://host:8000/v1` and a model name."""

    context: int | None = None

    def __init__(self, url: str, model: str, concurrency: int | None = None, key: str | None = None) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise InputError(f"{public_uri(url)!r} is no usable address: {error}.") from None
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        host = parts.netloc.rpartition("@")[2]
        root, self._forms = _root(parts.path)
        self.url = urlunsplit((parts.scheme, host, root, "", ""))
        self.model = model
        self.features = Features()
        self.requests_in_flight = concurrency or FIRST_IN_FLIGHT
        self.most_in_flight = self.documents_in_flight = concurrency or MOST_IN_FLIGHT
        self._key = key or os.environ.get(KEY_VARIABLE, "").strip()
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if user:
            self._headers["Authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
        elif self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        credentials = self._headers.get("Authorization", "").partition(" ")[2]
        self._secrets = [secret for secret in (self._key, password, credentials, *_proxy_secrets()) if secret]
        self._loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._open: aiohttp.ClientSession | None = None
        self._tokenizes = True

    async def start(self) -> None:
        """Learn the model's name and limits, and which features the server has, by asking for each once."""
        await self._learn_model()
        features, answer = await self._learn_form()
        if thinks(answer):
            unthinking = replace(features, template={"enable_thinking": False})
            switched_off = await self._does(_HELLO, unthinking, lambda answer: not thinks(answer))
            features = unthinking if switched_off else replace(features, thinks=True)
        room = _ROOM_TO_THINK if features.thinks else 32
        asking = replace(_HELLO, schema=_YES, max_tokens=room)
        for schemas in _SCHEMAS:
            if await self._does(asking, replace(features, schemas=schemas), _obeys_schema):
                features = replace(features, schemas=schemas)
                break
        with_logprobs = replace(features, logprobs=True)
        if await self._does(replace(_HELLO, top_logprobs=5), with_logprobs, _has_logprobs):
            features = with_logprobs
        self.features = features

    async def alive(self) -> bool:
        status = await self._status(f"{self.url}/models")
        return status is not None and status not in _AWAY

    async def ready(self) -> bool:
        """Whether the server has loaded its model: by its health check, where it has one."""
        status = await self.status("/health")
        return await self.alive() if status in (404, 405) else status == 200

    async def status(self, path: str) -> int | None:
        """The HTTP status of a GET at a path beside the protocol's; None when no answer comes soon."""
        return await self._status(self.url.removesuffix("/v1") + path)

    async def _status(self, url: str) -> int | None:
        try:
            soon = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
            async with self._session().get(url, timeout=soon) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def ask(self, request: Request, extra: Mapping[str, Any] | None = None) -> Reply:
        """Answer once; `extra` is sent along without being part of the request's identity (a slot, say)."""
        return read_reply(await self._answer(request, self.features, extra))

    async def count_tokens(self, text: str) -> int:
        if self._tokenizes:
            root = self.url.removesuffix("/v1")
            # llama.cpp reads `content`, vLLM and SGLang read `prompt`.
            body = orjson.dumps({"model": self.model, "content": text, "prompt": text})
            try:
                answer = await self._fetch("POST", f"{root}/tokenize", body)
                return int(answer.get("count") or len(answer["tokens"]))
            except InputError:
                pass  # this text alone is refused: too long, say
            except (StopError, KeyError, TypeError):
                self._tokenizes = False
        return estimate_tokens(text)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector of each text, by an embedding model at this address. Raises as `ask` does."""
        body = orjson.dumps({"model": self.model, "input": list(texts), "encoding_format": "float"})
        answer = await self._fetch("POST", f"{self.url}/embeddings", body)
        try:
            by_place = {int(entry["index"]): list(entry["embedding"]) for entry in answer["data"]}
            return [by_place[place] for place in range(len(texts))]
        except (KeyError, TypeError, ValueError) as error:
            raise TryAgainError("the server's answer holds no embedding of each text") from error

    async def close(self) -> None:
        if self._open is not None:
            await self._open.close()
            self._open = None

    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            self._open = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S),
                trust_env=not self._loopback,
            )
        return self._open

    async def _learn_model(self) -> None:
        try:
            listing = await self._fetch("GET", f"{self.url}/models", None)
        except UnreachableError as error:
            raise StopError(
                f"No server answers at {self.url}: {error}. Is it running, and is the port right?"
            ) from error
        except TryAgainError as error:
            if error.busy:
                raise self._not_ready(error) from error
            return
        except (InputError, _NotFoundError):
            return  # a server without a model list; the first request will tell
        models = {m["id"]: m for m in listing.get("data", []) if isinstance(m, dict) and "id" in m}
        if not self.model and len(models) == 1:
            self.model = next(iter(models))
        if models and self.model not in models:
            raise StopError(f"{self.url} has no model {self.model!r}; it has: {', '.join(models)}. Write URL#MODEL.")
        self.context = models.get(self.model, {}).get("max_model_len")

    async def _learn_form(self) -> tuple[Features, dict[str, Any]]:
        """Chat where the server has it, else plain completions, with or without seeds; and its first answer.

        Raises StopError when it takes neither.
        """
        problems: list[MgaError] = []
        for form in self._forms:
            for seed in (True, False):
                features = Features(form, "none", logprobs=False, seed=seed)
                try:
                    answer = await self._answer(_HELLO, features)
                    read_reply(answer)
                except (InputError, _NotFoundError) as error:
                    problems.append(error)
                except TryAgainError as error:
                    raise self._not_ready(error) from error
                else:
                    return features, answer
        raise StopError(f"{self.url} refuses even a plain request: {problems[0]}")

    async def _does(self, request: Request, features: Features, holds: Callable[[dict[str, Any]], bool]) -> bool:
        """Whether the server accepts a request with these features, and its answer shows them."""
        try:
            return holds(await self._answer(request, features))
        except InputError:
            return False
        except TryAgainError as error:
            if error.busy or isinstance(error, UnreachableError):
                raise self._not_ready(error) from error
            return False  # some servers break on what they do not know

    def _not_ready(self, error: TryAgainError) -> StopError:
        return StopError(f"{self.url} is not ready to answer: {error}. Try again in a while.")

    def _answer(
        self, request: Request, features: Features, extra: Mapping[str, Any] | None = None
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        body = payload(request, self.model, features)
        if extra:
            body |= extra
        return self._fetch("POST", self.url + path(features.form), orjson.dumps(body))

    def post(self, path: str, body: Mapping[str, Any]) -> Coroutine[Any, Any, dict[str, Any]]:
        """The answer at a path beside the protocol's (`/slots/0`, say). Raises as `ask` does."""
        return self._fetch("POST", self.url.removesuffix("/v1") + path, orjson.dumps(body))

    async def _fetch(self, method: str, url: str, body: bytes | None) -> dict[str, Any]:
        try:
            async with self._session().request(method, url, data=body) as response:
                raw = await response.read()
                if response.status != 200:
                    raise self._refusal(response.status, raw, response.headers.get("Retry-After"))
        except aiohttp.InvalidURL as error:
            raise StopError(f"{self.url} is no usable address.") from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            slow = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)
            raise UnreachableError(str(error) or type(error).__name__, busy=slow) from error
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise TryAgainError("the server's answer is not JSON") from error
        if not isinstance(answer, dict):
            raise TryAgainError("the server's answer is not a JSON object")
        return answer

    def _without_secrets(self, said: str) -> str:
        for secret in self._secrets:
            said = said.replace(secret, "…")
        return said

    def _refusal(self, status: int, raw: bytes, retry_after: str | None) -> Exception:
        said = f"HTTP {status}: {self._without_secrets(server_message(raw))[:200]}"
        if status in (401, 403):
            return StopError(f"{self.url} refuses the key ({said}); set {KEY_VARIABLE}.")
        if status == 402:
            return StopError(f"{self.url} wants to be paid before it answers ({said}).")
        if status == 407:
            return StopError(f"The proxy before {self.url} refuses this user ({said}); see HTTP_PROXY and HTTPS_PROXY.")
        if status == 404:
            return _NotFoundError(f"{self.url} does not know the address or the model {self.model!r} ({said}).")
        if status in _BUSY or status in _PASSING or status >= 500:
            return TryAgainError(said, _seconds(retry_after), busy=status in _BUSY)
        return InputError(said)


class _NotFoundError(StopError):
    """HTTP 404."""


def _proxy_secrets() -> Iterator[str]:
    """What of the environment's proxies must not be shown: passwords, and the header made of them."""
    for proxy in getproxies().values():
        with suppress(ValueError):
            parts = urlsplit(proxy)
            user, password = unquote(parts.username or ""), unquote(parts.password or "")
            if password:
                yield password
                yield b64encode(f"{user}:{password}".encode()).decode()


def _root(given: str) -> tuple[str, tuple[Form, ...]]:
    """The path that all requests share, and the forms to try: an address may name its form at the end."""
    root = given.rstrip("/")
    for form in FORMS:
        if root.endswith(path(form)):
            return root.removesuffix(path(form)), (form,)
    return root, FORMS


def _obeys_schema(answer: Mapping[str, Any]) -> bool:
    try:
        return bool(orjson.loads(read_reply(answer).text) == {"yes": "yes"})
    except orjson.JSONDecodeError:
        return False


def _has_logprobs(answer: Mapping[str, Any]) -> bool:
    return any(token.alternatives for token in read_reply(answer).tokens)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds: a number, or an HTTP date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except ValueError:
        return None
