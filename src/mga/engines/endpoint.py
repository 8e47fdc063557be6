"""Any server that speaks the OpenAI chat-completions protocol, at one address (several: `replicas.py`).

The key comes from the environment (`MGA_API_KEY`) or from the address (`http://user:password@host`); it
appears in no file, log or message.
"""

import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import orjson

from mga.engine_uri import public_uri
from mga.engines.engine import Reply, Request, Token
from mga.errors import InputError, StopError, TryAgainError, UnreachableError
from mga.words import estimate_tokens

KEY_VARIABLE = "MGA_API_KEY"
# A long reply from a busy server takes minutes; a server that sends nothing for this long has hung.
ANSWER_TIMEOUT_S = 900.0
CONNECT_TIMEOUT_S = 10.0
_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 529})


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
        self.url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self.model = model
        self.requests_in_flight = self.documents_in_flight = concurrency or 64
        self._key = key or os.environ.get(KEY_VARIABLE, "").strip()
        self._headers = {"Content-Type": "application/json"}
        if user:
            self._headers["Authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
        elif self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._secrets = [secret for secret in (self._key, password) if secret]
        self._loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._open: aiohttp.ClientSession | None = None
        self._tokenizes = True
        self._schemas = True
        self._logprobs = True

    async def start(self) -> None:
        """Learn the model's name and limits, and which features the server has, by asking once each."""
        await self._learn_model()
        hello = Request("Answer with the word yes.", 8, 0, "judge", "start")
        wanting = replace(hello, schema={"type": "object", "properties": {"a": {"type": "string"}}}, top_logprobs=5)
        try:
            await self._ask_at_start(wanting)
        except InputError:
            self._schemas = await self._takes(replace(wanting, top_logprobs=0))
            self._logprobs = await self._takes(replace(wanting, schema=None))
            if not (self._schemas or self._logprobs):
                await self._must_take(hello)

    async def alive(self) -> bool:
        try:
            soon = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
            async with self._session().get(f"{self.url}/models", timeout=soon) as response:
                return response.status < 500
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def ask(self, request: Request, extra: Mapping[str, Any] | None = None) -> Reply:
        """Answer once; `extra` is sent along without being part of the request's identity (a slot, say)."""
        if not self._schemas and request.schema is not None:
            request = replace(request, schema=None)
        if not self._logprobs and request.top_logprobs:
            request = replace(request, top_logprobs=0)
        body = orjson.dumps(request.payload(self.model) | dict(extra or {}))
        answer = await self._post(f"{self.url}/chat/completions", body)
        return _reply(answer)

    async def count_tokens(self, text: str) -> int:
        if self._tokenizes:
            root = self.url.removesuffix("/v1")
            # llama.cpp reads `content`, vLLM and SGLang read `prompt`.
            body = orjson.dumps({"model": self.model, "content": text, "prompt": text})
            try:
                answer = await self._post(f"{root}/tokenize", body)
                return int(answer.get("count") or len(answer["tokens"]))
            except InputError:
                pass  # this text alone is refused: too long, say
            except (StopError, KeyError, TypeError):
                self._tokenizes = False
        return estimate_tokens(text)

    async def close(self) -> None:
        if self._open is not None:
            await self._open.close()
            self._open = None

    def _session(self) -> aiohttp.ClientSession:
        if self._open is None:
            self._open = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
                trust_env=not self._loopback,
            )
        return self._open

    async def _learn_model(self) -> None:
        try:
            listing = await self._fetch("GET", f"{self.url}/models", None)
        except TryAgainError as error:
            raise StopError(
                f"No server answers at {self.url}: {error}. Is it running, and is the port right?"
            ) from error
        except (InputError, _NotFoundError):
            return  # a server without a model list; the first request will tell
        models = {m["id"]: m for m in listing.get("data", []) if isinstance(m, dict) and "id" in m}
        if not self.model and len(models) == 1:
            self.model = next(iter(models))
        if models and self.model not in models:
            raise StopError(f"{self.url} has no model {self.model!r}; it has: {', '.join(models)}. Write URL#MODEL.")
        self.context = models.get(self.model, {}).get("max_model_len")

    async def _ask_at_start(self, request: Request) -> Reply:
        try:
            return await self.ask(request)
        except TryAgainError as error:
            raise StopError(f"{self.url} is not ready to answer: {error}. Try again in a while.") from error

    async def _takes(self, request: Request) -> bool:
        try:
            await self._ask_at_start(request)
        except InputError:
            return False
        return True

    async def _must_take(self, request: Request) -> None:
        try:
            await self._ask_at_start(request)
        except InputError as error:
            raise StopError(f"{self.url} refuses even a plain request: {error}") from error

    async def _post(self, url: str, body: bytes) -> dict[str, Any]:
        return await self._fetch("POST", url, body)

    async def _fetch(self, method: str, url: str, body: bytes | None) -> dict[str, Any]:
        try:
            async with self._session().request(method, url, data=body) as response:
                raw = await response.read()
                if response.status != 200:
                    raise self._refusal(response.status, raw, response.headers.get("Retry-After"))
        except aiohttp.InvalidURL as error:
            raise StopError(f"{self.url} is no usable address.") from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UnreachableError(str(error) or type(error).__name__) from error
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
        said = f"HTTP {status}: {self._without_secrets(_message(raw))[:200]}"
        if status in (401, 403):
            return StopError(f"{self.url} refuses the key ({said}); set {KEY_VARIABLE}.")
        if status == 404:
            return _NotFoundError(f"{self.url} does not know the address or the model {self.model!r} ({said}).")
        if status in _BUSY or status >= 500:
            return TryAgainError(said, _seconds(retry_after))
        return InputError(said)


class _NotFoundError(StopError):
    """HTTP 404."""


def _reply(answer: Mapping[str, Any]) -> Reply:
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError("a text as content")
        finish = "length" if choice.get("finish_reason") == "length" else "stop"
        usage = answer.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        return Reply(
            text=text,
            finish="length" if finish == "length" else "stop",
            prompt_tokens=_count(usage.get("prompt_tokens")),
            generated_tokens=_count(usage.get("completion_tokens")) or estimate_tokens(text),
            cached_tokens=_count(details.get("cached_tokens")),
            tokens=tuple(_token(entry) for entry in logprobs),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise TryAgainError(f"the server's answer lacks {error}") from error


def _count(given: Any) -> int:
    """A server's token count; whatever it says fits the columns it is stored in."""
    return min(max(int(given or 0), 0), 2**31 - 1)


def _token(entry: Mapping[str, Any]) -> Token:
    return Token(entry["token"], {t["token"]: float(t["logprob"]) for t in entry.get("top_logprobs") or []})


def _message(raw: bytes) -> str:
    """The server's own words, on one line."""
    text = raw.decode("utf-8", "replace")
    try:
        answer = orjson.loads(raw)
        error = answer.get("error", answer) if isinstance(answer, dict) else answer
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except orjson.JSONDecodeError:
        pass
    return " ".join(text.split()) or "no reason given"


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
