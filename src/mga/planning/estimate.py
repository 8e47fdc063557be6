"""`--dry-run`: what a run would ask, send, generate, take and cost, without any model."""

from collections.abc import Sequence
from dataclasses import dataclass

from mga.config import ExpandConfig
from mga.data.documents import InputFile
from mga.data.reading import read
from mga.expand.judge import judge_request
from mga.expand.limits import Limits, measure_limits
from mga.expand.pairs import pairs_at_once, pairs_request
from mga.expand.recipe import Recipe
from mga.expand.reformulate import rewrite_request
from mga.records import Document, Pair, Problem, Reformulation
from mga.text.chunks import chunk
from mga.text.words import estimate_tokens

# 195B tokens became 770B with five rewrites per document (paper §2): so long is a rewrite, per document token.
REWRITE_RATIO = 770 / 195 / 5
PAIR_TOKENS = 90
VERDICT_TOKENS = 90


@dataclass(frozen=True, slots=True)
class Estimate:
    """Sums over the whole input. Tokens are estimates; documents, chunks and requests are counted."""

    documents: int
    problems: list[Problem]
    chunks: int
    source_tokens: int
    requests: int
    prompt_tokens: int
    shared_prompt_tokens: int
    generated_tokens: int
    prompts: dict[str, str]

    def hours(self, tokens_per_second: float) -> float:
        """Hours at so many generated tokens per second."""
        return self.generated_tokens / tokens_per_second / 3600

    def cost(self, prompt_price: float, generated_price: float) -> float:
        """Cost at prices per million tokens."""
        return (self.prompt_tokens * prompt_price + self.generated_tokens * generated_price) / 1e6


async def estimate(config: ExpandConfig, files: Sequence[InputFile]) -> Estimate:
    """Read the whole input and add up; render the prompts of its first document."""

    async def count(text: str) -> int:
        return estimate_tokens(text)

    recipe = Recipe(config, count)
    limits = await measure_limits(recipe)
    asks_pairs = recipe.rewrite_prompt.takes_pair and recipe.given_pairs is None
    pair_requests = -(-config.pairs // pairs_at_once(recipe)) if asks_pairs else 0
    judgements = config.pairs * judged_share(config)
    documents = chunks = source = shared = 0
    prompt_tokens = generated = requests = 0.0
    problems: list[Problem] = []
    prompts: dict[str, str] = {}
    instructions: dict[str, int] = {}
    for row in read(files, config.text_key, config.id_key, config.limit):
        if isinstance(row, Problem):
            problems.append(row)
            continue
        documents += 1
        for part in await chunk(row, limits.document, count):
            if not prompts:
                prompts = example_prompts(part, recipe, limits)
                if not asks_pairs:
                    del prompts["pairs"]
                instructions = {k: estimate_tokens(p) - part.n_tokens for k, p in prompts.items()}
            chunks += 1
            source += part.n_tokens
            rewrite = REWRITE_RATIO * part.n_tokens
            asked = pair_requests + config.pairs + judgements
            requests += asked
            prompt_tokens += asked * part.n_tokens + judgements * (rewrite + instructions["judge"])
            prompt_tokens += pair_requests * instructions.get("pairs", 0) + config.pairs * instructions["reformulate"]
            shared += round((asked - 1) * part.n_tokens)
            generated += config.pairs * (PAIR_TOKENS * asks_pairs + rewrite) + judgements * VERDICT_TOKENS
    return Estimate(
        documents,
        problems,
        chunks,
        source,
        round(requests),
        round(prompt_tokens),
        shared,
        round(generated),
        prompts,
    )


def judged_share(config: ExpandConfig) -> float:
    """The share of rewrites that is judged."""
    return float({"all": 1.0, "none": 0.0}.get(str(config.judge), config.judge))


def example_prompts(document: Document, recipe: Recipe, limits: Limits) -> dict[str, str]:
    """One full prompt of each kind for a document, as it would be sent."""
    pair = Pair("(the genre proposed in stage 1)", "(the audience proposed in stage 1)")
    rewrite = Reformulation("(the rewrite of stage 2)", 0)
    count = pairs_at_once(recipe)
    return {
        "pairs": pairs_request(document, recipe, count).prompt,
        "reformulate": rewrite_request(document, pair, recipe, limits).prompt,
        "judge": judge_request(document, rewrite, recipe).prompt,
    }
