"""Shards: how the input is cut, and that all figures add up."""

import asyncio
from collections import Counter
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.config import load_config
from mga.engines.choose import choose_engine
from mga.engines.engine import Reply, Request
from mga.errors import StopError
from mga.expand.flow import Kit
from mga.expand.limits import measure_limits
from mga.expand.recipe import Recipe
from mga.expand.shard import Cut, Shard, ShardStats, expand_shard
from mga.records import Document, Outcome, Problem, Usage

BAD = Problem("a.jsonl", 3, "empty_text", "holds no word")
SENTENCES = [
    "The harbour froze in March.",
    "Pilots walked across the ice.",
    "A ferry waited for the thaw.",
    "Gulls left.",
]


def documents(n: int, length: int = 1) -> list[Document]:
    return [Document(f"d{i}", f"Row {i}. " + "\n\n".join(SENTENCES) * length, f"0:{i}") for i in range(n)]


@given(st.integers(0, 300), st.integers(1, 70))
def test_shards_are_all_rows_in_order_and_none_is_larger_than_wanted(rows: int, size: int) -> None:
    cut = Cut(rows, size)
    shards = [cut[index] for index in range(len(cut))]
    assert [row for shard in shards for row in shard] == list(range(rows))
    assert all(0 < len(shard) <= size for shard in shards)


def test_the_first_shards_are_small_and_double_up_to_the_size() -> None:
    cut = Cut(120, 50)
    assert [len(cut[index]) for index in range(len(cut))] == [8, 16, 32, 50, 14]
    assert [len(Cut(7, 3)[index]) for index in range(3)] == [3, 3, 1]


def test_a_shard_of_a_great_input_is_found_without_those_before_it() -> None:
    cut = Cut(10**12, 1000)
    assert len(cut) == 10**9 + 7 - 1
    assert cut[len(cut) - 1].stop == 10**12


COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))
USAGE = st.builds(Usage, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
STATS = st.builds(
    ShardStats,
    documents=st.integers(0, 9),
    chunks=st.integers(0, 9),
    source_tokens=st.integers(0, 9),
    kept_tokens=st.integers(0, 9),
    outcomes=COUNTS,
    reasons=COUNTS,
    cuts=COUNTS,
    scores=COUNTS,
    problems=st.lists(st.just(BAD), max_size=2).map(tuple),
    usage=st.dictionaries(st.sampled_from(["pairs", "judge"]), USAGE),
)


@given(STATS, STATS, STATS)
def test_figures_add_up_in_any_grouping(a: ShardStats, b: ShardStats, c: ShardStats) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + ShardStats() == a


@given(STATS, STATS)
def test_a_sum_holds_every_figure_of_both(a: ShardStats, b: ShardStats) -> None:
    total = a + b
    assert total.documents == a.documents + b.documents
    assert total.kept_tokens == a.kept_tokens + b.kept_tokens
    assert Counter(total.outcomes) == Counter(a.outcomes) + Counter(b.outcomes) or 0 in total.outcomes.values()
    assert len(total.problems) == len(a.problems) + len(b.problems)
    spent = [stats.usage.get("judge", Usage()) for stats in (a, b)]
    assert total.usage.get("judge", Usage()) == spent[0] + spent[1]


@given(STATS)
def test_figures_survive_being_saved(stats: ShardStats) -> None:
    assert ShardStats.model_validate(stats.model_dump(mode="json")) == stats
    assert ShardStats.model_validate_json(stats.model_dump_json()) == stats


def run_shard(
    shard: Shard,
    places: int = 4,
    stop_after: int | None = None,
    engine: str = "scripted:?flaws=0.3",
    **settings: object,
) -> tuple[tuple[list[Outcome], ShardStats] | None, list[Document], int, bool]:
    """The result, the chunks seen, the places free at the end, and whether the last document was let in."""
    seen: list[Document] = []

    async def run() -> tuple[tuple[list[Outcome], ShardStats] | None, list[Document], int, bool]:
        scripted = choose_engine(engine)
        recipe = Recipe(load_config(None, {"engine": "scripted:", **settings}), scripted.count_tokens)
        kit = Kit(scripted.ask, scripted.ask, recipe, await measure_limits(recipe))
        free, admitted, stopping = asyncio.Semaphore(places), asyncio.Event(), asyncio.Event()

        def watch(part: Document, outcomes: list[Outcome]) -> None:
            assert {outcome.document for outcome in outcomes} == {part}
            seen.append(part)
            if len(seen) == stop_after:
                stopping.set()

        result = await expand_shard(shard, kit, free, admitted, stopping, watch)
        return result, seen, free._value, admitted.is_set()

    return asyncio.run(run())


def test_counts_of_a_shard_add_up_to_its_rows() -> None:
    shard = Shard(0, (*documents(6), BAD, *documents(3, length=150), BAD))
    result, seen, free, admitted = run_shard(shard, pairs=3, max_prompt_tokens=2000)
    assert result is not None
    outcomes, stats = result
    assert stats.documents + len(stats.problems) == len(shard.rows)
    assert stats.documents < stats.chunks == len(seen)
    assert stats.chunks * 3 == len(outcomes) == sum(stats.outcomes.values())
    assert sum(stats.reasons.values()) == stats.outcomes["dropped"] + stats.outcomes.get("failed", 0)
    assert stats.source_tokens == sum(part.n_tokens for part in seen)
    kept = [outcome for outcome in outcomes if outcome.status == "kept"]
    assert stats.kept_tokens == sum(outcome.reformulation.n_tokens for outcome in kept if outcome.reformulation)
    assert sum(stats.scores.values()) == sum(outcome.verdict is not None for outcome in outcomes)
    assert (free, admitted) == (4, True)
    assert len({outcome.id for outcome in outcomes}) == len(outcomes)


def test_outcomes_are_in_input_order_however_many_places_there_are() -> None:
    shard = Shard(0, tuple(documents(4, length=100)))
    runs = [run_shard(shard, places, pairs=2, max_prompt_tokens=1500)[0] for places in (1, 3, 64)]
    assert runs[0] is not None
    assert runs[0] == runs[1] == runs[2]
    order = [(outcome.document.position, outcome.document.chunk, outcome.slot) for outcome in runs[0][0]]
    assert order == sorted(order)
    assert order[-1][1] > 0


def test_a_shard_that_is_stopped_has_no_result_and_gives_its_places_back() -> None:
    result, seen, free, admitted = run_shard(Shard(0, tuple(documents(9))), places=2, stop_after=3)
    assert result is None
    assert 3 <= len(seen) < 9
    assert (free, admitted) == (2, True)


def test_a_stop_after_the_last_document_was_let_in_still_finishes_the_shard() -> None:
    result, seen, _, _ = run_shard(Shard(0, tuple(documents(3))), places=3, stop_after=1)
    assert result is not None
    assert len(seen) == 3


def test_a_shard_of_problems_alone_is_a_result_without_outcomes() -> None:
    result, _, free, admitted = run_shard(Shard(0, (BAD, BAD)))
    assert result == ([], ShardStats(problems=(BAD, BAD)))
    assert (free, admitted) == (4, True)


def test_a_shard_that_breaks_off_lets_the_error_through_and_holds_nobody_up() -> None:
    async def ask(_: Request) -> Reply:
        raise StopError("wrong key")

    async def run() -> bool:
        recipe = Recipe(load_config(None, {"engine": "scripted:"}), choose_engine("scripted:").count_tokens)
        kit = Kit(ask, ask, recipe, await measure_limits(recipe))
        admitted = asyncio.Event()
        shard = Shard(0, tuple(documents(9)))
        with pytest.raises(ExceptionGroup) as broken:
            await expand_shard(shard, kit, asyncio.Semaphore(2), admitted, asyncio.Event(), lambda *_: None)
        assert broken.group_contains(StopError, match="wrong key")
        return admitted.is_set()

    assert asyncio.run(run())


def test_the_sum_over_shards_is_the_figures_of_the_whole() -> None:
    rows = documents(12)
    whole = run_shard(Shard(0, tuple(rows)), pairs=2)[0]
    parts = [run_shard(shard, pairs=2)[0] for shard in (Shard(i, tuple(rows[i * 5 : i * 5 + 5])) for i in range(3))]
    assert whole is not None
    assert reduce(ShardStats.__add__, (part[1] for part in parts if part is not None)) == whole[1]
