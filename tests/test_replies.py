"""Every form of reply of odd_servers.py, through the command: what is kept, dropped and failed, and that the page says
so."""

import math
from pathlib import Path

import pytest
import test_command_line as command_line
from odd_servers import MODES, PAIRS, THOUGHT, serving
from replies import DOCUMENT, MARKS
from test_command_line import Mga, assert_adds_up, rows, write_jsonl

from mga.engines import client as client_module
from mga.engines.servers import endpoint as endpoint_module
from mga.engines.servers.wire import read_reply
from mga.errors import TryAgainError

mga = command_line.mga  # the fixture
PAGE = Path(__file__).parent.parent / "docs" / "replies.md"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_backoff", lambda _state: 0.0)
    monkeypatch.setattr(client_module, "LONGEST_WAIT_S", 0.001)
    monkeypatch.setattr(endpoint_module, "LARGEST_ANSWER", 4 << 20)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", MODES)
def test_what_becomes_of_a_form_of_reply(name: str, mga: Mga, tmp_path: Path) -> None:
    mode, run = MODES[name], tmp_path / "run"
    given = write_jsonl(tmp_path / "in.jsonl", [{"id": "lighthouse", "text": DOCUMENT}])
    with serving(mode) as server:
        said = mga("expand", given, "--out", run, "--engine", f"{server.url}#tiny", "--pairs", PAIRS, *mode.options)
    if mode.stops:
        command_line.assert_refused(said, mode.stops)
        return
    assert said.code == (0 if mode.kept or mode.reason not in ("engine_gave_up", "request_refused") else 1), said
    found = assert_adds_up(run)
    kept = rows(run / "kept")
    assert len(kept) == mode.kept, found["reasons"]
    assert found["reasons"] == ({mode.reason: PAIRS - mode.kept} if mode.kept < PAIRS else {})
    for row in kept:
        assert not MARKS.search(row["text"])
        assert THOUGHT not in row["text"]
    if mode.cut:
        assert found["cuts"] == {mode.cut: PAIRS}
        assert all(row["stripped_suffix"] or row["stripped_prefix"] for row in kept)
    assert mode.says in said.err


@pytest.mark.parametrize("choices", [None, math.nan, [], {"0": 1}, ["text"], 7])
def test_choices_that_are_none_are_told_in_words(choices: object) -> None:
    with pytest.raises(TryAgainError, match=r"holds no reply \(it lacks choices of the usual form\)$"):
        read_reply({"choices": choices})


def test_the_page_has_a_row_for_every_form() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in MODES if f"`{name}`" not in page] == []
