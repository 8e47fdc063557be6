"""Windows over long documents, and what goes through the model together."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mga.scoring.windows import MOST_PADDING, batches, windows_of


@given(st.integers(0, 300), st.integers(2, 40), st.data())
def test_every_id_but_the_first_is_scored_once_with_enough_before_it(
    length: int, context: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, context - 1))
    scored: Counter[int] = Counter()
    for window in windows_of(0, length, context, overlap):
        assert 0 < len(window) <= context
        assert window.first < window.scored <= window.end
        for at in range(window.scored, window.end + 1):
            scored[at] += 1
            assert at - window.first >= min(overlap + 1, at)
    assert scored == Counter(range(1, length))


@given(st.lists(st.integers(2, 200), max_size=40), st.integers(1, 500))
def test_batches_hold_every_window_and_little_padding(lengths: list[int], tokens: int) -> None:
    windows = [window for i, n in enumerate(lengths) for window in windows_of(i, n, 1000, 0)]
    held = list(batches(windows, tokens))
    assert sorted(w.sequence for batch in held for w in batch) == list(range(len(lengths)))
    for batch in held:
        longest = max(map(len, batch))
        assert len(batch) == 1 or len(batch) * longest <= tokens
        assert all(len(w) >= (1 - MOST_PADDING) * longest for w in batch)
