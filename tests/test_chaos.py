"""A slice of the campaign of faults (`make chaos` plays 200 rounds)."""

from pathlib import Path

import pytest

pytest.importorskip("moto", reason="moto is not installed: pip install 'mga[dev]'")

from chaos.campaign import campaign

ROUNDS = [0, 1, 2, 3, 4, 5]


@pytest.mark.timeout(400)
def test_a_few_rounds_lose_nothing(tmp_path: Path) -> None:
    found = campaign(ROUNDS, seed=1, folder=tmp_path, at_once=3)
    assert found.lost == {}
    assert found.happened.total() >= len(ROUNDS)
