"""Several servers as one engine: documents stay with a replica, and work moves on when one dies."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest
import servers
from servers import ChatServer

from mga.engine_uri import engine_identity, public_uri
from mga.engines.choose import choose_engine
from mga.engines.client import Client
from mga.engines.engine import Engine, Reply, Request
from mga.engines.journal import Journal
from mga.engines.servers import replicas as replicas_module
from mga.errors import StopError, UnreachableError

T = TypeVar("T")


@pytest.fixture
def three() -> Iterator[list[ChatServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ChatServer()) for _ in range(3)]


def over(servers_: list[ChatServer], model: str = "tiny") -> Engine:
    return choose_engine(",".join(server.url for server in servers_) + f"#{model}")


def run(engine: Engine, work: Callable[[Engine], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(30):
            try:
                await engine.start()
                return await work(engine)
            finally:
                await engine.close()

    return asyncio.run(bounded())


def question(document: int, part: int) -> Request:
    prompt = f"<document>\nFerry {document} crossed the strait.\n</document>\n\nRetell it, part {part}."
    return Request(prompt, 64, part, "reformulate", f"document-{document}")


def ask_all(documents: range, parts: int = 4) -> Callable[[Engine], Awaitable[list[list[Reply]]]]:
    async def ask(engine: Engine) -> list[list[Reply]]:
        async def one(document: int) -> list[Reply]:
            return list(await asyncio.gather(*(engine.ask(question(document, part)) for part in range(parts))))

        return list(await asyncio.gather(*map(one, documents)))

    return ask


def homes(servers_: list[ChatServer]) -> dict[str, set[int]]:
    """Which servers were asked about each document, the questions at the start left out."""
    found: dict[str, set[int]] = defaultdict(set)
    for number, server in enumerate(servers_):
        for body in server.chats():
            prompt = body["messages"][0]["content"]
            if "Ferry" in prompt:
                found[prompt.partition(" crossed")[0]].add(number)
    return found


def test_a_document_stays_with_one_replica_and_documents_spread(three: list[ChatServer]) -> None:
    run(over(three), ask_all(range(12)))
    asked = homes(three)
    assert len(asked) == 12
    assert all(len(numbers) == 1 for numbers in asked.values())
    spread = [sum(numbers == {n} for numbers in asked.values()) for n in range(3)]
    assert min(spread) >= 3


def test_a_dead_replica_s_documents_move_to_the_others(three: list[ChatServer]) -> None:
    async def with_a_death(engine: Engine) -> list[list[Reply]]:
        first = await ask_all(range(12))(engine)
        await asyncio.to_thread(three[0].stop)
        return first + await ask_all(range(12), parts=6)(engine)

    replies = run(over(three), with_a_death)
    assert sum(map(len, replies)) == 12 * 4 + 12 * 6
    assert all(reply.text for document in replies for reply in document)


def test_a_replica_that_comes_back_is_used_again(three: list[ChatServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas_module, "FIRST_REST_S", 0.0)
    with ExitStack() as stack:

        async def with_a_return(engine: Engine) -> ChatServer:
            await asyncio.to_thread(three[0].stop)
            await ask_all(range(12))(engine)
            back = stack.enter_context(ChatServer(port=three[0].port))
            await ask_all(range(100, 112))(engine)
            return back

        assert run(over(three), with_a_return).chats()


def test_one_that_is_down_at_the_start_is_started_later(
    three: list[ChatServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas_module, "FIRST_REST_S", 0.0)
    three[2].stop()
    with ExitStack() as stack:

        async def with_a_late_one(engine: Engine) -> ChatServer:
            late = stack.enter_context(ChatServer(port=three[2].port))
            await ask_all(range(12))(engine)
            return late

        assert run(over(three), with_a_late_one).chats()


def test_all_down_at_the_start_stops_with_an_address(three: list[ChatServer]) -> None:
    for server in three:
        server.stop()
    with pytest.raises(StopError, match="No server answers at"):
        run(over(three), ask_all(range(1)))


def test_all_down_later_may_come_back(three: list[ChatServer]) -> None:
    async def with_three_deaths(engine: Engine) -> None:
        for server in three:
            await asyncio.to_thread(server.stop)
        with pytest.raises(UnreachableError):
            await engine.ask(question(0, 0))
        assert not await engine.alive()

    run(over(three), with_three_deaths)


def test_one_refusal_of_everything_passes_on_and_all_refusals_stop(three: list[ChatServer]) -> None:
    async def with_changed_keys(engine: Engine) -> None:
        three[0].authorization = "Bearer another"
        assert all(reply.text for document in await ask_all(range(6))(engine) for reply in document)
        three[1].authorization = three[2].authorization = "Bearer another"
        with pytest.raises(StopError, match="refuses the key"):
            await engine.ask(question(50, 0))

    run(over(three), with_changed_keys)


def test_a_busy_replica_keeps_its_documents(three: list[ChatServer], tmp_path: Path) -> None:
    async def with_a_busy_one(engine: Engine) -> None:
        client = Client(engine)
        journal = Journal(tmp_path / "journal.jsonl")
        await client.ask(question(0, 0), journal)
        (home,) = homes(three)["<document>\nFerry 0"]
        three[home].then(servers.status(429, "slow down", "0"))
        await client.ask(question(0, 1), journal)

    run(over(three), with_a_busy_one)
    assert len(homes(three)["<document>\nFerry 0"]) == 1


def test_servers_of_different_models_are_refused() -> None:
    with (
        ChatServer("tiny") as one,
        ChatServer("huge") as other,
        pytest.raises(StopError, match="do not serve one model"),
    ):
        run(over([one, other], ""), ask_all(range(1)))


def test_passwords_of_all_addresses_stay_hidden() -> None:
    uri = "http://ann:secret@a:8000/v1,http://bob:hidden@b:8000/v1#model"
    assert public_uri(uri) == "http://a:8000/v1,http://b:8000/v1#model"
    assert engine_identity(uri) == "endpoint#model"


def test_one_that_starts_late_must_serve_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas_module, "FIRST_REST_S", 0.0)
    with ExitStack() as stack:
        first, second = (stack.enter_context(ChatServer("tiny")) for _ in range(2))
        second.stop()

        async def with_a_stranger(engine: Engine) -> ChatServer:
            stranger = stack.enter_context(ChatServer("huge", port=second.port))
            await ask_all(range(12))(engine)
            return stranger

        assert run(over([first, second], ""), with_a_stranger).chats() == []
