"""Run a command and learn what its child processes cost, also those that leave it (Ray's daemons do).

On Linux this process becomes the parent of all that its descendants leave behind, so that they stay in its family, and
reads the family's CPU time and memory from /proc while the command runs. A process that ends between two looks loses
up to the last tenth of a second. Elsewhere only what the command itself reports is known.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CPU_EVERY_S, MEMORY_EVERY_S = 0.1, 0.5
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER


class Failed(Exception):  # noqa: N818
    """The command failed or took too long; says how."""


@dataclass
class Outcome:
    """What the command printed, CPU seconds of its descendants, and the peak of the whole family's memory in MB."""

    printed: str
    descendants_cpu_s: float
    peak_mb: float


@dataclass(frozen=True)
class _Process:
    pid: int
    started: int
    cpu_s: float


def _family() -> set[_Process]:
    """All descendants of this process."""
    ticks = os.sysconf("SC_CLK_TCK")
    children: dict[int, list[_Process]] = defaultdict(list)
    for entry in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            process = _Process(int(entry.name), int(fields[19]), (int(fields[11]) + int(fields[12])) / ticks)
            children[int(fields[1])].append(process)
    family: set[_Process] = set()
    parents = [os.getpid()]
    while parents:
        found = children.pop(parents.pop(), [])
        family.update(found)
        parents += [process.pid for process in found]
    return family


def _memory_mb(pid: int) -> float:
    """Resident memory, a page shared by several processes divided among them."""
    with contextlib.suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def run(command: list[str], limit_s: float) -> Outcome:
    """Run the command to its end; end and delete what it leaves behind. Raises Failed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return _run(command, limit_s, {**os.environ, "TMPDIR": folder})


def _run(command: list[str], limit_s: float, environment: dict[str, str]) -> Outcome:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
    others = {process.pid for process in _family()}
    cpu: dict[tuple[int, int], float] = {}
    peak_mb, looked_at = 0.0, 0.0
    deadline = time.monotonic() + limit_s
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+", errors="replace") as said:
        command_process = subprocess.Popen(command, env=environment, stdout=printed, stderr=said)  # noqa: S603
        try:
            running = True
            while running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    command_process.wait(CPU_EVERY_S)
                running = command_process.returncode is None
                family = _left(others)
                cpu |= {(it.pid, it.started): it.cpu_s for it in family if it.pid != command_process.pid}
                if time.monotonic() - looked_at > MEMORY_EVERY_S:
                    peak_mb = max(peak_mb, sum(_memory_mb(process.pid) for process in family))
                    looked_at = time.monotonic()
                if running and time.monotonic() > deadline:
                    raise Failed(f"not done after {limit_s:.0f} s")
        finally:
            _end(others, command_process)
        if command_process.returncode:
            said.seek(0)
            words = said.read()
            print(words[-3000:], file=sys.stderr)
            raise Failed("failed: " + (words.strip().splitlines() or ["without a word"])[-1][:80])
        printed.seek(0)
        return Outcome(printed.read(), sum(cpu.values()), peak_mb)


def _left(others: set[int]) -> list[_Process]:
    return [process for process in _family() if process.pid not in others]


def _end(others: set[int], command_process: subprocess.Popen) -> None:  # type: ignore[type-arg]
    """End all that is left, over again as long as any of it could start more."""
    for _ in range(10):
        for process in (left := _left(others)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        command_process.wait()
        for process in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)
        if not left:
            return
