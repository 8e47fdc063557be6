"""The prompts: one file per task and variant, placeholders checked, every one with a fingerprint.

A variant is a prompt for stage 2. Those of the paper write for a (genre, audience) pair. A style, such as `wiki`, names
no pair in its text: it fixes both itself, so that a document needs no stage 1 and gets one text. What a style says of
itself stands as TOML between lines of `+++` before its text:

    genre, audience   what its rows say of the text
    cleaning          thresholds that a text of this kind needs; settings that are given win

Each prompt is `document.md` followed by its task, so that all requests about a document begin with the
same tokens and a server with prefix caching computes the document once.

Text from documents and models is data. Before it enters a prompt, `as_data` (`chat_tokens.py`) breaks what could end
our tags or pass for a chat token; rows keep the text as it was.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import regex

from mga.errors import InputError
from mga.text.chat_tokens import as_data

STYLES = (
    *("diverse-qa", "distill", "extract-knowledge", "knowledge-list", "wiki"),  # Nemotron-CC, arXiv 2412.02595
    *("easy", "medium", "hard", "qa"),  # WRAP, arXiv 2401.16380
    *("table", "faq", "tutorial", "math"),  # FinePhrase, arXiv 2604.13977
    "textbook",  # after Cosmopedia
)
VARIANTS = ("base", "strict", "relaxed", *STYLES)
_PARTS = ("document", "again")  # of every prompt; the others are tasks

_FOLDER = Path(__file__).parent
_PLACEHOLDER = regex.compile(r"\{(\w+)\}")
_TASK_PLACEHOLDERS = {
    "pairs": {"count", "directions", "used", "keys"},
    "pair": {"directions", "used", "keys"},
    "judge": {"rewrite"},
    "reformulate": {"genre", "audience", "language"},
}
_PAIR = {"genre", "audience"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A task's template. `fingerprint` names its exact wording, the shared parts included.

    `genre`, `audience` and `cleaning` are those of a style.
    """

    name: str
    template: str
    genre: str = ""
    audience: str = ""
    cleaning: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        said = _head() + self.template + _part("again") + self.genre + self.audience
        return blake2b(said.encode(), digest_size=6).hexdigest()

    @property
    def takes_pair(self) -> bool:
        """Whether it writes for a pair of stage 1; a style does not."""
        return "{genre}" in self.template

    @property
    def whole(self) -> str:
        """The whole message, with the placeholders where what differs goes in."""
        return self.render("{document}", {name: f"{{{name}}}" for name in _PLACEHOLDER.findall(self.template)})

    def render(self, document: str, values: Mapping[str, str], problem: str = "") -> str:
        """The whole message: the document, then the task, then what was wrong with the last answer, if anything.

        All that is inserted is data; it is inserted once and never read again.
        """
        head = _fill(_head(), {"document": document})
        task = _fill(self.template, values).strip()
        correction = _fill(_part("again"), {"problem": problem}) if problem else ""
        return head + task + "\n" + correction


@cache
def load(name: str) -> Prompt:
    """The prompt shipped under this name, such as `pairs`, `judge` or `reformulate_strict`."""
    path = _FOLDER / f"{name}.md"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.md") if p.stem not in _PARTS))
        raise InputError(f"There is no prompt {name!r}; there are: {known}.")
    return _read(name, path)


def reformulation_prompt(variant: str) -> Prompt:
    """The stage-2 prompt of a variant: a shipped one by its name, or one's own by its file.

    A file holds the task alone; the document stands before it by itself. Raises InputError for an unknown name, a file
    that cannot be read, and placeholders that nothing fills.
    """
    if variant in VARIANTS:
        return load(f"reformulate_{variant}")
    path = Path(variant)
    if not is_prompt_file(variant):
        near = difflib.get_close_matches(variant, VARIANTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(VARIANTS)}; or name a file (.md)."
        raise InputError(f"There is no variant {variant!r}; {hint}")
    return _read(f"reformulate_{path.stem}", path)


def is_prompt_file(variant: str) -> bool:
    """Whether a variant is given as a file rather than by a name."""
    return variant not in VARIANTS and (Path(variant).suffix in (".md", ".txt") or Path(variant).is_file())


def _read(name: str, path: Path) -> Prompt:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"Cannot read the prompt {path}: {why}.") from error
    said, template = _front_matter(path, text)
    task, _, style = name.partition("_")
    prompt = Prompt(name, template)
    _check(task, prompt, path)
    if task != "reformulate" or prompt.takes_pair:
        if said:
            raise InputError(f"The prompt {path} takes pairs and cannot say {min(said)!r} of itself; leave that out.")
        return prompt
    labels = {label: str(said.get(label, "")).strip() for label in ("genre", "audience")}
    return Prompt(
        name, template, labels["genre"] or style, labels["audience"] or "unspecified", said.get("cleaning", {})
    )


def _front_matter(path: Path, text: str) -> tuple[dict[str, Any], str]:
    """What a prompt says of itself, and its text."""
    if not text.startswith("+++\n"):
        return {}, text
    head, closing, template = text.removeprefix("+++\n").partition("\n+++\n")
    if not closing:
        raise InputError(f"The prompt {path} begins with +++ and has no second line of +++ that ends its settings.")
    try:
        said = tomllib.loads(head)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The settings between +++ in the prompt {path} are not valid TOML: {error}.") from error
    known = ("genre", "audience", "cleaning")
    if unknown := sorted(said.keys() - set(known)):
        raise InputError(f"The prompt {path} has no use for {unknown[0]!r} between +++; known are: {', '.join(known)}.")
    if not isinstance(said.get("cleaning", {}), dict):
        raise InputError(f"In the prompt {path}, write cleaning as a table: cleaning = {{ min_coverage = 0.05 }}.")
    return said, template


def _check(task: str, prompt: Prompt, path: Path) -> None:
    found = set(_PLACEHOLDER.findall(prompt.template))
    allowed = _TASK_PLACEHOLDERS[task]
    if task == "reformulate":
        found.add("language")  # a prompt may leave the language to the model
        if not found & _PAIR:
            allowed = allowed - _PAIR
    if "document" in found:
        raise InputError(f"The prompt {path} must not say {{document}}: the document stands before it by itself.")
    if found != allowed:
        wrong = ", ".join(f"{{{name}}}" for name in sorted(found ^ allowed))
        fills = ", ".join(f"{{{name}}}" for name in sorted(_TASK_PLACEHOLDERS[task]))
        raise InputError(f"Look at {wrong} in the prompt {path}: what is filled in is {fills}.")
    if not prompt.template.strip():
        raise InputError(f"The prompt {path} is empty.")


def _fill(template: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: as_data(values[match.group(1)]), template)


def _head() -> str:
    return _part("document")


@cache
def _part(name: str) -> str:
    return (_FOLDER / f"{name}.md").read_text(encoding="utf-8")
