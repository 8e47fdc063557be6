"""What a document costs: as a small run has measured it, or as the paper's figures let one expect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mga.config import ExpandConfig
from mga.data.store import read_json
from mga.errors import InputError
from mga.expand.limits import measure_limits
from mga.expand.pairs import pairs_at_once
from mga.expand.recipe import Recipe
from mga.expand.shard import ShardStats
from mga.planning.corpus_size import Figure, ratio
from mga.planning.estimate import PAIR_TOKENS, REWRITE_RATIO, VERDICT_TOKENS, example_prompts, judged_share
from mga.records import Document, Usage
from mga.runs.monitoring.session import SessionStats, all_sessions
from mga.runs.run import Run
from mga.text.words import estimate_tokens

SHARDS_COUNTED = 50
STORED_BYTES_PER_TOKEN = 1.3  # of a kept text and what stands beside it; see docs/scale.md
JOURNAL_BYTES_PER_TOKEN = 5.0
LOST_S = 30.0  # half of the minute that a long reply takes
FEW_SHARDS = 4
IDLE = 0.7
"""Below this share of the requests that may be in flight, a run was too short or too small to fill its engine."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What documents ask for. Tokens are the engine's; of them a document has `tokens_per_estimate` times what
    `words.estimate_tokens` says. A quantity of a corpus is `per_chunk` × chunks + `per_token` × document tokens.
    """

    requests_per_chunk: float
    generated_per_chunk: float
    generated_per_token: Figure
    prompt_per_chunk: float
    prompt_per_token: float
    cached: float
    kept_per_token: Figure
    stored_per_token: float
    tokens_per_estimate: float = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A run that has been made. `rate`: generated tokens per second of all its GPUs together. `lost_s`: seconds of work
    lost when it is killed: replies in flight are half done on average, so half a reply's time. `on_cpu`: its model ran
    on this or another machine's processors, and no GPU was used."""

    config: ExpandConfig
    context: int | None
    demand: Demand
    rate: float
    lost_s: float
    notes: tuple[str, ...]
    on_cpu: bool


async def longest_document(config: ExpandConfig, context: int | None) -> int:
    """Tokens of the longest chunk under these settings."""
    return (await measure_limits(Recipe(config, _count, context))).document


async def expected_demand(config: ExpandConfig) -> Demand:
    """Without any run: rewrites as long as the paper's (195B tokens became 770B), our prompts' lengths, and a first
    try for all pairs. Everything is kept."""
    recipe = Recipe(config, _count)
    document = Document("", "word", "0:0", n_tokens=estimate_tokens("word"))
    prompts = example_prompts(document, recipe, await measure_limits(recipe))
    instructions = {name: estimate_tokens(prompt) for name, prompt in prompts.items()}
    asked = -(-config.pairs // pairs_at_once(recipe))
    judged = config.pairs * judged_share(config)
    requests = asked + config.pairs + judged
    labels = config.pairs * PAIR_TOKENS + judged * VERDICT_TOKENS
    texts = config.pairs * REWRITE_RATIO
    fixed = asked * instructions["pairs"] + config.pairs * instructions["reformulate"] + judged * instructions["judge"]
    return Demand(
        requests_per_chunk=requests,
        generated_per_chunk=labels,
        generated_per_token=Figure(texts),
        prompt_per_chunk=fixed,
        prompt_per_token=requests + judged * REWRITE_RATIO,
        cached=0.0,
        kept_per_token=Figure(texts),
        stored_per_token=STORED_BYTES_PER_TOKEN * (texts + 1),
    )


def measured(folder: Path) -> Measured:
    """What a run has measured so far, from its finished shards and its sessions.

    Raises InputError for a folder without a run, a finished shard, or a request.
    """
    run = Run(folder)
    record = run.whole().record()
    done = sorted(run.done())
    stats = run.stats()
    sessions = all_sessions(folder)
    if not stats.source_tokens:
        raise InputError(f"{folder} has no finished shard yet; let the run go on, or expand fewer documents.")
    if not sessions.spent.generated_tokens:
        raise InputError(f"{folder} says nothing of its speed (no request is in its sessions); measure a new run.")
    shards = [ShardStats.model_validate(read_json(folder / "shards" / f"{n:05}.json")) for n in done]
    demand = _demand(stats, shards, sessions.spent)
    estimate, stored = _looked_at(folder, dict(zip(done, shards, strict=True)))
    demand = replace(demand, tokens_per_estimate=estimate, stored_per_token=stored)
    return Measured(
        ExpandConfig.model_validate(record["config"]),
        record.get("context_tokens"),
        demand,
        sessions.spent.generated_tokens / sessions.seconds,
        sessions.in_flight_seconds / sessions.spent.requests / 2,
        tuple(_notes(folder, sessions, shards)),
        _on_cpu(folder),
    )


def _demand(stats: ShardStats, shards: Sequence[ShardStats], spent: Usage) -> Demand:
    """Pairs and verdicts cost by the chunk, rewrites by the document's tokens; prompts hold a document each, and the
    judge's a rewrite as well."""
    used = {name: stats.usage.get(name, Usage()) for name in ("pairs", "reformulate", "judge")}
    by_token = [shard.usage.get("reformulate", Usage()).generated_tokens for shard in shards]
    source = [float(shard.source_tokens) for shard in shards]
    requests = sum(use.requests for use in used.values())
    rewrite = used["reformulate"].generated_tokens / max(used["reformulate"].requests, 1)
    documents = requests * stats.source_tokens / stats.chunks
    rewrites = used["judge"].requests * rewrite
    prompts = sum(use.prompt_tokens for use in used.values())
    return Demand(
        requests_per_chunk=requests / stats.chunks,
        generated_per_chunk=(used["pairs"].generated_tokens + used["judge"].generated_tokens) / stats.chunks,
        generated_per_token=ratio([float(n) for n in by_token], source),
        prompt_per_chunk=max(0.0, prompts - documents - rewrites) / stats.chunks,
        prompt_per_token=(documents + rewrites) / stats.source_tokens,
        cached=spent.cached_tokens / spent.prompt_tokens if spent.prompt_tokens else 0.0,
        kept_per_token=ratio([float(shard.kept_tokens) for shard in shards], source),
        stored_per_token=0.0,
    )


def _looked_at(folder: Path, shards: Mapping[int, ShardStats]) -> tuple[float, float]:
    """The engine's tokens for one by `estimate_tokens`, and bytes on the disk for one of the engine's. Large shards
    tell: small ones compress less, and a run's first are small."""
    largest = max(shard.source_tokens for shard in shards.values())
    told = {n: shard for n, shard in shards.items() if shard.source_tokens >= largest / 2}
    tokens = estimated = stored = 0
    for number, shard in list(told.items())[:SHARDS_COUNTED]:
        seen: set[tuple[str, str]] = set()
        for status in ("kept", "dropped", "failed"):
            path = folder / status / f"{number:05}.parquet"
            if path.exists():
                stored += path.stat().st_size
                rows = pq.read_table(path, columns=["chunk_id", "raw_text"]).to_pylist()
                seen |= {(row["chunk_id"], row["raw_text"]) for row in rows}
        estimated += sum(estimate_tokens(text) for _, text in seen)
        tokens += shard.source_tokens
    if not estimated:
        raise InputError(f"{folder} has lost its Parquet files; name a whole run.")
    return tokens / estimated, stored / tokens


def _notes(folder: Path, sessions: SessionStats, shards: Sequence[ShardStats]) -> list[str]:
    notes = []
    if len(shards) < FEW_SHARDS:
        counted = "1 finished shard" if len(shards) == 1 else f"{len(shards)} finished shards"
        notes.append(f"The measured run has {counted}: too few for a range of its figures.")
    flying = sessions.in_flight_seconds / sessions.seconds
    most = max((_in_flight(read_json(path)) for path in (folder / "sessions").glob("*.json")), default=0)
    if flying < IDLE * most:
        notes.append(
            f"The measured run had {flying:.0f} of {most} requests in flight on average: "
            "measure more documents; its engine can do more."
        )
    return notes


def _on_cpu(folder: Path) -> bool:
    """Whether every engine in the sessions says that it ran on a CPU; servers do not say where they run."""
    sessions = [read_json(path) for path in (folder / "sessions").glob("*.json")]
    features = [engine.get("features", "") for session in sessions for engine in session.get("engines", ())]
    return bool(features) and all(said.startswith("cpu, ") for said in features)


def _in_flight(session: dict[str, Any]) -> int:
    return sum(engine["in_flight"] for engine in session.get("engines", ()))


async def _count(text: str) -> int:
    return estimate_tokens(text)
