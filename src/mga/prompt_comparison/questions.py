"""What the judge is asked to learn what its scores are worth: planted pairs, swapped texts, the same texts again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

from mga.expand.recipe import derived_seed
from mga.prompt_comparison.planted import corrupted, of_others, shortened
from mga.records import Document, Verdict
from mga.runs.texts import Text

Kind = Literal["planted", "corrupted", "swapped", "repeated"]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Question:
    """A text beside a document. `faithful`: it was written from it; None where that is not what is asked.

    `repeat` numbers further judgements of the text `text_id`. `verdict` is the run's own, where it has asked just this.
    """

    kind: Kind
    document: Document
    text: str
    faithful: bool | None
    repeat: int = 0
    text_id: str = ""
    verdict: Verdict | None = None


def questions(
    documents: Sequence[Document], written: Mapping[str, Sequence[Text]], judged: int, repeats: int, seed: int
) -> list[Question]:
    """Questions on at most `judged` documents of each kind, and on as many texts `repeats` times.

    `written` has the texts of each variant; those of the first are swapped. A document's questions are neighbours, so
    that it is computed once.
    """
    asked = _drawn(documents, judged, seed, "planted")
    own = [shortened(document.text) for document in asked]
    found = [Question("planted", d, text, True) for d, text in zip(asked, own, strict=True)]
    found += [Question("planted", d, text, False) for d, text in zip(asked, of_others(own), strict=True)]
    wrong = ((document, corrupted(text), text) for document, text in zip(asked, own, strict=True))
    found += [Question("corrupted", document, text, False) for document, text, right in wrong if text != right]

    document_of = {document.text: document for document in documents}
    first_of_each = {text.raw_text: text for text in reversed(next(iter(written.values()), ()))}
    swapped = _drawn([text for text in first_of_each.values() if text.score], judged, seed, "swapped")
    if len(swapped) > 1:
        others = of_others([text.text for text in swapped])
        for text, other in zip(swapped, others, strict=True):
            document = document_of[text.raw_text]
            verdict = Verdict(text.score or 0, "", text.expected)
            found.append(Question("swapped", document, text.text, True, text_id=text.id, verdict=verdict))
            found.append(Question("swapped", document, other, False))

    for name, text in _in_turn(written, seed)[: min(judged, len(documents))]:
        for repeat in range(1, repeats + 1):
            found.append(Question("repeated", document_of[text.raw_text], text.text, None, repeat, f"{name}/{text.id}"))
    return sorted(found, key=lambda question: question.document.position)


def _drawn(items: Sequence[Item], count: int, seed: int, name: str) -> list[Item]:
    """So many of the items, in their order."""
    ranked = sorted(range(len(items)), key=partial(derived_seed, seed, "judged", name))
    return [items[place] for place in sorted(ranked[:count])]


def _in_turn(written: Mapping[str, Sequence[Text]], seed: int) -> list[tuple[str, Text]]:
    """All texts, drawn from each variant in turn, with its name."""
    drawn = {
        name: [texts[place] for place in sorted(range(len(texts)), key=partial(derived_seed, seed, "repeated", name))]
        for name, texts in written.items()
    }
    longest = max(map(len, drawn.values()), default=0)
    return [(name, of[at]) for at in range(longest) for name, of in drawn.items() if at < len(of)]
