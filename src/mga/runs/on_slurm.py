"""Carry a run by an array job of Slurm: each task is a worker, which claims shards until none is left.

A task is no fixed shard: the model is loaded once per task, a slow shard holds up no task, and a task that is lost
costs no more than what it was at. A task that is pre-empted is put back into the queue by Slurm, one that comes to its
time limit puts itself back, and both go on with what is open then.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mga.errors import InputError
from mga.runs.run import LOGS
from mga.store import Place

NOTICE_S = 120
"""Before the time limit: what is in flight is finished or given up, and everything received is kept."""


@dataclass(frozen=True, slots=True)
class Job:
    """An array job. `options` are passed to sbatch as they are."""

    folder: Place
    workers: int
    gpus: int
    cpus: int
    options: Sequence[str] = ()


def script(job: Job) -> str:
    """What is submitted."""
    folder = job.folder.absolute() if isinstance(job.folder, Path) else job.folder
    name = "".join(c if c.isalnum() else "-" for c in folder.name)
    lines = [f"--job-name=mga-{name}", f"--array=0-{job.workers - 1}", f"--cpus-per-task={job.cpus}"]
    lines += [f"--gpus-per-task={job.gpus}", "--ntasks=1"] if job.gpus else []
    lines += ["--requeue", "--open-mode=append", f"--signal=B:USR1@{NOTICE_S}"]
    if isinstance(folder, Path):
        lines.append(f'--output="{folder}/{LOGS}/slurm-%A_%a.log"')
    header = "\n".join(f"#SBATCH {line}" for line in [*lines, *job.options])
    command = shlex.join([sys.executable, "-m", "mga.cli", "worker", str(folder), "--quiet"])
    return f"""#!/bin/bash
{header}

time_is_up() {{
    kill -TERM "$worker"
    wait "$worker"
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
    exit 0
}}
trap time_is_up USR1

{command} &
worker=$!
wait "$worker"
"""


def submit(job: Job) -> str:
    """Submit the job; returns what Slurm says. Raises InputError when it refuses, or is not there."""
    if shutil.which("sbatch") is None:
        raise InputError("There is no sbatch here; use a login node of the cluster, or --print-script.")
    if isinstance(job.folder, Path):
        (job.folder / LOGS).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["sbatch"], input=script(job), capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        raise InputError(f"Slurm refuses the job: {done.stderr.strip().removeprefix('sbatch: error: ')}.")
    return f"{done.stdout.strip()}; mga status {job.folder} tells how far it is."
