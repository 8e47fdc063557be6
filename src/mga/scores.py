"""A judge's scores as counts, and their rates over all that it was asked and over what it has judged.

The paper's Table 1 divides by all samples, those without a verdict included: 14,297 / 15,355 = 93.11% of the asked are
at 3 or above, and 94.23% of the judged. Both are true of something, so both are always shown, and named.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCORES = (5, 4, 3, 2, 1)
RATES: dict[str, tuple[str, tuple[int, ...]]] = {
    "at_least_3": ("≥ 3", (3, 4, 5)),
    "at_least_4": ("≥ 4", (4, 5)),
    "equal_5": ("= 5", (5,)),
    "at_most_2": ("≤ 2", (1, 2)),
}
"""The paper's rates: key, sign, and the scores that count."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How many texts have which score 1–5, and of how many a verdict was asked for that never came."""

    counts: Mapping[int, int]
    no_verdict: int = 0

    @classmethod
    def of(cls, counts: Mapping[str, int], no_verdict: int = 0) -> "Scores":
        """From counts by score as JSON has them."""
        return cls({score: counts.get(str(score), 0) for score in SCORES}, no_verdict)

    @property
    def judged(self) -> int:
        """Texts with a score."""
        return sum(self.counts.values())

    @property
    def asked(self) -> int:
        """Texts that a verdict was asked for."""
        return self.judged + self.no_verdict

    @property
    def mean(self) -> float | None:
        """The mean score of the judged."""
        return sum(score * count for score, count in self.counts.items()) / self.judged if self.judged else None

    def count(self, rate: str) -> int:
        """Texts that a rate (a key of RATES) counts."""
        return sum(self.counts.get(score, 0) for score in RATES[rate][1])

    def of_asked(self, rate: str) -> float | None:
        """A rate over all that was asked; None when nothing was."""
        return self.count(rate) / self.asked if self.asked else None

    def of_judged(self, rate: str) -> float | None:
        """A rate over what was judged; None when nothing was."""
        return self.count(rate) / self.judged if self.judged else None

    def in_words(self, rate: str = "at_least_3") -> str:
        """Both rates in a line; nothing was judged: the number of verdicts that never came."""
        asked, judged = self.of_asked(rate), self.of_judged(rate)
        if asked is None or judged is None:
            return f"no verdict on {self.no_verdict:,} texts" if self.no_verdict else "none"
        sign = RATES[rate][0]
        return f"{sign}: {asked:.2%} of {self.asked:,} asked, {judged:.2%} of {self.judged:,} judged"

    def as_values(self) -> dict[str, Any]:
        """5 … 1, judged, no_verdict, asked, and of_asked and of_judged with each rate (null: of none)."""
        return {
            **{str(score): self.counts.get(score, 0) for score in SCORES},
            "judged": self.judged,
            "no_verdict": self.no_verdict,
            "asked": self.asked,
            "of_asked": {rate: self.of_asked(rate) for rate in RATES},
            "of_judged": {rate: self.of_judged(rate) for rate in RATES},
        }
