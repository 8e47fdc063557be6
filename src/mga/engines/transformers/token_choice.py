"""What decides a row's next token: sampling settings, random numbers of its own, repetition, a JSON Schema.

Scores are a model's logits: float32 tensors on its device, [vocabulary] for one row or [rows, vocabulary] for several.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from mga.engines.engine import Request

SETTINGS = {"temperature", "top_p", "min_p", "top_k", "repeat_penalty", "repeat_last_n", "repetition_penalty"}
CANDIDATES = 256  # likeliest tokens sorted at first; all are where these do not hold the probability asked for

Matcher = Any  # llguidance's LLMatcher: it follows a reply and knows which tokens the schema allows next


class Choice:
    """How one row chooses: the request's settings, random numbers from its seed, its schema (None: held to nothing)."""

    def __init__(self, request: Request, matcher: Matcher | None) -> None:
        self.settings = request.sampling
        self._seed = request.seed
        self._matcher = matcher
        self._random = Random(request.seed)

    def restart(self) -> None:
        """Choose a reply from its first token again."""
        self._random = Random(self._seed)
        if self._matcher is not None:
            self._matcher.reset()

    def draw(self) -> float:
        """The row's next random number, from 0 to below 1."""
        return self._random.random()

    def follow(self, token: int) -> None:
        """Tell the schema which token has been chosen."""
        if self._matcher is not None:
            self._matcher.consume_token(token)

    def adjust(self, scores: Tensor, prompt: list[int], reply: list[int]) -> None:
        """Change scores [vocabulary] in place: lower for recent tokens, -inf for those the schema forbids."""
        self._penalize(scores, prompt, reply)
        if self._matcher is not None:
            bias = bytearray(self._matcher.compute_logit_bias())  # a byte per token the tokenizer knows, 0: forbidden
            allowed = torch.frombuffer(bias, dtype=torch.uint8).bool().to(scores.device)
            scores[: len(allowed)].masked_fill_(~allowed, -torch.inf)
            scores[len(allowed) :] = -torch.inf

    def _penalize(self, scores: Tensor, prompt: list[int], reply: list[int]) -> None:
        """Recent are the last 64 tokens of prompt and reply as in llama.cpp, or all of them as in vLLM."""
        given = self.settings
        penalty = given.get("repetition_penalty", given.get("repeat_penalty", 1.0))
        last = int(given.get("repeat_last_n", -1 if "repetition_penalty" in given else 64))
        if penalty != 1.0 and last:
            written = prompt + reply
            ids = torch.tensor(sorted(set(written if last < 0 else written[-last:])), device=scores.device)
            scores[ids] = torch.where(scores[ids] > 0, scores[ids] / penalty, scores[ids] * penalty)


def choose(choices: Sequence[Choice], scores: Tensor) -> list[int]:
    """A token id for each row of scores [rows, vocabulary].

    A row's random number is a point in the probability of its kept tokens, laid end to end from the likeliest down.
    """

    def setting(name: str, default: float) -> Tensor:  # [rows, 1]
        given = [[choice.settings.get(name, default)] for choice in choices]
        return torch.tensor(given, dtype=torch.float32, device=scores.device)

    temperature, top_k = setting("temperature", 1.0), setting("top_k", 0)
    top_p, min_p = setting("top_p", 1.0), setting("min_p", 0.0)
    all_kept = (top_p >= 1) & (min_p <= 0) & (top_k < 1)
    draw = torch.tensor([[choice.draw()] for choice in choices], device=scores.device) * (temperature > 0)
    probabilities = (scores / temperature.clamp(min=1e-5)).softmax(-1)
    vocabulary = scores.shape[-1]
    for size in (min(CANDIDATES, vocabulary), vocabulary):
        likeliest = probabilities.topk(size)  # [rows, size], as all that follows
        p, rank = likeliest.values, torch.arange(size, device=scores.device)
        kept = all_kept | ((p.cumsum(-1) - p < top_p) & (p >= min_p * p[:, :1]))
        kept &= (rank < top_k) | (top_k < 1)
        mass = (p * kept).cumsum(-1)
        total = mass[:, -1:]
        point = draw * torch.where(all_kept & (size < vocabulary), 1.0, total)
        if ((point < total) & (all_kept | ~kept[:, -1:])).all():  # sorting all takes as long as the model
            break
    place = (mass < point).sum(-1, keepdim=True).clamp(max=size - 1)
    chosen: list[int] = likeliest.indices.gather(-1, place).flatten().tolist()
    return chosen


def alternatives(scores: Tensor, count: int, decode: Callable[[list[int]], str]) -> dict[str, float]:
    """Log-probabilities of the `count` likeliest tokens of scores [vocabulary], by text, the likeliest last."""
    if not count:
        return {}
    best = scores.log_softmax(-1).topk(count)
    likeliest_last = zip(best.values.tolist()[::-1], best.indices.tolist()[::-1], strict=True)
    return {decode([token]): p for p, token in likeliest_last}


def schema_matchers(tokenizer: Any, ends: frozenset[int]) -> Callable[[Mapping[str, Any]], Matcher | None]:
    """From a JSON Schema to what holds a reply to it; to None without llguidance, or for a schema it cannot do."""
    try:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        known = from_tokenizer(tokenizer, eos_token=sorted(ends))
    except (ImportError, ValueError):
        return lambda schema: None

    def matcher(schema: Mapping[str, Any]) -> Matcher | None:
        try:
            made = LLMatcher(known, LLMatcher.grammar_from_json_schema(dict(schema)))
        except ValueError:
            return None
        return None if made.is_error() else made

    return matcher
