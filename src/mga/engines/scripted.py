"""A deterministic engine without a model: for tests, dry runs and trying out a pipeline.

`scripted:` answers every request well. `scripted:?latency=0.01&flaws=0.2&faults=0.05&log=FILE` waits that
many seconds, spoils that share of the answers (cut off, empty, refusal, loop, copy, garbage, low score), fails
that share of first attempts, and appends the key of each request to FILE before it answers.
The answer depends on the request alone, so every order of work gives the same corpus.
"""

import asyncio
import os
from collections.abc import Mapping
from hashlib import blake2b
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import orjson
import regex
from pydantic import BaseModel, ConfigDict, ValidationError

from mga.engines.engine import Finish, Reply, Request, Token
from mga.errors import InputError, TryAgainError
from mga.text.words import estimate_tokens, sentences

_DOCUMENT = regex.compile(r"<document>\n(.*?)\n</document>", regex.DOTALL)
_REWRITE = regex.compile(r"<rewrite>\n(.*?)\n</rewrite>", regex.DOTALL)
_GENRES = (
    "field notebook",
    "open letter",
    "radio talk",
    "shop manual",
    "fable",
    "court report",
    "travel log",
)
_READERS = (
    "retired pilots",
    "night nurses",
    "choir singers",
    "young farmers",
    "chess players",
    "new parents",
)
_MOODS = ("who doubt the subject", "who are in a hurry", "who love detail", "who would rather be elsewhere")
_LINKS = ("and so", "as it turns out", "put plainly", "in other words", "which matters here", "to be exact")


class Script(BaseModel):
    """The options after the question mark."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latency: float = 0.0
    flaws: float = 0.0
    faults: float = 0.0
    log: str = ""


class ScriptedEngine:
    """Engine whose replies are a function of the request."""

    model = "scripted"
    context: int | None = 8192

    def __init__(self, options: str, concurrency: int | None = None) -> None:
        try:
            self._script = Script.model_validate(dict(parse_qsl(options, keep_blank_values=True)))
        except ValidationError as error:
            first = error.errors()[0]
            known = ", ".join(Script.model_fields)
            raise InputError(
                f"scripted: does not understand {first['loc'][0]!r}: {first['msg'].lower()} (it has: {known})."
            ) from None
        self.features = "follows a script"
        self.requests_in_flight = self.most_in_flight = self.documents_in_flight = concurrency or 16
        self._seen: set[str] = set()

    async def start(self) -> None: ...

    async def alive(self) -> bool:
        return True

    async def close(self) -> None: ...

    async def count_tokens(self, text: str) -> int:
        return estimate_tokens(text)

    async def ask(self, request: Request) -> Reply:
        key = request.key(self.model)
        rng = Random(key)
        await asyncio.sleep(self._script.latency * (0.5 + rng.random()))
        if rng.random() < self._script.faults and key not in self._seen:
            self._seen.add(key)
            raise TryAgainError("scripted fault", retry_after=0.0)
        self._log(key)
        text, finish = self._answer(request, rng)
        tokens = _score_tokens(text) if request.top_logprobs else ()
        return Reply(text, finish, estimate_tokens(request.prompt), estimate_tokens(text), 0, tokens)

    def _answer(self, request: Request, rng: Random) -> tuple[str, Finish]:
        document = _inside(_DOCUMENT, request.prompt)
        flawed = rng.random() < self._script.flaws
        if request.purpose == "pairs":
            return ("not JSON at all" if flawed else _pairs(request.schema or {}, rng)), "stop"
        if request.purpose == "judge":
            score = rng.choice([1, 2]) if flawed else rng.choice([3, 4, 4, 5])
            return orjson.dumps({"analysis": "Compared point by point.", "score": score}).decode(), "stop"
        text = _retell(document, rng)
        if flawed and rng.random() < 0.15:
            raise InputError("scripted refusal of this request")
        if not flawed:
            return text, "stop"
        spoiled: list[tuple[str, Finish]] = [
            (text[: len(text) // 2], "length"),
            ("", "stop"),
            ("I'm sorry, but I cannot help with that request.", "stop"),
            (text + " and on it goes, round and round it goes, again" * 60, "stop"),
            (document, "stop"),
            (
                "Completely unrelated words about nothing in particular, written at some length for nobody.",
                "stop",
            ),
        ]
        return rng.choice(spoiled)

    def _log(self, key: str) -> None:
        if self._script.log:
            with open(self._script.log, "ab", buffering=0) as file:  # noqa: PTH123 - unbuffered, one write per line
                file.write(f"{os.getpid()} {key}\n".encode())


def _pairs(schema: Mapping[str, Any], rng: Random) -> str:
    count = schema.get("properties", {}).get("texts", {}).get("minItems", 0)
    texts = [_pair(rng) for _ in range(count or 1)]
    return orjson.dumps({"texts": texts} if count else texts[0]).decode()


def _pair(rng: Random) -> dict[str, str]:
    readers = f"{rng.choice(_READERS)} aged {rng.randrange(18, 90)}, {rng.choice(_MOODS)}.".capitalize()
    genre = f"A {rng.choice(_GENRES)} number {rng.randrange(1000)}, told step by step in a calm tone."
    return {"kind_of_text": genre, "readers": readers}


def _retell(document: str, rng: Random) -> str:
    told = []
    for sentence in sentences(document):
        spaced = " " in sentence.strip()
        tokens = sentence.split() if spaced else [sentence[i : i + 2] for i in range(0, len(sentence), 2)]
        for at in range(len(tokens) - len(tokens) % 5, 0, -5):
            tokens.insert(at, rng.choice(_LINKS))
        told.append((" " if spaced else "").join(tokens))
    rng.shuffle(told)
    return " ".join(told)


def _score_tokens(text: str) -> tuple[Token, ...]:
    """One token per character, the judge's digit with a spread over its neighbours."""
    spread = blake2b(text.encode(), digest_size=1).digest()[0] / 1024
    return tuple(Token(c, {c: -0.1, "3": -2.0 - spread} if c in "12345" else {c: 0.0}) for c in text)


def _inside(pattern: regex.Pattern[str], prompt: str) -> str:
    match = pattern.search(prompt)
    return match.group(1) if match else prompt
