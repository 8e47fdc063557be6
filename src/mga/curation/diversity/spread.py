"""How spread out a set is: effective numbers of kinds, distinct n-grams, what a compressor finds, the Vendi score.

All that depends on the size of a set is measured on pieces of one size, so that sets can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import zstandard
from numba import njit
from numpy.typing import NDArray

ZSTD_LEVEL = 9
"""Finds nearly all repetition in a piece; the last levels cost ten times as much for a few percent."""

_HLL_BITS = 14
HLL_REGISTERS = 1 << _HLL_BITS
HLL_ERROR = 1.04 / HLL_REGISTERS**0.5
"""Standard error of `distinct_estimate` as a share: 0.8%."""


def effective_numbers(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Hill numbers of order 1 and 2 of kinds with these counts: how many equally frequent kinds are as diverse.

    Order 1 is the exponential of Shannon's entropy, order 2 the inverse of Simpson's concentration (Hill 1973).
    Without counts both are 0.
    """
    present = counts[counts > 0]
    if not len(present):
        return 0.0, 0.0
    shares = present / present.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())), float(1 / (shares * shares).sum())


def effective_of_pieces(kinds: NDArray[np.int64], size: int, most: int = 10) -> float | None:
    """Effective number (order 1) of kinds within `size` neighbouring rows, the mean over up to `most` such pieces.

    A count of kinds grows with the rows counted; this one does not. None when there are fewer rows, or `size` is 0.
    """
    pieces = min(len(kinds) // size, most) if size else 0
    if not pieces:
        return None
    found = [effective_numbers(np.unique(kinds[i * size :][:size], return_counts=True)[1])[0] for i in range(pieces)]
    return float(np.mean(found))


def distinct_share(grams: NDArray[np.uint64], size: int) -> float | None:
    """Distinct-n (Li et al. 2016) of n-grams, the mean over all pieces of `size`; None when there is no whole piece."""
    pieces = len(grams) // size if size else 0
    if not pieces:
        return None
    return float(np.mean([len(np.unique(grams[i * size :][:size])) / size for i in range(pieces)]))


def compression_ratio(texts: Sequence[bytes], size: int) -> float | None:
    """Bytes over bytes as zstd packs them, of pieces of `size` bytes of the texts joined by line ends.

    None when there is no whole piece, or `size` is 0.
    """
    joined = b"\n".join(texts)
    pieces = len(joined) // size if size else 0
    if not pieces:
        return None
    packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    packed = sum(len(packer.compress(joined[i * size :][:size])) for i in range(pieces))
    return pieces * size / packed


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """In how many of `texts` texts a word stands: `words` (uint64 hashes, sorted) and `counts` (int64)."""

    words: NDArray[np.uint64]
    counts: NDArray[np.int64]
    texts: int

    @classmethod
    def of(cls, words: NDArray[np.uint64], offsets: NDArray[np.int64]) -> "Vocabulary":
        """The words of texts, of which text i has those from `offsets[i]` to `offsets[i + 1]`."""
        texts = len(offsets) - 1
        different, numbers = np.unique(words, return_inverse=True)
        text_of = np.repeat(np.arange(texts), np.diff(offsets))
        entries = np.unique(numbers * max(texts, 1) + text_of)
        return cls(different, np.bincount(entries // max(texts, 1), minlength=len(different)), texts)

    def count(self, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of texts with each of these words."""
        if not len(self.words):
            return np.zeros(len(words), np.int64)
        at = np.minimum(np.searchsorted(self.words, words), len(self.words) - 1)
        return np.where(self.words[at] == words, self.counts[at], 0)


def cosine_kernel(words: Sequence[NDArray[np.uint64]], ordinary: Vocabulary) -> NDArray[np.float64]:
    """Cosine of each two texts, given by their words (float64, texts × texts).

    A different word of a text weighs (1 + ln occurrences) × ln((n + 1) / texts that have it), with the n texts of
    `ordinary`: originals, in which the words of a template are rare, so that it makes generated texts alike. Texts
    without words are equal.
    """
    nothing = np.zeros(1, np.uint64)
    given = [of if len(of) else nothing for of in words]
    different, numbers = np.unique(np.concatenate(given), return_inverse=True)
    text_of = np.repeat(np.arange(len(given)), [len(of) for of in given])
    entries, occurrences = np.unique(numbers * len(given) + text_of, return_counts=True)
    word, text = np.divmod(entries, len(given))
    rarity = np.log((ordinary.texts + 1) / np.maximum(ordinary.count(different), 1))
    weights = (1 + np.log(occurrences)) * rarity[word]
    weights /= np.sqrt(np.bincount(text, weights * weights))[text]
    kernel = np.zeros((len(given), len(given)))
    _add_products(word, weights, text, kernel)
    return kernel


def vendi_score(kernel: NDArray[np.float64]) -> float:
    """How many wholly different texts are as diverse as these: exp of the entropy of the eigenvalues of K / n.

    `kernel` is symmetric, positive semidefinite, with ones on its diagonal (Friedman and Dieng 2023). From 1 (all
    equal) to n (no two alike).
    """
    values = np.linalg.eigvalsh(kernel / len(kernel))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def gram_registers(
    grams: NDArray[np.uint64], offsets: NDArray[np.int64], levels: NDArray[np.int64], registers: NDArray[np.uint8]
) -> None:
    """Show the n-grams of texts to HyperLogLog registers (Flajolet et al. 2007): those of text i to the row `levels[i]`
    of `registers` (uint8, levels × HLL_REGISTERS). Registers of several sets together are their maximum."""
    _register(grams, offsets, levels, registers)


def distinct_estimate(registers: NDArray[np.uint8]) -> float:
    """How many different hashes the registers have seen, within about HLL_ERROR; nearly exact when they are few."""
    m = HLL_REGISTERS
    estimate = 0.7213 / (1 + 1.079 / m) * m * m / float(np.ldexp(1.0, -registers.astype(np.int64)).sum())
    unseen = int((registers == 0).sum())
    return m * float(np.log(m / unseen)) if estimate <= 2.5 * m and unseen else estimate


def piece_size(most: int, available: int) -> int:
    """The largest of `most`, its half, its quarter, … that is available; 0 when even a sixteenth is not."""
    return next((most >> k for k in range(5) if most >> k <= available), 0)


def pairs_within(owners: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of all pairs of things of one owner; things of one owner are neighbours."""
    ends = np.append(np.flatnonzero(owners[1:] != owners[:-1]) + 1, len(owners))
    left: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    right = left.copy()
    for first, end in pairwise([0, *ends.tolist()]):
        a, b = _triangle(end - first)
        left.append(a + first)
        right.append(b + first)
    return np.concatenate(left), np.concatenate(right)


@lru_cache
def _triangle(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.triu_indices(count, 1)


@njit(nogil=True, cache=True)
def _add_products(words: Any, weights: Any, rows: Any, kernel: Any) -> None:
    first = 0
    for at in range(1, len(words) + 1):
        if at < len(words) and words[at] == words[first]:
            continue
        for a in range(first, at):
            for b in range(first, at):
                kernel[rows[a], rows[b]] += weights[a] * weights[b]
        first = at


@njit(nogil=True, cache=True)
def _register(grams: Any, offsets: Any, levels: Any, registers: Any) -> None:
    for text in range(len(offsets) - 1):
        seen = registers[levels[text]]
        for at in range(offsets[text], offsets[text + 1]):
            place = grams[at] >> np.uint64(64 - _HLL_BITS)
            rest = (grams[at] << np.uint64(_HLL_BITS)) | np.uint64(1 << (_HLL_BITS - 1))
            rank = 1
            while rest < np.uint64(1 << 63):
                rest <<= np.uint64(1)
                rank += 1
            seen[place] = max(seen[place], np.uint8(rank))
