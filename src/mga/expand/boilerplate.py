"""Phrases by which models talk about the task: what to cut from a reply's edges, what is a refusal."""

import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import regex

from mga.config import CleaningRules
from mga.errors import InputError
from mga.expand.corpus_boilerplate import Patterns, load_patterns
from mga.records import content_id

BUILT_IN = Path(__file__).parent / "boilerplate.toml"
_LISTS = ("openings", "closings", "refusals")


@dataclass(frozen=True, slots=True)
class Phrases:
    """Compiled expressions, each of which matches at the start of the piece it is tried on, and the phrases found in
    this corpus."""

    openings: regex.Pattern[str]
    closings: regex.Pattern[str]
    refusals: regex.Pattern[str]
    patterns: Patterns = field(default_factory=Patterns)

    @property
    def fingerprint(self) -> str:
        """Names the exact expressions."""
        return content_id(self.openings.pattern, self.closings.pattern, self.refusals.pattern)[:12]


def phrases_of(rules: CleaningRules) -> Phrases:
    """The phrases that cleaning by these rules looks for."""
    return replace(load_phrases(rules.phrases), patterns=load_patterns(rules.patterns))


@cache
def load_phrases(path: str | None = None) -> Phrases:
    """The built-in phrases, or those of a TOML file with the lists openings, closings and refusals."""
    file = Path(path) if path else BUILT_IN
    try:
        lists = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the phrases {file}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The phrases {file} are not valid TOML: {error}.") from error
    if unknown := lists.keys() - set(_LISTS):
        raise InputError(f"The phrases {file} have an unknown list {min(unknown)!r}; lists are: {', '.join(_LISTS)}.")
    for name, given in lists.items():
        if not (isinstance(given, list) and all(isinstance(pattern, str) for pattern in given)):
            raise InputError(f"The phrases {file}: {name} must be a list of strings.")
    openings, closings, refusals = (_compile(file, name, lists.get(name, [])) for name in _LISTS)
    return Phrases(openings, closings, refusals)


def _compile(file: Path, name: str, patterns: list[str]) -> regex.Pattern[str]:
    try:
        return regex.compile("|".join(f"(?:{p})" for p in patterns) or r"(?!)", regex.IGNORECASE)
    except regex.error as whole:
        for pattern in patterns:
            try:
                regex.compile(pattern)
            except regex.error as error:
                said = f"The phrases {file}, {name}: {pattern!r} is no regular expression ({error})."
                raise InputError(said) from error
        raise InputError(f"The phrases {file}, {name}: they are no regular expression together ({whole}).") from whole
