"""How many kinds of genres and audiences there are behind their wordings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

OFTEN, RARE = 12, 5


@dataclass(frozen=True, slots=True)
class Labels:
    """Of the labels of `rows` rows: `distinct` wordings, of `kinds` kinds (None: mga[corpus] is not installed), as
    diverse as `effective` equally frequent ones (Hill number of order 1). Kinds are named by their most frequent
    wording; `often` and `rare` have them with their rows, most and least frequent."""

    rows: int
    distinct: int
    kinds: int | None
    effective: float
    often: Sequence[tuple[str, int]]
    rare: Sequence[tuple[str, int]]


def labels_of(counts: Counter[str], originals: Sequence[str]) -> Labels:
    """What labels with so many rows each come to; `originals` are ordinary texts, which say what a word weighs."""
    clustered = _clustered(counts, originals)
    kinds = counts if clustered is None else clustered
    ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    rare = ranked[OFTEN:][-RARE:]
    number = None if clustered is None else len(clustered)
    return Labels(counts.total(), len(counts), number, effective_number(kinds), ranked[:OFTEN], rare)


def effective_number(counts: Counter[str]) -> float:
    """exp of Shannon's entropy (Hill 1973): how many equally frequent kinds are as diverse. 0 without counts."""
    total = counts.total()
    return exp(-sum(n / total * log(n / total) for n in counts.values() if n)) if total else 0.0


def _clustered(counts: Counter[str], originals: Sequence[str]) -> Counter[str] | None:
    """Rows of each kind under the wording that leads it, as `mga diversity` finds kinds; None without its libraries."""
    try:
        import numpy as np
        import pyarrow as pa

        from mga.curation.diversity.labels import kinds_of
        from mga.curation.diversity.overlap import stems_of
        from mga.text.tokens import tokens_of
    except ImportError:
        return None
    if not counts:
        return Counter()
    ordered = sorted(counts)
    texts = pa.array(originals, pa.large_string())
    rows = np.array([counts[label] for label in ordered], np.int64)
    kinds = kinds_of(ordered, rows, stems_of(texts, tokens_of(texts)))
    sizes = np.bincount(kinds.cluster, rows, minlength=len(kinds.leaders))
    return Counter({ordered[leader]: int(sizes[place]) for place, leader in enumerate(kinds.leaders)})
