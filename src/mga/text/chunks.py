"""Cut long documents so that prompt and reply fit: at paragraphs, then sentences, then words, then anywhere."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import regex

from mga.records import Document
from mga.text.words import has_words, sentences

CountTokens = Callable[[str], Awaitable[int]]
Cut = Callable[[str], list[str]]


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
    """Pieces of at most `budget` tokens with their token counts. Joined, they are the text again."""
    total = await count(text)
    if total <= budget or len(text) == 1:
        return [(text, total)]
    pieces = next(cut for cut in (_cut(text) for _cut in _CUTS) if len(cut) > 1)
    sizes = [await count(piece) for piece in pieces]
    chunks: list[tuple[str, int]] = []
    for group in _pack(sizes, budget):
        # A group can still exceed the budget: when one piece does, or when tokens merge differently across a seam.
        chunks += await split("".join(pieces[i] for i in group), budget, count)
    return chunks


def _pack(sizes: Sequence[int], budget: int) -> list[range]:
    """Neighbouring pieces in as few groups as the budget allows, filled to a common target size."""
    total = max(sum(sizes), budget + 1)  # the whole did not fit, whatever its pieces add up to
    target = total / -(-total // budget)
    groups, start, filled = [], 0, 0
    for i, size in enumerate(sizes):
        too_much = filled + size > budget
        nearer_without = filled + size - target > target - filled
        if i > start and (too_much or nearer_without):
            groups.append(range(start, i))
            start, filled = i, 0
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
    boundary = next((m.start() for m in regex.finditer(r"\X", text) if m.start() >= middle), middle)
    return [text[:boundary], text[boundary:]]


_CUTS: tuple[Cut, ...] = (_after(r"\n\s*\n"), _after(r"\n"), sentences, _after(r"\s+"), _halves)
