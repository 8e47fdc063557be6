"""Ask the judge about planted pairs, swapped texts and the same texts again, to learn what its scores are worth."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mga.config import ExpandConfig
from mga.engines.choose import choose_engine
from mga.engines.client import Client
from mga.engines.engine import Reply, Request
from mga.engines.journal import Journal
from mga.errors import InputError, StopError, TryAgainError
from mga.expand.judge import judge
from mga.expand.recipe import Ask, Recipe, derived_seed
from mga.lab.planted import of_others, shortened
from mga.lab.texts import Text
from mga.records import Document, Drop, Reformulation
from mga.store import read_json, write_json

Kind = Literal["planted", "swapped", "repeated"]

RECORD = "judging.json"
# A judge at temperature 0 says the same thing twice; what it is unsure of shows when its own probabilities draw.
REPEAT_TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """A text beside a document. `faithful`: it was written from it; None where that is not what is asked."""

    kind: Kind
    document: Document
    text: str
    faithful: bool | None
    repeat: int = 0
    text_id: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judge's answer to a question. Without a verdict `score` is None and `detail` says why."""

    kind: Kind
    document: str
    text_id: str
    faithful: bool | None
    repeat: int
    score: int | None
    expected: float | None
    detail: str = ""


def questions(
    documents: Sequence[Document], written: Mapping[str, Sequence[Text]], judged: int, repeats: int, seed: int
) -> list[Question]:
    """What the judge is asked: `judged` documents and texts at most of each kind, `repeats` times the same text.

    `written` has the texts of each variant, those of the first are swapped.
    """

    def drawn(items: Sequence[Any], name: str) -> list[Any]:
        ranked = sorted(range(len(items)), key=lambda place: derived_seed(seed, "judged", name, place))
        return [items[place] for place in sorted(ranked[:judged])]

    asked = drawn(documents, "planted")
    own = [shortened(document.text) for document in asked]
    found = [Question("planted", d, text, True) for d, text in zip(asked, own, strict=True)]
    found += [Question("planted", d, text, False) for d, text in zip(asked, of_others(own), strict=True)]

    by_text = {document.text: document for document in documents}
    firsts = {text.raw_text: text for text in reversed(next(iter(written.values()), ()))}
    swapped = drawn(list(firsts.values()), "swapped")
    if len(swapped) > 1:
        others = of_others([text.text for text in swapped])
        for text, other in zip(swapped, others, strict=True):
            document = by_text[text.raw_text]
            found.append(Question("swapped", document, text.text, True, text_id=text.id))
            found.append(Question("swapped", document, other, False))

    each = {name: sorted(of, key=lambda t: derived_seed(seed, "repeated", name, t.id)) for name, of in written.items()}
    in_turn = [
        (name, of[at])
        for at in range(max(map(len, each.values()), default=0))
        for name, of in each.items()
        if at < len(of)
    ]
    for name, text in in_turn[:judged]:
        for repeat in range(1, repeats + 1):
            document = by_text[text.raw_text]
            found.append(Question("repeated", document, text.text, None, repeat, f"{name}/{text.id}"))
    return sorted(found, key=lambda question: question.document.position)  # a document is computed once


def judgements_in(folder: Path) -> list[Judgement] | None:
    """The answers that a laboratory has; None when not all were given."""
    path = folder / RECORD
    return [Judgement(**row) for row in read_json(path)["judgements"]] if path.is_file() else None


async def ask_judge(folder: Path, config: ExpandConfig, asked: Sequence[Question], say: Any) -> list[Judgement]:
    """Ask, and write down the answers. What was answered before a stop is not asked again.

    Raises InputError and StopError with everything received kept.
    """
    uri = config.judge_engine or config.engine
    client = Client(choose_engine(uri, config.concurrency, folder / "logs" / "judge", say))
    journal = Journal(folder / "judging.jsonl")
    try:
        await client.engine.start()
        recipe = Recipe(config, client.count_tokens, client.engine.context)
        places = asyncio.Semaphore(client.engine.documents_in_flight)

        async def answer(question: Question) -> Judgement:
            async with places:
                return await _answer(question, partial(client.ask, journal=journal), recipe)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(question)) for question in asked]
    except BaseExceptionGroup as group_of_errors:
        ours, _ = group_of_errors.split((InputError, StopError))
        raise (ours.exceptions[0] if ours else group_of_errors.exceptions[0]) from group_of_errors
    finally:
        journal.close()
        await client.engine.close()
    answers = [task.result() for task in tasks]
    rows = [asdict(answer) for answer in answers]
    write_json(folder / RECORD, {"model": client.engine.model, "judgements": rows})
    journal.remove()
    return answers


async def _answer(question: Question, ask: Ask, recipe: Recipe) -> Judgement:
    said = partial(
        Judgement, question.kind, question.document.source_id, question.text_id, question.faithful, question.repeat
    )

    async def ask_anew(request: Request) -> Reply:
        if not question.repeat:
            return await ask(request)
        seed = derived_seed(request.seed, "repeat", question.repeat)
        sampling = dict(request.sampling)
        if not sampling.get("temperature"):
            sampling["temperature"] = REPEAT_TEMPERATURE
        return await ask(replace(request, seed=seed, sampling=sampling))

    try:
        verdict = await judge(question.document, Reformulation(question.text, 0), ask_anew, recipe)
    except (InputError, TryAgainError) as error:
        return said(None, None, str(error))
    if isinstance(verdict, Drop):
        return said(None, None, verdict.detail)
    return said(verdict.score, verdict.expected)
