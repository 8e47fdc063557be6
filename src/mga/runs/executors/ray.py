"""Carry a run on a Ray cluster: each worker is a Ray task with its engine, placed, started again after the loss of its
process or node, and shown on the dashboard by Ray. Which shard is whose is decided in the run folder, as everywhere.
"""

import asyncio
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mga.config import ExpandConfig
from mga.data.store import exists
from mga.errors import InputError, InterruptedRunError, MgaError, StopError
from mga.expand.shard import ShardStats
from mga.packages import require
from mga.runs.monitoring.progress import Progress
from mga.runs.run import CONTINUE, Run

LOOK_EVERY_S = 2.0
STARTS = 20
"""How often a worker is started again after the death of its process or node."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where and how wide. `address`: of a running cluster; empty: the one this machine belongs to, or a new one."""

    address: str
    workers: int
    gpus: float
    cpus: int


async def expand_on_ray(config: ExpandConfig, run: Run, cluster: Cluster, progress: Progress) -> ShardStats:
    """Begin, continue or join a run on a cluster, and wait for its end.

    Raises InputError when Ray or the cluster is not there, and what the workers raise.
    """
    require("--on ray", "ray", "ray")
    import ray

    submitted = run.submit(config)
    folder = str(run.folder.absolute() if isinstance(run.folder, Path) else run.folder)
    _join(ray, cluster)
    options = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus, "max_retries": STARTS, "name": "mga worker"}
    task = ray.remote(_work).options(**options)
    tasks = [task.remote(folder, submitted) for _ in range(cluster.workers)]
    try:
        await _watch(ray, run, tasks, progress)
        while not run.is_complete():  # all workers have ended while the last of them died
            done = len(run.done())
            await _watch(ray, run, [task.remote(folder, submitted)], progress)
            if len(run.done()) == done:
                raise StopError(f"The workers end without finishing {run.folder}; look into their logs, {CONTINUE}.")
    except asyncio.CancelledError:
        for each in tasks:
            ray.cancel(each)
        ray.wait(tasks, num_returns=len(tasks), timeout=10)
        raise InterruptedRunError(f"Stopped. Every reply received is kept in {run.folder}; {CONTINUE}.") from None
    finally:
        progress.stop()
        ray.shutdown()
    run.leave()
    return run.complete()


def _join(ray: Any, cluster: Cluster) -> None:
    """Connect to the cluster; without an address, to the one this machine belongs to, else start one here."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if cluster.address:
            _knock(cluster.address)
            ray.init(address=cluster.address, **quiet)
            return
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            ray.init(num_cpus=max(cluster.workers * cluster.cpus, os.cpu_count() or 1), **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"Cannot reach the Ray cluster {cluster.address or 'of this machine'}: {what}.") from error


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at a HOST:PORT; Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


async def _watch(ray: Any, run: Run, tasks: list[Any], progress: Progress) -> None:
    """Show how far the run is until all workers have ended. Raises what one of them raises."""
    seen: frozenset[int] | None = None
    waiting = list(tasks)
    while waiting:
        ended, waiting = await asyncio.to_thread(ray.wait, waiting, timeout=LOOK_EVERY_S)
        for each in ended:
            await asyncio.to_thread(_result, ray, each)
        if seen is None and exists(run.folder / "run.json"):
            record = run.record()
            seen = run.done()
            progress.start(record["rows"], run.stats(), record["config"]["pairs"], [])
        elif seen is not None:
            done = run.done()
            for shard in sorted(done - seen):
                progress.elsewhere(run.stats_of(shard))
            seen = done


def _result(ray: Any, task: Any) -> None:
    try:
        refused = ray.get(task)
    except ray.exceptions.TaskCancelledError:
        return
    except ray.exceptions.RayError as error:
        what = str(error).strip().splitlines()[-1]
        raise StopError(f"A worker was lost {STARTS} times: {what}. The run can be continued.") from error
    if refused is not None:
        kind, message = refused
        raise {"InputError": InputError}.get(kind, StopError)(message)


def _work(folder: str, submitted: str) -> tuple[str, str] | None:
    """One worker, in a process of the cluster. What it raises is returned as plain words: our errors need not be
    known to whoever reads them."""
    from rich.console import Console

    from mga.runs.executors.local import expand

    run = Run(folder)
    try:
        asyncio.run(expand(run.join(submitted), run, Progress(Console(stderr=True), quiet=True), wait=False))
    except InterruptedRunError:
        return None
    except MgaError as error:
        return type(error).__name__, str(error)
    return None
