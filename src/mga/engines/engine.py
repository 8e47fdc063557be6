"""Whom we ask: a Request goes in, a Reply or one of the three errors comes out.

Engines know nothing of documents; what stands between them and the flow (memory, limits, retries) is `client.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, Protocol

import orjson

Purpose = Literal["pairs", "reformulate", "judge"]
# Why a reply ended: whole · the token limit · a filter or the model's own refusal, said by the server · for a reason
# that is none of these, or none at all.
Finish = Literal["stop", "length", "content_filter", "refusal", "unknown"]


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
