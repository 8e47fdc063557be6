"""Whether a pair is one: its genre names a kind of text and no people, its audience names people and no text.

Small models confuse the two. The rule looks at the head of the first noun phrase alone ("a letter to farmers" is a
letter, "farmers who like letters" are farmers), by lists of nouns in some languages (`pair_words.toml`). What no list
knows passes: the rule says what is certainly wrong, not what is right.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import regex

from mga.records import Pair
from mga.text.words import ngrams, repeated_share, similarity, words

LEAST_WORDS = 2
MOST_REPEATED = 0.5
SAME = 0.6  # genre and audience whose words overlap more say the same
ECHO = 6  # so many words of the task in a row are no answer to it

_ARTICLES = frozenset({"a", "an", "the", "ein", "eine", "un", "une", "una", "les", "los", "las"})
Named = Literal["text", "other", "people"]

_CLAUSE_END = regex.compile(r"[,.;:()\[\]\n，。；：（）、—–]|\s-\s")
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}_-]*")


@dataclass(frozen=True, slots=True)
class _Language:
    """The nouns of one language; `last`: the head of a phrase comes last."""

    last: bool
    breaks: frozenset[str]
    through: frozenset[str]
    texts: regex.Pattern[str]
    other: regex.Pattern[str]
    people: regex.Pattern[str]


def what_is_wrong(pair: Pair, task: str = "") -> str | None:
    """Why a pair cannot be used, as a clause for the model that is asked again; None when nothing is found.

    `task` is the wording that the pair answers: what repeats it is no answer.
    """
    for name, side in (("kind of text", pair.genre), ("people", pair.audience)):
        if not says_something(side):
            return f"{side!r} says too little as the {name}"
        if echoes(side, task):
            return f"{side!r} repeats the question instead of naming the {name}"
    if named(pair.genre) == "people":
        return f"{pair.genre!r} are people and no kind of text"
    if named(pair.genre) == "other":
        return f"{pair.genre!r} is made of more than words"
    if named(pair.audience) == "text":
        return f"{pair.audience!r} is a text and no people"
    if similarity(pair.genre, pair.audience) > SAME:
        return f"{pair.genre!r} stands as the kind of text and as the people too"
    return None


def put_right(pair: Pair) -> Pair:
    """The pair, its sides exchanged where the genre names people and the audience a text."""
    if named(pair.genre) == "people" and named(pair.audience) == "text":
        return Pair(pair.audience, pair.genre)
    return pair


@lru_cache(512)
def named(side: str) -> Named | None:
    """What the first noun phrase of a genre or an audience names; None where no language's nouns tell."""
    clause = _CLAUSE_END.split(side.casefold().strip(" \"'“”«»*-#"), maxsplit=1)[0]
    tokens = _WORD.findall(clause)
    told = [found for found in (_in_language(tokens, language) for language in _languages()) if found[1]]
    best = {kind for known, kind in told if known == max(known for known, _ in told)}
    return best.pop() if len(best) == 1 else None  # two languages, two meanings


def says_something(side: str) -> bool:
    """Whether there are words enough to write by, and not the same few over and over."""
    return len(set(words(side))) >= LEAST_WORDS and repeated_share(side, 2) <= MOST_REPEATED


def echoes(side: str, task: str) -> bool:
    """Whether the words of a side are those of the task, so many in a row."""
    of_task = set(ngrams(words(task), ECHO))
    return any(gram in of_task for gram in ngrams(words(side), ECHO))


def _in_language(tokens: Sequence[str], language: _Language) -> tuple[int, Named | None]:
    """How many words of the clause this language knows, and what the first phrase with such a noun names."""
    known, phrase_named, decided, begun = 0, None, False, False
    for token in tokens:
        if token in language.breaks:
            known += 1
            decided = decided or phrase_named is not None or (begun and token not in language.through)
            continue
        begun = begun or token not in _ARTICLES
        kind = _kind(token, language)
        if kind is None:
            continue
        known += 1
        if not decided and (phrase_named is None or language.last):
            phrase_named = kind
    return known, phrase_named


def _kind(token: str, language: _Language) -> Named | None:
    if language.people.fullmatch(token):
        return "people"
    if language.texts.fullmatch(token):
        return "text"
    return "other" if language.other.fullmatch(token) else None


@cache
def _languages() -> tuple[_Language, ...]:
    tables = tomllib.loads((Path(__file__).parent / "pair_words.toml").read_text(encoding="utf-8"))
    return tuple(
        _Language(
            table["head"] == "last",
            frozenset(table["breaks"]),
            frozenset(table["through"]),
            *(_any_of(table[nouns]) for nouns in ("texts", "other", "people")),
        )
        for table in tables.values()
    )


def _any_of(nouns: Iterable[str]) -> regex.Pattern[str]:
    def pattern(noun: str) -> str:
        start, body, end = (r"\w*" if noun[0] == "*" else ""), noun.strip("*"), (r"\w*" if noun[-1] == "*" else "")
        return start + regex.escape(body, literal_spaces=True) + end

    return regex.compile("|".join(map(pattern, nouns)))
