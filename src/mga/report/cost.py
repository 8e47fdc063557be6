"""The part of a run's page that says what was asked, how fast it went, and what it cost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mga.records import Usage
from mga.report.blocks import Block, Cell, Label, Prose, Section, Share, Table
from mga.report.source import Source


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens, in any currency; 0 where unknown."""

    prompt: float = 0.0
    generated: float = 0.0

    def cost(self, usage: Usage) -> float:
        return (usage.prompt_tokens * self.prompt + usage.generated_tokens * self.generated) / 1e6

    def __bool__(self) -> bool:
        return bool(self.prompt or self.generated)


def speed(sources: Sequence[Source], prices: Prices) -> Section | None:
    """What was asked, how fast, and what it cost. None for stages, which ask no model."""
    runs = [source for source in sources if source.is_run]
    if not runs:
        return None
    columns = ["", *(source.name for source in runs)]
    rows: list[list[Cell]] = []
    for purpose in dict.fromkeys(name for source in runs for name in source.stats.usage):
        used = [source.stats.usage.get(purpose, Usage()) for source in runs]
        rows.append([f"{purpose}: requests", *(of.requests for of in used)])
        rows.append([Label("prompt tokens", 1), *(of.prompt_tokens for of in used)])
        rows.append([Label("of them from the server's cache", 1), *(_cached(of) for of in used)])
        rows.append([Label("generated tokens", 1), *(of.generated_tokens for of in used)])
    spent = [sum(source.stats.usage.values(), Usage()) for source in runs]
    per_kept = [_ratio(of.generated_tokens, source.stats.kept_tokens) for of, source in zip(spent, runs, strict=True)]
    rows.append(["generated tokens for each token kept", *per_kept])
    if prices:
        rows.append(["cost", *(round(prices.cost(of), 2) for of in spent)])
        millions = [source.stats.kept_tokens / 1e6 for source in runs]
        costs = (_ratio(prices.cost(of), million) for of, million in zip(spent, millions, strict=True))
        rows.append(["cost of a million tokens kept", *costs])
    blocks: list[Block] = [Table("Requests and tokens", columns, rows)]
    if any(source.sessions.seconds for source in runs):
        blocks.append(Table("Speed, all processes that worked on it together", columns, _rates(runs)))
    if prices:
        given = f"Prices given: {prices.prompt:g} for a million prompt tokens, {prices.generated:g} for generated ones."
        blocks.append(Prose(given))
    return Section("speed", "Cost and speed", blocks)


def _rates(runs: Sequence[Source]) -> list[list[Cell]]:
    of = [source.sessions for source in runs]
    seconds = [session.seconds for session in of]

    def rate(amounts: Iterable[float]) -> list[Cell]:
        return [_ratio(amount, time) for amount, time in zip(amounts, seconds, strict=True)]

    return [
        ["time", *(hours(time) for time in seconds)],
        ["requests/s", *rate(session.spent.requests for session in of)],
        ["generated tokens/s", *rate(session.spent.generated_tokens for session in of)],
        ["prompt tokens/s", *rate(session.spent.prompt_tokens for session in of)],
        ["requests in flight", *rate(session.in_flight_seconds for session in of)],
        ["cores used in this process", *rate(session.cpu_seconds for session in of)],
    ]


def _cached(usage: Usage) -> Cell:
    share = usage.cached_tokens / usage.prompt_tokens if usage.prompt_tokens else 0.0
    return Share(share, f"{share:.1%}")


def _ratio(part: float, whole: float) -> float | None:
    ratio = part / whole if whole else None
    return None if ratio is None else round(ratio, 0 if ratio >= 100 else 3)


def hours(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
