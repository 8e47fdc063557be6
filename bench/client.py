"""What it costs to drive a language model server: CPU, rate, requests in flight, memory.

    python bench/client.py [--documents 2000] [--in-flight 256] [--delay 0 --delay 0.2] [--client NAME ...]
    python bench/client.py --peers        the same, then the same job through other tools
    python bench/client.py --memory       peak memory on 2,000 documents and on 200,000 (more than a quarter hour)

The same job for all: so many documents of 3 KB, 11 requests each (one for pairs, five rewrites, five verdicts), a
loopback server that answers at once or after a while. Each client runs in a process of its own. Clients:

    bare          the least one can write with asyncio and aiohttp: no journal, no retries, replies thrown away
    mga-client    our client: request identity, journal, retries, parsed replies
    mga-expand    the whole of `mga expand`: reading, prompts, pairs parsed, cleaning, verdicts, Parquet
    mga-watched   the same, its metrics served and scraped every second, and written to a file

The other tools (bench/peers/) get the same prompts, write what they usually write, and each has a virtual
environment of its own in .venv-peers/, made when first needed:

    datatrove                InferenceRunner with its own client for servers on this machine
    datatrove-checkpoints    the same with checkpoints
    curator                  Bespoke Curator
    distilabel               a pipeline of three tasks
    ray-data                 Ray Data with an asynchronous actor

Start-up is included: imports, worker processes, and for the tools on few documents (curator, distilabel, ray-data) it
is most of what they cost. CPU and memory are those of a client and all its child processes (Linux), shared memory
counted once.
"""

import argparse
import asyncio
import contextlib
import importlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from answering_server import prose
from peers import PEERS, processes
from peers.environment import NotInstalled, python_of
from peers.processes import Failed
from peers.prompts import PAIRS, REQUESTS, chat, pairs_prompt, rewrite_prompt, verdict_prompt

DOCUMENT_CHARACTERS = 3000
SHARD = 1000


def bare(url: str, path: Path, in_flight: int) -> int:
    """A task per document, requests in the order of the method."""
    import aiohttp

    async def work() -> int:
        places = asyncio.Semaphore(in_flight)
        done = 0
        connector = aiohttp.TCPConnector(limit=0)

        async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:

            async def ask(prompt: str) -> None:
                nonlocal done
                body = orjson.dumps({"model": "bench", **chat(prompt)})
                async with places, session.post(f"{url}/chat/completions", data=body) as response:
                    orjson.loads(await response.read())["choices"][0]["message"]["content"]
                done += 1

            async def document(text: str, _shard: None) -> None:
                await ask(pairs_prompt(text))
                await asyncio.gather(*(ask(rewrite_prompt(text, i)) for i in range(PAIRS)))
                await asyncio.gather(*(ask(verdict_prompt(text, i)) for i in range(PAIRS)))

            await _windowed(document, path, in_flight, lambda shard: None)
        return done

    return asyncio.run(work())


def mga_client(url: str, path: Path, in_flight: int) -> int:
    """The same requests through Client, Endpoint and Journal."""
    from mga.engines.client import Client
    from mga.engines.engine import Purpose, Request
    from mga.engines.journal import Journal
    from mga.engines.servers.endpoint import Endpoint

    async def work() -> int:
        client, done = Client(Endpoint(url, "bench", in_flight)), 0
        await client.engine.start()
        with tempfile.TemporaryDirectory() as folder:

            async def ask(prompt: str, purpose: Purpose, affinity: str, journal: Journal) -> None:
                nonlocal done
                await client.ask(Request(prompt, 4096, 0, purpose, affinity, {"temperature": 0.7}), journal)
                done += 1

            async def document(text: str, journal: Journal) -> None:
                start = text[:64]
                await ask(pairs_prompt(text), "pairs", start, journal)
                rewrites = (ask(rewrite_prompt(text, i), "reformulate", start, journal) for i in range(PAIRS))
                await asyncio.gather(*rewrites)
                await asyncio.gather(*(ask(verdict_prompt(text, i), "judge", start, journal) for i in range(PAIRS)))

            await _windowed(document, path, in_flight, lambda shard: Journal(Path(folder) / f"{shard}.jsonl"))
        await client.engine.close()
        return done

    return asyncio.run(work())


def mga_expand(url: str, path: Path, in_flight: int, watched: bool = False) -> int:
    """The public command's own function, on a run folder."""
    from rich.console import Console

    from mga.config import load_config
    from mga.runs.executors.local import expand
    from mga.runs.monitoring.progress import Progress
    from mga.runs.monitoring.watch import Watching
    from mga.runs.run import Run

    config = load_config(None, {"engine": f"{url}#bench", "input": [str(path)], "concurrency": in_flight})
    progress = Progress(Console(stderr=True), quiet=True)
    with tempfile.TemporaryDirectory() as folder, free_port() if watched else contextlib.nullcontext() as port:
        watching = Watching(port, metrics_file=Path(folder) / "run.prom" if watched else None)
        stats = asyncio.run(expand(config, Run(Path(folder) / "run"), progress, watching))
    if stats.outcomes != {"kept": stats.chunks * PAIRS}:
        raise SystemExit(f"not all texts were kept, so the job was not the same: {stats.reasons}")
    return sum(use.requests for use in stats.usage.values())


def mga_watched(url: str, path: Path, in_flight: int) -> int:
    """The same, looked at as much as anybody would."""
    return mga_expand(url, path, in_flight, watched=True)


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """A port that is free now, scraped every second from another process while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scrape = (
        "import sys, time, urllib.request as web\n"
        "while True:\n"
        "    time.sleep(1)\n"
        "    try: web.urlopen(sys.argv[1]).read()\n"
        "    except OSError: pass\n"
    )
    command = [sys.executable, "-c", scrape, f"http://127.0.0.1:{port}/metrics"]
    with subprocess.Popen(command) as scraper:  # noqa: S603
        try:
            yield port
        finally:
            scraper.kill()


async def _windowed(work: Callable, path: Path, in_flight: int, begin_shard: Callable) -> None:  # type: ignore[type-arg]
    """Run the work on every document with as many at once as keep the requests in flight.

    A thousand documents share what `begin_shard` gives for their number, as those of a shard share a journal.
    """
    places = asyncio.Semaphore(in_flight)

    async def one(text: str, shard: object) -> None:
        try:
            await work(text, shard)
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        with path.open("rb") as file:
            for i, line in enumerate(file):
                if i % SHARD == 0:
                    shard = begin_shard(i // SHARD)
                await places.acquire()
                group.create_task(one(orjson.loads(line)["text"], shard))


CLIENTS = {"bare": bare, "mga-client": mga_client, "mga-expand": mga_expand, "mga-watched": mga_watched}


def peer(name: str, url: str, path: Path, in_flight: int) -> int:
    """The job through another tool, whose environment this process must run in; what it writes is thrown away."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["HOME"] = folder
        module = importlib.import_module(f"peers.{PEERS[name].module}")
        job = getattr(module, PEERS[name].function)
        return job(url, path, in_flight, Path(folder))


def run_one(name: str, url: str, path: Path, in_flight: int) -> None:
    """In a process of its own: do the job, print requests, CPU seconds, those of children, wall seconds, peak MB."""
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a tool prints is none of ours
    started, before = time.monotonic(), time.process_time()
    requests = CLIENTS[name](url, path, in_flight) if name in CLIENTS else peer(name, url, path, in_flight)
    cpu, wall = time.process_time() - before, time.monotonic() - started
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.write(orjson.dumps([requests, cpu, children.ru_utime + children.ru_stime, wall, peak]).decode())
    results.close()


@contextlib.contextmanager
def serving(delay_s: float, limit_s: float) -> Iterator[str]:
    """The address of an answering server in a process of its own."""
    script = Path(__file__).with_name("answering_server.py")
    command = [sys.executable, str(script), str(delay_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdin and server.stdout
        guard = threading.Timer(limit_s, server.kill)
        guard.start()
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            guard.cancel()
            server.stdin.close()


@dataclass
class Measured:
    """What one client did, its child processes included."""

    requests: int
    cpu_s: float
    wall_s: float
    peak_mb: float


def measure(name: str, delay_s: float, path: Path, documents: int, in_flight: int, limit_s: float) -> Measured:
    """Run one client on the documents. Raises Failed or NotInstalled."""
    python = python_of(PEERS[name].module) if name in PEERS else Path(sys.executable)
    with serving(delay_s, limit_s + 60) as url:
        inside = ["--inside", name, url, str(path), "--in-flight", str(in_flight)]
        outcome = processes.run([str(python), __file__, *inside], limit_s)
    requests, cpu_s, children_cpu_s, wall_s, peak_mb = orjson.loads(outcome.printed)
    if requests != documents * REQUESTS:
        raise Failed(f"{requests:,} of {documents * REQUESTS:,} requests answered")
    # Both figures for the children can miss some: of those nobody waited for, or the last moments of each.
    cpu_s += max(children_cpu_s, outcome.descendants_cpu_s)
    return Measured(requests, cpu_s, wall_s, max(peak_mb, outcome.peak_mb))


def write_documents(path: Path, count: int) -> Path:
    with path.open("wb") as documents:
        for i in range(count):
            documents.write(orjson.dumps({"id": str(i), "text": prose(i, DOCUMENT_CHARACTERS)}) + b"\n")
    return path


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    """The table of clients."""
    print("| delay | client | documents | req/s | CPU-s per 1,000 | × bare | mean in flight | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    sizes = {arguments.documents, arguments.slow_documents}
    files = {size: write_documents(folder / f"documents-{size}.jsonl", size) for size in sizes}
    for delay_s in arguments.delay or [0.0, 0.2]:
        bare_cost = None
        for name in arguments.client or [*CLIENTS, *(PEERS if arguments.peers else [])]:
            size = arguments.slow_documents if name in PEERS and PEERS[name].slow else arguments.documents
            row = [f"{delay_s * 1000:.0f} ms", name, f"{size:,}"]
            limit_s = arguments.limit if name in PEERS else 900
            try:
                it = measure(name, delay_s, files[size], size, arguments.in_flight, limit_s)
            except (Failed, NotInstalled) as error:
                row += [str(error), "–", "–", "–", "–"]
            else:
                cost = it.cpu_s / it.requests * 1000
                bare_cost = cost if name == "bare" else bare_cost
                ratio = f"{cost / bare_cost:.2f}" if bare_cost else "–"
                busy = f"{it.requests * delay_s / it.wall_s:.0f}" if delay_s else "–"
                row += [f"{it.requests / it.wall_s:,.0f}", f"{cost:.3f}", ratio, busy, f"{it.peak_mb:.0f}"]
            print("| " + " | ".join(row) + " |", flush=True)


def compare_memory(arguments: argparse.Namespace, folder: Path) -> None:
    """The table of peak memory on few and on many documents."""
    few, many = arguments.documents, arguments.many
    print(f"| client | peak MB, {few:,} documents | peak MB, {many:,} documents | ratio |")
    print("|---|---|---|---|")
    for name in arguments.client or ["mga-client", "mga-expand"]:
        peaks = []
        for size in few, many:
            path = write_documents(folder / "documents.jsonl", size)
            peaks.append(measure(name, 0.0, path, size, arguments.in_flight, 900 + size / 10).peak_mb)
        print(f"| {name} | {peaks[0]:.0f} | {peaks[1]:.0f} | {peaks[1] / peaks[0]:.2f} |", flush=True)


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--slow-documents", type=int, default=60, help="for the tools that need minutes for more")
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--delay", type=float, action="append")
    parser.add_argument("--client", choices=[*CLIENTS, *PEERS], action="append")
    parser.add_argument("--peers", action="store_true", help="the other tools too")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which another tool is stopped")
    parser.add_argument("--memory", action="store_true", help="peak memory on --documents beside that on --many")
    parser.add_argument("--many", type=int, default=200_000)
    parser.add_argument("--inside", nargs=3, metavar=("CLIENT", "URL", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        name, url, file = arguments.inside
        run_one(name, url, Path(file), arguments.in_flight)
        return
    with tempfile.TemporaryDirectory() as folder:
        (compare_memory if arguments.memory else compare)(arguments, Path(folder))


if __name__ == "__main__":
    main()
