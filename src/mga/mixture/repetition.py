"""What repeated and rewritten tokens are worth: the effective-data law of Muennighoff et al. 2023, arXiv 2305.16264.

D' = U + U · R* · (1 − exp(−R / R*)): U unique tokens, seen once and R times more, teach as much as D' unique ones.
"""

from math import exp

HALF_LIFE = 15.387756
"""R* of data in their fit (appendix A): repetitions after which the worth of one more has fallen to 1/e."""


def effective_tokens(unique: float, epochs: float) -> float:
    """Unique tokens that would teach as much as `unique` tokens seen `epochs` times. Up to one epoch all are new."""
    if epochs <= 1:
        return unique * epochs
    return unique * (1 + HALF_LIFE * (1 - exp(-(epochs - 1) / HALF_LIFE)))


def value_of_repetition(epochs: float) -> float:
    """The share of the tokens spent that counts, from 1 (nothing repeated) down."""
    return effective_tokens(1, epochs) / epochs if epochs > 0 else 1.0


LEAST_DISCOUNT, MOST_DISCOUNT = 0.0, 1 - (1.48 - 1) / 32
"""Between these the literature leaves open by how much a unique token of rewrites teaches less than one of new text.

Most: 32 rewrites a document gave 1.48 times the data efficiency (arXiv 2603.18534), so each added 0.48 / 32 of its
original; gains level off, so the first few add more. Least: rewrites alone trained no faster than web text
(arXiv 2510.01631); rewrites of a quarter of a corpus did no worse than all of it (arXiv 2502.04235, EntireSet).
"""
