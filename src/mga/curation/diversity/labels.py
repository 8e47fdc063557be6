"""How many kinds a great many labels are: "fifty thousand audiences" may be ten, said in many ways.

A label is what a model was asked to write for: "A retired fisherman who distrusts science". Three views of it: as it
stands; its normal form (case, accents, punctuation and articles aside); its cluster. Labels are in one cluster when
the cosine of their weighted words is high. Words are compared by their first five letters ("fisherman", "fishermen").
What is said with other words altogether ("angler") stays apart, so the true number of kinds may be smaller.

How much a word weighs is decided by ordinary texts, the originals, and not by the labels: there a word that all of
them share ("fisherman", after a collapse) would count as a filler.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from mga.curation.diversity.overlap import Stems, stems_of
from mga.curation.diversity.spread import Vocabulary
from mga.data.corpus_files import ordered
from mga.text.tokens import Tokens, mixed, tokens_of

NEAR = 0.55
"""Cosine from which two labels are the same kind: more than half of what they say."""

LEADERS = 50_000
"""So many different labels, the most frequent, may begin a cluster; the others join one or stand alone."""

_COMMON = 0.01
"""A word in fewer texts than this share is as telling as any: their order among rare words is chance."""

_KNOWN = 0.5
"""When the texts know a smaller share of the labels' words, their languages differ and the labels are their own
measure: then only words in more of them than _COMMON_IN_LABELS count for less."""

_COMMON_IN_LABELS = 0.2

_ARTICLE_LETTERS = 3
_ARTICLE_SHARE = 0.02
_ARTICLE_FOLLOWERS = 5
_BLOCK = 8_192
_STEP = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Kinds:
    """What each label (by its place) is: the number of its normal form and of its cluster (int64, from 0).

    Clusters are numbered from the one with the most rows on; `leaders` are the labels that began them. `alone` labels
    came after the last leader was chosen and are near none.
    """

    normal: NDArray[np.int64]
    cluster: NDArray[np.int64]
    leaders: NDArray[np.int64]
    alone: int


def kinds_of(labels: Sequence[str], counts: NDArray[np.int64], ordinary: Stems, workers: int = 1) -> Kinds:
    """Normal forms and clusters of different labels, each with its number of rows.

    Leader clustering: labels come with the most frequent first, and each joins the nearest leader whose cosine is at
    least NEAR, or leads. So no chain of small steps joins what is far apart. `ordinary` are the texts whose words
    weigh. The same labels give the same clusters, in whatever order they come.
    """
    array = pa.array(labels, pa.large_string())
    tokens = tokens_of(array)
    forms = _normal_forms(tokens, array)
    _, first, normal = np.unique(forms, return_index=True, return_inverse=True)
    rows = np.bincount(normal, counts, minlength=len(first)).astype(np.int64)
    order = np.lexsort((forms[first], -rows))
    features = _features(stems_of(array, tokens), first[order], Vocabulary.of(ordinary.stems, ordinary.offsets))
    leader_of, alone = _led(features, workers)
    leader = np.empty(len(order), np.int64)
    leader[order] = order[leader_of]
    leaders, cluster = np.unique(leader, return_inverse=True)
    sizes = np.bincount(cluster, rows, minlength=len(leaders))
    by_size = np.lexsort((forms[first[leaders]], -sizes))
    number = np.empty(len(leaders), np.int64)
    number[by_size] = np.arange(len(leaders))
    return Kinds(normal, number[cluster][normal], _most_frequent(normal, counts, forms)[leaders[by_size]], alone)


def _most_frequent(normal: NDArray[np.int64], counts: NDArray[np.int64], forms: NDArray[np.uint64]) -> Any:
    """For each normal form the place of its most frequent label."""
    order = np.lexsort((-counts, normal))
    return order[np.searchsorted(normal[order], np.arange(normal.max(initial=-1) + 1))]


def _normal_forms(tokens: Tokens, labels: pa.Array) -> NDArray[np.uint64]:
    """A hash of each label's words, an article at its beginning aside."""
    skip = _articles(tokens, labels)
    forms = np.empty(len(tokens), np.uint64)
    _hash_words(tokens.hashes, tokens.offsets, skip, forms)
    return forms


def _articles(tokens: Tokens, labels: pa.Array) -> NDArray[np.bool_]:
    """Whether each label begins with an article, in any language: a word of at most three letters that begins many
    labels, before many different words."""
    lengths = np.diff(tokens.offsets)
    several = np.flatnonzero(lengths > 1)
    begins = np.zeros(len(tokens), np.bool_)
    first = tokens.offsets[several]
    words, place, counts = np.unique(tokens.hashes[first], return_index=True, return_counts=True)
    for word in np.flatnonzero(counts >= max(_ARTICLE_SHARE * len(tokens), _ARTICLE_FOLLOWERS)):
        label, token = several[place[word]], first[place[word]]
        written = labels[int(label)].as_py().encode()[tokens.starts[token] : tokens.ends[token]].decode()
        with_it = tokens.hashes[first] == words[word]
        followers = len(np.unique(tokens.hashes[first[with_it] + 1]))
        if len(written) <= _ARTICLE_LETTERS and not written.isdigit() and followers >= _ARTICLE_FOLLOWERS:
            begins[several[with_it]] = True
    return begins


@dataclass(frozen=True, slots=True)
class _Features:
    """Unit vectors of labels: label i has `words[offsets[i]:offsets[i + 1]]` (int32), the heaviest first, their
    `weights` (float32), and in `rest` (float32) the length of what comes from that word on."""

    words: NDArray[np.int32]
    weights: NDArray[np.float32]
    rest: NDArray[np.float32]
    offsets: NDArray[np.int64]
    vocabulary: int


def _features(stems: Stems, chosen: NDArray[np.int64], ordinary: Vocabulary) -> _Features:
    lengths = np.diff(stems.offsets)[chosen]
    ends = np.cumsum(lengths)
    at = np.arange(lengths.sum()) + np.repeat(stems.offsets[chosen] - (ends - lengths), lengths)
    different, numbers = np.unique(stems.stems[at], return_inverse=True)
    entries = np.unique(np.repeat(np.arange(len(chosen)), lengths) * max(len(different), 1) + numbers)
    label, word = np.divmod(entries, max(len(different), 1))
    shares, common = ordinary.count(different) / max(ordinary.texts, 1), _COMMON
    if (shares[word] > 0).sum() < _KNOWN * len(word):
        shares, common = np.bincount(word, minlength=len(different)) / len(chosen), _COMMON_IN_LABELS
    weights = np.log(1 / np.clip(shares, common, 1 - 1e-3))[word]
    weights /= np.sqrt(np.bincount(label, weights * weights, minlength=len(chosen)))[label]
    order = np.lexsort((word, -weights, label))
    label, word, weights = label[order], word[order], weights[order]
    offsets = np.searchsorted(label, np.arange(len(chosen) + 1)).astype(np.int64)
    squares = np.cumsum((weights * weights)[::-1])[::-1]
    after = np.append(squares, 0.0)[offsets[1:]]
    rest = np.sqrt(np.maximum(squares - after[label], 0.0))
    return _Features(
        word.astype(np.int32), weights.astype(np.float32), rest.astype(np.float32), offsets, len(different)
    )


def _led(features: _Features, workers: int) -> tuple[NDArray[np.int64], int]:
    """The leader of each label, itself if it leads or stands alone, and how many stand alone."""
    count = len(features.offsets) - 1
    leaders = min(count, LEADERS)
    heads = np.full(features.vocabulary, -1, np.int32)
    links = np.empty(int(features.offsets[leaders]), np.int32)
    owners = np.empty(int(features.offsets[leaders]), np.int32)
    leader_of = np.arange(count, dtype=np.int64)
    given = (features.words, features.weights, features.rest, features.offsets, heads, links, owners)
    _lead(*given, 0, leaders, np.float32(NEAR), True, leader_of)

    def join(first: int) -> None:
        _lead(*given, first, min(first + _BLOCK, count), np.float32(NEAR), False, leader_of)

    for _ in ordered(join, range(leaders, count, _BLOCK), workers):
        pass
    return leader_of, int((leader_of[leaders:] == np.arange(leaders, count)).sum())


@njit(nogil=True, cache=True)
def _hash_words(hashes: Any, offsets: Any, skip: Any, forms: Any) -> None:
    for label in range(len(offsets) - 1):
        value = np.uint64(0)
        for at in range(offsets[label] + skip[label], offsets[label + 1]):
            value = value * _STEP + hashes[at]
        forms[label] = mixed(value)


@njit(nogil=True, cache=True)
def _lead(
    words: Any,
    weights: Any,
    rest: Any,
    offsets: Any,
    heads: Any,
    links: Any,
    owners: Any,
    first: int,
    end: int,
    near: Any,
    may_lead: bool,
    leader_of: Any,
) -> None:
    """Find the nearest leader of the labels first … end. A leader's words are linked: `heads[word]` is the last place
    in the leaders' words that has it, `links[place]` the one before, `owners[place]` the label there.

    Only words before `rest` falls under `near` are looked up: who shares none of them cannot be near enough."""
    most = end if may_lead else len(leader_of)
    seen = np.full(most, -1, np.int32)
    cosine = np.zeros(most, np.float32)
    candidates = np.empty(most, np.int32)
    for label in range(first, end):
        start, stop = offsets[label], offsets[label + 1]
        count = 0
        at = start
        while at < stop and rest[at] >= near:
            place = heads[words[at]]
            while place >= 0:
                owner = owners[place]
                if seen[owner] != label:
                    seen[owner] = label
                    cosine[owner] = 0
                    candidates[count] = owner
                    count += 1
                cosine[owner] += weights[at] * weights[place]
                place = links[place]
            at += 1
        left = rest[at] if at < stop else np.float32(0)
        best, nearest = near, -1
        for k in range(count):
            owner = candidates[k]
            if cosine[owner] + left < best:
                continue
            total = cosine[owner]
            for mine in range(at, stop):
                for its in range(offsets[owner], offsets[owner + 1]):
                    if words[its] == words[mine]:
                        total += weights[mine] * weights[its]
                        break
            if total > best or (total == best and (nearest < 0 or owner < nearest)):
                best, nearest = total, owner
        if nearest >= 0:
            leader_of[label] = nearest
        elif may_lead:
            for mine in range(start, stop):
                links[mine] = heads[words[mine]]
                owners[mine] = label
                heads[words[mine]] = mine
