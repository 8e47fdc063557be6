"""What `mga expand` makes of the replies of servers that answer oddly: a line for each form of reply.

    python tests/replies.py                                  the forms of odd_servers.py (docs/replies.md has the table)
    python tests/replies.py --server FILE.py                 the same for a server started as `python FILE.py PORT MODE`
    python tests/replies.py --server FILE.py --address 'http://127.0.0.1:9000/{mode}/v1#m'
                                                             for one that is started once and takes modes in its address
    python tests/replies.py --modes eos_leak --modes parts --show     these alone, with what the command printed

Modes of a server in a file are read from the file: the strings that it compares with a variable `mode`. Each is met by
the real command in a process of its own, as a user runs it; only the waits between attempts are shortened (`--patient`
leaves them). Printed: how it ended, what was kept, dropped and failed, how many replies were paid for, and marks of
chat templates that are left in a kept text.
"""

import argparse
import ast
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import regex

WITHIN_S = 60.0
SHORT_WAIT_S = 0.02
MARKS = regex.compile(
    r"</?[\w:|｜▁]*(?:think|reason|thought)\w*>|<[|｜][^>]{1,40}[|｜]?>|\[/?(?:INST|THINK)\]|</?document|[\x00-\x08\x1b]"
    r"|\[\d+(?:;\d+)*[mJHK]|\]0;"
)
DOCUMENT = (
    "The lighthouse at Corran Point was lit for the first time in October 1874. Its keeper, Agnes Bell, wound the "
    "clockwork every four hours and wrote the weather into a ledger. Ships carrying slate from the quarries passed "
    "within two hundred metres of the rocks. In the winter of 1881 the lens cracked in the frost, and for nine nights "
    "she burned barrels of tar on the gallery instead. No vessel was lost. The ledger lies today in the museum of the "
    "harbour town, open at the page of the second of January. Children are taken to see it in spring, when the "
    "boats are painted. A teacher reads the entry aloud: wind from the north, sea very high, tar enough for three "
    "more nights, two barrels borrowed from the cooper, who wants them back. Then she asks what else could have "
    "been burned. The children say driftwood, furniture, the door of the store, and one of them always says the "
    "ledger. The lamp itself was replaced in 1903 by a burner for paraffin vapour, and in 1961 by an electric bulb "
    "no larger than an apple, which a clock in another town switches on and off. The gallery is closed, since its "
    "rail has rusted through. From the road one can still see the dark marks on the stone where the tar ran down, "
    "nine of them, one beside the other, and below them a bench with the name of the keeper and the number of ships "
    "that passed."
)
# Waits between attempts and for silence, as in the tests of faults; everything else is the command as it is.
IMPATIENT = """
import sys
from mga.engines import client
from mga.engines.servers import endpoint
client._backoff = lambda state: {wait}
client.LONGEST_WAIT_S = {wait}
endpoint.SILENCE_TIMEOUT_S = 2.0
endpoint.WHOLE_ANSWER_S = 6.0
from mga.cli.main import main
main()
"""


@dataclass(frozen=True)
class Result:
    """How the command ended on one form of reply. `rows`: (kept, dropped or failed, reason) of each pair."""

    mode: str
    code: int | None
    rows: tuple[tuple[str, str], ...]
    paid: int
    marks: tuple[str, ...]
    scores: tuple[tuple[int | None, float | None], ...]
    seconds: float
    printed: str

    @property
    def counts(self) -> str:
        by_status = [
            (status, Counter(reason for found, reason in self.rows if found == status))
            for status in ("kept", "dropped", "failed")
        ]
        return " · ".join(f"{status} {c.total()}{_reasons(c)}" for status, c in by_status if c) or "nothing"

    @property
    def ended(self) -> str:
        """The last thing said, when the command did not end well."""
        lines = [line for line in self.printed.strip().splitlines() if line.strip()]
        if self.code is None:
            return f"not done within {self.seconds:.0f} s"
        return lines[-1] if lines and self.code else ""


def _reasons(counts: Counter[str]) -> str:
    named = ", ".join(f"{reason} {n}" for reason, n in counts.items() if reason)
    return f" ({named})" if named else ""


def expand(mode: str, engine: str, folder: Path, options: Sequence[str] = (), *, patient: bool = False) -> Result:
    """Run the command against a server, and look at what it has left."""
    given, run = folder / "in.jsonl", folder / "run"
    given.write_text(json.dumps({"id": "lighthouse", "text": DOCUMENT}) + "\n", encoding="utf-8")
    start = ["-m", "mga"] if patient else ["-c", IMPATIENT.format(wait=SHORT_WAIT_S)]
    command = [sys.executable, *start, "expand", str(given), "--out", str(run), "--engine", engine, *options]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            printed, _ = process.communicate(timeout=600 if patient else WITHIN_S)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, code = process.communicate()[0], None
    found = [(part, row) for part in ("kept", "dropped", "failed") for row in rows(run / part)]
    marks = {mark for part, row in found if part == "kept" for mark in MARKS.findall(row["text"])}
    return Result(
        mode=mode,
        code=code,
        rows=tuple((part, str(row["reason"] or "") if part != "kept" else "") for part, row in found),
        paid=_paid(run),
        marks=tuple(sorted(marks)),
        scores=tuple((row["score"], row["expected_score"]) for part, row in found if part == "kept"),
        seconds=time.monotonic() - began,
        printed=printed.decode("utf-8", "replace"),
    )


def rows(folder: Path) -> list[dict]:  # type: ignore[type-arg]
    """The rows of a run's folder `kept`, `dropped` or `failed`."""
    return [
        {"reason": None, **row} for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()
    ]


def _paid(run: Path) -> int:
    """Replies that were received for the texts."""
    stats = run / "stats.json"
    if not stats.is_file():
        return sum(file.read_bytes().count(b"\n") for file in (run / "journal").glob("*"))
    return sum(spent["requests"] for spent in json.loads(stats.read_bytes())["usage"].values())


def modes_in(file: Path) -> list[str]:
    """The modes that a server's file names: strings compared with a name `mode`, and keys of tables read by it."""
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare) and _is_mode(node.left):
            for side in node.comparators:
                found |= dict.fromkeys(_strings(side))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            table, arguments = node.func.value, [text for argument in node.args for text in _strings(argument)]
            if isinstance(table, ast.Dict) and any(map(_is_mode, node.args)):
                found |= dict.fromkeys(text for key in table.keys if key for text in _strings(key))
            elif _is_mode(table) and node.func.attr == "startswith":  # the values that real servers send
                prefixes = [text for text in arguments if text.endswith(":")]
                found |= {f"{p}{v}": None for p in prefixes for v in ("abort", "content_filter", "error", "wild")}
    return list(found)


def _is_mode(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id.lower() == "mode"


def _strings(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for item in node.elts:
            yield from _strings(item)


@contextmanager
def started(file: Path, *arguments: str, port: int) -> Iterator[None]:
    """A server's file as a process, from the moment that it listens."""
    with subprocess.Popen(
        [sys.executable, str(file.resolve()), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=file.resolve().parent,
        env=os.environ | {"BOMB": "1"},
    ) as process:
        try:
            deadline = time.monotonic() + 240
            while True:
                with socket.socket() as one:
                    if one.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{file} does not serve at port {port}.")
                time.sleep(0.02)
            yield
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def foreign(file: Path, address: str | None, patient: bool, options: Sequence[str]) -> Callable[[str], Result]:
    """How one mode of a server in a file is met."""

    def meet(mode: str) -> Result:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as open_server:
            engine = address
            if engine is None:
                port = free_port()
                open_server.enter_context(started(file, str(port), mode, port=port))
                engine = f"http://127.0.0.1:{port}/v1#m"
            return expand(mode, engine.format(mode=mode), Path(folder), options, patient=patient)

    return meet


def own(patient: bool, options: Sequence[str]) -> tuple[list[str], Callable[[str], Result]]:
    """The forms of odd_servers.py, and how one of them is met."""
    from odd_servers import MODES, serving

    def meet(mode: str) -> Result:
        with tempfile.TemporaryDirectory() as folder, serving(MODES[mode]) as server:
            return expand(mode, server.url, Path(folder), [*MODES[mode].options, *options], patient=patient)

    return list(MODES), meet


def shown(result: Result) -> str:
    """A result on one line."""
    parts = [f"{result.mode:26} {result.counts}", f"paid {result.paid}"]
    if result.scores and any(expected is not None for _, expected in result.scores):
        parts.append(f"expected {sorted({str(expected) for _, expected in result.scores})}")
    if result.marks:
        parts.append(f"LEFT IN TEXTS: {' '.join(result.marks)}")
    if result.code:
        parts.append(f"exit {result.code}")
    parts.append(f"{result.seconds:.0f} s")
    line = " | ".join(parts)
    return f"{line}\n{'':26}   {result.ended[:240]!r}" if result.ended else line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", type=Path, help="a server's file instead of our own forms")
    parser.add_argument("--address", help="where it takes modes in its address, with {mode}")
    parser.add_argument("--modes", action="append", help="these modes only")
    parser.add_argument("--patient", action="store_true", help="the waits of a real run")
    parser.add_argument("--show", action="store_true", help="all that the command printed")
    parser.add_argument("--at-once", type=int, default=2, help="commands at a time")
    given, options = parser.parse_known_args()
    if given.server:
        names, meet = modes_in(given.server), foreign(given.server, given.address, given.patient, options)
    else:
        names, meet = own(given.patient, options)
    with ExitStack() as open_server, ThreadPoolExecutor(given.at_once) as pool:
        if given.server and given.address:
            port = int(regex.search(r":(\d+)", given.address)[1])  # type: ignore[index]
            open_server.enter_context(started(given.server, port=port))
        for result in pool.map(meet, given.modes or names):
            print(shown(result), flush=True)
            if given.show:
                print(result.printed)


if __name__ == "__main__":
    main()
