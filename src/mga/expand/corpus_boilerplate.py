"""Patterns: the boilerplate of one corpus, as `mga boilerplate` proposes them and a person reviews them.

A pattern is a few words and where they stand; case, accents, width and punctuation make no difference, and in scripts
written without spaces every character is a word. What each action does:

cut      opening: from the start of the text to the end of the sentence, line or colon in which the phrase ends
         closing: from the start of the sentence in which the phrase begins to the end of the text; a phrase is closing
         when it begins the last paragraph or sentence, or ends the text
drop     the whole text, with the reason corpus_boilerplate
ignore   nothing: seen and found harmless

Where several begin or end a text, the longest decides: a long one to ignore is an exception to a short one to cut.

Whole sentences are cut, since what is left of half a sentence is no text. A phrase anywhere cannot be cut: the parts
cut from a reply are kept as its head and its tail, and a hole in the middle would be lost.
"""

import difflib
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from mga.errors import InputError
from mga.records import content_id
from mga.text.words import sentences

Where = Literal["opening", "closing", "anywhere"]
Action = Literal["cut", "drop", "ignore"]

STARTER = "starter"
"""The name by which a config asks for the patterns that come with mga."""
_STARTER_FILE = Path(__file__).parent / "starter_patterns.toml"

_EDGE = 100
_LONGEST_REMARK = 1000
_LAST_LETTER = 0x33480
_UNSPACED = ("CJK UNIFIED", "CJK COMPAT", "HIRAGANA", "KATAKANA", "THAI", "LAO ", "KHMER", "MYANMAR", "IDEOGRAPHIC")
_INVISIBLE = {0x00AD, 0x034F, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, *range(0xFE00, 0xFE10)}
_ACCENTS = range(0x0300, 0x0370)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A phrase, where it stands, what to do about it, and what was counted when it was found.

    `texts` have it, a `share` of all; `originals` is the share of the originals, in pieces as long as a text; `z` the
    log-odds ratio in standard deviations. `note` is the reviewer's.
    """

    phrase: str
    where: Where
    action: Action
    texts: int | None = None
    share: float | None = None
    originals: float | None = None
    z: float | None = None
    examples: tuple[str, ...] = ()
    note: str | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for patterns that match the same texts."""
        return (self.where, *phrase_words(self.phrase))


def phrase_words(text: str) -> list[str]:
    """The words of a text as patterns compare them: folded, a character each in unspaced scripts."""
    return text.translate(_FOLD).split()


def word_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each of `phrase_words` begins and ends in the text, in characters."""
    begun = -1
    for at, character in enumerate(text):
        letter = _FOLD[ord(character)]
        if not letter:
            continue
        if begun >= 0 and (letter == " " or len(letter) > 1):
            yield begun, at
            begun = -1
        if len(letter) > 1:
            yield at, at + 1
        elif letter != " " and begun < 0:
            begun = at
    if begun >= 0:
        yield begun, len(text)


def closing_starts(body: str) -> Iterator[int]:
    """Where a closing remark may begin in a text without white space at its end: its last paragraph, its last
    sentence."""
    paragraph = max(body.rfind("\n\n"), body.rfind("\n---"))
    last_sentence = len(body) - len(sentences(body[-_LONGEST_REMARK:])[-1]) if body else 0
    yield from (start for start in (paragraph, last_sentence) if start > 0)


class _Fold(dict[int, str]):
    """For every code point: a space, nothing, its folded letter, or that between spaces when it is a word alone."""

    def __missing__(self, code: int) -> str:
        self[code] = letter = self._letter(code)
        return letter

    @staticmethod
    def _letter(code: int) -> str:
        character = chr(code)
        if code in _INVISIBLE or code in _ACCENTS:
            return ""
        if code >= _LAST_LETTER or unicodedata.category(character)[0] not in "LMN":
            return " "
        letter = character
        for fold in (lambda c: unicodedata.normalize("NFKC", c), str.casefold, _without_accents, str.lower):
            other = fold(letter)
            letter = other if len(other) == 1 else letter
        return f" {letter} " if unicodedata.name(letter, "").startswith(_UNSPACED) else letter


def _without_accents(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    return parts[0] if all(ord(mark) in _ACCENTS for mark in parts[1:]) else character


_FOLD = _Fold()


@dataclass(frozen=True, slots=True)
class Patterns:
    """A matcher for any number of patterns: the edges of a text are looked up, its middle searched only for phrases
    whose longest word it has."""

    patterns: tuple[Pattern, ...] = ()
    _edges: dict[tuple[str, ...], Pattern] = field(init=False, compare=False)
    _anywhere: dict[str, list[tuple[str, Pattern]]] = field(init=False, compare=False)
    _longest: int = field(init=False, compare=False)
    _edge: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        anywhere: dict[str, list[tuple[str, Pattern]]] = {}
        for pattern in self.patterns:
            if pattern.where == "anywhere" and pattern.action != "ignore":
                words = phrase_words(pattern.phrase)
                anywhere.setdefault(max(words, key=len), []).append((f" {' '.join(words)} ", pattern))
        edges = {pattern.key: pattern for pattern in self.patterns if pattern.where != "anywhere"}
        object.__setattr__(self, "_edges", edges)
        object.__setattr__(self, "_anywhere", anywhere)
        object.__setattr__(
            self, "_edge", _EDGE + 2 * max((len(pattern.phrase) for pattern in edges.values()), default=0)
        )
        object.__setattr__(self, "_longest", max((len(key) - 1 for key in edges), default=0))

    @property
    def fingerprint(self) -> str:
        """Names the phrases and what is done about them; counts and examples take no part."""
        return content_id(*sorted(" ".join((*p.key, p.action)) for p in self.patterns))[:12]

    def opening_to_cut(self, text: str) -> int:
        """Where the words of an opening end that is to be cut, in characters; 0 if there is none."""
        found = self._beginning("opening", text)
        if found is None or found.action != "cut":
            return 0
        return list(word_spans(text[: self._edge]))[len(found.key) - 2][1]

    def closing_to_cut(self, text: str) -> int:
        """Where a closing begins that is to be cut; the text's length if there is none."""
        if not self._edges:
            return len(text)
        body = text.rstrip()
        for start in closing_starts(body):
            if (found := self._beginning("closing", body[start:])) and found.action == "cut":
                return start
        if (found := self._ending(body)) and found.action == "cut":
            tail = max(0, len(body) - self._edge)
            begin = list(word_spans(body[tail:]))[1 - len(found.key)][0] + tail
            return _sentence_start(body, begin) or len(text)
        return len(text)

    def to_drop(self, text: str) -> Pattern | None:
        """The first pattern for which the text is to be dropped."""
        if self._edges:
            body = text.rstrip()
            closings = (self._beginning("closing", body[start:]) for start in closing_starts(body))
            for found in (self._beginning("opening", text), *closings, self._ending(body)):
                if found and found.action == "drop":
                    return found
        return self._in_the_midst(text) if self._anywhere else None

    def _in_the_midst(self, text: str) -> Pattern | None:
        words = phrase_words(text)
        here = self._anywhere.keys() & set(words)
        if not here:
            return None
        joined = f" {' '.join(words)} "
        found = (pattern for word in here for phrase, pattern in self._anywhere[word] if phrase in joined)
        return min(found, key=lambda pattern: pattern.key, default=None)

    def _beginning(self, where: Where, piece: str) -> Pattern | None:
        """The longest pattern that the piece begins with."""
        words = _head(piece, self._edge) if self._edges else []
        lengths = range(min(self._longest, len(words)), 0, -1)
        return next((found for n in lengths if (found := self._edges.get((where, *words[:n])))), None)

    def _ending(self, body: str) -> Pattern | None:
        """The longest closing that the text ends with."""
        words = _tail(body, self._edge)
        lengths = range(min(self._longest, len(words)), 0, -1)
        return next((found for n in lengths if (found := self._edges.get(("closing", *words[-n:])))), None)


def _head(text: str, size: int) -> list[str]:
    """The first words; one that may be cut off is left out."""
    words = phrase_words(text[:size])
    return words[:-1] if len(text) > size else words


def _tail(text: str, size: int) -> list[str]:
    words = phrase_words(text[-size:])
    return words[1:] if len(text) > size else words


def _sentence_start(body: str, at: int) -> int:
    """Where the sentence or line begins that goes on at this place."""
    line = body.rfind("\n", 0, at) + 1
    start = max(line, at - _LONGEST_REMARK)
    for piece in sentences(body[start:]):
        if start + len(piece) > at:
            break
        start += len(piece)
    return start


@cache
def load_patterns(path: str | None) -> Patterns:
    """The patterns of a file as `mga boilerplate` writes it, those that come with mga ("starter"), or (None) none."""
    return Patterns(tuple(read_patterns(_STARTER_FILE if path == STARTER else Path(path)))) if path else Patterns()


def read_patterns(file: Path) -> list[Pattern]:
    """The entries of a pattern file. Raises InputError that names the entry and what is wrong with it."""
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the patterns {file}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The patterns {file} are not valid TOML: {error}.") from error
    entries = content.pop("pattern", [])
    if content:
        raise InputError(f"The patterns {file} have an unknown key {min(content)!r}; every entry is a [[pattern]].")
    if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise InputError(f"The patterns {file}: write each entry as a [[pattern]].")
    found: dict[tuple[str, ...], Pattern] = {}
    for number, entry in enumerate(entries, 1):
        where = f"The patterns {file}, entry {number} ({entry.get('phrase', 'without a phrase')!r})"
        pattern = _pattern(where, entry)
        if pattern.key in found:
            raise InputError(f"{where} stands there twice as {pattern.where}; keep one.")
        found[pattern.key] = pattern
    return list(found.values())


_NAMES = [f.name for f in fields(Pattern)]
_NUMBERS = ("texts", "share", "originals", "z")


def _pattern(where: str, entry: dict[str, Any]) -> Pattern:
    for name in entry:
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, n=1)
            raise InputError(f"{where}: unknown key {name!r}; {f'did you mean {near[0]!r}?' if near else 'remove it.'}")
    phrase, place, action = (entry.get(name) for name in ("phrase", "where", "action"))
    if not (isinstance(phrase, str) and phrase_words(phrase)):
        raise InputError(f"{where}: phrase must be a text with a word in it.")
    if place not in get_args(Where):
        raise InputError(f"{where}: where must be one of {', '.join(get_args(Where))} (given: {place!r}).")
    if action not in get_args(Action):
        raise InputError(f"{where}: action must be one of {', '.join(get_args(Action))} (given: {action!r}).")
    if place == "anywhere" and action == "cut":
        raise InputError(f"{where}: a phrase anywhere cannot be cut; choose drop or ignore.")
    for name in _NUMBERS:
        if not isinstance(entry.get(name, 0), int | float) or isinstance(entry.get(name), bool):
            raise InputError(f"{where}: {name} must be a number.")
    examples = entry.get("examples", [])
    if not (isinstance(examples, list) and all(isinstance(example, str) for example in examples)):
        raise InputError(f"{where}: examples must be a list of texts.")
    if not isinstance(entry.get("note", ""), str):
        raise InputError(f"{where}: note must be a text.")
    return Pattern(**{**entry, "examples": tuple(examples)})


def patterns_toml(patterns: Iterable[Pattern], header: str) -> str:
    """The file with these patterns, every line of the header as a comment."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    for pattern in patterns:
        lines += ["", "[[pattern]]"]
        for name in _NAMES:
            value = getattr(pattern, name)
            if name == "examples" and value:
                lines += ["examples = [", *(f"  {_toml(example)}," for example in value), "]"]
            elif value not in (None, ()):
                lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: str | float) -> str:
    return orjson.dumps(value).decode().replace("\x7f", "\\u007f") if isinstance(value, str) else str(value)
