"""How long a document and a reply may be so that every prompt of a document fits the engine."""

from dataclasses import dataclass

from mga.config import ExpandConfig
from mga.errors import InputError
from mga.expand.pairs import AUDIENCE_LENGTH, GENRE_LENGTH, USED_LENGTH, pairs_at_once
from mga.expand.recipe import Recipe

SHORTEST_DOCUMENT = 64
SHORTEST_REPLY = 256
SEED_WORDS = 32  # of a genre and an audience seed together, at most


@dataclass(frozen=True, slots=True)
class Limits:
    """All in tokens. `document`: longest chunk. `judging`: what a judgement needs beside document and rewrite."""

    config: ExpandConfig
    document: int
    judging: int
    context: int

    def reply(self, document_tokens: int) -> int:
        """Longest rewrite of a document of so many tokens that the judge can still read beside it."""
        fair = max(SHORTEST_REPLY, round(self.config.rewriting.max_reply_ratio * document_tokens))
        room = self.context - self.judging - document_tokens
        return min(self.config.max_reply_tokens, fair, room)


async def measure_limits(recipe: Recipe) -> Limits:
    """The limits of a recipe, by rendering its prompts without a document and counting their tokens."""
    config = recipe.config
    longest = {"genre": "genre " * (GENRE_LENGTH // 6), "audience": "reader " * (AUDIENCE_LENGTH // 7)}
    at_once = pairs_at_once(recipe)
    pairs = {
        "count": str(at_once),
        "keys": '{"texts": [{"kind_of_text": "...", "readers": "..."}, ...]}, with 5 objects in the list',
        "used": f"- {'reader ' * (2 * USED_LENGTH // 7)}\n" * (config.pairs - 1),
        "directions": f"- {'reader ' * SEED_WORDS}\n" * at_once if config.pairing.seeds else "",
    }
    rewrite = longest | {"language": "Write in the language of the document."}
    prompts = [recipe.rewrite_prompt.render("", rewrite)]
    if recipe.rewrite_prompt.takes_pair:
        prompts.append(recipe.pairs_prompt.render("", pairs))
    instructions = max([await recipe.count_tokens(prompt) for prompt in prompts])
    judging = await recipe.count_tokens(recipe.judge_prompt.render("", {"rewrite": ""})) + config.judging.max_tokens
    context = recipe.context or config.max_prompt_tokens + config.max_reply_tokens
    # Half of what the judge leaves goes to the document, so that a rewrite may be as long as the document.
    asking = instructions + max(config.pairing.max_tokens, SHORTEST_REPLY)
    document = min(config.max_prompt_tokens - instructions, (context - judging) // 2, context - asking)
    if document < SHORTEST_DOCUMENT:
        raise InputError(
            f"Prompts of {config.max_prompt_tokens:,} tokens in a context of {context:,} leave {max(document, 0):,} "
            f"for a document; raise max_prompt_tokens above {instructions + SHORTEST_DOCUMENT:,}, lower "
            "pairing.max_tokens, or use a longer context."
        )
    return Limits(config, document, judging, context)
