"""The prompts: one file per task and variant, placeholders checked, every one with a fingerprint.

Each prompt is `document.md` followed by its task, so that all requests about a document begin with the
same tokens and a server with prefix caching computes the document once.

Text from documents and models is data. Before it enters a prompt, `as_data` breaks everything that could
end our tags or pass for a chat token of any model family by one space after the opening bracket; rows
keep the text as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path
from string import Formatter

import regex

from mga.errors import InputError

VARIANTS = ("base", "strict", "relaxed")
_PARTS = ("document", "again")  # of every prompt; the others are tasks

_FOLDER = Path(__file__).parent
_PLACEHOLDER = regex.compile(r"\{(\w+)\}")
_TASK_PLACEHOLDERS = {
    "pairs": {"count", "directions", "used", "keys"},
    "pair": {"directions", "used", "keys"},
    "judge": {"rewrite"},
    "reformulate": {"genre", "audience", "language"},
}
# <|im_start|>, <|eot_id|>, <｜User｜>, [|user|] · <s>, <bos>, <start_of_turn>, <tool_call> · [INST] · <<SYS>> · our own
_CHAT_TOKEN = regex.compile(
    r"[<\[](?=[|｜])|<(?=/?(?:document|rewrite)>)|<(?=</?SYS>>)"
    r"|<(?=/?(?:s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|(?:start|end)_of_\w+|think|tools?|tool_\w+)>)"
    r"|<(?=(?:unused|extra_id_|special_|reserved_)\d+>|seed:)"
    r"|\[(?=/?(?:[gs]?MASK|BOS|EOS|CLS|SEP|INST|THINK|ARGS|CALL_ID|AVAILABLE_TOOLS|TOOL_\w+|SYSTEM_PROMPT)\])"
    r"|(?<=[|｜])(?=[>\]])",
    regex.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A task's template. `fingerprint` names its exact wording, the shared parts included."""

    name: str
    template: str

    @property
    def fingerprint(self) -> str:
        return blake2b((_head() + self.template + _part("again")).encode(), digest_size=6).hexdigest()

    @property
    def whole(self) -> str:
        """The whole message, with the placeholders where what differs goes in."""
        names = {field: f"{{{field}}}" for _, field, _, _ in Formatter().parse(self.template) if field}
        return self.render("{document}", names)

    def render(self, document: str, values: Mapping[str, str], problem: str = "") -> str:
        """The whole message: the document, then the task, then what was wrong with the last answer, if anything.

        All that is inserted is data; it is inserted once and never read again.
        """
        head = _fill(_head(), {"document": document})
        task = _fill(self.template, values).strip()
        correction = _fill(_part("again"), {"problem": problem}) if problem else ""
        return head + task + "\n" + correction


@lru_cache(512)  # a document goes into eleven prompts
def as_data(text: str) -> str:
    """The text with chat tokens and our tags broken by a space, so that no tokenizer reads them as control."""
    return _CHAT_TOKEN.sub(lambda match: (match.group() or "") + " ", text)


@cache
def load(name: str) -> Prompt:
    """The prompt shipped under this name, such as `pairs`, `judge` or `reformulate_strict`."""
    path = _FOLDER / f"{name}.md"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.md") if p.stem not in _PARTS))
        raise InputError(f"There is no prompt {name!r}; there are: {known}.")
    prompt = Prompt(name, path.read_text(encoding="utf-8"))
    _check(prompt)
    return prompt


def reformulation_prompt(variant: str) -> Prompt:
    """The stage-2 prompt of a variant: base, strict or relaxed."""
    return load(f"reformulate_{variant}")


def _check(prompt: Prompt) -> None:
    allowed = _TASK_PLACEHOLDERS[prompt.name.split("_")[0]]
    found = {field for _, field, _, _ in Formatter().parse(prompt.template) if field}
    if found != allowed:
        wrong = ", ".join(sorted(found ^ allowed))
        raise InputError(f"The prompt {prompt.name!r} must use exactly {sorted(allowed)}; look at: {wrong}.")


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: as_data(values[match.group(1)]), template)


def _head() -> str:
    return _part("document")


@cache
def _part(name: str) -> str:
    return (_FOLDER / f"{name}.md").read_text(encoding="utf-8")
