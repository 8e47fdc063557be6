"""The life of servers that mga runs itself, with a stand-in process in the place of vLLM and SGLang."""

import asyncio
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import regex

from mga.engine_uri import engine_identity, public_uri
from mga.engines.choose import choose_engine
from mga.engines.client import Client
from mga.engines.engine import Request
from mga.engines.journal import Journal
from mga.engines.servers import managed as server_module
from mga.engines.servers.managed import ManagedServers, gpus
from mga.errors import InputError, StopError, UnreachableError

ASK = Request("Retell: the ferry crossed the strait twice a day.", 64, 7, "reformulate", "document-1")
STAND_IN = Path(__file__).with_name("stand_in_server.py")


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`vllm` and `sglang` on the PATH are the stand-in; there are no GPUs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("vllm", "sglang"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(STAND_IN))} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(server_module, "LOOK_EVERY_S", 0.05)
    return folder


class Scene:
    """An engine on stand-ins, what it said, and the processes that its logs name."""

    def __init__(self, uri: str, logs: Path) -> None:
        self.logs = logs
        self.said: list[str] = []
        engine = choose_engine(uri, None, logs, self.said.append)
        assert isinstance(engine, ManagedServers)
        self.engine = engine

    def processes(self, server: int = 0) -> list[tuple[int, int]]:
        """(process, child) of every start so far."""
        log = (self.logs / f"server-{server}.log").read_text()
        return [(int(a), int(b)) for a, b in regex.findall(r"process (\d+) child (\d+)", log)]

    def gpus(self, server: int) -> str:
        return str(regex.search(r"gpus (\S+)", (self.logs / f"server-{server}.log").read_text())[1])


def live(scene: Scene, *steps: Callable[[], object], within_s: float = 60) -> None:
    """Start, do the steps (awaited where they are coroutines), close, and see that no process is left."""

    async def work() -> None:
        async with asyncio.timeout(within_s):
            try:
                await scene.engine.start()
                for step in steps:
                    done = step()
                    if asyncio.iscoroutine(done):
                        await done
            finally:
                await scene.engine.close()

    try:
        asyncio.run(work())
    finally:
        for log in scene.logs.glob("server-*.log"):
            for process, child in scene.processes(int(log.stem[7:])):
                assert not _runs(process), "a server is left"
                assert not _runs(child), "a child of a server is left"


def _runs(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(true: Callable[[], bool]) -> None:
    """Wait; `live` bounds it."""
    while not true():  # noqa: ASYNC110 - it watches a file
        await asyncio.sleep(0.05)


async def asked(scene: Scene, count: int = 1, seed: int = 0) -> None:
    """Ask so many times; a death that has not been noticed yet is no failure."""
    for i in range(count):
        while True:
            with suppress(UnreachableError):
                assert (await scene.engine.ask(replace(ASK, seed=seed + i, affinity=f"document-{i}"))).text
                break
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_start_ask_stop(kind: str, tmp_path: Path) -> None:
    options = "quantization=fp8&speculation=ngram&context=4096&memory=0.8"
    scene = Scene(f"{kind}:tiny/model?{options}", tmp_path / "logs")
    live(scene, lambda: asked(scene))
    assert scene.engine.model == "tiny/model"
    assert "ready after" in scene.said[-1]
    assert str(scene.engine.features).startswith("chat")


def test_the_state_is_shown_while_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_LOADS", "1")
    monkeypatch.setattr(server_module, "SAY_EVERY_S", 0.2)
    scene = Scene("vllm:tiny", tmp_path / "logs")
    live(scene)
    assert any(regex.search(r"not ready after \d+ s: Loading weights", line) for line in scene.said)


def test_a_server_on_its_own_gpus_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    scene = Scene("vllm:tiny?tp=2", tmp_path / "logs")
    live(scene, lambda: asked(scene, 4))
    assert {scene.gpus(0), scene.gpus(1)} == {"4,5", "6,7"}


@pytest.mark.parametrize(("options", "wanted"), [("tp=2&dp=2", 4), ("tp=4", 4)])
def test_too_few_gpus(options: str, wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(InputError, match=f"need {wanted} GPUs; there are 3"):
        choose_engine(f"vllm:tiny?{options}", None, tmp_path)


def test_gpus_are_counted_through_the_driver(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    script = programs / "nvidia-smi"
    script.write_text("#!/bin/sh\nprintf '0\\n1\\n2\\n'\n")
    script.chmod(0o755)
    assert gpus() == ["0", "1", "2"]
    script.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed' >&2; exit 9\n")
    assert gpus() == []


def test_a_server_that_is_killed_is_started_again_and_the_work_waits(tmp_path: Path) -> None:
    scene = Scene("vllm:tiny", tmp_path / "logs")

    async def through_a_kill() -> None:
        client = Client(scene.engine)
        journal = Journal(tmp_path / "journal.jsonl")

        async def ask(i: int) -> None:
            if i == 20:
                os.kill(scene.processes()[0][0], signal.SIGKILL)
            await client.ask(Request(ASK.prompt, 64, i, "reformulate", f"document-{i}"), journal)

        for i in range(0, 60, 10):
            await asyncio.gather(*(ask(i + j) for j in range(10)))
        assert client.spent.requests == 60

    live(scene, through_a_kill)
    assert len(scene.processes()) == 2
    assert any("ended with code 137; starting it again" in line for line in scene.said)


def test_one_of_two_is_killed_and_the_other_goes_on(tmp_path: Path) -> None:
    scene = Scene("vllm:tiny?dp=2", tmp_path / "logs")

    async def through_a_kill() -> None:
        await asked(scene, 8)
        os.kill(scene.processes(0)[0][0], signal.SIGKILL)
        began = time.monotonic()
        await asked(scene, 8, seed=100)
        assert time.monotonic() - began < 10
        await until(lambda: len(scene.processes(0)) == 2)
        await until(lambda: sum("ready after" in line for line in scene.said) == 3)
        await asked(scene, 8, seed=200)

    live(scene, through_a_kill)
    assert len(scene.processes(1)) == 1


def test_a_server_that_hangs_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SAY_EVERY_S", 0.1)
    monkeypatch.setattr(server_module, "HUNG_AFTER_S", 1.0)
    monkeypatch.setattr(server_module, "STOP_WITHIN_S", 0.5)
    monkeypatch.setattr("mga.engines.servers.endpoint.CONNECT_TIMEOUT_S", 0.5)
    scene = Scene("vllm:tiny", tmp_path / "logs")

    async def through_a_hang() -> None:
        os.kill(scene.processes()[0][0], signal.SIGSTOP)
        await until(lambda: len(scene.processes()) == 2)
        await asked(scene)

    live(scene, through_a_hang)
    assert any("has not answered for" in line for line in scene.said)


def test_a_server_that_cannot_load_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken").touch()
    monkeypatch.setenv("STAND_IN_BROKEN", str(tmp_path / "broken"))
    scene = Scene("vllm:tiny", tmp_path / "logs")
    with pytest.raises(StopError, match=r"ended with code 3 before it was ready.*out of memory"):
        live(scene)


def test_a_server_that_no_longer_loads_stops_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_BROKEN", str(tmp_path / "broken"))
    scene = Scene("vllm:tiny", tmp_path / "logs")

    async def until_given_up() -> None:
        await asked(scene)
        (tmp_path / "broken").touch()
        os.kill(scene.processes()[0][0], signal.SIGKILL)
        while True:
            await asked(scene)
            await asyncio.sleep(0.05)

    with pytest.raises(StopError, match="out of memory"):
        live(scene, until_given_up)


def test_a_server_that_ends_again_and_again_is_given_up(tmp_path: Path) -> None:
    scene = Scene("vllm:tiny", tmp_path / "logs")

    async def kill_it_whenever_it_is_up() -> None:
        killed = 0
        while True:
            await asked(scene)
            process = scene.processes()[-1][0]
            if process != killed:
                killed = process
                os.kill(process, signal.SIGKILL)
            await asyncio.sleep(0.05)

    with pytest.raises(StopError, match="again and again"):
        live(scene, kill_it_whenever_it_is_up)
    assert len(scene.processes()) == 1 + server_module.RESTARTS


def test_one_that_ignores_the_request_to_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_STUBBORN", "1")
    monkeypatch.setattr(server_module, "STOP_WITHIN_S", 0.5)
    scene = Scene("vllm:tiny", tmp_path / "logs")
    live(scene, within_s=20)


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        scene = Scene(f"vllm:tiny?port={port}", tmp_path / "logs")
        with pytest.raises(StopError, match=f"Port {port} is taken"):
            live(scene)


def test_any_command_that_serves(tmp_path: Path) -> None:
    command = f"{sys.executable} {STAND_IN} serve --served-model-name own --host 127.0.0.1 --port {{port}}"
    scene = Scene(f"server:{command}#own", tmp_path / "logs")
    live(scene, lambda: asked(scene))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("vllm:", "needs a model"),
        ("vllm:tiny?tensor=2", "option 'tensor'.*Options are: tp, dp"),
        ("vllm:tiny?tp=0", "option 'tp'"),
        ("sglang:tiny?speculation=suffix", "no suffix speculation"),
        ("server:run-it --port 8000#tiny", r"\{port\}"),
        ("server:run-it --port {port}", "a model"),
        ("server:run-it 'half --port {port}#tiny", "cannot be read"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(uri: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        choose_engine(uri, None, tmp_path)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_what_is_not_installed_is_said_with_the_command(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=f"pip install .*{kind}"):
        choose_engine(f"{kind}:tiny", None, tmp_path)


def test_a_command_that_does_not_exist_is_said(tmp_path: Path) -> None:
    scene = Scene("server:no-such-program --port {port}#tiny", tmp_path / "logs")
    with pytest.raises(StopError, match="Cannot start no-such-program"):
        live(scene)


@pytest.mark.parametrize("uri", ["vllm:tiny?args=--api-key hunter2", "server:env KEY=hunter2 no-such {port}#tiny"])
def test_arguments_are_in_no_log_and_no_line(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SAY_EVERY_S", 0.0)
    monkeypatch.setenv("STAND_IN_BROKEN", str(tmp_path))
    scene = Scene(uri, tmp_path / "logs")
    with pytest.raises(StopError) as stopped:
        live(scene)
    log = (tmp_path / "logs" / "server-0.log").read_text()
    for shown in (log, *scene.said, str(stopped.value)):
        assert "hunter2" not in shown


def test_further_flags_and_commands_are_not_shown() -> None:
    assert "secret" not in public_uri("vllm:tiny?args=--api-key secret&tp=2")
    assert "secret" not in public_uri("server:serve --api-key secret --port {port}#tiny")


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:8000/v1#tiny",
        "vllm:tiny?tp=2&port=8000",
        "sglang:tiny",
        "server:serve-it --port {port}#tiny",
    ],
)
def test_who_starts_the_server_does_not_decide_the_answers(uri: str) -> None:
    assert engine_identity(uri) == "endpoint#tiny"
    assert engine_identity("vllm:tiny?tp=2&quantization=fp8") != "endpoint#tiny"
