"""Intervals: known cases of the literature, and how often they hold the truth, by simulation with fixed seeds.

Of R simulated intervals at 95% the share that holds the truth has a standard error of √(0.95·0.05/R): 0.7 points for
R = 1,000. Bounds below are the nominal level with four of these on the low side; on the high side intervals may be
conservative.
"""

import subprocess
import sys
from random import Random

import pytest

from mga import stats
from mga.stats import auc, bounded_mean, clustered_share, difference_of_means, mean, ratio, wilson


def test_students_quantile_with_and_without_scipy() -> None:
    # Fisher and Yates, table III, two-sided 5%
    known = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 5: 2.5706, 10: 2.2281, 29: 2.0452, 120: 1.9799, 5000: 1.9604}
    for freedom, expected in known.items():
        assert stats.t_quantile(freedom) == pytest.approx(expected, abs=6e-5)
        assert stats._t_quantile(freedom) == pytest.approx(expected, abs=6e-5)
    assert stats.t_quantile(float("inf")) == pytest.approx(1.959964)


def test_intervals_need_nothing_but_the_standard_library() -> None:
    code = "import sys; sys.modules['scipy'] = sys.modules['numpy'] = None; from mga.stats import mean; "
    code += "print(round(mean([1.0, 2.0, 3.0]).high, 4))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4.4841"


def test_means_have_students_interval_and_none_where_nothing_tells_of_the_spread() -> None:
    found = mean([1.0, 2.0, 3.0])
    assert (found.value, found.low, found.high) == pytest.approx(
        (2, 2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4
    )
    assert mean([5.0]).low is None
    assert mean([0.1] * 3).low is None
    assert mean([0.1] * 30).low == pytest.approx(0.1)


def test_the_mean_of_a_few_perfect_seeds_has_an_interval_of_some_width() -> None:
    assert bounded_mean([1.0, 1.0, 1.0]) == pytest.approx((1, 0.05 ** (1 / 3), 1))
    assert bounded_mean([0.0, 0.0]) == pytest.approx((0, 0, 1 - 0.05**0.5))
    value, low, high = bounded_mean([0.75, 0.75, 0.75])
    assert low < 0.3 < value < 0.9 < high
    assert bounded_mean([1.0, 0.9, 0.8])[1:] == pytest.approx((0.9 - 4.302653 * 0.1 / 3**0.5, 1.0))


def test_welch_by_hand() -> None:
    # variances 1 and 4 over 3 and 3: error √(5/3), freedom (5/3)² / ((1/3)²/2 + (4/3)²/2) = 50/17
    found = difference_of_means([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert (found.value, found.error, found.freedom) == pytest.approx((-2, (5 / 3) ** 0.5, 50 / 17))


def documents(random: Random, count: int, right: float, together: float) -> list[tuple[int, int]]:
    """Five texts of each document; two of them agree with correlation `together` (beta-binomial)."""
    found = []
    for _ in range(count):
        chance = right
        if together:
            scale = (1 - together) / together
            chance = random.betavariate(right * scale, (1 - right) * scale)
        found.append((sum(random.random() < chance for _ in range(5)), 5))
    return found


@pytest.mark.parametrize("count", [5, 12, 40])
@pytest.mark.parametrize(("right", "together"), [(0.5, 0.0), (0.8, 0.5), (0.5, 0.5), (0.5, 0.9)])
def test_shares_of_texts_hold_the_truth_though_texts_of_a_document_agree(
    count: int, right: float, together: float
) -> None:
    random = Random(3)
    held = alone = 0
    for _ in range(600):
        drawn = documents(random, count, right, together)
        found = clustered_share(drawn)
        as_if_alone = wilson(sum(good for good, _ in drawn), 5 * count)
        held += found.low <= right <= found.high
        alone += as_if_alone.low <= right <= as_if_alone.high
        assert found.high - found.low >= as_if_alone.high - as_if_alone.low - 1e-12
    assert held / 600 >= 0.95 - 4 * (0.95 * 0.05 / 600) ** 0.5
    if together == 0.5:  # a design effect of 1 + 4·0.5: ±1.96 standard errors are 1.13 of the true ones
        assert alone / 600 < 0.82


def test_shares_of_one_text_a_document_are_wilsons_and_of_equal_documents_not_certain() -> None:
    assert clustered_share([(1, 1)] * 7 + [(0, 1)] * 3) == wilson(7, 10)
    perfect = clustered_share([(5, 5)] * 8)
    assert (perfect.low, perfect.high, perfect.of) == (pytest.approx(wilson(8, 8).low), 1.0, 40)
    assert clustered_share([(5, 5)]).low < 0.01
    assert clustered_share([]) == wilson(0, 0)


@pytest.mark.parametrize(("count", "apart"), [(8, 0.0), (12, 1.0), (40, 2.0)])
def test_aucs_hold_the_truth_though_two_texts_of_a_document_agree(count: int, apart: float) -> None:
    random = Random(5)

    def scores(documents: int) -> tuple[list[float], list[float]]:
        """Whole scores 1–5 with a level of each document."""
        own, other = [], []
        for _ in range(documents):
            level = random.gauss(3, 0.7)
            for held, shift in ((own, apart / 2), (other, -apart / 2)):
                held.append(float(min(5, max(1, round(level + shift + random.gauss(0, 0.7))))))
        return own, other

    own, other = scores(20_000)
    share = {score: own.count(score) / len(own) for score in (1.0, 2.0, 3.0, 4.0, 5.0)}
    below = {score: (sum(o < score for o in other) + other.count(score) / 2) / len(other) for score in share}
    truth = sum(share[score] * below[score] for score in share)
    held = 0
    for _ in range(600):
        own, other = scores(count)
        _, low, high = auc(own + other, [True] * count + [False] * count, [*range(count)] * 2)
        held += low <= truth <= high
    assert held / 600 >= 0.95 - 4 * (0.95 * 0.05 / 600) ** 0.5


def test_aucs_by_hand_and_never_certain() -> None:
    # own 3, 5; other 1, 3: of four comparisons three are won and one is even
    assert auc([3, 5, 1, 3], [True, True, False, False], [0, 1, 0, 1])[0] == 3.5 / 4
    for documents in (1, 3, 10):
        told = [True] * documents + [False] * documents
        value, low, high = auc([5.0] * documents + [1.0] * documents, told, [*range(documents)] * 2)
        assert (value, low, high) == pytest.approx((1, 0.05 ** (1 / documents), 1))
        value, low, high = auc([1.0] * documents + [5.0] * documents, told, [*range(documents)] * 2)
        assert (value, low, high) == pytest.approx((0, 0, 1 - 0.05 ** (1 / documents)))


def test_a_ratio_over_few_documents_holds_the_truth() -> None:
    random = Random(11)
    held = normal = 0
    for _ in range(1000):
        sizes = [random.uniform(50, 150) for _ in range(5)]
        found = ratio([size * random.gauss(2, 0.5) for size in sizes], sizes)
        assert found.low is not None and found.high is not None and found.error is not None
        held += found.low <= 2 <= found.high
        normal += abs(found.value - 2) <= 1.96 * found.error
    assert held / 1000 >= 0.95 - 4 * (0.95 * 0.05 / 1000) ** 0.5
    assert normal / 1000 < 0.92  # what 1.96 made of five documents


def test_rare_tokens_raise_false_signs_no_more_often_than_said() -> None:
    """Nothing is lost (the excess is 0): the interval lies above 0 in one of forty. Documents in which rare and other
    tokens vary against each other are the case that two intervals, as if independent, get wrong."""
    np = pytest.importorskip("numpy")
    from mga.collapse.kinds import rare_excess

    rng = np.random.default_rng(2)
    offsets = np.arange(41) * 100
    rare = np.tile(np.arange(100) >= 95, 40)
    tokens = np.where(rare, 1000 + np.arange(4000), np.arange(4000) % 20).astype(np.int32)
    above = below = 0
    for _ in range(800):
        level = np.repeat(rng.normal(0, 1, 40), 100)
        differences = np.where(rare, level, -level) + rng.normal(0, 0.5, 4000)
        found = rare_excess(differences, tokens, offsets)
        assert found is not None and found["n"] == 40
        above += found["low"] > 0
        below += found["high"] < 0
    error = (0.025 * 0.975 / 800) ** 0.5
    assert above / 800 < 0.025 + 4 * error
    assert below / 800 < 0.025 + 4 * error
    assert above + below > 0
