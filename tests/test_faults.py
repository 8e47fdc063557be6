"""Whole jobs through trouble: servers that answer badly, vanish, come back, and proxies; nothing is lost or paid twice.

Every job is the command as a user runs it, against servers on the loopback interface. Tests marked `known` describe
what is wanted and is not so yet; they are strict, so that the mark goes when it is.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
import regex
import test_command_line as command_line
from aiohttp import web
from servers import MODELS, ChatServer, Fault, answer, body, content, hang, reset, status, truncated
from test_command_line import PASSWORD, Mga, Said, assert_adds_up, documents, in_a_process, rows, tree

from mga.engines import client as client_module
from mga.engines import places as places_module
from mga.engines.servers import endpoint as endpoint_module
from mga.engines.servers import managed as server_module
from mga.engines.servers import replicas as replicas_module

mga = command_line.mga  # the fixture


SHARE = 0.15
COUNT, PAIRS = 12, 5
RETRY_AFTER_S, SOON_S = 0.3, 0.05
FLAWS = 0.3
OUTCOMES = ("kept", "dropped", "failed")
ONE_SHARD = 8  # documents; the journal of all requests lies there until the run's end
GONE_WITHIN_S = 5.0


def prompt(asked: dict[str, Any]) -> str:
    return str(asked["messages"][0]["content"])


class Faulty:
    """`server.fault_for`: the first times that some requests are asked, they meet a fault; which and how often is
    decided by the request. Counts what is asked and what is answered well."""

    def __init__(self, *faults: Fault, share: float = SHARE, in_a_row: int = 1) -> None:
        self.faults, self.share, self.in_a_row = faults, share, in_a_row
        self.times: dict[bytes, list[float]] = {}
        self.met: Counter[Fault] = Counter()
        self.answered: Counter[bytes] = Counter()

    def __call__(self, asked: dict[str, Any]) -> Fault | None:
        if "<document>" not in prompt(asked):  # what a client tries out when it starts
            return None
        key = orjson.dumps(asked)
        times = self.times.setdefault(key, [])
        times.append(time.monotonic())
        mark = blake2b(key, digest_size=16).digest()
        chosen = mark[0] < self.share * 256
        if chosen and len(times) <= 1 + mark[1] % self.in_a_row:
            fault = self.faults[mark[1 + len(times)] % len(self.faults)]
            self.met[fault] += 1
            return fault
        self.answered[key] += 1
        return None


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow soon, and an answer that takes a second has hung."""
    monkeypatch.setattr(client_module, "_backoff", lambda _state: SOON_S)
    monkeypatch.setattr(endpoint_module, "SILENCE_TIMEOUT_S", 1.0)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return documents(tmp_path_factory.mktemp("given") / "in.jsonl", COUNT)


@pytest.fixture(scope="module")
def undisturbed(given: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The outcomes of a job on a server that always answers."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    with ChatServer(flaws=FLAWS) as server:
        assert in_a_process("expand", given, "--out", run, "--engine", server.url).code == 0
    assert all(rows(run / part) for part in OUTCOMES)
    return outcomes(run)


def outcomes(run: Path) -> dict[str, bytes]:
    return {f"{part}/{name}": data for part in OUTCOMES for name, data in tree(run / part).items()}


def assert_complete(run: Path, count: int, pairs: int) -> dict[str, Any]:
    """Each document has all its outcomes, each once, and all counts agree."""
    found = assert_adds_up(run)
    everything = [row for part in OUTCOMES for row in rows(run / part)]
    assert Counter(row["source_id"] for row in everything) == {f"doc-{i}": pairs for i in range(count)}
    assert len({row["id"] for row in everything}) == count * pairs
    assert found["documents"] == found["chunks"] == count
    assert "engine_gave_up" not in found["reasons"]
    assert list((run / "journal").iterdir()) == []
    return found


def until(reached: Callable[[], bool], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.01)


@contextmanager
def meanwhile(steps: Callable[[], None]) -> Iterator[None]:
    """The steps are done beside the block; their failure is the block's."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(steps)
        yield
        done.result()


# ── bad answers ──────────────────────────────────────────────────────────────────────────────────────────────────


async def gateway(_request: web.Request, _server: ChatServer) -> web.StreamResponse:
    """The page of a proxy before the server."""
    return web.Response(status=502, text="<html><h1>Bad Gateway</h1></html>", content_type="text/html")


FAULTS: dict[str, Fault] = {
    "429": status(429, "slow down", str(RETRY_AFTER_S)),
    "503": status(503),
    "500": status(500),
    "502_page": gateway,
    "reset": reset,
    "hang": hang,
    "truncated": truncated,
    "html": body("<!doctype html><p>Please log in.</p>", "text/html"),
    "no_choices": answer(choices=[]),
    "not_json": body('{"choices": [{"message": {"content": "half of a sen'),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", FAULTS)
def test_one_kind_of_fault(name: str, mga: Mga, given: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with ChatServer(flaws=FLAWS) as server:
        server.fault_for = faulty = Faulty(FAULTS[name])
        said = mga("expand", given, "--out", tmp_path / "run", "--engine", server.url)
    assert said.code == 0, said
    assert_complete(tmp_path / "run", COUNT, PAIRS)
    assert_asked_no_more_than_needed(faulty)
    assert outcomes(tmp_path / "run") == undisturbed
    if name == "429":
        waits = [after - before for times in faulty.times.values() for before, after in pairwise(times)]
        assert min(waits) >= RETRY_AFTER_S


@pytest.mark.usefixtures("impatient")
def test_all_faults_at_once(mga: Mga, given: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    with ChatServer(flaws=FLAWS) as server:
        server.fault_for = faulty = Faulty(*FAULTS.values(), in_a_row=3)
        said = mga("expand", given, "--out", tmp_path / "run", "--engine", server.url)
    assert said.code == 0, said
    assert_complete(tmp_path / "run", COUNT, PAIRS)
    assert_asked_no_more_than_needed(faulty)
    assert len(faulty.met) >= len(FAULTS) - 2
    assert outcomes(tmp_path / "run") == undisturbed


def assert_asked_no_more_than_needed(faulty: Faulty) -> None:
    """Enough of the requests met a fault, each was asked until it was answered well, and none after that."""
    wanted = COUNT * (1 + PAIRS)
    assert len(faulty.times) > wanted
    assert SHARE / 2 < sum(len(times) > 1 for times in faulty.times.values()) / len(faulty.times) < SHARE * 2
    assert set(faulty.answered.values()) == {1}, "a request was asked again after its good reply"
    assert faulty.answered.keys() == faulty.times.keys()


@pytest.mark.usefixtures("impatient")
def test_a_null_content_is_an_empty_reply_and_paid_once(mga: Mga, given: Path, tmp_path: Path) -> None:
    null = content(None, usage={"prompt_tokens": 40, "completion_tokens": 0})
    with ChatServer() as server:
        server.fault_for = faulty = Faulty(null)
        said = mga("expand", given, "--out", tmp_path / "run", "--engine", server.url)
    assert said.code == 0, said
    found = assert_complete(tmp_path / "run", COUNT, PAIRS)
    assert 0 < found["reasons"]["empty_reply"] <= faulty.met[null]
    assert {len(times) for times in faulty.times.values()} == {1}
    assert sum(spent["requests"] for spent in found["usage"].values()) == len(faulty.times)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_busy_for_a_while_costs_no_text(mga: Mga, given: Path, tmp_path: Path) -> None:
    with ChatServer() as server:
        faulty, first = Faulty(share=0), time.monotonic()

        def busy_at_first(asked: dict[str, Any]) -> Fault | None:
            busy = "<document>" in prompt(asked) and time.monotonic() < first + 1.5
            return status(429, "slow down", str(SOON_S)) if busy else faulty(asked)

        server.fault_for = busy_at_first
        said = mga("expand", given, "--out", tmp_path / "run", "--engine", server.url, "--concurrency", 4)
    assert said.code == 0, said
    assert_complete(tmp_path / "run", COUNT, PAIRS)


@pytest.mark.parametrize("code", [402, 407])
def test_a_refusal_that_concerns_all_texts_stops_the_run(code: int, mga: Mga, tmp_path: Path) -> None:
    run, command = tmp_path / "run", ("expand", documents(tmp_path / "in.jsonl", ONE_SHARD))
    with ChatServer() as server:
        server.fault_for = lambda asked: status(code) if len(server.chats()) > 30 else None
        command += ("--out", run, "--engine", server.url)
        command_line.assert_refused(mga(*command), str(code))
        server.fault_for = lambda asked: None
        said = mga(*command)
    assert said.code == 0, said
    assert_complete(run, ONE_SHARD, PAIRS)


# ── servers that come and go ─────────────────────────────────────────────────────────────────────────────────────


class Slow:
    """`server.fault_for`: answers one after the other, so many seconds apart; counts the documents' requests."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.served: set[str] = set()
        self.count = 0

    def __call__(self, asked: dict[str, Any]) -> None:
        if found := regex.search(r"Harbour number (\d+)", prompt(asked)):
            time.sleep(self.seconds)
            self.served.add(found[1])
            self.count += 1


def test_two_servers_are_stopped_in_turn_and_come_back(
    mga: Mga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, pairs, at_first, at_most = 120, 3, 4, 16
    monkeypatch.setattr(endpoint_module, "FIRST_IN_FLIGHT", at_first)
    monkeypatch.setattr(endpoint_module, "MOST_IN_FLIGHT", at_most)
    monkeypatch.setattr(places_module, "LEAST_ANSWERS", 16)
    monkeypatch.setattr(places_module, "SHORTEST_WINDOW_S", 0.05)
    monkeypatch.setattr(replicas_module, "FIRST_REST_S", 0.05)
    monkeypatch.setattr(replicas_module, "LONGEST_REST_S", 0.2)
    servers: list[ChatServer] = []
    slows: list[Slow] = []

    def serve(port: int = 0) -> tuple[ChatServer, Slow]:
        server, slow = ChatServer(port=port), Slow(0.005)
        server.fault_for = slow
        server.__enter__()
        servers.append(server)
        slows.append(slow)
        return server, slow

    (first, slow_first), (second, slow_second) = serve(), serve()
    engine = f"{first.url},{second.url}"

    def come_and_go() -> None:
        until(lambda: slow_first.count >= 30 and slow_second.count >= 30)
        first.stop()
        seen = slow_second.count
        until(lambda: slow_second.count >= seen + 30)
        _, slow_back = serve(first.port)
        until(lambda: slow_back.count >= 30)
        second.stop()
        seen = slow_back.count
        until(lambda: slow_back.count >= seen + 30)
        _, slow_back_too = serve(second.port)
        until(lambda: slow_back_too.count >= 10)

    try:
        with meanwhile(come_and_go):
            said = mga(
                *("expand", documents(tmp_path / "in.jsonl", count), "--out", tmp_path / "run", "--engine", engine),
                *("--pairs", pairs, "--judge", "none"),
            )
    finally:
        for server in servers:
            server.stop()
    assert said.code == 0, said
    found = assert_complete(tmp_path / "run", count, pairs)
    assert len(slows) == 4
    assert all(slow.served for slow in slows), "each server served documents, before and after"
    assert set().union(*(slow.served for slow in slows)) == {str(i) for i in range(count)}
    replies = sum(spent["requests"] for spent in found["usage"].values())
    asked = sum(slow.count for slow in slows)
    assert replies <= asked <= replies + 2 * 2 * at_most, "what a stopped server had in hand is asked again, no more"
    session = next((tmp_path / "run" / "sessions").iterdir())
    assert 1 <= orjson.loads(session.read_bytes())["engines"][0]["in_flight"] <= 2 * at_most


def test_one_outage_is_one_outage_however_much_was_in_flight(
    mga: Mga, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 100
    monkeypatch.setattr(replicas_module, "FIRST_REST_S", 0.05)
    with ChatServer() as first, ChatServer() as second:
        slow_first, slow_second, began = Slow(0.005), Slow(0.005), time.monotonic()

        def away_at_first(asked: dict[str, Any]) -> Fault | None:
            nonlocal began
            if not slow_second.count:
                began = time.monotonic()
            away = "<document>" in prompt(asked) and time.monotonic() < began + 0.1
            return reset if away else slow_first(asked)

        first.fault_for, second.fault_for = away_at_first, slow_second
        said = mga(
            *("expand", documents(tmp_path / "in.jsonl", count), "--out", tmp_path / "run"),
            *("--engine", f"{first.url},{second.url}", "--concurrency", 32, "--pairs", 2, "--judge", "none"),
        )
    assert said.code == 0, said
    assert_complete(tmp_path / "run", count, 2)
    assert slow_first.served


def test_a_model_that_disappears_stops_the_run_which_continues_when_it_is_back(mga: Mga, tmp_path: Path) -> None:
    run, command = tmp_path / "run", ("expand", documents(tmp_path / "in.jsonl", ONE_SHARD))
    with ChatServer(flaws=FLAWS) as server:
        faulty = Faulty(status(404, "The model `tiny` does not exist."), share=0)

        def gone_after_forty(asked: dict[str, Any]) -> Fault | None:
            if len(faulty.answered) >= 40:
                server.models = ["another"]
            return faulty(asked) if "tiny" in server.models else None

        server.fault_for = gone_after_forty
        command += ("--out", run, "--engine", f"{server.url}#tiny")
        stopped = mga(*command)
        command_line.assert_refused(stopped, "'tiny'", server.url)
        assert not (run / "stats.json").exists()
        received = journaled(run)
        assert 0 < received <= 40
        before = set(faulty.answered)

        still_away = mga(*command)
        command_line.assert_refused(still_away, "no model 'tiny'", "another")
        assert journaled(run) == received

        server.models, server.fault_for = ["tiny"], faulty
        said = mga(*command)
    assert said.code == 0, said
    assert_complete(run, ONE_SHARD, PAIRS)
    assert_received_not_asked_again(before, faulty.answered, received)


def journaled(run: Path) -> int:
    """Replies received so far, of a run whose documents are all in its first shard."""
    return sum(path.read_bytes().count(b"\n") for path in (run / "journal").glob("00000.*.jsonl"))


def assert_received_not_asked_again(before: set[bytes], asked: Counter[bytes], received: int) -> None:
    """What a stop left without a reply that was received, and only that, was asked again."""
    again = {key for key in before if asked[key] > 1}
    assert len(again) == len(before) - received
    assert max(asked.values()) <= 2


# ── servers of our own ───────────────────────────────────────────────────────────────────────────────────────────

PROGRAM = """
import sys
import time
from hashlib import blake2b
from pathlib import Path

sys.path.insert(0, {tests!r})
import orjson
import stand_in_server
from servers import ChatServer


class Slow(ChatServer):
    def __init__(self, **given):
        super().__init__(**given)
        self.fault_for = self.slowly

    def slowly(self, asked):
        if "<document>" in asked["messages"][0]["content"]:
            print("asked", blake2b(orjson.dumps(asked), digest_size=16).hexdigest(), flush=True)
            time.sleep(0.06 if Path({slow!r}).exists() else 0.01)


stand_in_server.ChatServer = Slow
stand_in_server.main()
"""


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`vllm` on the PATH is the stand-in, which also logs what it is asked and is slow while a file is there; there
    are no GPUs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "slow").touch()
    program = PROGRAM.format(tests=str(Path(__file__).parent), slow=str(tmp_path / "slow"))
    (folder / "program.py").write_text(program)
    (folder / "vllm").write_text(f"#!/bin/sh\nexec '{sys.executable}' '{folder / 'program.py'}' \"$@\"\n")
    (folder / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(server_module, "LOOK_EVERY_S", 0.05)


def in_the_background(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mga", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class OwnServers:
    """A job on `vllm:tiny?dp=2`, and what its servers' logs tell."""

    def __init__(self, folder: Path, count: int, pairs: int) -> None:
        self.run, self.count, self.pairs, self.slow = folder / "run", count, pairs, folder / "slow"
        self.arguments = ["expand", documents(folder / "in.jsonl", count), "--out", self.run]
        self.arguments += ["--engine", "vllm:tiny?dp=2", "--pairs", pairs, "--concurrency", 4]

    def start(self) -> subprocess.Popen[str]:
        return in_the_background(*self.arguments)

    def log(self, server: int) -> str:
        path = self.run / "logs" / "generator" / f"server-{server}.log"
        return path.read_text() if path.exists() else ""

    def processes(self, server: int) -> list[int]:
        return [int(pid) for pid in regex.findall(r"process (\d+) child", self.log(server))]

    def children(self, server: int) -> list[int]:
        return [int(pid) for pid in regex.findall(r"process \d+ child (\d+)", self.log(server))]

    def asked(self) -> list[bytes]:
        return [key.encode() for server in (0, 1) for key in regex.findall(r"asked (\w+)", self.log(server))]

    def left(self) -> list[int]:
        """Processes of servers, and what they have started, that are alive."""
        known = [pid for server in (0, 1) for pid in self.processes(server) + self.children(server)]
        return [pid for pid in known if runs(pid)]

    def clean(self) -> None:
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def own(vllm: None, tmp_path: Path) -> Iterator[OwnServers]:
    servers = OwnServers(tmp_path, ONE_SHARD, 3)
    yield servers
    servers.clean()


def test_a_server_of_our_own_is_killed_and_the_job_completes(vllm: None, mga: Mga, tmp_path: Path) -> None:
    own = OwnServers(tmp_path, 40, 1)

    def kill_one() -> None:
        until(lambda: own.log(0).count("asked") >= 5)
        os.kill(own.processes(0)[0], signal.SIGKILL)
        until(lambda: len(own.processes(0)) == 2 and "asked" in own.log(0).rpartition("$ ")[2])
        own.slow.unlink()

    with meanwhile(kill_one):
        said = mga(*own.arguments)
    assert said.code == 0, said
    assert_complete(own.run, own.count, own.pairs)
    assert "ended with code 137; starting it again" in said.err
    assert len(own.processes(1)) == 1
    assert own.left() == []
    asked = Counter(own.asked())
    assert len(asked) >= own.count * (1 + 2 * own.pairs)
    assert sum(times - 1 for times in asked.values()) <= 4, "more was asked again than was in flight"


def test_a_kill_of_mga_leaves_no_server_and_the_run_continues(own: OwnServers) -> None:
    process = own.start()
    until(lambda: journaled(own.run) >= 15)
    process.kill()
    process.communicate(timeout=10)
    until(lambda: not any(runs(pid) for server in (0, 1) for pid in own.processes(server)), GONE_WITHIN_S)
    own.clean()
    own.slow.unlink()
    received, before = journaled(own.run), set(own.asked())
    assert 15 <= received <= len(before)

    process = own.start()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert_complete(own.run, own.count, own.pairs)
    assert own.left() == []
    assert_received_not_asked_again(before, Counter(own.asked()), received)


def test_a_kill_of_mga_leaves_no_child_of_a_server(own: OwnServers) -> None:
    process = own.start()
    until(lambda: own.processes(0) and own.processes(1))
    process.kill()
    process.communicate(timeout=10)
    until(lambda: own.left() == [], 2.0)


@pytest.mark.parametrize("moment", ["while they load", "while they answer"])
def test_ctrl_c_leaves_no_server(own: OwnServers, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if moment == "while they load":
        monkeypatch.setenv("STAND_IN_LOADS", "30")
        process = own.start()
        until(lambda: own.processes(0) and own.processes(1))
    else:
        process = own.start()
        until(lambda: journaled(own.run) >= 10)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=15)
    assert process.returncode == 130, said
    assert time.monotonic() - began < 10
    assert own.left() == []
    assert "Traceback" not in said
    assert moment == "while they load" or said.strip().splitlines()[-1].startswith("mga: Stopped.")
    assert sorted(path.name for path in (own.run / "logs" / "generator").iterdir()) == ["server-0.log", "server-1.log"]
    assert "serve tiny" in own.log(0)


def test_ctrl_c_before_the_work_begins_is_said(tmp_path: Path) -> None:
    with ChatServer() as server:
        server.then(hang, path=MODELS)
        command = ["expand", documents(tmp_path / "in.jsonl"), "--out", tmp_path / "run", "--engine", server.url]
        process = in_the_background(*command)
        until(lambda: bool(server.asked))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=15)
    assert process.returncode == 130, said
    assert "stopped" in said.lower()


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The environment names a proxy on this port, with a name and a password."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return lambda port: monkeypatch.setenv("HTTP_PROXY", f"http://someone:{PASSWORD}@127.0.0.1:{port}")


def assert_password_nowhere(said: Said, run: Path) -> None:
    encoded = "c29tZW9uZTpodW50ZXIyLWlu"  # the beginning of both in Base64, as in the header
    for shown in (said.out, said.err, *(data.decode("utf-8", "replace") for data in tree(run).values())):
        assert PASSWORD not in shown
        assert encoded not in shown
        assert "someone" not in shown


FAR = "http://model.invalid/v1#tiny"


def test_a_job_through_a_proxy_with_a_password(mga: Mga, through: Callable[[int], None], tmp_path: Path) -> None:
    with ChatServer() as proxy:
        through(proxy.port)
        said = mga("expand", documents(tmp_path / "in.jsonl"), "--out", tmp_path / "run", "--engine", FAR)
    assert said.code == 0, said
    assert_complete(tmp_path / "run", 4, PAIRS)
    assert {asked.headers["Host"] for asked in proxy.asked} == {"model.invalid"}
    assert all(
        asked.headers["Proxy-Authorization"].startswith("Basic c29tZW9uZTpodW50ZXIyLWlu") for asked in proxy.asked
    )
    assert len(proxy.chats()) >= 4 * 11
    assert_password_nowhere(said, tmp_path / "run")


def test_a_proxy_that_refuses_the_password(mga: Mga, through: Callable[[int], None], tmp_path: Path) -> None:
    with ChatServer() as proxy:
        through(proxy.port)
        refusal = status(407, "Proxy Authentication Required")
        proxy.then(*[refusal] * 4, path=MODELS)
        proxy.fault_for = lambda asked: refusal
        said = mga("expand", documents(tmp_path / "in.jsonl"), "--out", tmp_path / "run", "--engine", FAR)
    command_line.assert_refused(said, "model.invalid", "407", "Proxy Authentication Required")
    assert_password_nowhere(said, tmp_path / "run")


@pytest.mark.parametrize("where", ["a proxy", "a server"])
def test_credentials_that_are_said_back_are_not_shown(
    where: str, mga: Mga, through: Callable[[int], None], tmp_path: Path
) -> None:
    async def says_them(request: web.Request, _server: ChatServer) -> web.StreamResponse:
        header = request.headers.get("Proxy-Authorization") or request.headers["Authorization"]
        return web.Response(status=407 if where == "a proxy" else 401, text=f"Unknown: {header}")

    with ChatServer() as server:
        through(server.port)
        engine = FAR if where == "a proxy" else server.url.replace("//", f"//someone:{PASSWORD}@")
        server.then(*[says_them] * 4, path=MODELS)
        server.fault_for = lambda asked: says_them
        said = mga("expand", documents(tmp_path / "in.jsonl"), "--out", tmp_path / "run", "--engine", engine)
    assert said.code == 2
    assert "Unknown:" in said.err
    assert_password_nowhere(said, tmp_path / "run")


def test_a_proxy_that_is_not_there(mga: Mga, through: Callable[[int], None], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    through(port)
    said = mga("expand", documents(tmp_path / "in.jsonl"), "--out", tmp_path / "run", "--engine", FAR)
    command_line.assert_refused(said, "model.invalid", f"127.0.0.1:{port}")
    assert_password_nowhere(said, tmp_path / "run")
