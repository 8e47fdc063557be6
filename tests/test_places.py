"""Places in flight: never more than the limit, in the right order, and a limit that finds itself."""

import asyncio
import heapq
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from servers import ChatServer

from mga.engines.client import Client
from mga.engines.engine import Purpose, Request
from mga.engines.journal import Journal
from mga.engines.places import Places
from mga.engines.servers.endpoint import Endpoint


def test_never_more_than_the_limit_and_what_ends_a_document_goes_first() -> None:
    order: list[Purpose] = []

    async def work() -> int:
        places = Places(2, 2)
        most = 0

        async def one(purpose: Purpose) -> None:
            nonlocal most
            await places.take(purpose)
            order.append(purpose)
            most = max(most, places.taken)
            await asyncio.sleep(0.001)
            places.give_back()

        purposes: list[Purpose] = ["pairs", "pairs", "pairs", "reformulate", "judge", "pairs", "judge"]
        await asyncio.gather(*map(one, purposes))
        assert places.taken == 0
        return most

    assert asyncio.run(work()) == 2
    assert order == ["pairs", "pairs", "judge", "judge", "reformulate", "pairs", "pairs"]


@pytest.mark.parametrize("cancel_before_it_is_given", [True, False])
def test_a_cancelled_wait_loses_no_place(cancel_before_it_is_given: bool) -> None:
    async def work() -> None:
        places = Places(1, 1)
        await places.take("judge")
        waiting = asyncio.create_task(places.take("judge"))
        await asyncio.sleep(0)
        if cancel_before_it_is_given:
            waiting.cancel()
            await asyncio.sleep(0)
            places.give_back()
        else:
            places.give_back()  # the place is given to the waiting task, which is cancelled before it runs
            waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert places.taken == 0
        await asyncio.wait_for(places.take("pairs"), 1)

    asyncio.run(work())


class Simulated:
    """A server in simulated time that answers so many requests at once, each in a second, and queues the others.

    Above `refuses_above` requests it refuses, at once.
    """

    def __init__(self, at_once: Callable[[float], int], refuses_above: int | None = None) -> None:
        self.now = 0.0
        self._at_once = at_once
        self._refuses_above = refuses_above

    def work(self, places: Places, answers: int) -> Iterator[int]:
        """Keep the places busy; yields the limit after each answer."""
        ends: list[float] = []
        waiting = 0
        for _ in range(answers):
            while places.taken < places.limit:
                take = places.take("judge")
                with suppress(StopIteration):
                    take.send(None)
                waiting += 1
                if self._refuses_above is not None and places.taken > self._refuses_above:
                    places.pushed_back()
                    places.give_back()
                    waiting -= 1
                    break
            while waiting and len(ends) < self._at_once(self.now):
                heapq.heappush(ends, self.now + 1.0)
                waiting -= 1
            self.now = heapq.heappop(ends)
            places.answered(100)
            places.give_back()
            yield places.limit


@pytest.mark.parametrize("capacity", [10, 48, 200, 700])
def test_the_limit_finds_what_the_server_can_do(capacity: int) -> None:
    server = Simulated(lambda now: capacity)
    places = Places(32, 1024, lambda: server.now)
    limits = list(server.work(places, 60 * max(capacity, 128)))
    settled = limits[len(limits) // 2 :]
    assert min(settled) >= min(0.8 * capacity, 1024)
    assert max(settled) <= max(2.6 * capacity, 40)


def test_the_limit_follows_a_server_that_becomes_larger() -> None:
    server = Simulated(lambda now: 40 if now < 60 else 160)
    places = Places(32, 1024, lambda: server.now)
    limits = list(server.work(places, 40_000))
    assert limits[2000] <= 100
    assert limits[-1] >= 120


def test_refusals_make_it_smaller() -> None:
    server = Simulated(lambda now: 500, refuses_above=100)
    places = Places(32, 1024, lambda: server.now)
    limits = list(server.work(places, 20_000))
    settled = limits[len(limits) // 2 :]
    assert 40 <= sum(settled) / len(settled) <= 140


def test_a_number_that_is_given_stays() -> None:
    server = Simulated(lambda now: 500, refuses_above=20)
    places = Places(24, 24, lambda: server.now)
    assert set(server.work(places, 2000)) == {24}


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    async def work() -> int:
        now = 0.0
        places = Places(32, 1024, lambda: now)
        for _ in range(2000):
            await places.take("judge")
            now += 0.1
            places.answered(100)
            places.give_back()
        return places.limit

    assert asyncio.run(work()) == 32


def test_a_real_server_is_asked_more_at_once_until_it_refuses(tmp_path: object) -> None:
    """Through the client: a server that says 429 to the 61st request at once is in the end asked at most so many."""
    import servers
    from aiohttp import web

    at_once = most = refused = 0

    async def limited(request: web.Request, server: ChatServer) -> web.StreamResponse:
        nonlocal at_once, most, refused
        if at_once >= 60:
            refused += 1
            return await servers.status(429, "too many", "0.05")(request, server)
        at_once += 1
        most = max(most, at_once)
        try:
            await asyncio.sleep(0.05)
            return await servers.content("A text.", usage={"completion_tokens": 100})(request, server)
        finally:
            at_once -= 1

    async def work(server: ChatServer) -> Client:
        client = Client(Endpoint(server.url, "tiny"))
        await client.engine.start()
        server.fault_for = lambda body: limited
        journal = Journal(tmp_path / "journal.jsonl")  # type: ignore[operator]
        requests = (Request(f"Number {i}.", 64, i, "judge", "") for i in range(3000))
        await asyncio.gather(*(client.ask(request, journal) for request in requests))
        await client.engine.close()
        return client

    with ChatServer() as server:
        client = asyncio.run(work(server))
    assert client.spent.requests == 3000
    assert most > 32
    assert refused
    assert client.places.limit <= 90
