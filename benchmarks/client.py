"""What it costs to drive a language model server: CPU, rate, requests in flight, memory.

    python benchmarks/client.py [--documents 2000] [--in-flight 256] [--delay 0 --delay 0.2] [--client NAME ...]

The same job for all: so many documents of 3 KB, 11 requests each (one for pairs, five rewrites, five verdicts), a
loopback server that answers at once or after a while. Each client runs in a process of its own. Clients:

    bare          the least one can write with asyncio and aiohttp: no journal, no retries, replies thrown away
    mga-client    our client: request identity, journal, retries, parsed replies
    mga-expand    the whole of `mga expand`: reading, prompts, pairs parsed, cleaning, verdicts, Parquet
"""

import argparse
import asyncio
import contextlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from answering_server import prose

PAIRS, DOCUMENT_CHARACTERS = 5, 3000
REQUESTS = 1 + 2 * PAIRS
TASK = " ".join(["Rewrite it for these readers."] * 20)


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
                body = {"model": "bench", "messages": [{"role": "user", "content": prompt}], "max_tokens": 4096}
                async with places, session.post(f"{url}/chat/completions", data=orjson.dumps(body)) as response:
                    orjson.loads(await response.read())["choices"][0]["message"]["content"]
                done += 1

            async def document(text: str) -> None:
                await ask(f"<document>\n{text}\n</document>\nIts keys are {TASK}")
                await asyncio.gather(*(ask(f"<document>\n{text}\n</document>\n{TASK} {i}") for i in range(PAIRS)))
                rewrites = (f"<document>\n{text}\n</document>\n<rewrite>\n{text[:1500]} {i}" for i in range(PAIRS))
                await asyncio.gather(*map(ask, rewrites))

            await _windowed(document, path, in_flight)
        return done

    return asyncio.run(work())


def mga_client(url: str, path: Path, in_flight: int) -> int:
    """The same requests through Client, Endpoint and Journal."""
    from mga.engines.client import Client
    from mga.engines.endpoint import Endpoint
    from mga.engines.engine import Purpose, Request
    from mga.engines.journal import Journal

    async def work() -> int:
        client = Client(Endpoint(url, "bench", in_flight))
        await client.engine.start()
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder) / "journal.jsonl")

            async def ask(prompt: str, purpose: Purpose, affinity: str) -> None:
                await client.ask(Request(prompt, 4096, 0, purpose, affinity, {"temperature": 0.7}), journal)

            async def document(text: str) -> None:
                head = f"<document>\n{text}\n</document>\n"
                await ask(f"{head}Its keys are {TASK}", "pairs", text[:64])
                await asyncio.gather(*(ask(f"{head}{TASK} {i}", "reformulate", text[:64]) for i in range(PAIRS)))
                rewrites = (f"{head}<rewrite>\n{text[:1500]} {i}" for i in range(PAIRS))
                await asyncio.gather(*(ask(rewrite, "judge", text[:64]) for rewrite in rewrites))

            await _windowed(document, path, in_flight)
            journal.close()
        await client.engine.close()
        return client.replies

    return asyncio.run(work())


def mga_expand(url: str, path: Path, in_flight: int) -> int:
    """The public command's own function, on a run folder."""
    from rich.console import Console

    from mga.config import load_config
    from mga.runs.on_this_machine import expand
    from mga.runs.progress import Progress
    from mga.runs.run import Run

    config = load_config(None, {"engine": f"{url}#bench", "input": [str(path)], "concurrency": in_flight})
    with tempfile.TemporaryDirectory() as folder:
        stats = asyncio.run(expand(config, Run(Path(folder) / "run"), Progress(Console(stderr=True), quiet=True)))
    if stats.outcomes != {"kept": stats.chunks * PAIRS}:
        raise SystemExit(f"not all texts were kept, so the job was not the same: {stats.reasons}")
    return sum(use.requests for use in stats.usage.values())


async def _windowed(work: Callable, path: Path, in_flight: int) -> None:  # type: ignore[type-arg]
    """Run the work on every document with as many documents at once as keep the requests in flight."""
    places = asyncio.Semaphore(in_flight)

    async def one(text: str) -> None:
        try:
            await work(text)
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        with path.open("rb") as file:
            for line in file:
                await places.acquire()
                group.create_task(one(orjson.loads(line)["text"]))


CLIENTS = {"bare": bare, "mga-client": mga_client, "mga-expand": mga_expand}


def run_one(name: str, url: str, path: Path, in_flight: int) -> None:
    """In a process of its own: do the job, print requests, CPU seconds, wall seconds and peak memory in MB."""
    started, before = time.monotonic(), time.process_time()
    requests = CLIENTS[name](url, path, in_flight)
    cpu, wall = time.process_time() - before, time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(orjson.dumps([requests, cpu, wall, peak]).decode())


@contextlib.contextmanager
def serving(delay_s: float) -> Iterator[str]:
    """The address of an answering server in a process of its own."""
    script = Path(__file__).with_name("answering_server.py")
    command = [sys.executable, str(script), str(delay_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        assert server.stdin and server.stdout
        guard = threading.Timer(900, server.kill)
        guard.start()
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            guard.cancel()
            server.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--delay", type=float, action="append")
    parser.add_argument("--client", choices=CLIENTS, action="append")
    parser.add_argument("--inside", nargs=3, metavar=("CLIENT", "URL", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        name, url, file = arguments.inside
        run_one(name, url, Path(file), arguments.in_flight)
        return
    print("| delay | client | req/s | CPU-s per 1,000 | × bare | mean in flight | peak MB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        with path.open("wb") as documents:
            for i in range(arguments.documents):
                documents.write(orjson.dumps({"id": str(i), "text": prose(i, DOCUMENT_CHARACTERS)}) + b"\n")
        for delay_s in arguments.delay or [0.0, 0.2]:
            bare_cost = None
            for name in arguments.client or CLIENTS:
                with serving(delay_s) as url:
                    inside = ["--inside", name, url, str(path), "--in-flight", str(arguments.in_flight)]
                    command = [sys.executable, __file__, *inside]
                    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
                requests, cpu, wall, peak = orjson.loads(done.stdout.splitlines()[-1])
                assert requests == arguments.documents * REQUESTS, f"{name}: {requests:,} requests"
                cost = cpu / requests * 1000
                bare_cost = cost if name == "bare" else bare_cost
                ratio = f"{cost / bare_cost:.2f}" if bare_cost else "–"
                busy = f"{requests * delay_s / wall:.0f}" if delay_s else "–"
                row = [f"{delay_s * 1000:.0f} ms", name, f"{requests / wall:,.0f}", f"{cost:.3f}", ratio, busy]
                print("| " + " | ".join([*row, f"{peak:.0f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
