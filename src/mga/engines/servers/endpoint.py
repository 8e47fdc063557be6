"""Any server that speaks the OpenAI protocol, chat or plain completions, at one address (several: `replicas.py`).

What it can do is found out by asking when it starts; a field that it refuses later, by name, is left out from then on.
An address may name its form (`…/v1/completions`) and have a query (`?api-version=…`, Azure), which goes with every
request.

The key comes from the environment (`MGA_API_KEY`) or from the address (`http://user:password@host`), further headers
from `MGA_HEADERS` and the settings. None of them appears in a file, log or message, whole or in part, and none is sent
to another host: redirects are followed within a host alone.
"""

import difflib
import logging
import math
import os
import zlib
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies

import aiohttp
import orjson
import regex

from mga.engine_uri import public_uri
from mga.engines.engine import Reply, Request
from mga.engines.servers.wire import (
    FORMS,
    Features,
    Form,
    Schemas,
    error_in,
    finish_reason,
    listed_models,
    parse,
    path,
    payload,
    read_reply,
    said_in,
    server_message,
    thinks,
)
from mga.errors import InputError, MgaError, StopError, TryAgainError, UnreachableError
from mga.events import event
from mga.terminal import printable
from mga.text.words import estimate_tokens

KEY_VARIABLE = "MGA_API_KEY"
HEADERS_VARIABLE = "MGA_HEADERS"
# A long reply from a busy server takes minutes; a server that sends nothing for this long has hung.
SILENCE_TIMEOUT_S = 900.0
# An answer that is still coming after so long, or is so large, has no end: the longest reply with all its
# log-probabilities, and a batch of embeddings, are a few megabytes.
WHOLE_ANSWER_S = 3600.0
LARGEST_ANSWER = 32 << 20
CONNECT_TIMEOUT_S = 10.0
LONGEST_RETRY_AFTER_S = 24 * 3600.0
# Requests in flight at first and at most, where the number is to find itself.
FIRST_IN_FLIGHT, MOST_IN_FLIGHT = 32, 1024
_BUSY = frozenset({429, 503, 504, 529})
_PASSING = frozenset({408, 409, 425})
_AWAY = frozenset({502, 503, 504})
_MOVED = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 3
_NAMES_SHOWN = 3
_SHORTEST_PART = 6  # so many characters of a secret are masked wherever they stand

_HELLO = Request("Answer with the word yes.", 16, 0, "judge", "start")
_YES = {"type": "object", "properties": {"yes": {"enum": ["yes"]}}, "required": ["yes"], "additionalProperties": False}
_ROOM_TO_THINK = 2048
_ROOM_TO_SHOW_A_THOUGHT = 512
_SCHEMAS: tuple[Schemas, ...] = ("json_schema", "guided_json")
# A tokenizer is tried on this; what it says of a text is believed between these shares of an estimate.
_COUNTED = "The ferry crossed the strait twice a day, and its captain knew every rock by name. " * 8
_FEWEST, _MOST = 1 / 8, 8
_TRIES = 3

Say = Callable[[str], None]


class Endpoint:
    """Engine behind an address such as `http://host:8000/v1` and a model name."""

    context: int | None = None

    def __init__(
        self,
        url: str,
        model: str,
        concurrency: int | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        say: Say = lambda line: None,
    ) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise InputError(f"{public_uri(url)!r} is no usable address: {error}.") from None
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        host = parts.netloc.rpartition("@")[2]
        root, self._forms = _root(parts.path)
        self.url = urlunsplit((parts.scheme, host, root, "", ""))
        self._query = f"?{parts.query}" if parts.query else ""
        self.model = model
        self.features = Features()
        self.requests_in_flight = concurrency or FIRST_IN_FLIGHT
        self.most_in_flight = self.documents_in_flight = concurrency or MOST_IN_FLIGHT
        self._say = say
        self._key = key or os.environ.get(KEY_VARIABLE, "").strip()
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        query = dict(parse_qsl(parts.query))
        if user:
            self._headers["Authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
        elif self._key and "api-version" in query:  # Azure
            self._headers["api-key"] = self._key
        elif self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        given = [header(f"{name}: {value}", "The setting headers") for name, value in (headers or {}).items()]
        more = _headers_in_environment() | dict(given)
        self._headers |= more
        credentials = self._headers.get("Authorization", "").partition(" ")[2]
        in_query = [value for name, value in query.items() if name != "api-version"]
        secrets = [self._key, password, credentials, *more.values(), *in_query, *_proxy_secrets()]
        self._secrets = [secret for secret in secrets if secret]
        self._loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
        self._open: aiohttp.ClientSession | None = None
        self._tokenizes = True
        self._listed: dict[str, int | None] = {}
        self._named = bool(model)  # by the user, who may know better than a list

    async def start(self) -> None:
        """Learn the model's name and limits, and which features the server has, by asking for each once."""
        await self._learn_model()
        features, answer = await self._learn_form()
        if thinks(answer):
            unthinking = replace(features, template={"enable_thinking": False})
            switched_off = await self._does(_HELLO, unthinking, _answers_at_once)
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
        await self._learn_tokenizer()
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
            async with self._session().get(url + self._query, timeout=soon, allow_redirects=False) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def ask(self, request: Request, extra: Mapping[str, Any] | None = None) -> Reply:
        """Answer once; `extra` is sent along without being part of the request's identity (a slot, say)."""
        features = self.features
        try:
            answer = await self._answer(request, features, extra)
        except _RefusedError as refusal:
            answer = await self._answer_without(request, features, extra, refusal)
        reply = read_reply(answer, self.features)
        if self.features.whole == "" and reply.finish == "stop" and reply.generated_tokens >= request.max_tokens:
            return replace(reply, finish="length")
        return reply

    async def count_tokens(self, text: str) -> int:
        """By the server's tokenizer where it has one that can be believed, else estimated."""
        if self._tokenizes:
            try:
                return _believed(await self._tokens_of(text), text)
            except InputError:
                pass  # this text alone is refused: too long, say
            except StopError:
                self._tokenizes = False
        return estimate_tokens(text)

    async def _tokens_of(self, text: str) -> object:
        root = self.url.removesuffix("/v1")
        # llama.cpp reads `content`, vLLM and SGLang read `prompt`.
        body = orjson.dumps({"model": self.model, "content": text, "prompt": text})
        answer = await self._fetch("POST", f"{root}/tokenize", body)
        count, tokens = answer.get("count"), answer.get("tokens")
        return count or (len(tokens) if isinstance(tokens, list) else None)

    async def _learn_tokenizer(self) -> None:
        """Whether the server counts tokens in a way that can be believed; one that is busy is asked later."""
        for _ in range(_TRIES):
            try:
                self._tokenizes = _is_believed(await self._tokens_of(_COUNTED), _COUNTED)
                break
            except (InputError, StopError):
                self._tokenizes = False
                break
            except TryAgainError as error:
                if error.busy or isinstance(error, UnreachableError):
                    return
                self._tokenizes = False
        if not self._tokenizes:
            event("tokens are estimated", server=self.url)

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
                auto_decompress=False,  # bounded, in `_read`
                cookie_jar=aiohttp.DummyCookieJar(),
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
            return  # a server without a model list; the first request will tell, as it does of a model not in the list
        self._listed = listed_models(listing)
        if not self.model and len(self._listed) == 1:
            self.model = next(iter(self._listed))
        if not self.model and self._listed:
            raise StopError(f"{self.url} serves several models. {self._models()} Write URL#MODEL.")
        if not self._named and self._listed and self.model not in self._listed:
            raise StopError(f"{self.url} does not serve {self.model!r}, as the other servers do. {self._models()}")
        self.context = self._listed.get(self.model)

    def _models(self) -> str:
        """The names in the server's list that come near the model's, else the first of them."""
        near = difflib.get_close_matches(self.model, self._listed, _NAMES_SHOWN, 0.4) if self.model else []
        shown = [printable(name)[:80] for name in near or list(self._listed)[:_NAMES_SHOWN]]
        more = len(self._listed) - len(shown)
        of_more = f" and {more:,} more" if more and not near else ""
        return f"{'Near it are' if near else 'It has'}: {', '.join(shown)}{of_more}." if shown else ""

    async def _learn_form(self) -> tuple[Features, dict[str, Any]]:
        """Chat where the server has it, else plain completions, with or without seeds; and its first answer.

        Raises StopError when it takes neither.
        """
        problems: list[MgaError] = []
        for form in self._forms:
            for seed in (True, False):
                features = Features(form, "none", logprobs=False, seed=seed)
                try:
                    features, answer = await self._hello(features)
                except (InputError, _NotFoundError) as error:
                    problems.append(error)
                except TryAgainError as error:
                    raise self._not_ready(error) from error
                else:
                    return features, answer
        first = problems[0]
        if isinstance(first, _NotFoundError) and self._listed and self.model not in self._listed:
            raise StopError(f"{self.url} has no model {self.model!r} ({first.said}). {self._models()} Write URL#MODEL.")
        raise StopError(f"{self.url} refuses even a plain request: {first}")

    async def _hello(self, features: Features) -> tuple[Features, dict[str, Any]]:
        """The answer to a plain request, and the features that it takes; room for a thought is given where it is
        needed."""
        hello = _HELLO
        while True:
            try:
                answer = await self._answer(hello, features)
            except _RefusedError as refusal:
                if (other := features.after_refusal(refusal.words, payload(hello, self.model, features))) is None:
                    raise
                features = other
                continue
            reason = finish_reason(answer)
            word = "" if reason is None else str(reason)
            reply = read_reply(answer, replace(features, whole=word))
            if reply.finish == "length" and hello is _HELLO and features.form == "chat":
                hello = replace(_HELLO, max_tokens=_ROOM_TO_SHOW_A_THOUGHT)  # one word does not need so many tokens
                continue
            if reply.finish == "stop" and (not word or read_reply(answer, features).finish == "unknown"):
                features = replace(features, whole=word)
            return features, answer

    async def _answer_without(
        self, request: Request, features: Features, extra: Mapping[str, Any] | None, refusal: "_RefusedError"
    ) -> dict[str, Any]:
        """The answer without what the server has refused by name; once that has helped, it is left out for good."""
        now = self.features
        other = now if now != features else now.after_refusal(refusal.words, payload(request, self.model, now))
        while other is not None:
            try:
                answer = await self._answer(request, other, extra)
            except _RefusedError as again:
                other, refusal = other.after_refusal(again.words, payload(request, self.model, other)), again
                continue
            if other != self.features:
                self.features = other
                event("not taken by the server", logging.WARNING, server=self.url, said=str(refusal))
                self._say(f"{self.url} refuses a setting ({refusal}); asked without it: {other}")
            return answer
        raise refusal

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
        until = monotonic() + WHOLE_ANSWER_S
        target = url + self._query
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                request = self._session().request(method, target, data=body, allow_redirects=False)
                async with request as response:
                    if response.status in _MOVED:
                        target = self._moved(target, response.headers.get("Location", ""), response.status)
                        continue
                    raw = await _read(response, until)
                    if not 200 <= response.status < 300:
                        raise self._refusal(response.status, server_message(raw), _retry_after(response.headers))
            except aiohttp.InvalidURL as error:
                raise StopError(f"{self.url} is no usable address.") from error
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                slow = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)
                said = self._without_secrets(printable(str(error)))[:200] or type(error).__name__
                raise UnreachableError(said, busy=slow) from error
            answer = parse(raw)
            if "choices" not in answer and (error_said := error_in(answer)) is not None:
                status, said_by = error_said
                raise self._refusal(status, " ".join(printable(said_in(said_by)).split()), None, "error ")
            return answer
        raise StopError(f"{self.url} redirects again and again; is the address right?")

    def _moved(self, url: str, location: str, status: int) -> str:
        """Where a redirect leads, within the host. Raises StopError for any other: keys and texts go nowhere
        unasked."""
        try:
            here, there = urlsplit(url), urlsplit(urljoin(url, location))
            same = status != 303 and _is_same_host(here, there)
        except ValueError:
            there, same = None, False
        if there is None or not location:
            raise StopError(f"{self.url} redirects to an address that cannot be read (HTTP {status}).")
        if not same:
            shown = self._without_secrets(printable(public_uri(there.geturl())))[:200]
            raise StopError(
                f"{self.url} redirects to {shown} (HTTP {status}), which mga does not follow by itself: name it."
            )
        return there.geturl()

    def _without_secrets(self, said: str) -> str:
        """A server's words without what must not be shown, nor parts of it; nor keys that the server has masked
        itself."""
        hidden = bytearray(len(said))
        for secret in self._secrets:
            size = min(_SHORTEST_PART, len(secret))
            for start in range(len(secret) - size + 1):
                part, at = secret[start : start + size], -1
                while (at := said.find(part, at + 1)) >= 0:
                    hidden[at : at + size] = b"\x01" * size
            for masked in _MASKED.finditer(said):
                shown = [part for part in regex.split(r"[*•…]+", masked.group()) if len(part) > 1]
                if any(part.strip("\"'.,:;()") in secret for part in shown):
                    hidden[masked.start() : masked.end()] = b"\x01" * len(masked.group())
        if not any(hidden):
            return said
        shown_with_marks = "".join("\x00" if hide else character for character, hide in zip(said, hidden, strict=True))
        return regex.sub("\x00+", "…", shown_with_marks)

    def _refusal(self, status: int, words: str, retry_after: float | None, kind: str = "HTTP ") -> Exception:
        words = self._without_secrets(words)
        said = f"{kind}{status}: {words[:200]}"
        if status in (401, 403):
            return StopError(f"{self.url} refuses the key ({said}); set {KEY_VARIABLE}.")
        if status == 402:
            return StopError(f"{self.url} wants to be paid before it answers ({said}).")
        if status == 407:
            return StopError(f"The proxy before {self.url} refuses this user ({said}); see HTTP_PROXY and HTTPS_PROXY.")
        if status == 404:
            return _NotFoundError(f"{self.url} does not know the address or the model {self.model!r} ({said}).", said)
        if status in _BUSY or status in _PASSING or status >= 500:
            return TryAgainError(said, retry_after, busy=status in _BUSY)
        return _RefusedError(said, words)


class _NotFoundError(StopError):
    """HTTP 404."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


class _RefusedError(InputError):
    """One request refused; `words` is all that the server said of it."""

    def __init__(self, message: str, words: str) -> None:
        super().__init__(message)
        self.words = words


_MASKED = regex.compile(r"\S*(?:\*{2,}|•{2,}|…)\S*")


async def _read(response: aiohttp.ClientResponse, until: float) -> bytes:
    """The body of an answer, decompressed; no more than so many bytes, and no later than until then.

    Raises TryAgainError for a larger one, TimeoutError for a later one.
    """
    content, chunks, size = response.content, [], 0
    while chunk := await content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_ANSWER:
            raise TryAgainError(f"the server's answer has more than {LARGEST_ANSWER >> 20} MB")
        if monotonic() > until:
            raise TimeoutError(f"the server's answer has not come to an end within {WHOLE_ANSWER_S:,.0f} seconds")
    raw = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    encoding = response.headers.get("Content-Encoding", "")
    return raw if encoding in ("", "identity") else _decompressed(raw, encoding.strip().casefold())


def _decompressed(raw: bytes, encoding: str) -> bytes:
    """What a server has compressed although it was not asked to. Raises TryAgainError when that cannot be read."""
    windows = {"gzip": 47, "x-gzip": 47, "deflate": 47, "identity": 0}.get(encoding)
    if windows is None:
        raise TryAgainError(f"the server's answer is compressed ({printable(encoding)[:20]}), which was not asked for")
    if not windows:
        return raw
    try:
        opened = zlib.decompressobj(windows)
        text = opened.decompress(raw, LARGEST_ANSWER)
    except zlib.error:
        try:  # deflate without its header
            opened = zlib.decompressobj(-15)
            text = opened.decompress(raw, LARGEST_ANSWER)
        except zlib.error as error:
            raise TryAgainError("the server's answer cannot be decompressed") from error
    if opened.unconsumed_tail:
        raise TryAgainError(f"the server's answer has more than {LARGEST_ANSWER >> 20} MB when it is decompressed")
    if not opened.eof:
        raise TryAgainError("the server's answer cannot be decompressed: it is cut off")
    return text


def _is_same_host(here: SplitResult, there: SplitResult) -> bool:
    """Whether a redirect stays where the request was sent: the same port of the same host, or its encrypted one."""
    ports = {"http": 80, "https": 443}
    if there.scheme not in ports or here.hostname != there.hostname:
        return False
    here_port, there_port = here.port or ports[here.scheme], there.port or ports[there.scheme]
    same = here.scheme == there.scheme and here_port == there_port
    return same or (here.scheme == "http" and there.scheme == "https" and (here_port, there_port) == (80, 443))


def _headers_in_environment() -> dict[str, str]:
    """The headers in MGA_HEADERS, a line each: `Name: value`. Raises InputError for a line that is none."""
    lines = [line.strip() for line in os.environ.get(HEADERS_VARIABLE, "").splitlines()]
    return dict(header(line, HEADERS_VARIABLE) for line in lines if line)


def header(line: str, source: str) -> tuple[str, str]:
    """The name and the value of a header from its line. Raises InputError, which does not show the value."""
    name, colon, value = line.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not regex.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, regex.ASCII) or not value.isprintable():
        raise InputError(f"{source} has a header that cannot be sent; write Name: value, a line each.")
    return name, value


def _believed(count: object, text: str) -> int:
    """A server's count of tokens, or an estimate where it cannot be right."""
    return count if _is_believed(count, text) and isinstance(count, int) else estimate_tokens(text)


def _is_believed(count: object, text: str) -> bool:
    """Whether a text can have so many tokens: no more than bytes, not many times more or less than estimated."""
    if not isinstance(count, int) or isinstance(count, bool):
        return False
    expected = estimate_tokens(" ".join(text.split()))
    return _FEWEST * expected - 4 <= count <= max(_MOST * estimate_tokens(text), 16) + 16


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
    except (orjson.JSONDecodeError, TryAgainError):
        return False


def _has_logprobs(answer: Mapping[str, Any]) -> bool:
    return any(token.alternatives for token in read_reply(answer).tokens)


def _answers_at_once(answer: Mapping[str, Any]) -> bool:
    return not thinks(answer) and finish_reason(answer) != "length"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait that a server asks for, in seconds, 0 to a day: a number of seconds or an HTTP date, or milliseconds in
    `retry-after-ms`; None where there is none that can be read."""
    with suppress(ValueError):
        if milliseconds := headers.get("retry-after-ms"):
            return _bounded(float(milliseconds) / 1000)
    given = headers.get("Retry-After")
    if given is None:
        return None
    try:
        return _bounded(float(given.strip().removesuffix("s")))
    except ValueError:
        pass
    try:
        return _bounded(parsedate_to_datetime(given).timestamp() - time())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def _bounded(seconds: float) -> float | None:
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER_S) if not math.isnan(seconds) else None
