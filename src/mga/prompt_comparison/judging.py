"""Ask the judge about planted pairs, swapped texts and the same texts again, to learn what its scores are worth."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mga.config import ExpandConfig
from mga.data.store import read_json, write_json
from mga.engines.engine import Reply, Request
from mga.errors import InputError, TryAgainError
from mga.expand.judge import judge
from mga.expand.recipe import Ask, Recipe, derived_seed
from mga.prompt_comparison.questions import Kind, Question
from mga.records import Drop, Reformulation
from mga.runs.asking import ask_all

RECORD = "judging.json"
# A judge at temperature 0 says the same thing twice; what it is unsure of shows when its own probabilities draw.
REPEAT_TEMPERATURE = 1.0


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


def judgements_in(folder: Path) -> list[Judgement] | None:
    """The answers that a prompt comparison has; None when not all were given."""
    path = folder / RECORD
    return [Judgement(**row) for row in read_json(path)["judgements"]] if path.is_file() else None


async def ask_judge(folder: Path, config: ExpandConfig, asked: Sequence[Question], say: Any) -> list[Judgement]:
    """Ask, and write down the answers. What was answered before a stop is not asked again.

    Raises InputError and StopError with everything received kept.
    """
    uri = config.judge_engine or config.engine
    journal = folder / "judging.jsonl"
    found = await ask_all(uri, config, asked, _answer, journal, folder / "logs" / "judge", say)
    rows = [asdict(answer) for answer in found.answers]
    write_json(folder / RECORD, {"model": found.model, "judgements": rows})
    journal.unlink(missing_ok=True)
    return found.answers


async def _answer(question: Question, ask: Ask, recipe: Recipe) -> Judgement:
    said = partial(
        Judgement, question.kind, question.document.source_id, question.text_id, question.faithful, question.repeat
    )

    if question.verdict is not None:
        return said(question.verdict.score, question.verdict.expected)

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
