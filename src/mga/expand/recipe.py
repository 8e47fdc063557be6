"""What the flow needs to know: the settings, the prompts, the phrases, and how much fits."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

from mga.config import ExpandConfig
from mga.engines.engine import Reply, Request
from mga.expand.boilerplate import Phrases, phrases_of
from mga.expand.given_pairs import GivenPairs
from mga.prompts.library import Prompt, load, reformulation_prompt
from mga.text.chunks import CountTokens
from mga.text.languages import detector

Ask = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is asked and what is kept. `context` is in tokens."""

    config: ExpandConfig
    count_tokens: CountTokens
    context: int | None = None

    @cached_property
    def pairs_prompt(self) -> Prompt:
        return load("pairs")

    @cached_property
    def pair_prompt(self) -> Prompt:
        return load("pair")

    @cached_property
    def rewrite_prompt(self) -> Prompt:
        return reformulation_prompt(self.config.variant)

    @cached_property
    def judge_prompt(self) -> Prompt:
        return load("judge")

    @cached_property
    def given_pairs(self) -> GivenPairs | None:
        given = self.config.pairing.given
        return GivenPairs.read(Path(given)) if given else None

    @cached_property
    def phrases(self) -> Phrases:
        return phrases_of(self.config.cleaning)

    @property
    def prompts(self) -> dict[str, str]:
        """Fingerprints of the prompts in use, by task, and of phrases and patterns other than the built-in."""
        prints = {task: _named(prompt) for task, prompt in self._used.items()}
        if self.rewrite_prompt.takes_pair and self.given_pairs is not None:
            prints["pairs"] = f"given@{self.given_pairs.fingerprint}"
        if self.config.cleaning.phrases:
            prints["phrases"] = self.phrases.fingerprint
        if self.config.cleaning.check_language and (languages := detector()):
            prints["languages"] = languages
        if self.config.cleaning.patterns:
            prints["patterns"] = self.phrases.patterns.fingerprint
        return prints

    @property
    def prompt_texts(self) -> dict[str, str]:
        """The prompts in use word for word, with their placeholders, by the names that `prompts` gives them."""
        return {_named(prompt): prompt.whole for prompt in self._used.values()}

    @property
    def _used(self) -> dict[str, Prompt]:
        """By task; what asks for pairs only where pairs are asked for."""
        used = {"reformulate": self.rewrite_prompt, "judge": self.judge_prompt}
        if self.rewrite_prompt.takes_pair and self.given_pairs is None:
            together = self.config.pairing.recipe == "together"
            used = {"pairs": self.pairs_prompt if together else self.pair_prompt, **used}
        return used


def _named(prompt: Prompt) -> str:
    return f"{prompt.name}@{prompt.fingerprint}"


def derived_seed(*parts: object) -> int:
    """A 31-bit seed that depends on all parts and on nothing else."""
    digest = blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1
