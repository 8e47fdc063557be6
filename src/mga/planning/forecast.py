"""The whole job before it begins: tokens, shards, GPUs, hours, storage and cost, each with its range.

Generated tokens = chunks × (pairs and verdicts) + document tokens × (rewrites). GPU seconds = generated tokens ÷ the
measured rate, which holds as long as prompts and replies stay in the same proportion. Hours come from the simulation,
run once a seed with the amount of work drawn from its own range.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import median

from mga.errors import InputError
from mga.planning.corpus_size import CorpusSize, Figure
from mga.planning.measured import JOURNAL_BYTES_PER_TOKEN, Demand
from mga.planning.simulation import Fleet, Job, Simulated, shard_rows, simulate

SHARDS_PER_WORKER = 32
FEWEST_SHARDS_PER_WORKER = 8
SHORTEST_SHARD_S = 60.0
CLOSE_ENOUGH = 1.01  # of the GPUs for a deadline
MOST_GPUS = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """`gpu_hour`: of a GPU for an hour; the others: of a million tokens."""

    gpu_hour: float = 0.0
    prompt: float = 0.0
    generated: float = 0.0


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do. `tokens` are the engine's. `row_spread`: see `Job`."""

    size: CorpusSize
    tokens: Figure
    requests: Figure
    prompt_tokens: Figure
    generated: Figure
    kept: Figure
    stored_bytes: Figure
    cached: float
    shard_size: int

    @property
    def rows(self) -> int:
        return max(1, round(self.size.rows.value))

    @property
    def shards(self) -> int:
        return len(shard_rows(self.rows, self.shard_size))


def work_of(size: CorpusSize, demand: Demand, shard_size: int) -> Work:
    """What a corpus asks for."""
    tokens = size.tokens * demand.tokens_per_estimate
    kept = tokens * demand.kept_per_token
    return Work(
        size=size,
        tokens=tokens,
        requests=size.chunks * demand.requests_per_chunk,
        prompt_tokens=size.chunks * demand.prompt_per_chunk + tokens * demand.prompt_per_token,
        generated=size.chunks * demand.generated_per_chunk + tokens * demand.generated_per_token,
        kept=kept,
        stored_bytes=tokens * demand.stored_per_token,
        cached=demand.cached,
        shard_size=shard_size,
    )


@dataclass(frozen=True, slots=True)
class Forecast:
    """A fleet at work, simulated. `runs` are in order of their hours."""

    gpus: int
    fleet: Fleet
    rate: float
    runs: tuple[Simulated, ...]

    @property
    def hours(self) -> tuple[float, float, float]:
        """Shortest, median and longest."""
        walls = [run.wall_s / 3600 for run in self.runs]
        return walls[0], median(walls), walls[-1]


def forecast(work: Work, rate: float, fleet: Fleet, gpus_per_worker: int, seeds: int) -> Forecast:
    """Simulate. `rate`: generated tokens per second and GPU."""
    seconds = work.generated.value / (rate * gpus_per_worker)
    runs = []
    for seed in range(seeds):
        amount = max(0.1, Random(f"amount {seed}").gauss(1.0, work.generated.relative))
        job = Job(work.rows, work.shard_size, amount * seconds / work.rows, work.size.spread)
        runs.append(simulate(job, fleet, seed))
    runs.sort(key=lambda run: run.wall_s)
    return Forecast(fleet.workers * gpus_per_worker, fleet, rate, tuple(runs))


def forecast_for(hours: float, work: Work, rate: float, fleet: Fleet, gpus_per_worker: int, seeds: int) -> Forecast:
    """The fewest GPUs (within 1%) with which even the slowest simulated run ends within so many hours.

    Raises InputError when no number of GPUs does.
    """

    def tried(workers: int) -> Forecast:
        return forecast(work, rate, replace(fleet, workers=workers), gpus_per_worker, seeds)

    def fits(found: Forecast) -> bool:
        return found.hours[2] <= hours

    seconds = work.generated.value / (rate * gpus_per_worker)
    shard_s = seconds * min(1.0, work.shard_size / work.rows)
    refusal = InputError(
        f"No number of GPUs does it in {hours:g} hours: a worker needs {fleet.start_s / 60:,.1f} minutes to start and "
        f"{shard_s / 60:,.1f} for a shard. Give it more hours, a smaller --shard-size, or a shorter --start-minutes."
    )
    if hours * 3600 <= fleet.start_s + shard_s:
        raise refusal
    low, best = 0, tried(max(1, math.ceil(seconds / (hours * 3600 - fleet.start_s))))
    growth = CLOSE_ENOUGH
    while not fits(best):
        low = best.fleet.workers
        if low >= work.shards or low * gpus_per_worker > MOST_GPUS:
            raise refusal
        best = tried(min(work.shards, math.ceil(low * max(growth, min(2.0, best.hours[2] / hours)))))
        growth = min(2.0, growth**2)
    return _fewest(low, best, tried, fits)


def _fewest(low: int, best: Forecast, tried: Callable[[int], Forecast], fits: Callable[[Forecast], bool]) -> Forecast:
    """Bisection between workers that are too few and those that do."""
    while best.fleet.workers > max(low * CLOSE_ENOUGH, low + 1):
        middle = tried((low + best.fleet.workers) // 2)
        if fits(middle):
            best = middle
        else:
            low = middle.fleet.workers
    return best


def storage(work: Work, found: Forecast) -> tuple[float, float]:
    """Bytes of the finished run folder, and of the journals of the shards that are open at one time."""
    each = work.generated.value / work.shards * JOURNAL_BYTES_PER_TOKEN
    return work.stored_bytes.value, each * min(found.fleet.workers, work.shards)


def cost(work: Work, found: Forecast, prices: Prices) -> tuple[float, float, float]:
    """Least, middle and most, in the currency of the prices. GPUs are paid from first to last hour."""
    low, high = work.generated.bounds
    prompt = work.prompt_tokens.value / max(work.generated.value, 1)
    amounts = (low, work.generated.value, high)
    return tuple(  # type: ignore[return-value]
        found.gpus * hours * prices.gpu_hour + amount * (prices.generated + prompt * prices.prompt) / 1e6
        for hours, amount in zip(found.hours, amounts, strict=True)
    )


def advice(work: Work, found: Forecast) -> Sequence[str]:
    """What could be better about the shards."""
    shards, workers = work.shards, found.fleet.workers
    shard_s = work.generated.value / found.rate / (found.gpus / workers) / shards
    if workers > 1 and shards < FEWEST_SHARDS_PER_WORKER * workers and work.shard_size > 1:
        size = max(1, work.rows // (SHARDS_PER_WORKER * workers))
        left = "1 shard leaves" if shards == 1 else f"{shards:,} shards leave"
        return [f"{left} some of {workers:,} workers idle at the end; try --shard-size {size:,}."]
    if shard_s < SHORTEST_SHARD_S and shards > SHARDS_PER_WORKER * workers:
        size = work.rows // (SHARDS_PER_WORKER * workers)
        return [f"A shard takes {shard_s:.0f} seconds; fewer, larger files with --shard-size up to {size:,}."]
    return []
