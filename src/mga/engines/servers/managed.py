"""LLM servers on this machine, run by us: started, watched, started again when they end or hang, stopped at the end.

`vllm:MODEL` and `sglang:MODEL` start as many servers as the GPUs can carry, each on GPUs of its own, and use them as
one engine (`replicas.py`): a document stays with one server, whose cache holds its prompt. `server:COMMAND#MODEL`
does the same with any command that serves the OpenAI protocol at `{port}`.

Options follow a `?`: `vllm:MODEL?tp=2&quantization=fp8&speculation=ngram`.
"""

import asyncio
import importlib.util
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import IO, Literal
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mga.engine_uri import FORMS
from mga.engines.engine import Reply, Request
from mga.engines.latency import ServerState
from mga.engines.servers.endpoint import Endpoint
from mga.engines.servers.replicas import Replicas
from mga.errors import InputError, StopError, UnreachableError
from mga.events import event

READY_WITHIN_S = 3600.0  # the largest models are read from slow disks
LOOK_EVERY_S = 0.5
PORT_FREE_WITHIN_S = 5.0
SAY_EVERY_S = 10.0
HUNG_AFTER_S = 180.0  # alive and without an answer to a GET for so long
STOP_WITHIN_S = 30.0
RESTARTS, RESTARTS_WITHIN_S = 3, 1800.0

Say = Callable[[str], None]


class ServerOptions(BaseModel):
    """What may follow the model: how many GPUs and servers, and how the server runs it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tp: int = Field(1, ge=1, description="GPUs per server (tensor parallel)")
    dp: int | None = Field(None, ge=1, description="servers (data parallel); as many as the GPUs carry if not given")
    port: int | None = Field(None, ge=1, le=65535, description="port of the first server; free ports if not given")
    quantization: str | None = Field(None, description="the server's own name of a quantization, such as fp8")
    speculation: Literal["ngram", "suffix"] | None = Field(None, description="speculative decoding without a model")
    context: int | None = Field(None, ge=256, description="longest prompt and reply together, in tokens")
    memory: float | None = Field(None, gt=0, le=1, description="share of the GPU memory to use")
    args: str = Field("", description="further flags for the server, quoted as in a shell")


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of server is started: its name, its command, and the flags of its options."""

    name: str
    install: str
    program: Callable[[str], list[str] | None]
    flags: Callable[[str, ServerOptions], list[str]]


def _vllm_program(model: str) -> list[str] | None:
    found = _on_path("vllm")
    return [found, "serve", model] if found else None


def _vllm_flags(model: str, options: ServerOptions) -> list[str]:
    speculation = {
        None: None,
        "ngram": {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 5, "prompt_lookup_min": 2},
        "suffix": {"method": "suffix", "num_speculative_tokens": 16},
    }[options.speculation]
    return [
        *("--served-model-name", model, "--tensor-parallel-size", str(options.tp)),
        *("--enable-prefix-caching", "--enable-prompt-tokens-details"),
        *_flag("--quantization", options.quantization),
        *_flag("--max-model-len", options.context),
        *_flag("--gpu-memory-utilization", options.memory),
        *_flag("--speculative-config", speculation and orjson.dumps(speculation).decode()),
    ]


def _sglang_program(model: str) -> list[str] | None:
    if importlib.util.find_spec("sglang") is not None:
        return [sys.executable, "-m", "sglang.launch_server", "--model-path", model]
    found = _on_path("sglang")
    return [found, "serve", "--model-path", model] if found else None


def _sglang_flags(model: str, options: ServerOptions) -> list[str]:
    if options.speculation == "suffix":
        raise InputError("SGLang has no suffix speculation; write speculation=ngram, or use vllm:.")
    return [
        *("--served-model-name", model, "--tp-size", str(options.tp), "--enable-cache-report"),
        *_flag("--quantization", options.quantization),
        *_flag("--context-length", options.context),
        *_flag("--mem-fraction-static", options.memory),
        *_flag("--speculative-algorithm", options.speculation and options.speculation.upper()),
    ]


KINDS = {
    "vllm": Kind("vLLM", "pip install vllm", _vllm_program, _vllm_flags),
    "sglang": Kind("SGLang", "pip install 'sglang[all]'", _sglang_program, _sglang_flags),
}


def managed(scheme: str, rest: str, concurrency: int | None, logs: Path, say: Say) -> "ManagedServers":
    """The engine behind `vllm:`, `sglang:` and `server:`. Raises InputError for what is wrong with it."""
    if scheme == "server":
        command, mark, model = rest.rpartition("#")
        if not mark or "{port}" not in command:
            raise InputError(
                "server: needs a command with {port} in it, and a model: server:COMMAND --port {port}#MODEL."
            )
        try:
            return ManagedServers(model, [(shlex.split(command), {})], ServerOptions(), concurrency, logs, say)
        except ValueError as error:
            raise InputError(f"The command of server: cannot be read ({error}).") from None
    model, _, query = rest.partition("?")
    if not model:
        raise InputError(f"{scheme}: needs a model. Engines are written: {FORMS}.")
    kind, options = KINDS[scheme], _options(scheme, query)
    program = kind.program(model)
    if program is None:
        raise InputError(
            f"{kind.name} is not installed here: {kind.install} (in an environment of its own and on the PATH, if its "
            f"versions clash), or name a running server: --engine http://host:8000/v1#{model}."
        )
    address = ["--host", "127.0.0.1", "--port", "{port}"]
    command_line = [*program, *address, *kind.flags(model, options), *shlex.split(options.args)]
    places = _places(options, gpus())
    return ManagedServers(model, [(command_line, env) for env in places], options, concurrency, logs, say)


class ManagedServers:
    """Engine over servers of our own on this machine: (command, environment) for each, `{port}` filled in."""

    def __init__(
        self,
        model: str,
        commands: Sequence[tuple[Sequence[str], Mapping[str, str]]],
        options: ServerOptions,
        concurrency: int | None,
        logs: Path,
        say: Say,
    ) -> None:
        ports = [options.port + i for i in range(len(commands))] if options.port else _free_ports(len(commands))
        self._servers = [
            _Server(
                [part.replace("{port}", str(port)) for part in command], env, port, model, logs / f"server-{i}.log", say
            )
            for i, ((command, env), port) in enumerate(zip(commands, ports, strict=True))
        ]
        self._replicas = Replicas([server.endpoint for server in self._servers], concurrency)
        for server in self._servers:
            server.when_up = partial(self._replicas.wake, server.endpoint)
        self.requests_in_flight = self._replicas.requests_in_flight
        self.most_in_flight = self._replicas.most_in_flight
        self.documents_in_flight = self._replicas.documents_in_flight

    @property
    def model(self) -> str:
        return self._replicas.model

    @property
    def features(self) -> object:
        return self._replicas.features

    @property
    def context(self) -> int | None:
        return self._replicas.context

    async def start(self) -> None:
        """Start all servers and wait until they answer. Raises StopError with the end of the log when one ends."""
        try:
            await asyncio.gather(*(server.start() for server in self._servers))
            await self._replicas.start()
        except BaseException:
            await self.close()
            raise

    async def ask(self, request: Request) -> Reply:
        """Answer once. While no server is up, waits for one to be; StopError when none will be."""
        while True:
            await self._one_is_up()
            try:
                return await self._replicas.ask(request)
            except UnreachableError:
                if any(server.up for server in self._servers):
                    raise

    async def alive(self) -> bool:
        return await self._replicas.alive()

    def servers(self) -> list[ServerState]:
        """The state of each server."""
        return self._replicas.servers()

    async def count_tokens(self, text: str) -> int:
        await self._one_is_up()
        return await self._replicas.count_tokens(text)

    async def close(self) -> None:
        await self._replicas.close()
        await asyncio.gather(*(server.stop() for server in self._servers))

    async def _one_is_up(self) -> None:
        while not any(server.up for server in self._servers):
            problems = [server.given_up for server in self._servers if server.given_up is not None]
            if len(problems) == len(self._servers):
                raise problems[0]
            await asyncio.sleep(LOOK_EVERY_S)


class _Server:
    """One server process, its log, and the task that watches it."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], port: int, model: str, log: Path, say: Say
    ) -> None:
        self.endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", model)
        self.up = False
        self.when_up: Callable[[], None] = lambda: None
        self.given_up: StopError | None = None
        self._command, self._env, self._log, self._say = list(command), env, log, say
        self._name = f"{Path(command[0]).name} on port {port}"
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ends: deque[float] = deque(maxlen=RESTARTS)

    async def start(self) -> None:
        """Start it, wait until it answers, and watch it from then on. Raises StopError."""
        self._say(f"{self._name}: starting; its log is {self._log}")
        await self._launch()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End the process and all that it has started."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        await self._end()

    async def _launch(self) -> None:
        began = said = time.monotonic()
        while not _is_free(self._port):  # one that has just been ended may hold it for a moment
            if time.monotonic() - began > PORT_FREE_WITHIN_S:
                raise StopError(f"Port {self._port} is taken by another program; choose another with port=.")
            await asyncio.sleep(LOOK_EVERY_S)
        process = self._process = await self._spawn()
        while not await self.endpoint.ready():
            if process.returncode is not None:
                raise StopError(
                    f"{self._name} ended with code {process.returncode} before it was ready. {self._last_words()}"
                )
            now = time.monotonic()
            if now - began > READY_WITHIN_S:
                raise StopError(f"{self._name} was not ready within {READY_WITHIN_S:.0f} seconds. {self._last_words()}")
            if now - said > SAY_EVERY_S:
                said = now
                self._say(f"{self._name}: not ready after {now - began:.0f} s: {_last_line(self._log)}")
            await asyncio.sleep(LOOK_EVERY_S)
        self.up = True
        self.when_up()
        seconds = time.monotonic() - began
        event("server ready", server=self._name, seconds=round(seconds, 1))
        self._say(f"{self._name}: ready after {seconds:.0f} s")

    async def _spawn(self) -> asyncio.subprocess.Process:
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab") as log:
                log.write(f"\n$ {_shown(self._command)}\n".encode())
                log.flush()
                return await _start_process(self._command, os.environ | self._env, log)
        except OSError as error:
            raise StopError(f"Cannot write the log {self._log}: {error.strerror or error}.") from error

    async def _watch(self) -> None:
        """Start it again whenever it ends or hangs, a few times within half an hour at most."""
        while True:
            reason = await self._ended_or_hung()
            self.up = False
            await self._end()
            now = time.monotonic()
            event("server lost", logging.WARNING, server=self._name, reason=reason)
            if len(self._ends) == RESTARTS and now - self._ends[0] < RESTARTS_WITHIN_S:
                event("server given up", logging.ERROR, server=self._name)
                self.given_up = StopError(f"{self._name} {reason} again and again. {self._last_words()}")
                self._say(str(self.given_up))
                return
            self._ends.append(now)
            self._say(f"{self._name} {reason}; starting it again. {self._last_words()}")
            try:
                await self._launch()
            except StopError as error:
                self.given_up = error
                self._say(str(error))
                return

    async def _ended_or_hung(self) -> str:
        assert self._process is not None
        ended = asyncio.create_task(self._process.wait())
        answered = time.monotonic()
        try:
            while True:
                await asyncio.wait([ended], timeout=SAY_EVERY_S)
                if ended.done():
                    return f"ended with code {ended.result()}"
                if await self.endpoint.ready():
                    answered = time.monotonic()
                elif time.monotonic() - answered > HUNG_AFTER_S:
                    return f"has not answered for {HUNG_AFTER_S:.0f} seconds"
        finally:
            ended.cancel()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for _ in range(2):  # vLLM lets a first request to end pass while it loads
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_WITHIN_S / 2)
                break
        _signal_group(process.pid, signal.SIGKILL)  # it, or what it has left behind
        await process.wait()

    def _last_words(self) -> str:
        return f"Its log {self._log} ends: {_last_line(self._log)}"


async def _start_process(command: Sequence[str], env: Mapping[str, str], log: IO[bytes]) -> asyncio.subprocess.Process:
    """A process under a guard, which ends it with its children when we are killed; both in a group of their own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", str(Path(__file__).with_name("guard.py")), *command),
        env=env,
        stdin=asyncio.subprocess.PIPE,  # closes with us
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _shown(command: Sequence[str]) -> str:
    """A command up to its first flag or variable: what follows may hold keys, and the end of a log is shown."""
    return shlex.join(takewhile(lambda part: not part.startswith("-") and "=" not in part, command)) + " …"


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _last_line(log: Path) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode("utf-8", "replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "(nothing)")
    return "(nothing)"


def _options(scheme: str, query: str) -> ServerOptions:
    try:
        return ServerOptions.model_validate(dict(parse_qsl(query, keep_blank_values=True)))
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(ServerOptions.model_fields)
        name = ".".join(map(str, first["loc"]))
        raise InputError(f"{scheme}: option {name!r}: {first['msg']}. Options are: {known}.") from None


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


def _places(options: ServerOptions, found: Sequence[str]) -> list[dict[str, str]]:
    """The environment of each server: its own GPUs. Without GPUs, one server, or as many as are wanted."""
    if not found:
        return [{} for _ in range(options.dp or 1)]
    servers = options.dp or len(found) // options.tp
    if servers * options.tp > len(found) or not servers:
        wanted = max(servers, 1) * options.tp
        raise InputError(f"tp={options.tp} and dp={servers or 1} need {wanted} GPUs; there are {len(found)} here.")
    return [{"CUDA_VISIBLE_DEVICES": ",".join(found[i * options.tp : (i + 1) * options.tp])} for i in range(servers)]


def _free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that are free now, all different."""
    open_sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in open_sockets]
    for each in open_sockets:
        each.close()
    return ports


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _on_path(program: str) -> str | None:
    """A program on the PATH or beside this Python."""
    return shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))


def _flag(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]
