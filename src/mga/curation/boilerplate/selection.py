"""Of all phrases that are frequent, the few that stand for the rest: a list that a person can review."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mga.curation.boilerplate.mining import ANYWHERE, CLOSING, ENDING, LONGEST, OPENING
from mga.expand.corpus_boilerplate import Where

ALMOST = 0.8
"""A longer phrase stands for a shorter one in it when so much of its count is left."""
_CLEARER = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A phrase that has passed. `words` are hashes; `clarity` is its share over that of the originals, half an original
    assumed; `places` of examples are batch << 32 | row."""

    kind: int
    words: tuple[int, ...]
    texts: int
    originals: float
    z: float
    clarity: float
    places: tuple[int, ...]

    @property
    def where(self) -> Where:
        return "anywhere" if self.kind == ANYWHERE else "opening" if self.kind == OPENING else "closing"


def reviewable(candidates: Iterable[Candidate]) -> list[Candidate]:
    """A short list that stands for all: no phrase beside one that says the same of the same texts."""
    kept = _without_variants(_without_repeated_places(_without_later_windows(_maximal(candidates))))
    order = ("opening", "closing", "anywhere")
    return sorted(kept, key=lambda one: (order.index(one.where), -one.z, -one.texts, one.words))


def _maximal(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Phrases of which no longer one keeps almost all texts."""
    kept = []
    stands_for: dict[tuple[int, tuple[int, ...]], int] = {}
    for one in sorted(candidates, key=lambda c: (-len(c.words), -c.texts, c.words)):
        texts = stands_for.get((one.kind, one.words), 0)
        if texts < ALMOST * one.texts:
            kept.append(one)
            texts = one.texts
        shorter = [one.words[:-1]] if one.kind in (OPENING, CLOSING) else [one.words[1:]]
        for words in [one.words[:-1], one.words[1:]] if one.kind == ANYWHERE else shorter:
            stands_for[one.kind, words] = max(texts, stands_for.get((one.kind, words), 0))
    return kept


def _without_later_windows(candidates: list[Candidate]) -> list[Candidate]:
    """Of a longer passage, which shows as windows of the greatest length that follow each other, the first."""
    windows = {one.words: one.texts for one in candidates if one.kind == ANYWHERE and len(one.words) == LONGEST}
    by_start = {words[:-1]: words for words in windows}
    by_end = {words[1:]: words for words in windows}

    def is_alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return min(windows[one], windows[other]) >= ALMOST * max(windows[one], windows[other])

    def begins(words: tuple[int, ...]) -> bool:
        earlier = by_end.get(words[:-1])
        return earlier is None or not is_alike(earlier, words)

    later: set[tuple[int, ...]] = set()
    for first in sorted(windows, key=lambda words: (not begins(words), words)):
        at: tuple[int, ...] | None = None if first in later else first
        while at and (at := by_start.get(at[1:])) and at != first and at not in later and is_alike(first, at):
            later.add(at)
    return [one for one in candidates if not (one.kind == ANYWHERE and one.words in later)]


def _without_repeated_places(candidates: list[Candidate]) -> list[Candidate]:
    """No phrase anywhere that openings and closings account for, and each closing in one of its two ways."""
    most: dict[int, dict[tuple[int, ...], int]] = {OPENING: {}, CLOSING: {}, ENDING: {}}
    for one in candidates:
        if one.kind != ANYWHERE:
            for part in _parts(one.words):
                most[one.kind][part] = max(one.texts, most[one.kind].get(part, 0))

    def is_accounted_for(one: Candidate) -> bool:
        opening, closing, ending = (most[kind].get(one.words, 0) for kind in (OPENING, CLOSING, ENDING))
        if one.kind == ANYWHERE:
            return opening + max(closing, ending) >= ALMOST * one.texts
        return one.kind == ENDING and closing >= ALMOST * one.texts

    left = [one for one in candidates if not is_accounted_for(one)]
    endings = {one.words: one.texts for one in left if one.kind == ENDING}
    longer = {part: texts for words, texts in endings.items() for part in _parts(words)}
    return [
        one
        for one in left
        if not (one.kind == CLOSING and longer.get(one.words, 0) >= ALMOST * one.texts)
        and not (one.kind == ENDING and most[CLOSING].get(one.words, 0) >= one.texts)
    ]


def _without_variants(candidates: list[Candidate]) -> list[Candidate]:
    """No phrase that contains a listed one of its place, unless it is much clearer."""
    listed: list[Candidate] = []
    clearest: dict[tuple[int, tuple[int, ...]], float] = {}
    for one in sorted(candidates, key=lambda c: (len(c.words), -c.texts, c.words)):
        if one.kind == ANYWHERE:
            parts: Iterable[tuple[int, ...]] = _parts(one.words)
        elif one.kind == ENDING:
            parts = (one.words[i:] for i in range(1, len(one.words)))
        else:
            parts = (one.words[:i] for i in range(1, len(one.words)))
        if one.clarity > _CLEARER * max((clearest.get((one.kind, part), 0.0) for part in parts), default=0.0):
            listed.append(one)
            clearest[one.kind, one.words] = one.clarity
    return listed


def _parts(words: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """All runs of words in a phrase, itself included."""
    return (words[i:j] for i in range(len(words)) for j in range(i + 1, len(words) + 1))
