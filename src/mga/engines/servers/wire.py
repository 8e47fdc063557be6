"""The OpenAI wire format, chat and plain completions: what is sent for a Request, and the Reply in what comes back.

Servers differ in what they send back; docs/replies.md has the forms and what becomes of each. The text of a reply
decides whether there is one: counts and log-probabilities are read as far as they can be.
"""

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import orjson

from mga.engines.engine import Finish, Reply, Request, Token
from mga.errors import TryAgainError
from mga.terminal import printable
from mga.text.chat_tokens import without_thoughts
from mga.text.words import estimate_tokens, whole

Form = Literal["chat", "completions"]
FORMS: tuple[Form, ...] = ("chat", "completions")
Schemas = Literal["json_schema", "guided_json", "none"]
Answer = Mapping[str, Any]

# Reasons to end a reply, in the words of OpenAI, Azure, vLLM, SGLang, TGI, llama.cpp, Ollama, Anthropic, Gemini,
# Mistral, DeepSeek, GLM, Qwen, Cohere, Bedrock and OpenRouter.
FINISHES: dict[str, Finish | Literal["again"]] = {
    **dict.fromkeys(
        ("stop", "eos", "eos_token", "stop_sequence", "stop_token", "end_turn", "end_of_turn", "complete", "completed"),
        "stop",
    ),
    **dict.fromkeys(
        (
            *("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_length", "model_length"),
            *("context_length", "context_length_exceeded", "model_context_window_exceeded", "error_limit"),
        ),
        "length",
    ),
    **dict.fromkeys(
        (
            *("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
            *("sensitive", "error_toxic", "guardrail_intervened", "moderation", "language"),
        ),
        "content_filter",
    ),
    "refusal": "refusal",
    **dict.fromkeys(
        (
            *(
                "abort",
                "aborted",
                "error",
                "cancelled",
                "canceled",
                "failed",
                "timeout",
                "network_error",
                "server_error",
            ),
            *("insufficient_system_resource", "user_cancel", "unexpected_state", "overloaded", "interrupted"),
        ),
        "again",
    ),
}
_SAMPLING_REFUSED = re.compile(
    r"unsupported|not\s+(?:\w+\s+)?(?:support|permit|allow|recogni|available|valid)|unrecogni|unknown|unexpected|"
    r"invalid|extra (?:input|field)|deprecated|cannot|can't|only (?:the )?default|must be|no such|remove|"
    r"does not (?:support|accept)"
)
_ABOUT_LENGTH = re.compile(r"too (?:large|long|high|many)|exceed|maximum|context (?:length|window)|at (?:most|least)")
_CONTROL = [chr(code) for code in (*range(9), 11, 12, *range(14, 32), 127)]
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[@-Z^_])")  # ECMA-48
_WITHOUT_CONTROL = dict.fromkeys(map(ord, _CONTROL))
_EVENT = ("data:", "event:", "id:", "retry:", ":")
_LONGEST_CONTEXT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Features:
    """What a server can do. `template` is sent along as `chat_template_kwargs`; `thinks`: it reasons all the same,
    and what it thinks is cut out of its replies. `limit` is its name for the longest reply, `left_out` what it does not
    take of a request's sampling, `whole` its own word for a whole reply ("": it never gives a reason).
    """

    form: Form = "chat"
    schemas: Schemas = "json_schema"
    logprobs: bool = True
    seed: bool = True
    template: Mapping[str, Any] = field(default_factory=dict)
    thinks: bool = False
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    left_out: frozenset[str] = frozenset()
    whole: str | None = None

    def __str__(self) -> str:
        found: list[str] = ["chat" if self.form == "chat" else "plain completions"]
        found.append(f"schemas by {self.schemas}" if self.schemas != "none" else "no schemas")
        found.append("log-probabilities" if self.logprobs else "no log-probabilities")
        found.append("seeds" if self.seed else "no seeds")
        if self.left_out:
            found.append(f"without {' and '.join(sorted(self.left_out))}")
        if self.whole is not None:
            found.append(f"says {printable(self.whole)!r} for a whole reply" if self.whole else "no reasons to finish")
        if self.template:
            found.append("thinking switched off")
        elif self.thinks:
            found.append("thinking, which is cut out")
        return ", ".join(found)

    def after_refusal(self, said: str, sent: Collection[str]) -> "Features | None":
        """Features without what a server refuses by name, of the fields sent to it; None when it names none of them.

        `said` is all that the server said. A field is refused when it is called unsupported, unknown or of a wrong
        value; a limit that is too high for the prompt concerns that prompt alone.
        """
        said = said.casefold()
        if _ABOUT_LENGTH.search(said) or not _SAMPLING_REFUSED.search(said):
            return None
        if "max_completion_tokens" in said and self.limit == "max_tokens":
            return replace(self, limit="max_completion_tokens")
        named = [name for name in sent if re.search(rf"(?<!\w){name}(?!\w)", said) and name not in _NEEDED]
        if "seed" in named:
            return replace(self, seed=False)
        if len(named) > 1 and "both" in said:  # one of two is enough: temperature stays
            named = [name for name in named if name != "temperature"]
        return replace(self, left_out=self.left_out | set(named)) if named else None


_NEEDED = frozenset({"model", "messages", "prompt", "max_tokens", "max_completion_tokens"})


def payload(request: Request, model: str, features: Features) -> dict[str, Any]:
    """The body of a request to `path(features.form)`; what the server cannot do is left out."""
    body: dict[str, Any] = {features.limit: request.max_tokens, **request.sampling}
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
    for name in features.left_out:
        body.pop(name, None)
    return body


def path(form: Form) -> str:
    """Where a request of this form goes, below the address."""
    return "/chat/completions" if form == "chat" else "/completions"


# ── from bytes to an answer ──────────────────────────────────────────────────────────────────────────────────────


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body, also where it came as events (SSE), with a byte order mark, in a list of its own, with
    numbers that JSON does not have, or with half characters. Raises TryAgainError when there is none.
    """
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError:
        answer = _parse_leniently(raw)
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, dict):
        raise TryAgainError("the server's answer is not a JSON object")
    return answer


def _parse_leniently(raw: bytes) -> object:
    text = raw.decode("utf-8-sig", "replace").strip()
    if text.startswith(_EVENT):
        return _merged(list(_events(text)), text)
    try:
        return _whole(json.loads(text))
    except (ValueError, RecursionError) as error:
        what = "is empty" if not text else "is not JSON"
        raise TryAgainError(f"the server's answer {what}") from error


def _whole(value: Any) -> Any:
    """A JSON value whose texts can be stored."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {whole(name): _whole(item) for name, item in value.items()}
    return value


def _events(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of events."""
    for block in re.split(r"\r?\n\r?\n", text):
        data = "\n".join(line.removeprefix("data:").lstrip() for line in block.splitlines() if line.startswith("data:"))
        if data and data != "[DONE]":
            try:
                value = _whole(json.loads(data))
            except (ValueError, RecursionError) as error:
                raise TryAgainError("the server's stream of events is cut off") from error
            if isinstance(value, dict):
                yield value


def _merged(events: list[dict[str, Any]], text: str) -> dict[str, Any]:
    """One answer out of the events of a stream; an answer that came whole in one event is itself."""
    merged: dict[str, Any] = {}
    message: dict[str, str] = {}
    choice: dict[str, Any] = {}
    tokens: list[Any] = []
    for event in events:
        if "error" in event and not event.get("choices"):
            return event
        merged |= {name: value for name, value in event.items() if value is not None and name != "choices"}
        for part in _dicts(event.get("choices"))[:1]:
            if isinstance(part.get("message"), dict):
                choice |= part
                continue
            delta = part if "text" in part else part.get("delta")
            for name, value in delta.items() if isinstance(delta, dict) else ():
                if name in ("content", "text", "reasoning_content", "reasoning") and value is not None:
                    message[name] = message.get(name, "") + _text(value)
            if part.get("finish_reason") is not None:
                choice["finish_reason"] = part["finish_reason"]
            if isinstance(part.get("logprobs"), dict):
                tokens += _list(part["logprobs"].get("content"))
    if "finish_reason" not in choice and "[DONE]" not in text:
        raise TryAgainError("the server's stream of events is cut off")
    if "text" in message:
        choice["text"] = message["text"]
    elif "message" not in choice:
        choice["message"] = message
    if tokens:
        choice["logprobs"] = {"content": tokens}
    return merged | {"choices": [choice]}


# ── from an answer to a reply ────────────────────────────────────────────────────────────────────────────────────


def read_reply(answer: Answer, features: Features = Features()) -> Reply:
    """The reply in a server's answer of either form. Raises TryAgainError when there is none in it."""
    try:
        choice = answer["choices"][0]
        message = choice.get("message")
        if message is None:
            message = choice["text"] if "text" in choice else choice["delta"]
        if not isinstance(message, dict):
            message = {"content": message}
        said = _text(message.get("content"))
        reasoned = any(isinstance(message.get(name), str) and message[name] for name in _REASONING)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise TryAgainError(f"the server's answer holds no reply (it lacks {_named(error)})") from error
    text = without_thoughts(said)
    if any(character in text for character in _CONTROL):
        text = _TERMINAL.sub("", text).translate(_WITHOUT_CONTROL)
    reason = choice.get("finish_reason")
    finish = _finish(reason, text, features)
    if isinstance(message.get("refusal"), str) and message["refusal"] and not text:
        text, finish = message["refusal"], "refusal"
    usage = _dict(answer.get("usage"))
    prompt_details, details = _dict(usage.get("prompt_tokens_details")), _dict(usage.get("completion_tokens_details"))
    generated = _count(usage.get("completion_tokens")) or estimate_tokens(said)
    text_tokens = None
    if reasoned or len(text) < len(said.strip()):
        thought = _count(details.get("reasoning_tokens"))
        length = sum(len(message.get(name) or "") for name in _REASONING if isinstance(message.get(name), str))
        share = len(text) / max(len(said) + length, 1)
        text_tokens = generated - thought if 0 < thought <= generated else round(generated * share)
    return Reply(
        text=text,
        finish=finish,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        generated_tokens=generated,
        cached_tokens=_count(prompt_details.get("cached_tokens")),
        tokens=_tokens(choice.get("logprobs")),
        text_tokens=text_tokens,
    )


_REASONING = ("reasoning_content", "reasoning")


def finish_reason(answer: Answer) -> object:
    """The word in which the server says why its reply ended, as it stands."""
    choices = _dicts(answer.get("choices"))
    return choices[0].get("finish_reason") if choices else None


def thinks(answer: Answer) -> bool:
    """Whether the model reasoned before its reply: in fields of its own, in parts, or at the head of the text."""
    choice = _dicts(answer.get("choices"))[0]
    message = _dict(choice.get("message"))
    content = message.get("content", choice.get("text"))
    if any(message.get(name) for name in _REASONING):
        return True
    if any(part.get("type") in ("thinking", "reasoning") for part in _dicts(content)):
        return True
    said = _text(content).strip()
    return without_thoughts(said).strip() != said


def _finish(reason: object, text: str, features: Features) -> Finish:
    """Why a reply ended. Raises TryAgainError when the server itself gave it up.

    Without any reason, from a server that gives reasons at other times, a text counts as whole when it ends like one.
    """
    if reason == "stop":
        return "stop"
    if reason is None or reason == "":
        return "stop" if features.whole == "" or not text or not _BREAKS_OFF.search(text) else "unknown"
    name = str(reason).casefold().replace("-", "_").removeprefix("finish_reason_")
    finish = FINISHES.get(name)
    if finish == "again":
        raise TryAgainError(f"the server gave the reply up ({printable(str(reason))[:40]})")
    if finish is None:
        return "stop" if features.whole == reason else "unknown"
    return finish


_BREAKS_OFF = re.compile(r"[\w,;\-–—(]\s*\Z")


def _text(content: object) -> str:
    """A content as one text: absent is empty, parts are joined, those that are thoughts left out."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        raise KeyError("a text as content")
    parts = [part if isinstance(part, str) else part.get("text") for part in content if _is_text(part)]
    return "".join(part for part in parts if isinstance(part, str))


def _is_text(part: object) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type") in (None, "text", "output_text"))


def _tokens(logprobs: object) -> tuple[Token, ...]:
    """The tokens of a reply with their alternatives, of either form; none where they cannot be read."""
    if not isinstance(logprobs, dict):
        return ()
    if isinstance(
        texts := logprobs.get("tokens"), list
    ):  # plain completions: texts, and {text: log-probability} of each
        tops = _list(logprobs.get("top_logprobs"))
        own = _list(logprobs.get("token_logprobs"))
        return tuple(
            Token(_token(text), _alternatives(text, own[i] if i < len(own) else None, tops[i] if i < len(tops) else {}))
            for i, text in enumerate(texts)
        )
    return tuple(
        Token(
            _token(entry.get("token")),
            _alternatives(
                entry.get("token"),
                entry.get("logprob"),
                {
                    top.get("token"): top.get("logprob")
                    for top in _dicts(entry.get("top_logprobs"))
                    if _named_token(top)
                },
            ),
        )
        for entry in _dicts(logprobs.get("content"))
    )


def _named_token(top: Answer) -> bool:
    return isinstance(top.get("token"), str)


def _token(text: object) -> str:
    return text if isinstance(text, str) else ""


def _alternatives(token: object, logprob: object, tops: object) -> dict[str, float]:
    """Texts and natural logarithms of probabilities, the chosen token's with them; what is no probability is left
    out."""
    given = tops.items() if isinstance(tops, dict) else ()
    found = {text: float(value) for text, value in given if isinstance(text, str) and _is_logprob(value)}
    if found and isinstance(token, str) and token not in found and _is_logprob(logprob):
        found[token] = float(logprob)  # type: ignore[arg-type]
    return found


def _is_logprob(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value <= 0.01


def _count(given: object) -> int:
    """A server's token count; whatever it says fits the columns it is stored in."""
    try:
        return min(max(int(given or 0), 0), 2**31 - 1)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return 0


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _named(error: Exception) -> object:
    named = isinstance(error, KeyError) and isinstance(error.args[0], str)
    return error.args[0] if named else "choices of the usual form"


# ── what else a server says ──────────────────────────────────────────────────────────────────────────────────────


def listed_models(listing: Answer) -> dict[str, int | None]:
    """The models in a server's list with their longest context in tokens, where it says one; in any of the usual
    forms."""
    entries: object = listing.get("data") or listing.get("models")
    found: dict[str, int | None] = {}
    for entry in [entries] if isinstance(entries, dict) else _list(entries):
        model = {"id": entry} if isinstance(entry, str) else _dict(entry)
        name = next((model[key] for key in ("id", "name", "model") if isinstance(model.get(key), str)), "")
        if name:
            length = _count(model.get("max_model_len"))
            found[name] = length if 0 < length < _LONGEST_CONTEXT else None
    return found


def error_in(answer: Answer) -> tuple[int, object] | None:
    """The error in an answer that says it succeeded: the HTTP status it stands for, and what it says; None when it is
    none."""
    error = answer.get("error") or (answer if answer.get("object") == "error" else None)
    if not error or answer.get("choices"):
        return None
    said = _dict(error)
    code = next((_count(said.get(name)) for name in ("code", "status", "status_code") if said.get(name)), 0)
    if 400 <= code < 600:
        return code, error
    words = f"{said.get('type')} {said.get('code')} {said.get('status')} {error if not said else ''}".casefold()
    return next((status for pattern, status in _KINDS if re.search(pattern, words)), 500), error


_KINDS = (
    (r"rate|overload|too many|busy", 429),
    (r"auth|api_key|permission|forbidden", 401),
    (r"not_found|no_such", 404),
    (r"invalid|bad_request|context_length|content_(filter|policy)", 400),
)


def server_message(raw: bytes) -> str:
    """A server's own words about an error, on one line, fit to be printed."""
    text = raw.decode("utf-8", "replace")
    try:
        answer = orjson.loads(raw)
        error = answer.get("error", answer) if isinstance(answer, dict) else answer
        text = said_in(error)
    except orjson.JSONDecodeError:
        pass
    return " ".join(printable(text).split()) or "no reason given"


def said_in(error: object) -> str:
    """The words in the error of an answer."""
    return str(error.get("message", error.get("detail", error)) if isinstance(error, dict) else error)
