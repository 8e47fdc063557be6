"""Limited consistency: can the document still be recognised as the rewrite's source? (paper §2, score 1–5)."""

import math
from collections.abc import Sequence
from typing import Any

from mga.engines.engine import Request, Token
from mga.expand.answers import read_json, whole
from mga.expand.recipe import Ask, Recipe, derived_seed
from mga.records import Document, Drop, Reformulation, Verdict

SCORES = (1, 2, 3, 4, 5)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "analysis": {"type": "string", "maxLength": 500},
        "score": {"type": "integer", "enum": list(SCORES)},
    },
    "required": ["analysis", "score"],
    "additionalProperties": False,
}


def is_judged(outcome_id: str, share: str | float) -> bool:
    """Whether this rewrite is in the judged share: decided by its id, so the same in every run."""
    if isinstance(share, str):
        return share == "all"
    return int(outcome_id[:8], 16) < share * 2**32


async def judge(document: Document, rewrite: Reformulation, ask: Ask, recipe: Recipe) -> Verdict | Drop:
    """The judge's verdict; a Drop (no_verdict) when no valid score comes in `attempts` requests."""
    detail = ""
    for attempt in range(recipe.config.judging.attempts):
        reply = await ask(judge_request(document, rewrite, recipe, attempt, detail))
        verdict = parse_verdict(reply.text)
        if isinstance(verdict, Verdict):
            return Verdict(verdict.score, verdict.analysis, expected_score(reply.tokens))
        detail = verdict
    return Drop("no_verdict", detail)


def parse_verdict(text: str) -> Verdict | str:
    """The verdict in a reply, or what is wrong with it. A missing score is never replaced by a number."""
    value = read_json(text)
    if not isinstance(value, dict):
        return f"no JSON object in: {text[:200]!r}"
    score = value.get("score")
    if isinstance(score, str) and score.strip() in ("1", "2", "3", "4", "5"):
        score = int(score)
    if isinstance(score, float) and score.is_integer():
        score = int(score)
    if isinstance(score, bool) or score not in SCORES:
        return f"the score is {score!r}, not a whole number from 1 to 5"
    return Verdict(score, whole(str(value.get("analysis") or "")))


def expected_score(tokens: Sequence[Token]) -> float | None:
    """Mean score under the judge's own probabilities of the digits 1–5 at the place of the score.

    The place is the last generated token that is such a digit; probabilities are renormalised over the
    digits among the alternatives. None when the engine gave no alternatives there.
    """
    digits = {str(score) for score in SCORES}
    token = next((t for t in reversed(tokens) if t.text.strip() in digits), None)
    if token is None:
        return None
    mass = dict.fromkeys(SCORES, 0.0)
    for alternative, logprob in token.alternatives.items():
        if alternative.strip() in digits:
            mass[int(alternative)] += math.exp(logprob)
    total = sum(mass.values())
    return round(sum(score * p for score, p in mass.items()) / total, 4) if total else None


def judge_request(
    document: Document, rewrite: Reformulation, recipe: Recipe, attempt: int = 0, problem: str = ""
) -> Request:
    """The request for a verdict; after an unusable answer, `problem` says what was wrong with it."""
    config = recipe.config
    return Request(
        prompt=recipe.judge_prompt.render(document.text, {"rewrite": rewrite.text}, problem),
        max_tokens=config.judging.max_tokens,
        seed=derived_seed(config.seed, document.key, "judge", attempt),
        purpose="judge",
        affinity=document.key,
        sampling=config.judging.sampling.wire(),
        schema=SCHEMA,
        top_logprobs=10 if config.judging.expected_score else 0,
    )
