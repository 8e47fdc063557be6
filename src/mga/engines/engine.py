"""Whom we ask: a Request goes in, a Reply or one of the three errors comes out.

Engines know nothing of documents; what stands between them and the flow (memory, limits, retries) is `client.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, Protocol, get_args

import orjson

Purpose = Literal["pairs", "reformulate", "judge"]
# Why a reply ended: whole · the token limit · a filter or the model's own refusal, said by the server · for a reason
# that is none of these, or none at all.
Finish = Literal["stop", "length", "content_filter", "refusal", "unknown"]
_FINISHES = frozenset(get_args(Finish))
_MOST_TOKENS = 2**31 - 1
_UNLIKELIEST = 1e9  # as a log-probability: far below what any arithmetic gives
_ROUNDING = 0.01


@dataclass(frozen=True)
class Request:
    """One question: a user message and how to answer it.

    `sampling` holds the wire format's own names (temperature, top_p, min_p, …). `schema` asks for a JSON
    object of that JSON Schema. `top_logprobs` asks for so many alternatives per token. `affinity` is the
    same for all requests that share a prompt prefix; with `purpose` it is a label and never sent.
    """

    prompt: str
    max_tokens: int
    seed: int
    purpose: Purpose
    affinity: str
    sampling: Mapping[str, float] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0

    def key(self, model: str) -> str:
        """Hash of all that decides the answer: the identity under which the reply is remembered."""
        decides = [model, self.max_tokens, self.seed, self.sampling, self.schema, self.top_logprobs]
        digest = blake2b(orjson.dumps(decides, option=orjson.OPT_SORT_KEYS), digest_size=16)
        digest.update(self.prompt.encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token with the likeliest alternatives at its place, as natural-log probabilities."""

    text: str
    alternatives: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: text without thoughts, why it ended, and what it cost in tokens.

    `cached_tokens` are part of the prompt's, `text_tokens` of the generated ones (None: all of them): what is left of
    these are thoughts.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    generated_tokens: int
    cached_tokens: int = 0
    tokens: tuple[Token, ...] = ()
    text_tokens: int | None = None


def sound(reply: Reply) -> Reply:
    """The reply with everything in the range of its type, so that nothing in it can fail later: a text is valid
    Unicode, token counts are whole numbers from 0 to 2³¹ - 1 (0 where there is none), log-probabilities are finite and
    at most 0 (others are left out), an unknown reason to finish is "unknown". A sound reply is returned unchanged.

    Raises ValueError when the text is no string: such a reply says nothing.
    """
    if not isinstance(reply.text, str):
        raise ValueError("a reply's text is no string")
    tokens = reply.tokens if isinstance(reply.tokens, Iterable) else ()
    return Reply(
        _unicode(reply.text),
        reply.finish if isinstance(reply.finish, str) and reply.finish in _FINISHES else "unknown",
        _count(reply.prompt_tokens),
        _count(reply.generated_tokens),
        min(_count(reply.cached_tokens), _count(reply.prompt_tokens)),
        tuple(_sound_token(token) for token in tokens if isinstance(token, Token) and isinstance(token.text, str)),
        None if reply.text_tokens is None else min(_count(reply.text_tokens), _count(reply.generated_tokens)),
    )


def _sound_token(token: Token) -> Token:
    given = token.alternatives if isinstance(token.alternatives, Mapping) else {}
    alternatives = {
        _unicode(text): min(float(logprob), 0.0)
        for text, logprob in given.items()
        if isinstance(text, str) and _is_number(logprob) and -_UNLIKELIEST <= logprob <= _ROUNDING
    }
    return Token(_unicode(token.text), alternatives)


def _unicode(text: str) -> str:
    """Half surrogates, which no file can hold, replaced."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _count(value: object) -> int:
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        return 0
    return int(min(max(value, 0), _MOST_TOKENS))


class Engine(Protocol):
    """Anything that answers requests.

    `features` says for people what it can do, once it has started. `context` is the most tokens of prompt and reply
    together (None: unknown). `documents_in_flight` and `requests_in_flight` keep it busy; where `most_in_flight` is
    more, the client finds the number of requests between the two itself.
    """

    requests_in_flight: int
    most_in_flight: int
    documents_in_flight: int

    @property
    def model(self) -> str: ...
    @property
    def features(self) -> object: ...
    @property
    def context(self) -> int | None: ...

    async def start(self) -> None:
        """Get ready and check that the model answers. Raises InputError or StopError."""

    async def ask(self, request: Request) -> Reply:
        """Answer once. Raises InputError (this request), TryAgainError or StopError."""

    async def alive(self) -> bool:
        """Whether it could answer now; asked after a request has failed for good, to tell whose fault it was."""

    async def count_tokens(self, text: str) -> int:
        """Tokens of a text, by the model's tokenizer where there is one."""

    async def close(self) -> None:
        """Give back what `start` took."""
