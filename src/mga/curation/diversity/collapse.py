"""Signs that a generator has collapsed onto a few ideas, each with its figure and the threshold it passed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

MIN_ROWS = 100
"""Fewer rows say nothing: chance alone passes the thresholds."""

EFFECTIVE_SHARE = 0.05
"""Of 1,000 rows' labels fewer than 50 effective clusters: a hand-written list would be as long. mga's own seeds name
60 of each."""

LARGEST_CLUSTER = 0.15
"""A fifth means that one of five pairs of every document is of this kind; here it is three documents of four."""

SAME_PAIR = 0.1
"""Five pairs make ten pairs of siblings: one of ten alike is a doubled pair in every document."""

SIBLING_JACCARD = 0.25
"""Reasoned, not measured on a real model: retellings share names and set phrases; with a quarter of their runs of three
words in common, one is the other with changes."""

NEW_TRIGRAMS = 0.3
"""Fewer new runs of three words than this: most of the text is its original's."""

COMPRESSION_RATIO = 1.25
"""Prose of one kind (science, economics, letters) has 0.95 to 1.16 times the ratio of a mixture of kinds, and the World
Factbook, a form filled in for every country, 1.29: more is a template."""

VENDI_RATIO = 0.5
"""Half as many different texts as the originals are, from the same originals: the writing is one, whatever the
subject."""

DECLINE = 0.2
"""From the first three tenths to the last three. Reasoned, not measured: well above what tenths of some hundred rows
differ by chance."""

EDGE = 3
DECLINING = {
    "genre": ("effective clusters of genres", "labels"),
    "audience": ("effective clusters of audiences", "labels"),
    "distinct_2_to_originals": ("distinct pairs of words beside the originals'", None),
    "vendi_ratio": ("the Vendi score beside the originals'", None),
}


@dataclass(frozen=True, slots=True)
class Sign:
    """`value` passed `threshold`; `text` says it in one sentence."""

    name: str
    value: float
    threshold: float
    text: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def warnings_of(figures: dict[str, Any]) -> list[Sign]:
    """What is alarming in the figures of `diversity.measure`; nothing for fewer than MIN_ROWS rows."""
    if figures["sample"]["rows"] < MIN_ROWS:
        return []
    return [*_of_labels(figures), *_of_siblings(figures), *_of_texts(figures["whole"]), *_of_time(figures["over_time"])]


def _of_labels(figures: dict[str, Any]) -> Iterator[Sign]:
    rows = figures["sizes"]["label_rows"]
    for label, effective in figures["whole"]["labels"].items():
        if effective is not None and effective < EFFECTIVE_SHARE * rows:
            yield Sign(
                f"few_{label}s",
                effective / rows,
                EFFECTIVE_SHARE,
                f"The {label}s of {rows:,} rows are {effective:.1f} effective clusters, fewer than "
                f"{EFFECTIVE_SHARE * rows:.0f} ({EFFECTIVE_SHARE:.0%} of the rows): the pairs repeat a few ideas.",
            )
        largest = figures["labels"][label]["largest"][0]
        if largest["share"] > LARGEST_CLUSTER:
            yield Sign(
                f"large_{label}_cluster",
                largest["share"],
                LARGEST_CLUSTER,
                f"{largest['share']:.0%} of the rows have {label}s like {largest['example']!r}, more than "
                f"{LARGEST_CLUSTER:.0%}.",
            )


def _of_siblings(figures: dict[str, Any]) -> Iterator[Sign]:
    siblings = figures["whole"]["siblings"]
    if siblings is None:
        return
    if siblings["same_pair"] is not None and siblings["same_pair"] > SAME_PAIR:
        yield Sign(
            "same_pairs",
            siblings["same_pair"],
            SAME_PAIR,
            f"{siblings['same_pair']:.0%} of the pairs of siblings have the same genre and audience, more than "
            f"{SAME_PAIR:.0%}: the pairs of one document repeat each other.",
        )
    if siblings["jaccard"] > SIBLING_JACCARD:
        yield Sign(
            "alike_siblings",
            siblings["jaccard"],
            SIBLING_JACCARD,
            f"Texts of one original share {siblings['jaccard']:.0%} of their runs of three words, more than "
            f"{SIBLING_JACCARD:.0%}: genre and audience change little.",
        )


def _of_texts(whole: dict[str, Any]) -> Iterator[Sign]:
    ratio, vendi, new = whole["compression_ratio_to_originals"], whole["vendi_ratio"], whole["new_3"]
    if ratio is not None and ratio > COMPRESSION_RATIO:
        yield Sign(
            "compressible",
            ratio,
            COMPRESSION_RATIO,
            f"The texts can be compressed {ratio:.2f} times as much as their originals, more than "
            f"{COMPRESSION_RATIO} times: they repeat phrases.",
        )
    if vendi is not None and vendi < VENDI_RATIO:
        yield Sign(
            "low_vendi",
            vendi,
            VENDI_RATIO,
            f"The texts' Vendi score is {vendi:.2f} of their originals', less than {VENDI_RATIO}: they are alike.",
        )
    if new is not None and new["mean"] < NEW_TRIGRAMS:
        yield Sign(
            "copies",
            new["mean"],
            NEW_TRIGRAMS,
            f"{new['mean']:.0%} of the texts' runs of three words are new, less than {NEW_TRIGRAMS:.0%}: they copy.",
        )


def _of_time(parts: list[dict[str, Any]]) -> Iterator[Sign]:
    for name, (what, inside) in DECLINING.items():
        values = [(part[inside] if inside else part).get(name) for part in parts]
        edges = [value for value in (*values[:EDGE], *values[-EDGE:]) if value is not None]
        if len(edges) < 2 * EDGE:
            continue
        before, after = sum(edges[:EDGE]) / EDGE, sum(edges[EDGE:]) / EDGE
        decline = 1 - after / before
        if decline > DECLINE:
            yield Sign(
                f"declining_{name}",
                decline,
                DECLINE,
                f"Over the corpus, {what} fall by {decline:.0%} from the first three tenths to the last three "
                f"({before:.3g} → {after:.3g}), more than {DECLINE:.0%}.",
            )
