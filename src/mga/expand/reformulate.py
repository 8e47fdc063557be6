"""Stage 2: write the document anew for one pair (paper §2, "reformulation")."""

from mga.config import ExpandConfig
from mga.engines.engine import Request
from mga.expand.limits import Limits
from mga.expand.recipe import Ask, Recipe, derived_seed
from mga.records import Document, Drop, Pair, Reformulation
from mga.text.languages import language_of, name_of


async def reformulate(document: Document, pair: Pair, ask: Ask, recipe: Recipe, limits: Limits) -> Reformulation | Drop:
    """The text as the model wrote it, or a Drop when it is empty, refused, filtered, or not known to be whole."""
    reply = await ask(rewrite_request(document, pair, recipe, limits))
    text = reply.text.strip()
    written = Reformulation(text, reply.generated_tokens if reply.text_tokens is None else reply.text_tokens)
    if reply.finish == "content_filter":
        return Drop("content_filter", "the server's filter ended the reply", written)
    if reply.finish == "refusal":
        return Drop("refusal", text[:200], written)
    if reply.finish == "length":
        return Drop("cut_off", f"the reply reached {reply.generated_tokens:,} tokens without an end", written)
    if not text:
        return Drop("empty_reply", "the model wrote nothing", written)
    if reply.finish == "unknown":
        return Drop("unknown_finish", "the server gives no reason, or one unknown to mga, why the reply ended", written)
    return written


def rewrite_request(document: Document, pair: Pair, recipe: Recipe, limits: Limits) -> Request:
    """The request for one pair. Its seed depends on the document and the pair, not on the order of work."""
    config = recipe.config
    return Request(
        prompt=rewrite_prompt(document.text, pair, recipe),
        max_tokens=limits.reply(document.n_tokens),
        seed=derived_seed(config.seed, document.key, "reformulate", pair.genre, pair.audience),
        purpose="reformulate",
        affinity=document.key,
        sampling=config.rewriting.sampling.wire(),
    )


def rewrite_prompt(document: str, pair: Pair, recipe: Recipe) -> str:
    """The whole prompt for one pair; its sides stand within sentences, so a full stop of theirs goes."""
    values = {"genre": pair.genre.rstrip(" ."), "audience": pair.audience.rstrip(" .")}
    values["language"] = language_line(document, recipe.config)
    return recipe.rewrite_prompt.render(document, values)


def language_line(document: str, config: ExpandConfig) -> str:
    """The sentence that asks for a language: the one that is set, or the document's by its name where it is certain."""
    language = config.language or (name_of(language_of(document)) if config.cleaning.check_language else None)
    return f"Write in {language or 'the language of the document'}."
