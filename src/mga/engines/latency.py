"""How long answers take, counted in buckets, and the state of each server that gives them.

Counting an answer costs a search among seventeen bounds; what is made of the counts is computed when somebody looks.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)
"""Upper bounds of the buckets, each included; one more bucket holds what takes longer."""

State = Literal["up", "away", "refuses"]


@dataclass(slots=True)
class Latency:
    """Answers by how many seconds they took: a count per bucket, and the sum of all seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count an answer."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The seconds within which this share of answers came, by a straight line inside the bucket; None without answers.

    Of the last bucket only the lower bound is known.
    """
    wanted = share * sum(counts)
    below = 0.0
    for count, lower, upper in zip(counts, (0.0, *BOUNDS_S), (*BOUNDS_S, BOUNDS_S[-1]), strict=True):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return None


@dataclass(frozen=True, slots=True)
class ServerState:
    """One server as its engine sees it now. `outages`: how often it went from answering to giving no answer."""

    name: str
    state: State
    in_flight: int
    outages: int
    latency: Latency


@runtime_checkable
class ManyServers(Protocol):
    """An engine with several servers behind it, which tells of each."""

    def servers(self) -> list[ServerState]: ...
