"""From a recipe to how often each source is seen: unique tokens × epochs = tokens = weight × budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

from mga.errors import InputError
from mga.mixture.amounts import shown
from mga.mixture.recipe import Recipe, Source, Strategy
from mga.mixture.repetition import LEAST_DISCOUNT, MOST_DISCOUNT, effective_tokens, value_of_repetition

MOST_OFF = 0.001
"""Given weights or epochs may miss the whole by this share: printed digits do."""
EATEN = 0.10
"""Repetition that costs more than this share of a source's tokens is warned of: more than about 5.6 epochs."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one source gives to a budget; `unique` and `tokens` in tokens. `discounts` are the least and the most by
    which a token teaches less than one of new text: rewrites may."""

    name: str
    unique: float
    tokens: float
    weight: float
    discounts: tuple[float, float] = (0.0, 0.0)

    @property
    def epochs(self) -> float:
        """How often each of its tokens is seen."""
        return self.tokens / self.unique

    @property
    def effective(self) -> float:
        """Effective unique tokens by the effective-data law, a rewrite counted as a new text."""
        return effective_tokens(self.unique, self.epochs)

    @property
    def discounted(self) -> tuple[float, float]:
        """Effective unique tokens with the most and with the least discount."""
        least, most = self.discounts
        return self.effective * (1 - most), self.effective * (1 - least)


@dataclass(frozen=True, slots=True)
class Plan:
    """A budget divided among its sources, in the recipe's order."""

    strategy: Strategy
    budget: float
    shares: tuple[Share, ...]

    @property
    def effective(self) -> float:
        """Effective unique tokens of the whole, a rewrite counted as a new text."""
        return sum(share.effective for share in self.shares)

    @property
    def discounted(self) -> tuple[float, float]:
        """Effective unique tokens of the whole with the most and with the least discount."""
        low, high = zip(*(share.discounted for share in self.shares), strict=True)
        return sum(low), sum(high)

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
    check_strategy(recipe)
    counts = {**{s.name: s.unique for s in recipe.source if s.unique}, **(counted or {})}
    if recipe.strategy is Strategy.COLLECT_MORE and not counted:
        if not any(source.available for source in recipe.source):
            raise InputError("collect-more: say with `available` how many tokens a source would have in all.")
        counts |= {s.name: s.available for s in recipe.source if s.available}
    sources = [source for source in recipe.source if _takes_part(source, recipe)]
    for source in sources:
        if source.name in (counted or {}) and not counts[source.name]:
            raise InputError(f"Source {source.name} has no text to train on: all is empty, held out or left out.")
        if not counts.get(source.name):
            paths = " ".join(source.paths) or "FILES"
            raise InputError(f"Source {source.name} has no `unique`; count: mga budget count {paths} --tokenizer …")
    unique = {source.name: float(counts[source.name] or 0) for source in sources}
    tokens = _DIVIDED[recipe.strategy](recipe, sources, unique)
    shares = tuple(
        Share(source.name, unique[source.name], given, given / recipe.budget, discounts_of(source))
        for source in sources
        for given in (tokens[source.name],)
    )
    return Plan(recipe.strategy, recipe.budget, shares)


def check_strategy(recipe: Recipe) -> None:
    """Raise InputError when the strategy lacks what it needs of the recipe, whatever the sources hold."""
    sources = [source for source in recipe.source if _takes_part(source, recipe)]
    if recipe.strategy is Strategy.UPSAMPLE and not any(source.upsample for source in sources):
        raise InputError("upsample: mark the source to repeat with `upsample = true`.")
    rewrites = recipe.strategy in (Strategy.EXPAND, Strategy.ONLY_SYNTHETIC)
    if rewrites and not any(source.expands for source in recipe.source):
        raise InputError(f"{recipe.strategy}: say with `expands` which source is rewrites of which.")
    if recipe.strategy is Strategy.WEIGHTS:
        if any((source.weight is None) == (source.epochs is None) for source in sources):
            raise InputError("weights: every source needs either `weight` or `epochs`.")
        if all(source.epochs is None for source in sources):
            _weighted(recipe, sources, {})


def discounts_of(source: Source) -> tuple[float, float]:
    """The least and the most discount of a source's tokens: as given, the literature's range, or none."""
    if source.expands is None:
        return 0.0, 0.0
    return (LEAST_DISCOUNT, MOST_DISCOUNT) if source.discount == "unknown" else (source.discount, source.discount)


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
    """As given, scaled by what printed digits miss. Weights are shares of the budget: whichever of fractions and
    percent makes weights and epochs add up to it."""
    readings = [
        {
            source.name: recipe.budget * source.weight / whole
            if source.weight is not None
            else unique[source.name] * (source.epochs or 0)
            for source in sources
        }
        for whole in (1, 100)
    ]
    totals = [sum(reading.values()) for reading in readings]
    fitting = [i for i, total in enumerate(totals) if abs(total - recipe.budget) <= MOST_OFF * recipe.budget]
    meaning = "A weight is a share of the budget: with what `epochs` take, all make 1 together, or 100 as percent."
    if len(fitting) == 2 and totals[0] != totals[1]:
        raise InputError(
            f"The weights are so small that they may be shares or percent; give `epochs` instead. {meaning}"
        )
    nearest = min((0, 1), key=lambda i: abs(log((totals[i] or 1) / recipe.budget)))
    tokens, total = readings[nearest], totals[nearest]
    if not fitting:
        raise InputError(
            f"The sources add up to {shown(total)} tokens ({total / recipe.budget:.2%} of the budget of "
            f"{shown(recipe.budget)}); change weights, epochs or the budget until they agree. {meaning}"
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
    """What rewriting one source would buy: its epochs before and after, and effective unique tokens gained: at most, if
    a rewrite taught as much as a new text, and at least, with the most that the literature would discount it by."""

    name: str
    factor: float
    before: float
    after: float
    gained: float
    gained_at_least: float


def purchases(plan: Plan, factor: float) -> list[Purchase]:
    """For each repeated source of new text: its tokens spread over itself and `factor` times as many of rewrites."""
    found = []
    for share in plan.shares:
        if share.epochs > 1 and not any(share.discounts):
            after = share.epochs / (1 + factor)
            original, rewrites = (effective_tokens(unique, after) for unique in (share.unique, share.unique * factor))
            gained = [original + rewrites * (1 - d) - share.effective for d in (LEAST_DISCOUNT, MOST_DISCOUNT)]
            found.append(Purchase(share.name, factor, share.epochs, after, *gained))
    return found
