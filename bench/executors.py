"""How a run grows with workers, what Ray costs, and what memory a worker needs over a million documents.

    python bench/executors.py [--documents 6000] [--rounds 3] [--million]

Documents are tiny and the engine is scripted, so all time is mga's own: what one worker can do with a core. Rounds
alternate between ways; each figure is the median. Start-up (Python, imports, Ray's worker processes) is measured by a
run of 8 documents the same way and taken off.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ENGINE = "scripted:"
TEXT = "Harbour number {i} was rebuilt after the storm. Its masons worked all winter. Nobody counted the seagulls."


def write_documents(path: Path, count: int) -> Path:
    with path.open("w") as stream:
        for i in range(count):
            stream.write(json.dumps({"id": f"d{i}", "text": TEXT.format(i=i)}) + "\n")
    return path


def seconds(arguments: list[str]) -> float:
    """Of a whole command."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "mga", *arguments], check=True, capture_output=True)  # noqa: S603
    return time.monotonic() - began


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


class Ray:
    """A cluster on this machine."""

    def __enter__(self) -> str:
        self._command = str(Path(sys.executable).with_name("ray"))
        address = f"127.0.0.1:{free_port()}"
        start = ["start", "--head", f"--port={address.partition(':')[2]}", "--node-ip-address=127.0.0.1"]
        start += ["--include-dashboard=false", "--disable-usage-stats", "--num-cpus=2"]
        subprocess.run([self._command, *start], check=True, capture_output=True)  # noqa: S603
        return address

    def __exit__(self, *_: object) -> None:
        subprocess.run([self._command, "stop", "--force"], check=True, capture_output=True)  # noqa: S603


def compare(given: argparse.Namespace, place: Path) -> None:
    """The table of workers and executors."""
    many, few = (write_documents(place / f"{n}.jsonl", n) for n in (given.documents, 8))
    (place / "settings.toml").write_text("shard_size = 250\n")
    number = iter(range(10_000))

    def run(source: Path, *more: str) -> float:
        out = str(place / f"run{next(number)}")
        common = ["--config", str(place / "settings.toml"), "--engine", ENGINE, "--quiet"]
        return seconds(["expand", str(source), "--out", out, *common, *more])

    with Ray() as address:
        ways: dict[str, Callable[[Path], float]] = {
            "one process": lambda source: run(source),
            "2 workers": lambda source: run(source, "--workers", "2"),
            "Ray, 1 worker": lambda source: run(source, "--on", f"ray:{address}", "--workers", "1"),
            "Ray, 2 workers": lambda source: run(source, "--on", f"ray:{address}", "--workers", "2"),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, way in ways.items():
                found[name].append((way(few), way(many)))
    one = statistics.median(whole - start for start, whole in found["one process"])
    print("| | start, s | whole, s | ms a document | × one process | over one process, ms a document |")
    print("|---|---|---|---|---|---|")
    for name, times in found.items():
        start, whole = (statistics.median(column) for column in zip(*times, strict=True))
        net = statistics.median(w - s for s, w in times)
        each = net / (given.documents - 8) * 1000
        over = (net - one) / (given.documents - 8) * 1000
        print(f"| {name} | {start:.1f} | {whole:.1f} | {each:.2f} | {one / net:.2f} | {over:+.2f} |")


def memory(place: Path, documents: int) -> None:
    """Memory of one worker, every tenth of the way."""
    source = write_documents(place / "million.jsonl", documents)
    run = place / "run"
    command = [sys.executable, "-m", "mga", "expand", str(source), "--out", str(run), "--engine", ENGINE, "--quiet"]
    command += ["--pairs", "1", "--judge", "none"]  # two requests a document, or it takes hours
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - mga itself
    status = Path(f"/proc/{process.pid}/status")
    peaks: dict[int, float] = {}

    def watch() -> None:
        while process.poll() is None:
            with suppress(OSError, StopIteration):
                resident = next(int(line.split()[1]) for line in status.open() if line.startswith("VmRSS")) / 1024
            done = len(list((run / "shards").glob("*.json"))) if (run / "shards").exists() else 0
            part = min(9, done * 10 // max(1, documents // 1000))
            peaks[part] = max(peaks.get(part, 0.0), resident)
            time.sleep(0.5)

    threading.Thread(target=watch, daemon=True).start()
    process.wait()
    taken = time.monotonic() - began
    stats = json.loads((run / "stats.json").read_bytes())
    print(f"{stats['documents']:,} documents, {sum(stats['outcomes'].values()):,} outcomes in {taken:,.0f} s")
    print("| part of the way | " + " | ".join(f"{p * 10}–{p * 10 + 10}%" for p in sorted(peaks)) + " |")
    print("|---|" + "---|" * len(peaks))
    print("| peak MB | " + " | ".join(f"{peaks[p]:.0f}" for p in sorted(peaks)) + " |")


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--million", action="store_true", help="memory over 1,000,000 documents")
    parser.add_argument("--memory-documents", type=int, default=1_000_000)
    given = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"
    with tempfile.TemporaryDirectory() as folder:
        if given.million:
            memory(Path(folder), given.memory_documents)
        else:
            compare(given, Path(folder))


if __name__ == "__main__":
    main()
