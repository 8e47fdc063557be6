"""Where one model begins to predict worse: by hand, against a slow reference, on planted cases, on noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.collapse.histogram import position_figures
from mga.collapse.positions import READINGS, Rule, first_anomalies, normalised
from mga.errors import InputError

LENGTH = 1000


def one(differences: list[float], rule: Rule) -> int:
    values = np.asarray(differences, np.float64)
    return int(first_anomalies(values, np.asarray([0, len(values)]), rule)[0])


def reference(differences: list[float], rule: Rule) -> int:
    """The formula word for word."""
    n = len(differences)
    window = max(int(rule.share * n), 1)
    mean = sum(differences) / n
    sigma = (sum((d - mean) ** 2 for d in differences) / n) ** 0.5
    for p in range(n - window + 1):
        inside = differences[p : p + window]
        average = sum(map(abs, inside) if rule.reading == "tokens" else inside) / window
        if (abs(average) if rule.reading == "average" else average) > abs(mean) + rule.k * sigma + 1e-9:
            return p
    return -1


@pytest.mark.parametrize(
    ("differences", "rule", "expected"),
    [
        ([9.0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Rule(), 0),  # μ 0.9, σ 2.7: at the first token
        (
            [0.0, 0, 0, 0, 0, 0, 0, 0, 9, 9],
            Rule(share=0.2),
            8,
        ),  # μ 1.8, σ 3.6, w 2: (0+9)/2 is too little
        ([0.0, 0, 0, 0, 0, 0, 0, 0, 9, 9], Rule(share=0.2, k=0.5), 7),  # 1.8 + 1.8 < 4.5
        ([0.0, 0, 0, 0, 0, 0, 0, 0, 9, 9], Rule(share=0.2, k=2), -1),  # 1.8 + 7.2 = 9: a mean of 9 does not pass it
        ([0.3] * 40, Rule(), -1),  # equal differences: σ 0, no mean passes μ
        ([-0.1] * 777, Rule(), -1),
        ([0.0] * 5, Rule(), -1),
        ([0, -8.0, 0, 0, 0, 0, 0, 0], Rule(), 1),  # the real-trained model is the worse one
        ([0, -8.0, 0, 0, 0, 0, 0, 0], Rule(reading="signed"), -1),
        ([0, 0, 4.0, -4.0, 0, 0, 0, 0], Rule(share=0.25), -1),  # a window of both: mean 0
        ([0, 0, 4.0, -4.0, 0, 0, 0, 0], Rule(share=0.25, reading="tokens"), 2),  # σ 2; (0+4)/2 = 2 is not above it
        ([5.0], Rule(), -1),  # one token is its own mean
        ([1.0, 3.0], Rule(share=1), -1),  # a window of the whole document is its mean
        ([1.0, 9.0], Rule(k=0.5), 1),  # shorter than 20 tokens: windows of one; μ 5, σ 4
        ([], Rule(), -1),
    ],
)
def test_hand_computed(differences: list[float], rule: Rule, expected: int) -> None:
    assert one(differences, rule) == expected


@given(
    st.lists(st.lists(st.integers(-8, 8).map(lambda i: i / 4), max_size=90), min_size=1, max_size=6),
    st.sampled_from(READINGS),
    st.sampled_from([0.05, 0.1, 0.3]),
    st.sampled_from([0.0, 0.31, 1.03, 2.07]),
)
def test_as_the_slow_reference(documents: list[list[float]], reading: str, share: float, k: float) -> None:
    rule = Rule(share, k, reading)  # type: ignore[arg-type]
    offsets = np.concatenate([[0], np.cumsum([len(d) for d in documents])])
    values = np.asarray([d for document in documents for d in document], np.float32)
    expected = [reference(document, rule) if document else -1 for document in documents]
    assert first_anomalies(values, offsets, rule).tolist() == expected


def test_no_number_is_refused() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="NaN or infinite"):
            one([0.0, bad, 1.0], Rule())


@pytest.mark.parametrize("rule", [{"share": 0}, {"share": 1.5}, {"k": -1}, {"k": float("nan")}, {"reading": "mean"}])
def test_settings_that_mean_nothing_are_refused(rule: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Rule(**rule)  # type: ignore[arg-type]


def test_a_step_at_80_percent_is_found_there() -> None:
    random = np.random.default_rng(1)
    documents, step = 2000, int(0.8 * LENGTH)
    differences = random.normal(0, 0.5, (documents, LENGTH)).astype(np.float32)
    differences[:, step:] += 1.0
    offsets = np.arange(documents + 1) * LENGTH
    found = normalised(first_anomalies(differences.ravel(), offsets, Rule()), offsets)
    assert (np.abs(found - 80) <= 2).mean() >= 0.95
    figures = position_figures(differences.ravel(), offsets, Rule(), (0.0, 0.5), 39, 0)
    assert figures[0]["later"] > 20
    assert figures[0]["p_later"] == 1 / 40
    assert [band["documents"] for band in figures] == [2000, 0, 2000, 0]


def test_noise_shows_no_bias() -> None:
    """Of 60 noisy corpora about 3 pass p < 0.05, and on average the anomalies sit where chance puts them."""
    later, passed = [], 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        lengths = random.integers(100, 400, 100)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        noise = random.standard_t(3, offsets[-1]).astype(np.float32) * 0.4
        figures = position_figures(noise, offsets, Rule(), (), 39, seed)[0]
        assert figures["found"] > 10
        assert np.all(np.less_equal(figures["bins_low"], figures["bins_high"]))
        later.append(figures["later"])
        passed += figures["p_later"] <= 0.05
    assert abs(np.mean(later)) < 2
    assert passed <= 9
