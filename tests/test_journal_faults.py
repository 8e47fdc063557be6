"""Whatever a journal holds, a run over it goes on: a reply that can be used is used, any other is asked for again."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mga.config import ExpandConfig
from mga.engines.engine import Reply, Token, sound
from mga.engines.journal import Journal
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run

NAN = float("nan")
# Of (text, finish, prompt tokens, generated tokens, cached tokens, tokens, text tokens): what servers have sent.
ODD: dict[str, dict[int, Any]] = {
    "a log-probability of 1e308": {5: [["4", {"4": 1e308, "5": -1e308}]]},
    "log-probabilities that are no numbers": {5: [["4", {"4": None, "5": "x", "3": True}]]},
    "tokens that are no tokens": {5: [3, ["4"], ["4", None], [None, {}], ["4", {"4": 0.5, "5": -1}, 1]]},
    "no list of tokens": {5: {"4": 1}},
    "negative counts": {2: -5, 3: -(2**60), 4: -1, 6: -3},
    "huge counts": {2: 2**63, 3: 1e300, 4: 2**64 - 1, 6: 10**18},
    "counts that are no numbers": {2: None, 3: "many", 4: [1], 6: {}},
    "an unknown finish": {1: "because"},
    "no finish": {1: None},
    "a text of another kind": {0: ["a", "list"]},
    "no text": {0: None},
    "deep nesting as a text": {0: "[" * 5_000 + '{"score": 3}'},
    "a number too long to read": {0: '{"analysis": "x", "score": ' + "9" * 6_000 + "}"},
    "a score beyond all numbers": {0: '{"analysis": "x", "score": 1e999}'},
    "a nul and a half pair": {0: '{"analysis": "\\u0000 \\ud800", "score": 4}'},
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """An input, and the journal of a whole run over it."""
    room = tmp_path_factory.mktemp("asked")
    text = "Harbour masons rebuilt the long wall slowly after the storm. Fishermen carried stones from the quarry."
    (room / "in.jsonl").write_bytes(orjson.dumps({"id": "a", "text": text}) + b"\n")
    lines: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        append = Journal.append

        def remembered(self: Journal, key: str, purpose: Any, reply: Reply) -> Any:
            spent = append(self, key, purpose, reply)
            lines.append(self.path.read_bytes().splitlines(keepends=True)[-1])
            return spent

        patch.setattr(Journal, "append", remembered)
        run_over(room, room / "first")
    return room, b"".join(lines)


def run_over(room: Path, out: Path) -> dict[str, int]:
    config = ExpandConfig(input=[str(room / "in.jsonl")], engine="scripted:", pairs=2)
    from rich.console import Console

    stats = asyncio.run(expand(config, Run(out), Progress(Console(), quiet=True)))
    assert stats is not None
    return stats.outcomes


@pytest.mark.parametrize("name", ODD)
def test_a_run_goes_on_whatever_stands_in_its_journal(asked: tuple[Path, bytes], tmp_path: Path, name: str) -> None:
    room, journal = asked
    lines = [orjson.loads(line) for line in journal.splitlines()]
    for line in lines:
        for place, value in ODD[name].items():
            line[2 + place] = value
    (tmp_path / "run" / "journal").mkdir(parents=True)
    whole = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    (tmp_path / "run" / "journal" / "00000.before.jsonl").write_bytes(whole + whole[:40])
    (tmp_path / "run" / "settings.json").write_bytes(b"{}")
    (tmp_path / "run" / "run.json").write_bytes((room / "first" / "run.json").read_bytes())
    assert sum(run_over(room, tmp_path / "run").values()) == 2


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.text(st.characters(), max_size=5), st.tuples(*[_anything] * 4), st.lists(st.tuples(_anything, _anything)))
@settings(max_examples=200)
def test_any_reply_becomes_one_that_is_kept_word_for_word(text: str, values: tuple[Any, ...], tokens: Any) -> None:
    finish, prompt, generated, cached = values
    reply = sound(Reply(text, finish, prompt, generated, cached, [Token(*token) for token in tokens], generated))  # type: ignore[arg-type]
    assert sound(reply) == reply
    assert reply.text == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert all(0 <= count < 2**31 for count in (reply.prompt_tokens, reply.generated_tokens, reply.cached_tokens))
    assert all(-1e9 <= p <= 0 for token in reply.tokens for p in token.alternatives.values())


def test_a_sound_reply_comes_back_from_the_journal_as_it_was(tmp_path: Path) -> None:
    reply = sound(Reply("a\ud800b", "stop", -1, 2**40, 3, (Token("4", {"4": -0.5, "5": 1e308, "3": NAN}),), None))
    assert reply == Reply("a\ufffdb", "stop", 0, 2**31 - 1, 0, (Token("4", {"4": -0.5}),), None)
    journal = Journal(tmp_path / "0.jsonl")
    journal.append("key", "judge", reply)
    journal.close()
    assert Journal(tmp_path / "0.jsonl").get("key") == reply
