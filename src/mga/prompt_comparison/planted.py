"""Pairs of texts whose right verdict is known: what a judge's scores are worth is how well they tell them apart.

A *faithful* text is the document's own with every third sentence left out, which limited consistency lets pass at 5.
An *unrelated* one is the same of another document: the two kinds are the same texts, so that nothing but the document
beside them tells which is which. A *corrupted* text is the faithful one with wrong facts: every number is another one
and names have changed places. *Swapped* texts are a variant's own, beside their document and beside another.
"""

from collections.abc import Sequence

import regex

from mga.text.words import sentences

LEAVE_OUT = 3
_NUMBER = regex.compile(r"\p{Nd}+")
_NAME = regex.compile(r"(?<=\p{Ll},? )\p{Lu}\p{L}+(?:['’-]\p{L}+)*")  # a capital inside a sentence


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


def corrupted(text: str) -> str:
    """The text with wrong facts: of every number each digit is another one, and the names within its sentences have
    changed places with each other. The same text where it has neither."""
    changed = _NUMBER.sub(lambda found: "".join(map(_other_digit, found.group())), text)
    names = list(dict.fromkeys(_NAME.findall(changed)))
    half = len(names) // 2
    other = dict(zip(names, [*names[half:], *names[:half]], strict=True)) if half else {}
    return _NAME.sub(lambda found: other.get(found.group(), found.group()), changed)


def _other_digit(digit: str) -> str:
    """Another digit of the same script, never a leading nought."""
    value = int(digit)
    return chr(ord(digit) - value + (value + 3) % 9 + 1 if value else ord(digit) + 7)
