"""Sequences of an engine: a document keeps its own, none stands idle while requests wait."""

import asyncio
from collections import defaultdict
from contextlib import suppress

import pytest

from mga.engines.llamacpp import slots as slots_module
from mga.engines.llamacpp.slots import Slots


async def work(slots: Slots, documents: int, at_once: int, rounds: tuple[int, ...] = (1, 5, 5)) -> dict[str, list[int]]:
    """Documents with so many requests a round; returns the sequences each document's requests were answered by."""
    used: defaultdict[str, list[int]] = defaultdict(list)
    busy: set[int] = set()
    places = asyncio.Semaphore(at_once)

    async def ask(name: str) -> None:
        slot, _ = await slots.take(name)
        assert slot not in busy, "a sequence is given twice"
        busy.add(slot)
        used[name].append(slot)
        await asyncio.sleep(0.002)
        busy.discard(slot)
        slots.give_back(slot)

    async def document(name: str) -> None:
        async with places:
            for requests in rounds:
                await asyncio.gather(*(ask(name) for _ in range(requests)))
                await asyncio.sleep(0.001)  # the reply is looked at

    await asyncio.gather(*(document(f"document-{i}") for i in range(documents)))
    return used


def test_a_document_is_computed_once_while_there_are_documents_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "KEPT_S", 10.0)  # however slowly this machine comes back to a document
    used = asyncio.run(work(Slots(4), 40, 4))
    assert all(len(slots) == 11 for slots in used.values())
    alone = [name for name, slots in used.items() if len(set(slots)) == 1]
    assert len(alone) >= 24, "now and then two change places, none spreads"


def test_idle_sequences_help_a_single_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "KEPT_S", 0.001)
    used = asyncio.run(work(Slots(4), 1, 1))
    assert set(used["document-0"]) == {0, 1, 2, 3}


def test_more_documents_than_sequences_all_come_through() -> None:
    used = asyncio.run(work(Slots(2), 20, 9))
    assert sum(map(len, used.values())) == 220


def test_a_cancelled_request_loses_no_sequence() -> None:
    async def cancelled() -> None:
        slots = Slots(1)
        slot, new = await slots.take("a")
        assert new
        waiting = [asyncio.create_task(slots.take(name)) for name in ("a", "b", "a")]
        await asyncio.sleep(0)
        waiting[0].cancel()  # while it waits
        slots.give_back(slot)  # to the third
        waiting[2].cancel()  # when it has just been given
        for task in (waiting[0], waiting[2]):
            with suppress(asyncio.CancelledError):
                await task
        assert await asyncio.wait_for(waiting[1], 1) == (0, True)
        slots.give_back(0)
        assert await asyncio.wait_for(slots.take("b"), 1) == (0, False)

    asyncio.run(cancelled())
