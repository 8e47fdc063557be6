"""Which tokens of a document are shown to the model at once, and which windows go through it together.

A document is a sequence of ids: what begins it (one id, or none) and its own tokens. Each id but the first is predicted
once from those before it. Sequences longer than the context are read in windows that overlap, and a token of a later
window is scored with at least `overlap` tokens of its own document before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_PADDING = 0.1
"""A window shorter than the longest of its batch by more than this share waits for the next batch."""


@dataclass(frozen=True, slots=True)
class Window:
    """Ids `first` to `end` (exclusive) of a sequence are shown; ids `scored` to `end` (inclusive) are predicted."""

    sequence: int
    first: int
    end: int
    scored: int

    def __len__(self) -> int:
        return self.end - self.first


def windows_of(sequence: int, length: int, context: int, overlap: int) -> Iterator[Window]:
    """Windows of at most `context` ids over a sequence of `length` ids; every id but the first is scored once.

    `overlap` is less than `context`.
    """
    assert 0 <= overlap < context
    first, scored = 0, 1
    while scored < length:
        end = min(first + context, length - 1)
        yield Window(sequence, first, end, scored)
        scored = end + 1
        first = max(end - overlap, 0)


def batches(windows: Sequence[Window], tokens: int) -> Iterator[list[Window]]:
    """The windows, longest first, in batches of at most `tokens` ids with padding; a longer window goes alone."""
    batch: list[Window] = []
    for window in sorted(windows, key=len, reverse=True):
        if batch:
            longest = len(batch[0])
            if (len(batch) + 1) * longest > tokens or len(window) < (1 - MOST_PADDING) * longest:
                yield batch
                batch = []
        batch.append(window)
    if batch:
        yield batch
