"""Cut long documents so that prompt and reply fit: at paragraphs, then sentences, then words, then anywhere."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import regex

from mga.records import Document
from mga.text.words import has_words, sentences

CountTokens = Callable[[str], Awaitable[int]]
Cut = Callable[[str], list[str]]

# Texts beyond this many characters (or so many for each token of the budget) are counted in parts.
_LONGEST_COUNTED, _CHARACTERS_A_TOKEN = 100_000, 16
# Counts taken for each chunk to come, and where each piece can be counted; what shares of a group's tokens can be off.
_COUNTED_A_CHUNK, _COUNTED_AT_LEAST = 2, 16
_CERTAIN = 0.97
_CHARACTER = regex.compile(r"\X")


async def chunk(document: Document, budget: int, count: CountTokens) -> list[Document]:
    """Chunks of at most `budget` tokens, in order, of roughly equal size; one chunk when it fits whole.

    Nothing between the chunks is lost but white space at their edges and pieces that hold no word.
    """
    pieces = [(text, n) for text, n in await split(document.text, budget, count) if has_words(text)]
    return [
        replace(document, text=text.strip(), n_tokens=n, chunk=i, chunks=len(pieces))
        for i, (text, n) in enumerate(pieces)
    ]


async def split(text: str, budget: int, count: CountTokens) -> list[tuple[str, int]]:
    """Pieces of at most `budget` tokens with their token counts. Joined, they are the text again.

    A counter may be a server, so pieces are counted in groups: a few calls for each chunk, whatever it is made of.
    """
    total = await _count_long(text, budget, count)
    if total <= budget or len(text) == 1:
        return [(text, total)]
    pieces = next(cut for cut in (_cut(text) for _cut in _CUTS) if len(cut) > 1)
    sizes, are_counted = await _sizes(pieces, total, budget, count)
    chunks: list[tuple[str, int]] = []
    for group in _pack(sizes, budget if are_counted else budget * _CERTAIN):
        # A group can still exceed the budget: when one piece does, or when tokens merge differently across a seam.
        chunks += await split("".join(pieces[i] for i in group), budget, count)
    return chunks


async def _count_long(text: str, budget: int, count: CountTokens) -> int:
    """Tokens of a text; of one far beyond the budget, about: the sum over its parts, none too long for a counter."""
    longest = max(_LONGEST_COUNTED, _CHARACTERS_A_TOKEN * budget)
    if len(text) <= longest:
        return await count(text)
    parts = [text[at : at + longest // 2] for at in range(0, len(text), longest // 2)]
    about = sum([await count(part) for part in parts])
    return about if about > budget else await count(text)


async def _sizes(pieces: Sequence[str], total: int, budget: int, count: CountTokens) -> tuple[Sequence[float], bool]:
    """Tokens of each piece, and whether each was counted: few pieces are; of many, groups of neighbours are, and a
    piece has its characters' share of its group's tokens."""
    most = _COUNTED_A_CHUNK * -(-total // budget)
    if len(pieces) <= max(most, _COUNTED_AT_LEAST):
        return [await count(piece) for piece in pieces], True
    longest = sum(map(len, pieces)) / most
    sizes: list[float] = []
    start, characters = 0, 0
    for end, piece in enumerate(pieces, 1):
        characters += len(piece)
        if characters >= longest or end == len(pieces):
            tokens = await count("".join(pieces[start:end]))
            sizes += [tokens * len(one) / characters for one in pieces[start:end]]
            start, characters = end, 0
    return sizes, False


def _pack(sizes: Sequence[float], budget: float) -> list[range]:
    """Neighbouring pieces in as few groups as the budget allows, filled to a common target size."""
    total = max(sum(sizes), budget + 1)  # the whole did not fit, whatever its pieces add up to
    target = total / -(-total // budget)
    groups, start, filled = [], 0, 0.0
    for i, size in enumerate(sizes):
        too_much = filled + size > budget
        nearer_without = filled + size - target > target - filled
        if i > start and (too_much or nearer_without):
            groups.append(range(start, i))
            start, filled = i, 0.0
        filled += size
    if not groups:  # the whole again would never end
        groups, start = [range(1)], 1
    groups.append(range(start, len(sizes)))
    return groups


def _after(pattern: str) -> Cut:
    compiled = regex.compile(pattern)

    def cut(text: str) -> list[str]:
        ends = [m.end() for m in compiled.finditer(text) if 0 < m.end() < len(text)]
        return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]

    return cut


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    # Never between a character and its combining marks, where the text allows it.
    boundary = next((m.start() for m in _CHARACTER.finditer(text, max(0, middle - 64)) if m.start() >= middle), middle)
    return [text[:boundary], text[boundary:]]


_CUTS: tuple[Cut, ...] = (_after(r"\n\s*\n"), _after(r"\n"), sentences, _after(r"\s+"), _halves)
