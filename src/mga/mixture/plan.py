"""From a recipe to how often each source is seen: unique tokens × epochs = tokens = weight × budget."""

from collections.abc import Mapping
from dataclasses import dataclass

from mga.errors import InputError
from mga.mixture.amounts import shown
from mga.mixture.recipe import Recipe, Source, Strategy
from mga.mixture.repetition import effective_tokens, value_of_repetition

MOST_OFF = 0.001
"""Given weights or epochs may miss the whole by this share: printed digits do."""
EATEN = 0.10
"""Repetition that costs more than this share of a source's tokens is warned of: more than about 5.6 epochs."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one source gives to a budget; `unique` and `tokens` in tokens."""

    name: str
    unique: float
    tokens: float
    weight: float

    @property
    def epochs(self) -> float:
        """How often each of its tokens is seen."""
        return self.tokens / self.unique

    @property
    def effective(self) -> float:
        """Tokens it is worth by the effective-data law."""
        return effective_tokens(self.unique, self.epochs)


@dataclass(frozen=True, slots=True)
class Plan:
    """A budget divided among its sources, in the recipe's order."""

    strategy: Strategy
    budget: float
    shares: tuple[Share, ...]

    @property
    def effective(self) -> float:
        """Tokens the whole is worth by the effective-data law."""
        return sum(share.effective for share in self.shares)

    def warnings(self) -> list[str]:
        """A sentence for each source whose repetition eats the budget."""
        return [
            f"{share.name} is seen {share.epochs:.3g} times: its {shown(share.tokens)} tokens are worth "
            f"{shown(share.effective)} ({value_of_repetition(share.epochs):.0%})."
            for share in self.shares
            if share.tokens and 1 - value_of_repetition(share.epochs) > EATEN
        ]


def plan(recipe: Recipe, counted: Mapping[str, float] | None = None) -> Plan:
    """The budget divided by the recipe's strategy; `counted` unique tokens by name come before the recipe's.

    Raises InputError when a count is missing or the recipe's numbers do not add up.
    """
    counts = {**{s.name: s.unique for s in recipe.source if s.unique}, **(counted or {})}
    if recipe.strategy is Strategy.COLLECT_MORE and not counted:
        if not any(source.available for source in recipe.source):
            raise InputError("collect-more: say with `available` how many tokens a source would have in all.")
        counts |= {s.name: s.available for s in recipe.source if s.available}
    sources = [source for source in recipe.source if _takes_part(source, recipe)]
    for source in sources:
        if not counts.get(source.name):
            paths = " ".join(source.paths) or "FILES"
            raise InputError(f"Source {source.name} has no `unique`; count: mga budget count {paths} --tokenizer …")
    unique = {source.name: float(counts[source.name] or 0) for source in sources}
    tokens = _DIVIDED[recipe.strategy](recipe, sources, unique)
    shares = tuple(
        Share(source.name, unique[source.name], tokens[source.name], tokens[source.name] / recipe.budget)
        for source in sources
    )
    return Plan(recipe.strategy, recipe.budget, shares)


def _takes_part(source: Source, recipe: Recipe) -> bool:
    """Rewrites only where the strategy has a place for them; originals not where rewrites replace them."""
    if recipe.strategy is Strategy.WEIGHTS:
        return source.weight != 0 and source.epochs != 0
    if recipe.strategy is Strategy.ONLY_SYNTHETIC:
        return not any(other.expands == source.name for other in recipe.source)
    return source.expands is None or recipe.strategy is Strategy.EXPAND


def _repeated(recipe: Recipe, sources: list[Source], unique: dict[str, float]) -> dict[str, float]:
    """All equally often."""
    epochs = recipe.budget / sum(unique.values())
    return {name: tokens * epochs for name, tokens in unique.items()}


def _upsampled(recipe: Recipe, sources: list[Source], unique: dict[str, float]) -> dict[str, float]:
    chosen = {source.name for source in sources if source.upsample}
    if not chosen:
        raise InputError("upsample: mark the source to repeat with `upsample = true`.")
    once = sum(tokens for name, tokens in unique.items() if name not in chosen)
    if once >= recipe.budget:
        raise InputError(
            f"upsample: the other sources, taken once, are {shown(once)} tokens already; the budget is "
            f"{shown(recipe.budget)}. Raise it, or give weights."
        )
    epochs = (recipe.budget - once) / sum(unique[name] for name in chosen)
    return {name: tokens * (epochs if name in chosen else 1) for name, tokens in unique.items()}


def _expanded(recipe: Recipe, sources: list[Source], unique: dict[str, float]) -> dict[str, float]:
    """Within: each original's share under `repeat`, spread over it and its rewrites. Beside: all equally often."""
    if not any(source.expands for source in recipe.source):
        raise InputError(f"{recipe.strategy}: say with `expands` which source is rewrites of which.")
    if recipe.strategy is Strategy.EXPAND and recipe.expansion == "beside":
        return _repeated(recipe, sources, unique)
    originals = [source for source in recipe.source if source.expands is None]
    sizes = {source.name: unique.get(source.name) or source.unique for source in originals}
    for name, size in sizes.items():
        if not size:
            raise InputError(f"Source {name} has no `unique`: what its rewrites take over is inconclusive.")
    whole = sum(size or 0 for size in sizes.values())
    tokens: dict[str, float] = {}
    for name, size in sizes.items():
        family = [s.name for s in sources if name in (s.name, s.expands)]
        epochs = recipe.budget * (size or 0) / whole / sum(unique[member] for member in family)
        tokens |= {member: unique[member] * epochs for member in family}
    return tokens


def _weighted(recipe: Recipe, sources: list[Source], unique: dict[str, float]) -> dict[str, float]:
    """As given, scaled by what printed digits miss."""
    if any((source.weight is None) == (source.epochs is None) for source in sources):
        raise InputError("weights: every source needs either `weight` or `epochs`.")
    whole = 100.0 if sum(source.weight or 0 for source in sources) > 1.5 else 1.0
    tokens = {
        source.name: recipe.budget * source.weight / whole
        if source.weight is not None
        else unique[source.name] * (source.epochs or 0)
        for source in sources
    }
    total = sum(tokens.values())
    if abs(total - recipe.budget) > MOST_OFF * recipe.budget:
        raise InputError(
            f"The sources add up to {shown(total)} tokens ({total / recipe.budget:.2%} of the budget of "
            f"{shown(recipe.budget)}); change weights, epochs or the budget until they agree."
        )
    return {name: value * recipe.budget / total for name, value in tokens.items()}


_DIVIDED = {
    Strategy.REPEAT: _repeated,
    Strategy.COLLECT_MORE: _repeated,
    Strategy.UPSAMPLE: _upsampled,
    Strategy.EXPAND: _expanded,
    Strategy.ONLY_SYNTHETIC: _expanded,
    Strategy.WEIGHTS: _weighted,
}


@dataclass(frozen=True, slots=True)
class Purchase:
    """What rewriting one source would buy: its epochs before and after, and tokens gained if a rewrite were as good
    as a new text. That is a bound from above; nothing but training tells how close rewrites come."""

    name: str
    factor: float
    before: float
    after: float
    gained: float


def purchases(plan: Plan, factor: float) -> list[Purchase]:
    """For each repeated source: its tokens spread over itself and `factor` times as many tokens of rewrites."""
    found = []
    for share in plan.shares:
        if share.epochs > 1:
            after = share.epochs / (1 + factor)
            gained = effective_tokens(share.unique * (1 + factor), after) - share.effective
            found.append(Purchase(share.name, factor, share.epochs, after, gained))
    return found
