"""Pairs of texts whose right verdict is known: what a judge's scores are worth is how well they tell them apart.

A *faithful* text is the document's own with every third sentence left out, which limited consistency lets pass at 5.
An *unrelated* one is the same of another document: the two kinds are the same texts, so that nothing but the document
beside them tells which is which. *Swapped* texts are a variant's own, beside their document and beside another.
"""

from collections.abc import Sequence

from mga.text.words import sentences

LEAVE_OUT = 3


def shortened(text: str) -> str:
    """The text without every third sentence; of fewer than three sentences, without the last third of its words."""
    pieces = [piece for piece in sentences(text) if piece.strip()]
    if len(pieces) >= LEAVE_OUT:
        return "".join(piece for at, piece in enumerate(pieces, 1) if at % LEAVE_OUT).strip()
    words = text.split()
    return " ".join(words[: max(1, len(words) - len(words) // LEAVE_OUT)])


def of_others(texts: Sequence[str]) -> list[str]:
    """Each text's place taken by the one half the list away, which no text's own place is."""
    half = max(1, len(texts) // 2)
    return [*texts[half:], *texts[:half]]
