"""The OpenAI wire format, chat and plain completions: what is sent for a Request, and the Reply in what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
import regex

from mga.engines.engine import Reply, Request, Token
from mga.errors import TryAgainError
from mga.text.words import estimate_tokens

Form = Literal["chat", "completions"]
FORMS: tuple[Form, ...] = ("chat", "completions")
Schemas = Literal["json_schema", "guided_json", "none"]
_THOUGHT = regex.compile(r"\A\s*<think>.*?(?:</think>\s*|\Z)", regex.DOTALL)


@dataclass(frozen=True, slots=True)
class Features:
    """What a server can do. `template` is sent along as `chat_template_kwargs`; `thinks`: it reasons all the same,
    and what it thinks is cut out of its replies.
    """

    form: Form = "chat"
    schemas: Schemas = "json_schema"
    logprobs: bool = True
    seed: bool = True
    template: Mapping[str, Any] = field(default_factory=dict)
    thinks: bool = False

    def __str__(self) -> str:
        found: list[str] = ["chat" if self.form == "chat" else "plain completions"]
        found.append(f"schemas by {self.schemas}" if self.schemas != "none" else "no schemas")
        found.append("log-probabilities" if self.logprobs else "no log-probabilities")
        found.append("seeds" if self.seed else "no seeds")
        if self.template:
            found.append("thinking switched off")
        elif self.thinks:
            found.append("thinking, which is cut out")
        return ", ".join(found)


def payload(request: Request, model: str, features: Features) -> dict[str, Any]:
    """The body of a request to `path(features.form)`; what the server cannot do is left out."""
    body: dict[str, Any] = {"max_tokens": request.max_tokens, **request.sampling}
    if model:
        body["model"] = model
    if features.form == "chat":
        body["messages"] = [{"role": "user", "content": request.prompt}]
    else:
        body["prompt"] = request.prompt
    if features.seed:
        body["seed"] = request.seed
    if request.schema is not None and features.schemas == "json_schema":
        named = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    elif request.schema is not None and features.schemas == "guided_json":
        body["guided_json"] = request.schema
    if request.top_logprobs and features.logprobs:
        if features.form == "chat":
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        else:
            body["logprobs"] = request.top_logprobs
    if features.template:
        body["chat_template_kwargs"] = features.template
    return body


def path(form: Form) -> str:
    """Where a request of this form goes, below the address."""
    return "/chat/completions" if form == "chat" else "/completions"


def read_reply(answer: Mapping[str, Any]) -> Reply:
    """The reply in a server's answer of either form. Raises TryAgainError when there is none in it."""
    try:
        choice = answer["choices"][0]
        message = choice.get("message")
        text = (choice["text"] if message is None else message["content"]) or ""
        if not isinstance(text, str):
            raise TypeError("a text as content")
        usage = answer.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        return Reply(
            text=without_thoughts(text),
            finish="length" if choice.get("finish_reason") == "length" else "stop",
            prompt_tokens=_count(usage.get("prompt_tokens")),
            generated_tokens=_count(usage.get("completion_tokens")) or estimate_tokens(text),
            cached_tokens=_count(details.get("cached_tokens")),
            tokens=_tokens(choice.get("logprobs") or {}),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise TryAgainError(f"the server's answer lacks {error}") from error


def thinks(answer: Mapping[str, Any]) -> bool:
    """Whether the model reasoned before its reply: in a field of its own, or in tags at the head of the text."""
    choice = answer["choices"][0]
    message = choice.get("message") or {"content": choice.get("text")}
    return bool(
        message.get("reasoning_content")
        or message.get("reasoning")
        or (message.get("content") or "").lstrip().startswith("<think>")
    )


def without_thoughts(text: str) -> str:
    """A text without the reasoning at its head; nothing is left when it was cut off in the middle of it."""
    return _THOUGHT.sub("", text, count=1) if "<think>" in text[:32] else text


def server_message(raw: bytes) -> str:
    """A server's own words about an error, on one line."""
    text = raw.decode("utf-8", "replace")
    try:
        answer = orjson.loads(raw)
        error = answer.get("error", answer) if isinstance(answer, dict) else answer
        text = str(error.get("message", error.get("detail", error)) if isinstance(error, dict) else error)
    except orjson.JSONDecodeError:
        pass
    return " ".join(text.split()) or "no reason given"


def _count(given: Any) -> int:
    """A server's token count; whatever it says fits the columns it is stored in."""
    return min(max(int(given or 0), 0), 2**31 - 1)


def _tokens(logprobs: Mapping[str, Any]) -> tuple[Token, ...]:
    if "tokens" in logprobs:  # plain completions: a list of texts and a list of {text: log-probability}
        tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
        return tuple(
            Token(text, {t: float(p) for t, p in (top or {}).items()})
            for text, top in zip(logprobs["tokens"], tops, strict=True)
        )
    return tuple(
        Token(entry["token"], {t["token"]: float(t["logprob"]) for t in entry.get("top_logprobs") or []})
        for entry in logprobs.get("content") or []
    )
