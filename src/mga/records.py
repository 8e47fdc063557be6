"""What passes through the house: Document → Pair → Reformulation → Verdict → Outcome.

All are frozen values. Ids derive from content and position, so the same input gives the same ids on
every machine and in every order of work.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import Literal

Status = Literal["kept", "dropped", "failed"]


def content_id(*parts: object) -> str:
    """32 hex digits (128 bits) of BLAKE2b over the parts, each prefixed by its length."""
    digest = blake2b(digest_size=16)
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Document:
    """One text to expand: an input row, or one chunk of it.

    `position` is "file:row" within the input (both from 0). It takes part in `key`, so that two input
    rows with the same id, or with the same id and text, never share a key.
    """

    source_id: str
    text: str
    position: str
    chunk: int = 0
    chunks: int = 1
    n_tokens: int = 0

    @cached_property
    def key(self) -> str:
        return content_id(self.position, self.source_id, self.chunk, self.text)

    @property
    def chunk_id(self) -> str:
        return f"{self.source_id}#{self.chunk}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Input that cannot be used: a row (from 0), or without one a whole file. Said in one line and counted."""

    file: str
    row: int | None
    kind: str
    what: str
    advice: str = ""

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row + 1:,}"
        return f"{where}: {self.what}" + (f" ({self.advice})" if self.advice else "")


@dataclass(frozen=True, slots=True)
class Pair:
    """A (genre, audience) pair: how to write, and for whom (paper §2)."""

    genre: str
    audience: str


@dataclass(frozen=True, slots=True)
class Reformulation:
    """The text written for a pair. `head` and `tail` are what cleaning cut: head + text + tail is the reply."""

    text: str
    n_tokens: int
    head: str = ""
    tail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's word under limited consistency. `score` is 1–5; `expected` its mean over the judge's
    probabilities of the five digits, where the engine gives them."""

    score: int
    analysis: str
    expected: float | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Why there is no result: a value, not an exception. `written` is what the model had written, if anything."""

    reason: str
    detail: str = ""
    written: Reformulation | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one end of a (document, chunk, pair): kept, dropped(reason) or failed(error class)."""

    document: Document
    slot: int
    status: Status
    pair: Pair | None = None
    reformulation: Reformulation | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    detail: str | None = None
    cuts: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return content_id(self.document.key, self.slot)

    def dropped(self, drop: Drop) -> "Outcome":
        """This outcome ended by a Drop; what the model had written stays with it."""
        written = drop.written or self.reformulation
        return replace(self, status="dropped", reason=drop.reason, detail=drop.detail, reformulation=written, cuts=())


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and requests of one purpose (pairs, reformulate, judge)."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.generated_tokens + other.generated_tokens,
        )
