"""Carry a run by an array job of Slurm: each task is a worker, which claims shards until none is left.

A task is no fixed shard: the model is loaded once per task, a slow shard holds up no task, and a task that is lost
costs no more than what it was at. A task that is pre-empted is put back into the queue by Slurm, one that comes to its
time limit puts itself back, and both go on with what is open then.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mga.config import ExpandConfig
from mga.data.documents import find_files
from mga.data.store import Place, exists
from mga.errors import InputError
from mga.runs.run import LOGS, Run

NOTICE_S = 120
"""So long before its time limit a worker is told to stop, and given up what it cannot finish; everything received is
kept. Slurm may tell it a minute earlier, so of short limits the notice is a quarter."""

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")


@dataclass(frozen=True, slots=True)
class Job:
    """An array job, a task per worker. `time_limit` is of each task, as Slurm writes it ("90", "12:00:00", "2-00");
    `options` are passed to sbatch as they are."""

    folder: Place
    workers: int
    gpus: int = 0
    cpus: int = 1
    time_limit: str | None = None
    options: Sequence[str] = ()


def script(job: Job, submitted: str) -> str:
    """What Slurm gets, for workers with settings of this id. Raises InputError for what cannot stand in a script."""
    folder = job.folder.absolute() if isinstance(job.folder, Path) else job.folder
    lines = [f"--job-name=mga-{folder.name}", f"--array=0-{job.workers - 1}"]
    lines += ["--nodes=1", "--ntasks=1", f"--cpus-per-task={job.cpus}"]
    lines += [f"--gres=gpu:{job.gpus}"] if job.gpus else []
    lines += [f"--time={job.time_limit}"] if job.time_limit else []
    lines += ["--requeue", "--open-mode=append", f"--signal=B:USR1@{_notice(job.time_limit)}", f"--chdir={Path.cwd()}"]
    if isinstance(folder, Path):
        lines.append(f"--output={str(folder).replace('%', '%%')}/{LOGS}/slurm-%A_%a.log")
    for line in [*lines, *job.options]:
        if len(line.splitlines()) != 1:
            raise InputError(f"{line!r} cannot stand in a job script; choose names on one line.")
    if isinstance(folder, Path) and "\\" in str(folder):
        raise InputError(f"Slurm takes a backslash in {folder} for a sign of its own; choose another --out.")
    header = "\n".join(f"#SBATCH {shlex.quote(line)}" for line in [*lines, *job.options])
    command = shlex.join([sys.executable, "-m", "mga", "worker", str(folder), "--quiet", "--submitted", submitted])
    return f"""#!/bin/bash
{header}

time_is_up() {{
    kill -TERM "$worker"
    wait "$worker"
    ended=$?
    if [ "$ended" -eq 130 ]; then  # stopped with work left
        echo "mga: the time is up; back into the queue"
        scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}" && exit 0
    elif [ "$ended" -eq 143 ]; then
        echo "mga: the time was up before the work had begun; choose a longer --time" >&2
    fi
    exit "$ended"
}}
trap time_is_up USR1
trap 'wait "$worker"' TERM  # Slurm tells the worker as well

{command} &
worker=$!
wait "$worker"
"""


def submit(config: ExpandConfig, run: Run, job: Job) -> str:
    """Leave the settings for the workers and submit the job; returns what Slurm says.

    Raises InputError when the input is not there, when Slurm refuses the job, and when it is not here.
    """
    if shutil.which("sbatch") is None:
        raise InputError("There is no sbatch here; use a login node of the cluster, or --print-script.")
    if exists(run.folder / "run.json") and run.is_complete():
        return f"The run in {run.folder} is complete."
    written = prepare(config, run, job)
    done = subprocess.run(["sbatch"], input=written, capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        said = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in done.stderr.splitlines()]
        raise InputError(f"Slurm refuses the job: {'; '.join(said) or done.returncode}.")
    return f"{done.stdout.strip()}; mga status {shlex.quote(str(run.folder))} tells how far it is."


def prepare(config: ExpandConfig, run: Run, job: Job) -> str:
    """Make the folder ready for workers; returns the job's script, which may also be submitted by hand."""
    script(job, "")  # refused before anything is written
    find_files(config.input)  # refused here, and not by a worker after hours in the queue
    written = script(job, run.submit(config))
    if isinstance(run.folder, Path):
        (run.folder / LOGS).mkdir(parents=True, exist_ok=True)
    return written


def _notice(time_limit: str | None) -> int:
    seconds = _seconds(time_limit) if time_limit else None
    return NOTICE_S if seconds is None else min(NOTICE_S, seconds // 4)


def _seconds(time_limit: str) -> int | None:
    """Minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds;
    None for anything else, of which Slurm will say what it is."""
    if (found := _TIME.fullmatch(time_limit)) is None:
        return None
    parts = [int(part) for part in found["parts"].split(":")]
    if found["days"] is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        return ((int(found["days"]) * 24 + hours) * 60 + minutes) * 60 + seconds
    if len(parts) == 1:
        return parts[0] * 60
    minutes, seconds = parts[-2:]
    return (parts[0] * 60 if len(parts) == 3 else 0) * 60 + minutes * 60 + seconds
