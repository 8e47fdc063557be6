"""The heart: one document in, one outcome per pair out."""

import asyncio
from dataclasses import dataclass, replace

from mga.errors import InputError, TryAgainError
from mga.expand.clean import clean
from mga.expand.judge import is_judged, judge
from mga.expand.limits import Limits
from mga.expand.pairs import Failure, pairs_for
from mga.expand.recipe import Ask, Recipe
from mga.expand.reformulate import reformulate
from mga.records import Document, Drop, Outcome, Pair


@dataclass(frozen=True, slots=True)
class Kit:
    """What expanding needs: whom to ask for writing and for judging, by which recipe, within which limits."""

    write: Ask
    judge: Ask
    recipe: Recipe
    limits: Limits


async def expand_document(document: Document, kit: Kit) -> list[Outcome]:
    """Document → pairs → a reformulation each → verdicts → exactly one outcome per pair.

    Never raises for this document's own troubles; StopError passes through.
    """
    pairs = await pairs_for(document, kit.write, kit.recipe)
    expansions = (expand_pair(document, slot, pair, kit) for slot, pair in enumerate(pairs))
    return list(await asyncio.gather(*expansions))


async def expand_pair(document: Document, slot: int, pair: Pair | Drop | Failure, kit: Kit) -> Outcome:
    """One pair to its outcome: reformulate, clean, judge; the first Drop ends it."""
    outcome = Outcome(document, slot, "kept")
    if isinstance(pair, Drop):
        return outcome.dropped(pair)
    if isinstance(pair, InputError | TryAgainError):
        return _failed(outcome, pair)
    outcome = replace(outcome, pair=pair)
    config = kit.recipe.config
    try:
        rewrite = await reformulate(document, pair, kit.write, kit.recipe, kit.limits)
        if isinstance(rewrite, Drop):
            return outcome.dropped(rewrite)

        cleaned = clean(document, rewrite, config.cleaning, kit.recipe.phrases, translated=bool(config.language))
        if isinstance(cleaned, Drop):
            return outcome.dropped(cleaned)
        outcome = replace(outcome, reformulation=cleaned.reformulation, cuts=cleaned.cuts)

        if not is_judged(outcome.id, config.judge):
            return outcome
        verdict = await judge(document, cleaned.reformulation, kit.judge, kit.recipe)
        if isinstance(verdict, Drop):
            return outcome.dropped(verdict)
        outcome = replace(outcome, verdict=verdict)
        if verdict.score < config.min_score:
            return outcome.dropped(Drop("low_score", f"score {verdict.score} is below {config.min_score}"))
        return outcome
    except (InputError, TryAgainError) as error:
        return _failed(outcome, error)


def _failed(outcome: Outcome, error: Failure) -> Outcome:
    reason = "request_refused" if isinstance(error, InputError) else "engine_gave_up"
    return replace(outcome, status="failed", reason=reason, detail=str(error))
