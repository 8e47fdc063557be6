"""Limited consistency: can the document still be recognised as the rewrite's source? (paper §2, score 1–5)."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mga.engines.engine import Request, Token
from mga.expand.answers import readings
from mga.expand.recipe import Ask, Recipe, derived_seed
from mga.records import Document, Drop, Reformulation, Verdict
from mga.text.words import whole

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
_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
# 4 · "4" · "4/5" · "4 out of 5" · "four" · "4 - close", "4 (close)", "4: close"
_SCORE = re.compile(
    r"\s*([1-5]|one|two|three|four|five)(?:\.0+)?\s*(?:(?:/|out of|of)\s*(?:5|five)(?:\.0+)?\s*)?(?:[-–—:(,;].*|\.)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_AT_SCORE = re.compile(
    r"score\w*[\"'*_`]*\s*[:=]\s*[\"'*_`]*([1-5]|one|two|three|four|five)(?!\w)", re.IGNORECASE | re.ASCII
)
_DIGIT = re.compile(r"\W*([1-5]|one|two|three|four|five)\W*", re.IGNORECASE | re.ASCII)


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
        if reply.finish in ("content_filter", "refusal"):
            return Drop(reply.finish, f"the judge's reply: {reply.text[:200]}")
        verdict = parse_verdict(reply.text)
        if isinstance(verdict, Verdict):
            return Verdict(verdict.score, verdict.analysis, expected_score(reply.tokens, verdict.score))
        detail = verdict
    return Drop("no_verdict", detail)


def parse_verdict(text: str) -> Verdict | str:
    """The verdict in a reply, or what is wrong with it. A missing score is never replaced by a number.

    Of several verdicts the last counts; a score may be written as a number, a word or a share of five.
    """
    problem = f"no JSON object in: {text[:200]!r}"
    for objects in readings(text):
        for found in reversed(objects):
            fields = {_plain(name): value for name, value in found.items()}
            names = [name for name in fields if name == "score"] or [name for name in fields if name.endswith("score")]
            if not names and problem.startswith("no JSON object"):
                problem = "the score is None, not a whole number from 1 to 5"
            for name in names:
                if (score := _score(fields[name])) is not None:
                    return Verdict(score, whole(_analysis(fields)))
                problem = f"the score is {fields[name]!r:.200}, not a whole number from 1 to 5"
    return problem


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()


def _analysis(fields: Mapping[str, Any]) -> str:
    said = next((fields[name] for name in ("analysis", "reason", "reasoning", "explanation") if fields.get(name)), "")
    return said if isinstance(said, str) else str(said)


def _score(value: object) -> int | None:
    """A score as a model may write it, or None. A bool, a fraction, or a score on another scale is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if value in SCORES else None
    written = _SCORE.fullmatch(value) if isinstance(value, str) else None
    return _number(written[1]) if written else None


def _number(written: str) -> int:
    return _WORDS.get(written.casefold()) or int(written)


def expected_score(tokens: Sequence[Token], score: int) -> float | None:
    """Mean score under the judge's own probabilities of the scores 1–5 at the place of the score that was read.

    The place is the token behind the key `score`; without that key, the only token that is this score. Probabilities
    are renormalised over the scores among the alternatives. None when there is no such token, or no alternatives there.
    """
    token = _token_of_score(tokens, score)
    if token is None:
        return None
    by_score: dict[int, list[float]] = {}
    for alternative, logprob in token.alternatives.items():
        if (written := _DIGIT.fullmatch(alternative)) and math.isfinite(logprob):
            by_score.setdefault(_number(written[1]), []).append(logprob)
    if score not in by_score:
        return None
    highest = max(logprob for logprobs in by_score.values() for logprob in logprobs)
    mass = {one: sum(math.exp(logprob - highest) for logprob in logprobs) for one, logprobs in by_score.items()}
    return round(sum(one * p for one, p in mass.items()) / sum(mass.values()), 4)


def _token_of_score(tokens: Sequence[Token], score: int) -> Token | None:
    text = "".join(token.text for token in tokens)
    at = next((m.start(1) for m in reversed(list(_AT_SCORE.finditer(text))) if _number(m[1]) == score), None)
    if at is None:
        same = [token for token in tokens if (m := _DIGIT.fullmatch(token.text)) and _number(m[1]) == score]
        return same[0] if len(same) == 1 else None
    end = 0
    for token in tokens:
        end += len(token.text)
        if end > at:
            return token
    return None


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
