"""A campaign of faults: runs that are killed, stopped, starved and lied to, continued, and compared with one that
nobody disturbed.

    python tests/chaos/campaign.py [--rounds 200] [--seed 0] [--round N] [--keep FOLDER]

A round is a run of its own: on a disk or in an object store that speaks S3; by one to three workers; asking a scripted
engine or two replicas in processes of their own. Two or three faults are drawn for it and happen at drawn moments.
Then the run is continued until it completes, undisturbed, and must be what it would have been: every document
accounted for once, no id twice, the same bytes, nothing left over. A fault counts only when it took effect.
`--round N` repeats one.
"""

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from object_store import BUCKET, UNAVAILABLE, ObjectStore, Response  # noqa: E402

DOCUMENTS, SHARD_ROWS, PAIRS = 24, 4, 3
FLAWS, DELAY_S, LEASE_S = 0.3, 0.06, 3.0
PARTS = ("kept", "dropped", "failed", "shards")
LEFT_OVER = ("journal", "open", "claims", "workers")
CONTINUED_AT_MOST = 4
DEADLINE_S = 90.0


class LostError(Exception):
    """A round did not end as it must."""


@dataclass
class Away:
    """Until when the store refuses all requests of a round, and how many it has refused."""

    until: float = 0.0
    refused: int = 0


@dataclass
class Round:
    """One run and what is done to it. `processes` are those of `mga`, `replicas` those that answer."""

    number: int
    seed: int
    place: Path
    store: ObjectStore
    in_store: bool
    rng: random.Random
    away: Away = field(default_factory=Away)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    replicas: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    happened: list[str] = field(default_factory=list)

    @property
    def out(self) -> str:
        return f"s3://{BUCKET}/{self.name}" if self.in_store else str(self.place / "run")

    @property
    def name(self) -> str:
        return f"run-{self.seed}-{self.number}"

    @property
    def engine(self) -> str:
        if not self.replicas:
            return f"scripted:?flaws={FLAWS}&latency={DELAY_S}"
        return ",".join(f"http://127.0.0.1:{port}/v1" for port in self.replicas) + "#tiny"

    def start(self, *more: str, skew_s: float = 0.0, **how: Any) -> subprocess.Popen[bytes]:
        """`mga expand` on this run, in a process group of its own."""
        command = [sys.executable, str(HERE / "worker.py"), "expand", str(self.place / "in.jsonl"), "--out", self.out]
        command += ["--config", str(self.place / "settings.toml"), "--engine", self.engine, "--quiet", *more]
        environment = os.environ | self.store.environment | {"LEASE_S": str(LEASE_S), "SKEW_S": str(skew_s)}
        environment |= {"XDG_CACHE_HOME": str(self.place / "cache")}
        if "preexec_fn" in how:  # where files have a limit, Python would leave cut-off bytecode beside its sources
            environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
        log = (self.place / "said.log").open("ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True, **how)
        self.processes.append(process)
        return process

    def files(self) -> dict[str, bytes]:
        """Everything in the run folder by name."""
        if self.in_store:
            return self.store.tree(self.name)
        root = self.place / "run"
        found = {}
        for path in root.rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):
                found[str(path.relative_to(root))] = path.read_bytes()
        return found

    def living(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self.processes if process.poll() is None]

    def sleep(self, most: float = 1.5) -> None:
        time.sleep(self.rng.uniform(0.2, most))


# The faults. Each returns whether it took effect.


def kill_a_worker(of: Round) -> bool:
    living = of.living()
    if living:
        of.rng.choice(living).kill()
    return bool(living)


def kill_the_driver(of: Round) -> bool:
    """Of a driver with a worker beside it, the driver alone; the worker goes on as an orphan."""
    driver = of.start("--workers", "2")
    of.sleep(2.5)
    took_effect = driver.poll() is None
    driver.kill()
    return took_effect


def kill_everybody(of: Round) -> bool:
    living = of.living()
    for process in living:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return bool(living)


def freeze_a_worker(of: Round) -> bool:
    """Longer than its lease, while another one works: awake, it believes that it owns shards that it has lost."""
    living = of.living()
    if not living:
        return False
    frozen = of.rng.choice(living)
    frozen.send_signal(signal.SIGSTOP)
    of.start()
    time.sleep(2 * LEASE_S + 1)
    frozen.send_signal(signal.SIGCONT)
    return frozen.poll() is None


def kill_a_replica(of: Round) -> bool:
    if not of.replicas or not of.living():
        return False
    port = of.rng.choice(list(of.replicas))
    of.replicas[port].kill()
    of.replicas[port].wait()
    of.sleep(2.0)
    of.replicas[port] = started_replica(port)
    return True


def hang_a_replica(of: Round) -> bool:
    if not of.replicas or not of.living():
        return False
    replica = of.rng.choice(list(of.replicas.values()))
    replica.send_signal(signal.SIGSTOP)
    of.sleep(2.5)
    replica.send_signal(signal.SIGCONT)
    return True


def fill_the_disk(of: Round) -> bool:
    """A limit on the size of any file stands in for the end of the disk: a worker comes to it and stops."""
    limit = of.rng.randrange(2_000, 9_000)
    process = of.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)))
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    return process.poll() == 2


def drop_the_store(of: Round) -> bool:
    if not of.in_store or not of.living():
        return False
    of.away.until = time.monotonic() + of.rng.uniform(1.0, 3.0)
    time.sleep(max(0.0, of.away.until - time.monotonic()))
    return of.away.refused > 0


def corrupt_what_is_half_written(of: Round) -> bool:
    """After a kill: the last line of a journal is cut, a file that was being written holds half of something, and one
    of a worker that never won holds garbage."""
    kill_everybody(of)
    root = of.place / ("cache/mga/journals" if of.in_store else "run")
    journals = [path for path in root.rglob("*.jsonl") if path.stat().st_size > 100 and "logs" not in path.parts]
    for path in journals:
        os.truncate(path, path.stat().st_size - of.rng.randrange(1, 90))
    if not of.in_store and (of.place / "run" / "open").exists():
        for path in (of.place / "run" / "open").glob("*.parquet"):
            if not path.with_name(f"{path.name[:5]}.won").exists():
                path.write_bytes(path.read_bytes()[: of.rng.randrange(1, 200)])
        (of.place / "run" / "open" / ".00000.nobody.kept.parquet.writing").write_bytes(b"PAR1 half")
    return bool(journals)


def skew_the_clock(of: Round) -> bool:
    """A worker whose clock is hours or days ahead or behind, beside those with right ones."""
    process = of.start(skew_s=of.rng.choice([-1, 1]) * of.rng.choice([3_600.0, 86_400.0, 4e7]))
    of.sleep(2.0)
    return process.poll() in (None, 0)


ANYWHERE = (
    kill_a_worker,
    kill_the_driver,
    kill_everybody,
    freeze_a_worker,
    corrupt_what_is_half_written,
    skew_the_clock,
)
WITH_REPLICAS = (kill_a_replica, hang_a_replica)
Fault = Callable[[Round], bool]


def started_replica(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / "replica.py"), str(port), str(FLAWS), str(DELAY_S)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        time.sleep(0.05)
    raise LostError("a replica did not start")


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def write_input(place: Path) -> None:
    text = (
        "Harbour number {i} was rebuilt slowly after the storm of 18{i:02}. Its masons worked through two winters. "
        "Fishermen carried stones from the quarry. Nobody counted the seagulls."
    )
    rows = [json.dumps({"id": f"doc-{i}", "text": text.format(i=i)}) for i in range(DOCUMENTS)]
    (place / "in.jsonl").write_text("\n".join([*rows, ""]))
    (place / "settings.toml").write_text(f"shard_size = {SHARD_ROWS}\npairs = {PAIRS}\n")


def results(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.split("/")[0] in PARTS}


def play(of: Round, expected: dict[bool, dict[str, bytes]]) -> list[str]:
    """One round; the names of the faults that took effect. Raises LostError."""
    place, rng = of.place, of.rng
    write_input(place)
    faults: list[Fault] = [*ANYWHERE]
    faults += [drop_the_store, drop_the_store] if of.in_store else [fill_the_disk]
    try:
        if rng.random() < 0.5:
            ports = [free_port(), free_port()]
            of.replicas = {port: started_replica(port) for port in ports}
            faults += [*WITH_REPLICAS, *WITH_REPLICAS]
        for _ in range(rng.randint(1, 3)):
            of.start()
        for fault in rng.sample(faults, rng.randint(2, 3)):
            of.sleep()
            if not of.living() and fault is not fill_the_disk:
                of.start()
                of.sleep()
            if fault(of):
                of.happened.append(fault.__name__)
        end(of)
        check(of, expected[bool(of.replicas)])
    finally:
        of.away.until = 0.0
        kill_everybody(of)
        for replica in of.replicas.values():
            replica.kill()
            replica.wait()
    return of.happened


def end(of: Round) -> None:
    """Let those at work end, then continue until the run is complete."""
    deadline = time.monotonic() + DEADLINE_S
    for process in of.living():
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
    if of.living():
        raise LostError("workers hang")
    for _ in range(CONTINUED_AT_MOST):
        process = of.start()
        try:
            if process.wait(DEADLINE_S) == 0:
                return
        except subprocess.TimeoutExpired as error:
            raise LostError("the run does not end") from error
    raise LostError("the run cannot be continued")


def check(of: Round, expected: dict[str, bytes]) -> None:
    """Raise LostError unless the run is what it would have been."""
    files = of.files()
    found = results(files)
    if found.keys() != expected.keys():
        raise LostError(f"other files: {sorted(found.keys() ^ expected.keys())}")
    # Requests that two workers have both paid for are counted twice, and only there: `usage` may differ.
    for name, data in found.items():
        same = data == expected[name] if not name.startswith("shards/") else counts(data) == counts(expected[name])
        if not same:
            raise LostError(f"{name} differs")
    ids = [row for name in found if name.endswith(".parquet") for row in identities(found[name])]
    if len(ids) != len(set(ids)) or len(ids) != DOCUMENTS * PAIRS:
        raise LostError(f"{len(ids)} outcomes, {len(set(ids))} of them different, of {DOCUMENTS * PAIRS}")
    left = [name for name in files if name.split("/")[0] in LEFT_OVER]
    if left:
        raise LostError(f"left over: {left}")


def counts(shard: bytes) -> dict[str, Any]:
    return {name: value for name, value in json.loads(shard).items() if name != "usage"}


def identities(parquet: bytes) -> list[str]:
    return [str(each) for each in pq.read_table(io.BytesIO(parquet), columns=["id"])["id"].to_pylist()]


def reference(place: Path, store: ObjectStore, replicas: bool) -> dict[str, bytes]:
    """What a run writes that nobody disturbs."""
    place.mkdir()
    of = Round(-1, 0, place, store, in_store=False, rng=random.Random(0))
    write_input(place)
    if replicas:
        port = free_port()
        of.replicas = {port: started_replica(port)}
    end(of)
    for replica in of.replicas.values():
        replica.kill()
    found = results(of.files())
    if {name.split("/")[0] for name in found} != set(PARTS):
        raise LostError("the reference has not all kinds of outcomes")
    return found


@dataclass
class Campaign:
    """How often each fault took effect, and the rounds that were lost, with the reason."""

    happened: Counter[str] = field(default_factory=Counter)
    lost: dict[int, str] = field(default_factory=dict)


def campaign(rounds: list[int], seed: int, folder: Path, at_once: int = 4) -> Campaign:
    """Play rounds."""
    found = Campaign()
    lock = threading.Lock()
    with ObjectStore() as store, ThreadPoolExecutor(at_once) as pool:
        away: dict[str, Away] = {}

        def fault(_method: str, path: str) -> Response | None:
            refused = away.get(path.removeprefix(f"/{BUCKET}/").partition("/")[0])
            if refused is None or time.monotonic() > refused.until:
                return None
            refused.refused += 1
            return UNAVAILABLE

        store.fault = fault
        expected = {
            replicas: reference(folder / f"reference-{replicas}", store, replicas) for replicas in (True, False)
        }

        def one(number: int) -> None:
            rng = random.Random(f"{seed} {number}")
            of = Round(number, seed, folder / f"round-{number}", store, in_store=rng.random() < 0.3, rng=rng)
            of.place.mkdir()
            away[of.name] = of.away
            try:
                happened = play(of, expected)
            except LostError as error:
                with lock:
                    found.lost[number] = str(error)
                    print(f"round {number}: LOST: {error} after {of.happened}; see {of.place}", flush=True)
                return
            with lock:
                found.happened.update(happened)
            shutil.rmtree(of.place)

        list(pool.map(one, rounds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--round", type=int, help="only this one")
    parser.add_argument("--keep", type=Path, help="folder to work in; rounds that are lost stay there")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="mga-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rounds = [given.round] if given.round is not None else list(range(given.rounds))
    found = campaign(rounds, given.seed, folder)
    print(f"\n{len(rounds)} rounds in {time.monotonic() - began:,.0f} s, {len(found.lost)} lost.\n")
    print("| fault | times survived |\n|---|---|")
    for name, times in found.happened.most_common():
        print(f"| {name.replace('_', ' ')} | {times} |")
    sys.exit(bool(found.lost))


if __name__ == "__main__":
    main()
