"""What it costs to be watched: per request, per scrape, per session file.

    python bench/watching.py [--requests 20000] [--rounds 7]

Per request: our client and its journal over an engine that answers at once, with the counting of latency and without,
in turn within one process; the median of rounds. Nothing else has been added to a request. Scrapes and session files:
for so many replicas, one of each taking its time on the event loop's core while it is made.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry, generate_latest

from mga.engines.client import Client
from mga.engines.engine import Reply, Request
from mga.engines.journal import Journal
from mga.engines.servers.endpoint import Endpoint
from mga.engines.servers.replicas import Replicas
from mga.runs.monitoring.metrics import RunCollector, RunInfo
from mga.runs.monitoring.watch import Watch

REPLY = Reply("A short answer.", "stop", 800, 200)


class AtOnce:
    """An engine that answers at once."""

    model, features, context = "at-once", "none", None
    requests_in_flight = most_in_flight = documents_in_flight = 64

    async def ask(self, request: Request) -> Reply:
        return REPLY


def request_cost_us(counted: bool, requests: int) -> float:
    """CPU of a request in microseconds."""

    async def work(folder: str) -> float:
        client = Client(AtOnce())  # type: ignore[arg-type]
        if not counted:
            client._attempt = client.engine.ask  # type: ignore[method-assign]
        journal = Journal(Path(folder) / "journal.jsonl")
        asked = [Request("What is it?", 64, seed, "reformulate", "it") for seed in range(requests)]
        began = time.process_time()
        for request in asked:
            await client.ask(request, journal)
        return (time.process_time() - began) / requests * 1e6

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(work(folder))


def look_costs_ms(replicas: int, times: int = 50) -> tuple[float, int, float, int]:
    """CPU and size of a scrape, and of what goes into a session file."""
    endpoints = [Endpoint(f"http://10.0.0.{i}:8000/v1", "model") for i in range(replicas)]
    watch = Watch()
    watch._clients = [Client(Replicas(endpoints, 64))]
    registry = CollectorRegistry()
    registry.register(RunCollector(watch.figures, RunInfo))
    began = time.process_time()
    for _ in range(times):
        scraped = generate_latest(registry)
    between = time.process_time()
    for _ in range(times):
        session = orjson.dumps(watch.figures().model_dump(mode="json"))
    ended = time.process_time()
    return (between - began) / times * 1e3, len(scraped), (ended - between) / times * 1e3, len(session)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    request_cost_us(True, 1000)
    pairs = [
        [request_cost_us(counted, arguments.requests) for counted in (False, True)] for _ in range(arguments.rounds)
    ]
    without, counted = (statistics.median(each) for each in zip(*pairs, strict=True))
    print("| a request, without the server's answer | CPU µs |\n|---|---|")
    print(f"| not counted | {without:.2f} |\n| counted | {counted:.2f} |")
    print(f"| ratio | {counted / without:.3f} |\n")
    print("| replicas | a scrape, ms | KB | a session file, ms | KB |\n|---|---|---|---|---|")
    for replicas in (1, 8, 64):
        scrape_ms, scraped, session_ms, session = look_costs_ms(replicas)
        print(f"| {replicas} | {scrape_ms:.2f} | {scraped / 1024:.0f} | {session_ms:.2f} | {session / 1024:.0f} |")


if __name__ == "__main__":
    main()
