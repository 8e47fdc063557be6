"""The simulation behind `mga plan` against real fleets of processes, and a plan against the whole run.

    python bench/simulation.py INPUT [--workers 6] [--shards 24] [--documents 15] [--rounds 3]
    python bench/simulation.py INPUT --plan [--few 400]
    python bench/simulation.py --paper

A fleet: worker processes on this machine share one run as `mga expand` does, asking the scripted engine, whose replies
take time and no CPU to speak of. Workers differ in speed (latency), are killed with SIGKILL at random and replaced
after a while; each plays a host of its own, so that a death shows by its lease alone. The simulation gets what a plan
gets: one small run of one worker. "same draws" is the course in which it draws the very speeds and lives of the real
fleet; "500 courses" is what a plan tells, which knows neither.

--plan: tokens, requests and bytes that a plan from a small run expects, beside those of the whole run.
--paper: the paper's job, 195B tokens to 770B in 149,504 GPU hours, on fleets of several sizes and kinds.
"""

import argparse
import asyncio
import contextlib
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import orjson

from mga.config import load_config
from mga.data.documents import find_files
from mga.data.reading import read
from mga.planning.corpus_size import CorpusSize, measure_corpus, stated_corpus
from mga.planning.forecast import forecast, work_of
from mga.planning.measured import LOST_S, expected_demand, longest_document, measured
from mga.planning.simulation import Fleet, Job, draw_worker, simulate, workers_of
from mga.records import Document
from mga.runs import claims
from mga.runs import worker as worker_module
from mga.runs.claims import LEASE_S
from mga.runs.run import Run

LATENCY_S = 0.4
IN_FLIGHT = 8
COURSES = 500
PAPER_TOKENS, PAPER_DOCUMENTS = 195e9, 190_168_005
PAPER_GPU_HOURS = 256 * 64 + 1024 * 130


def expand(source: Path | str, out: Path, engine: str, in_flight: int, **more: object) -> None:
    """What `mga expand` does."""
    from rich.console import Console

    from mga.runs.executors.local import expand as carry
    from mga.runs.monitoring.progress import Progress

    given = {"input": [str(source)], "engine": engine, "concurrency": in_flight, **more}
    asyncio.run(carry(load_config(None, given), Run(out), Progress(Console(quiet=True), quiet=True)))


def worker(folder: Path, name: str, latency: float, lease_s: float) -> None:
    """Take part in the run until it is complete, as a host of this name."""
    socket.gethostname = lambda: name
    claims.BEAT_EVERY_S = lease_s / 6
    worker_module.Claims = partial(claims.Claims, lease_s=lease_s)  # type: ignore[misc]
    rows = int((folder / "shard_size").read_text())
    expand(folder / "input.jsonl", folder / "run", f"scripted:?latency={latency:.6f}", IN_FLIGHT, shard_size=rows)


@dataclass
class Hand:
    """A place in the fleet: the process that fills it, and when it is killed, or when another is started."""

    process: subprocess.Popen[bytes] | None
    until: float


def real_fleet(folder: Path, fleet: Fleet, seed: int) -> tuple[float, int]:
    """Seconds until the last shard is done, and deaths."""
    drawn = workers_of(seed)
    names = (f"host{i}" for i in range(10_000))

    def started(now: float) -> Hand:
        speed, life = draw_worker(fleet, drawn)
        flags = [str(folder), next(names), str(LATENCY_S / speed), str(fleet.lease_s)]
        command = [sys.executable, __file__, "-", "--worker", *flags]
        process = subprocess.Popen(command)  # noqa: S603 - this file
        return Hand(process, now + fleet.start_s + life)

    began = time.monotonic()
    hands = [started(began) for _ in range(fleet.workers)]
    deaths = 0
    try:
        while not (folder / "run" / "stats.json").exists():
            time.sleep(0.02)
            now = time.monotonic()
            for place, hand in enumerate(hands):
                if now < hand.until:
                    continue
                if hand.process is None:
                    hands[place] = started(now)
                elif hand.process.poll() is None:
                    hand.process.send_signal(signal.SIGKILL)
                    hand.process.wait()
                    hands[place] = Hand(None, now + fleet.replace_s)
                    deaths += 1
        return time.monotonic() - began, deaths
    finally:
        for hand in hands:
            if hand.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    hand.process.kill()
                hand.process.wait()


def compare_fleets(given: argparse.Namespace, place: Path) -> None:
    """The table of fleets."""
    texts = [row.text for row in read(find_files([given.input])) if isinstance(row, Document)]
    needed = given.shards * given.documents
    texts = (texts * (1 + needed // len(texts)))[:needed]

    def input_in(folder: Path, rows: int) -> Path:
        folder.mkdir()
        lines = [orjson.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(texts[:rows])]
        (folder / "input.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        (folder / "shard_size").write_text(str(given.documents))
        return folder

    small = input_in(place / "small", 4 * given.documents)
    alone, _ = real_fleet(small, replace(Fleet(1), lease_s=60.0), 0)
    found = measured(small / "run")
    start_s = alone - sum(orjson.loads(p.read_bytes())["seconds"] for p in (small / "run" / "sessions").glob("*.json"))
    lost_s = found.lost_s
    size = whole_size([str(small / "input.jsonl")], small / "run")
    row_s = work_of(size, found.demand, given.documents).generated.value / found.rate / size.rows.value
    print(f"One worker: {row_s:.3f} s a document, {start_s:.1f} s to start and stop.\n")

    job = Job(needed, given.documents, row_s, size.spread)
    plain = Fleet(given.workers, start_s=start_s, lease_s=6.0, replace_s=2.0, lost_s=lost_s)
    kinds = {
        "equal, none dies": plain,
        "speeds differ": replace(plain, spread=0.3),
        "speeds differ, workers die": replace(plain, spread=0.3, lifetime_s=20.0),
    }
    print("| workers | real seconds, deaths | same draws | simulated ÷ real | 500 courses: median | 5% to 95% |")
    print("|---|---|---|---|---|---|")
    ratios = []
    for name, fleet in kinds.items():
        walls = sorted(simulate(job, fleet, seed).wall_s for seed in range(COURSES))
        span = f"{statistics.median(walls):.1f} | {walls[COURSES // 20]:.1f} to {walls[-COURSES // 20]:.1f}"
        for seed in range(1 if fleet is plain else given.rounds):
            wall, deaths = real_fleet(input_in(place / f"{name} {seed}", needed), fleet, seed)
            same = simulate(job, fleet, seed)
            ratios.append(same.wall_s / wall)
            row = [name, f"{wall:.1f}, {deaths}", f"{same.wall_s:.1f}, {same.deaths}", f"{ratios[-1]:.2f}", span]
            print("| " + " | ".join(row) + " |", flush=True)
    print(f"\nSimulated ÷ real, mean of {len(ratios)} fleets: {statistics.mean(ratios):.2f}.")


def whole_size(inputs: list[str], run: Path) -> CorpusSize:
    """The size of an input under the settings of a run."""
    found = measured(run)
    longest = asyncio.run(longest_document(found.config, found.context))
    return measure_corpus(find_files(inputs), "text", int(longest / found.demand.tokens_per_estimate))


def compare_plan(given: argparse.Namespace, place: Path) -> None:
    """The table of a plan and what came of it."""
    engine = "scripted:?flaws=0.1"
    rows = read(find_files([given.input]))
    few = random.Random(0).sample([row for row in rows if isinstance(row, Document)], given.few)
    sample = place / "few.jsonl"
    sample.write_bytes(
        b"\n".join(orjson.dumps({"id": row.source_id, "text": row.text}) for row in islice(few, given.few))
    )
    expand(sample, place / "few", engine, 64)
    expand(given.input, place / "all", engine, 64)
    found = measured(place / "few")
    work = work_of(whole_size([given.input], place / "few"), found.demand, found.config.shard_size)
    run = Run(place / "all")
    stats = run.stats()
    stored = sum(path.stat().st_size for s in ("kept", "dropped", "failed") for path in (run.folder / s).iterdir())
    spent = list(stats.usage.values())
    print(f"| | plan from {given.few:,} documents | range | all {stats.documents:,} documents | plan ÷ real |")
    print("|---|---|---|---|---|")
    for name, expected, real in (
        ("document tokens", work.tokens, stats.source_tokens),
        ("requests", work.requests, sum(use.requests for use in spent)),
        ("prompt tokens", work.prompt_tokens, sum(use.prompt_tokens for use in spent)),
        ("generated tokens", work.generated, sum(use.generated_tokens for use in spent)),
        ("tokens kept", work.kept, stats.kept_tokens),
        ("bytes of kept, dropped, failed", work.stored_bytes, stored),
    ):
        low, high = expected.bounds
        span = f"{low:,.0f} to {high:,.0f}"
        print(f"| {name} | {expected.value:,.0f} | {span} | {real:,} | {expected.value / real:.3f} |")


def paper() -> None:
    """The table of the paper's job. Its GPU hours set the rate."""
    config = load_config(None, {"engine": "http://127.0.0.1:8000/v1#model", "judge": "none"})
    longest = asyncio.run(longest_document(config, None))
    demand = asyncio.run(expected_demand(config))
    size = stated_corpus(PAPER_TOKENS, PAPER_DOCUMENTS, longest)
    rate = work_of(size, demand, 1000).generated.value / PAPER_GPU_HOURS / 3600
    print(f"{rate:,.0f} generated tokens per second and GPU.\n")
    print("| GPUs | rows a shard | shards a GPU | a GPU lives | hours | from, to | GPU hours | deaths |")
    print("|---|---|---|---|---|---|---|---|")
    for gpus, rows, lifetime in (
        (256, 1000, 50_000.0),
        (1024, 1000, 50_000.0),
        (1024, 1000, 24.0),
        (1024, 1000, 6.0),
        (1024, 20_000, 50_000.0),
        (1024, 100_000, 50_000.0),
        (4096, 1000, 50_000.0),
        (4096, 1000, 24.0),
    ):
        work = work_of(size, demand, rows)
        fleet = Fleet(gpus, 0.1, lifetime * 3600, start_s=300, replace_s=600, lease_s=LEASE_S, lost_s=LOST_S)
        found = forecast(work, rate, fleet, 1, 20)
        low, middle, high = found.hours
        row = [f"{gpus:,}", f"{rows:,}", f"{work.shards / gpus:,.1f}", f"{lifetime:,.0f} h", f"{middle:,.1f}"]
        row += [f"{low:,.1f}, {high:,.1f}", f"{gpus * middle:,.0f}"]
        row += [f"{statistics.median(run.deaths for run in found.runs):,.0f}"]
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    """Read the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", nargs="?", default="examples/sample.jsonl")
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--documents", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--few", type=int, default=400)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        folder, name, latency, lease = given.worker
        worker(Path(folder), name, float(latency), float(lease))
        return
    if given.paper:
        paper()
        return
    with tempfile.TemporaryDirectory() as place:
        (compare_plan if given.plan else compare_fleets)(given, Path(place))


if __name__ == "__main__":
    main()
