"""Claims: one worker per shard, whatever dies, stops and starts; and publishing that only one can win."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Barrier, Lock
from types import SimpleNamespace
from typing import cast

import fsspec
import orjson
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from mga.config import ExpandConfig
from mga.data.outcomes import read_rows
from mga.data.store import Place, delete, listed, read_json, write_json
from mga.errors import InputError, StopError
from mga.expand.recipe import Recipe
from mga.expand.shard import ShardStats
from mga.records import Document, Outcome, Pair, Reformulation
from mga.runs.claims import Claims
from mga.runs.run import Identity, Run


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A run folder on a disk, and in an object store (in memory)."""
    if request.param == "disk":
        return tmp_path
    # S3 creates in one step; fsspec's memory looks first and writes then, and two threads can both see nothing.
    one_at_a_time, pipe_file = Lock(), MemoryFileSystem.pipe_file

    def in_one_step(self: MemoryFileSystem, path: str, value: bytes, mode: str = "overwrite") -> None:
        with one_at_a_time:
            pipe_file(self, path, value, mode=mode)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", in_one_step)
    memory = fsspec.filesystem("memory")
    if memory.exists("/run"):
        memory.rm("/run", recursive=True)
    return UPath("memory://run")


def worker(folder: Place, name: str, clock: Clock) -> Claims:
    """One that sends a heartbeat only when it is told to, as on a machine of its own."""
    claims = Claims(folder, lease_s=60, now=clock)
    claims.name = name
    claims.heartbeat()
    return claims


def test_a_shard_is_claimed_once(folder: Place) -> None:
    first, second = worker(folder, "a", Clock()), worker(folder, "b", Clock())
    assert first.take(3)
    assert not second.take(3), "not even by one that has not looked"
    assert second.look() == {3}
    assert not second.take(3)
    assert second.take(4)
    first.give_back(3)
    assert second.look() == {4}
    assert second.take(3)


def test_of_many_that_begin_together_each_shard_has_one(folder: Place) -> None:
    workers = [worker(folder, f"w{i}", Clock()) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda claims: [shard for shard in range(20) if claims.take(shard)], workers))
    assert Counter(shard for shards in taken for shard in shards) == Counter(range(20))


def test_the_shard_of_a_silent_worker_is_taken_after_the_lease_and_not_before(folder: Place) -> None:
    clock = Clock()
    silent, alive, watcher = (worker(folder, name, clock) for name in ("silent", "alive", "watcher"))
    assert silent.take(1)
    assert alive.take(2)
    for clock.now in (0, 30, 59):
        alive.heartbeat()
        watcher.look()
        assert not watcher.take(1)
        assert not watcher.take(2)
    assert watcher.lives(2)
    assert not watcher.lives(1)
    clock.now = 61
    assert watcher.take(1)
    assert not watcher.take(2)
    assert not silent.take(1), "it has lost it"


def test_clocks_that_differ_or_jump_make_nobody_dead_or_immortal(folder: Place) -> None:
    """A watcher measures with its own clock how long a heartbeat has not changed; others' clocks are not read."""
    ahead, watcher = Clock(), Clock()
    ahead.now = 1e9
    holder, other = worker(folder, "holder", ahead), worker(folder, "other", watcher)
    holder.take(1)
    other.look()
    for _ in range(5):
        watcher.now += 50
        ahead.now -= 1e8
        holder.heartbeat()
        assert not other.take(1)
    watcher.now += 61
    assert other.take(1)


def test_the_shards_of_one_that_left_are_free_at_once(folder: Place) -> None:
    leaver, other = worker(folder, "leaver", Clock()), worker(folder, "other", Clock())
    leaver.take(1)
    leaver.end()
    assert other.look() == frozenset()
    assert other.take(1)


def outcome(text: str) -> Outcome:
    document = Document("d", "A text of some words.", "0:0", n_tokens=5)
    return Outcome(document, 0, "kept", Pair("fable", "pilots"), Reformulation(text, 2))


def opened(folder: Place) -> Run:
    run = Run(folder)
    run.id, run.model, run.prompt = "run", "model", "base@0"
    write_json(folder / "run.json", {"run": "run", "identity": {}})
    return run


class User:
    """Somebody who gives a command with this seed, as far as the run is created or continued."""

    def __init__(self, folder: Place, seed: int) -> None:
        self.run = Run(folder)
        self.seed = seed
        self.identity = Identity({"seed": seed}, "input", "model", "model", {"reformulate": "base@0"})
        self.claims = Claims(folder, self.identity.id)

    def begin(self, count: Callable[[], list[int]] = lambda: [8]) -> None:
        self.claims.begin()
        recipe = cast(Recipe, SimpleNamespace(prompt_texts={}, context=None))
        self.run.begin(ExpandConfig(seed=self.seed), recipe, self.identity, count, self.claims)


@pytest.fixture
def user(folder: Place) -> Iterator[Callable[[int], User]]:
    users: list[User] = []

    def new(seed: int) -> User:
        users.append(User(folder, seed))
        return users[-1]

    yield new
    for each in users:
        each.claims.end()


def seed_of(folder: Place) -> int:
    return int(read_json(folder / "run.json")["identity"]["settings"]["seed"])


def test_a_run_that_somebody_works_on_is_given_no_other_settings(folder: Place, user: Callable[[int], User]) -> None:
    """Although nothing was asked yet."""
    user(1).begin()
    with pytest.raises(InputError, match=r"holds a run with other settings: seed \(1 → 2\)"):
        user(2).begin()
    user(1).begin()
    assert seed_of(folder) == 1


def test_a_run_that_was_left_before_anything_was_asked_is_given_other_settings(
    folder: Place, user: Callable[[int], User]
) -> None:
    first, second = user(1), user(2)
    first.begin()
    first.claims.end()
    second.begin()
    assert seed_of(folder) == 2
    with pytest.raises(InputError, match=r"seed \(2 → 1\)"):
        user(1).begin()


def test_of_many_that_begin_together_with_other_settings_exactly_one_wins(
    folder: Place, user: Callable[[int], User]
) -> None:
    """In a folder where somebody has given up before."""
    given_up = user(99)
    given_up.begin()
    given_up.claims.end()
    users = [user(seed) for seed in range(6)]
    together = Barrier(len(users))

    def begin(each: User) -> str:
        together.wait()
        try:
            each.begin()
        except InputError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(users)) as pool:
        said = list(pool.map(begin, users))
    assert said.count("") == 1
    winner = said.index("")
    assert seed_of(folder) == winner
    assert all(f"seed ({winner} → {seed})" in words for seed, words in enumerate(said) if seed != winner)


def test_who_joins_while_the_settings_change_waits_and_looks_again(
    folder: Place, user: Callable[[int], User], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, taker = user(1), user(2)
    first.begin()
    first.claims.end()
    taker.claims.begin()
    assert taker.claims.take_run()

    def change(seconds: float) -> None:
        monkeypatch.undo()
        delete(folder / "run.json")
        write_json(folder / "run.json", {"run": taker.identity.id, "identity": asdict(taker.identity)})
        taker.claims.give_run_back()

    monkeypatch.setattr("mga.runs.run.time.sleep", change)
    with pytest.raises(InputError, match=r"seed \(2 → 1\)"):
        user(1).begin()
    assert seed_of(folder) == 2


def test_nothing_is_published_into_a_run_that_is_not_ones_own(folder: Place, user: Callable[[int], User]) -> None:
    """Somebody has removed the folder under a worker and begun another run there."""
    first = user(1)
    first.begin()
    delete(folder / "run.json")
    second = user(2)
    second.begin()
    with pytest.raises(StopError, match="no longer holds the run"):
        first.run.publish(0, "first", [outcome("of the first")], ShardStats(documents=1))
    assert second.run.done() == frozenset()
    assert second.run.publish(0, "second", [outcome("of the second")], ShardStats(documents=1))
    (row,) = read_rows(folder / "kept")
    assert (row["text"], row["run"]) == ("of the second", second.identity.id)
    assert listed(folder / "open", "*") == []


def test_what_a_worker_of_another_run_had_won_is_not_given_a_name(folder: Place, user: Callable[[int], User]) -> None:
    """It was killed between winning and moving its files."""
    one = user(2)
    write_json(folder / "open" / "00000.won", {"worker": "w", "parts": [], "run": "another"})
    write_json(folder / "open" / "00000.w.shards.json", {"documents": 1})
    one.begin()
    assert one.run.done() == frozenset()
    assert listed(folder / "open", "*") == []


def test_two_that_believe_they_own_a_shard_publish_one_result(folder: Place) -> None:
    runs = [opened(folder) for _ in range(8)]

    def publish(number: int) -> bool:
        stats = ShardStats(documents=1, chunks=1, kept_tokens=number)
        return runs[number].publish(7, f"worker-{number}", [outcome(f"text {number}")], stats)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(publish, range(8)))
    assert won.count(True) == 1
    (row,) = read_rows(folder / "kept")
    assert row["text"] == f"text {won.index(True)}"
    assert runs[0].stats().kept_tokens == won.index(True)
    assert listed(folder / "open", "*") == []


def test_one_that_wakes_up_long_after_its_shard_was_published_changes_nothing(folder: Place) -> None:
    first, late = opened(folder), opened(folder)
    assert first.publish(7, "first", [outcome("first")], ShardStats(documents=1))
    assert not late.publish(7, "late", [outcome("late")], ShardStats(documents=1))
    (row,) = read_rows(folder / "kept")
    assert row["text"] == "first"
    assert listed(folder / "open", "*") == []


def test_a_password_in_an_address_is_not_left_for_workers(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(InputError, match="engine has what may be a password"):
        run.submit(ExpandConfig(engine="http://alice:s3cret@host:8000/v1#m"))
    assert not list((tmp_path / "run").iterdir())
    run.submit(ExpandConfig(engine="http://host:8000/v1#m"))
    assert (
        orjson.loads((tmp_path / "run" / "settings.json").read_bytes())["settings"]["engine"] == "http://host:8000/v1#m"
    )
