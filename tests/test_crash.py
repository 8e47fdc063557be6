"""A run is stopped in every way there is, and continued: nothing is lost, nothing doubled, nothing paid twice."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic, sleep

import orjson
import pytest

DOCUMENTS = 40
SHARDS = 6  # of 7 rows
KILLS = 16
DEADLINE_S = 20.0
STAGES = ("kept", "dropped", "failed", "shards")
STEPS = (  # of publishing, in order: the process dies before each of them
    "write_rows {shard}.*.kept.parquet",
    "write_rows {shard}.*.dropped.parquet",
    "write_json {shard}.*.shards.json",
    "create {shard}.won",
    "move {shard}.*.kept.parquet",
    "move {shard}.*.dropped.parquet",
    "move {shard}.*.shards.json",
    "delete {shard}.won",
    "delete {shard}.*.jsonl",
    "delete {shard}.1.json",
)

_SUBJECTS = "the old ferry,a careful gardener,the mountain railway,our village baker,the night watch,a young surgeon"
_VERBS = "measured,repaired,described,forgot,carried,painted,counted,rebuilt"
_OBJECTS = "the northern bridge,seven copper kettles,a field of barley,the harbour lamps,two letters from abroad"
_ENDS = "before the winter,in a single morning,without any help,while the river rose,for the third time"


def _text(rng: Random) -> str:
    def sentence() -> str:
        parts = [rng.choice(part.split(",")) for part in (_SUBJECTS, _VERBS, _OBJECTS, _ENDS)]
        return " ".join(parts).capitalize() + f", in the year {rng.randrange(1700, 1990)}."

    return " ".join(sentence() for _ in range(rng.randrange(3, 12)))


@dataclass(frozen=True)
class Folder:
    """One run's place: the command, its output folder and the engine's log."""

    path: Path

    @property
    def out(self) -> Path:
        return self.path / "run"

    @property
    def deleted_journals(self) -> Path:
        return self.path / "journals"

    @property
    def log(self) -> Path:
        return self.path / "asked.log"

    def start(self, latency: float, die_at: str = "", **how: object) -> subprocess.Popen[str]:
        """`mga expand` in a process of its own, which dies before a step of publishing."""
        engine = f"scripted:?latency={latency}&flaws=0.2&faults=0.05&log={self.log}"
        self.deleted_journals.mkdir(exist_ok=True)
        environment = os.environ | {"DIE_AT": die_at, "KEEP_JOURNALS": str(self.deleted_journals)}
        if "preexec_fn" in how:  # where files have a limit, Python would leave cut-off bytecode beside its sources
            environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
        command = [
            sys.executable,
            str(Path(__file__).with_name("dying.py")),
            "expand",
            "--config",
            str(self.path.parent / "settings.toml"),
        ]
        command += ["--out", str(self.out), "--engine", engine]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **how
        )  # type: ignore[call-overload, no-any-return]

    def finish(self) -> str:
        """`mga expand` to its end; what it said."""
        process = self.start(latency=0.002)
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, said
        return said

    def log_lines(self) -> list[str]:
        """The keys asked so far, in order. A line that is being written counts when it is whole."""
        if not self.log.exists():
            return []
        return [line.split()[1] for line in self.log.read_text().rpartition("\n")[0].splitlines()]

    def shard_done(self, shard: int) -> bool:
        return (self.out / "shards" / f"{shard:05}.json").exists()

    def journals(self) -> list[Path]:
        """Every journal that ever was, also of shards that are published."""
        open_ones = list((self.out / "journal").glob("*.jsonl"))
        names = {path.name for path in open_ones}
        return open_ones + [path for path in self.deleted_journals.iterdir() if path.name not in names]

    def answered(self) -> set[str]:
        """Keys of all requests whose reply stands in a whole line of a journal."""
        lines = [line for path in self.journals() for line in path.read_bytes().split(b"\n")[:-1]]
        return {orjson.loads(line)[0] for line in lines}

    def result(self) -> dict[str, bytes]:
        """Every file that a finished run must have in common with every other run on the same input."""
        files = [path for part in STAGES for path in sorted((self.out / part).glob("**/*"))]
        files += [self.out / "stats.json"]
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}


def until(reached: Callable[[], bool], process: subprocess.Popen[str], within_s: float = DEADLINE_S) -> None:
    """Poll until something is reached; the process must still be at work then."""
    deadline = monotonic() + within_s
    while not reached():
        assert monotonic() < deadline, "the moment never came"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.002)
        assert process.returncode is None, f"the process ended by itself: {process.communicate()}"


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> str:
    """Send a signal and wait for the end; what the process said."""
    process.send_signal(number)
    _, said = process.communicate(timeout=DEADLINE_S)
    return said


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input of varied texts and the settings."""
    path = tmp_path_factory.mktemp("crash")
    rng = Random(11)
    rows = [json.dumps({"id": f"doc-{i}", "text": _text(rng)}) for i in range(DOCUMENTS)]
    (path / "input.jsonl").write_text("\n".join([*rows, ""]))
    (path / "settings.toml").write_text(f'input = "{path / "input.jsonl"}"\nshard_size = 7\n')
    return path


def new_folder(room: Path, name: str) -> Folder:
    (room / name).mkdir()
    return Folder(room / name)


@pytest.fixture(scope="module")
def uninterrupted(room: Path) -> Folder:
    """The run that nobody disturbs."""
    folder = new_folder(room, "uninterrupted")
    folder.finish()
    stats = orjson.loads((folder.out / "stats.json").read_bytes())
    assert sum(stats["outcomes"].values()) == DOCUMENTS * 5
    assert all(stats["outcomes"][status] > 0 for status in ("kept", "dropped", "failed"))
    assert len(list((folder.out / "shards").iterdir())) == SHARDS
    return folder


def test_sixteen_kills_change_nothing_and_cost_nothing(room: Path, uninterrupted: Folder) -> None:
    """At moments counted in requests, the first at the first, the last near the end."""
    folder = new_folder(room, "killed")
    wanted = len(set(uninterrupted.log_lines()))
    rng = Random(7)
    moments = sorted(rng.sample(range(2, wanted - 40), KILLS - 2))
    plan = [1, *moments, wanted - 20]
    before = killed = 0
    answered: set[str] = set()
    published = set()

    def check_nothing_answered_was_asked() -> None:
        again = answered & set(folder.log_lines()[before:])
        assert not again, f"after {killed} kills {len(again)} requests with a journaled reply were asked again"

    for moment in plan:
        before = len(folder.log_lines())
        _kill_at(folder, moment)
        killed += 1
        check_nothing_answered_was_asked()
        published.add(sum(folder.shard_done(shard) for shard in range(SHARDS)))
        if killed == len(plan) // 2:
            _cut_last_line(folder)
        answered = folder.answered()

    before = len(folder.log_lines())
    folder.finish()
    check_nothing_answered_was_asked()
    assert min(published) == 0 < max(published) < SHARDS, "kills must land before and after shards were published"
    assert set(folder.log_lines()) == set(uninterrupted.log_lines())
    assert folder.result() == uninterrupted.result()
    assert not list(folder.out.glob("**/*.writing"))
    assert sorted(path.name for path in folder.out.iterdir()) == sorted(
        path.name for path in uninterrupted.out.iterdir()
    )


@pytest.mark.parametrize("step", STEPS)
def test_a_death_at_any_step_of_publishing_is_made_good(room: Path, uninterrupted: Folder, step: str) -> None:
    folder = new_folder(room, f"step-{STEPS.index(step)}")
    process = folder.start(latency=0.002, die_at=step.format(shard="00002"))
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGKILL
    before, answered = len(folder.log_lines()), folder.answered()
    folder.finish()
    assert not answered & set(folder.log_lines()[before:])
    assert folder.result() == uninterrupted.result()
    assert list((folder.out / "journal").iterdir()) == []


def _kill_at(folder: Folder, moment: int) -> None:
    """Kill a process when so many different requests have been asked, and one by itself at least."""
    before = len(folder.log_lines())
    process = folder.start(latency=0.03)

    def reached() -> bool:
        lines = folder.log_lines()
        return len(lines) > before and len(set(lines)) >= moment

    until(reached, process)
    kill(process)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_keeps_what_was_received_and_says_how_to_continue(
    room: Path, uninterrupted: Folder, number: signal.Signals
) -> None:
    folder = new_folder(room, number.name)

    # An engine that never answers: a second signal does not wait for the grace.
    process = folder.start(latency=600.0)
    until(lambda: any((folder.out / "claims").glob("[!.]*.json")), process)
    begun = monotonic()
    process.send_signal(number)
    assert process.stderr is not None
    assert any("stopping" in line for line in iter(process.stderr.readline, ""))
    hurried = kill(process, number)
    assert process.returncode == 130, hurried
    assert monotonic() - begun < 4

    # An engine that answers soon: what is in flight is finished and kept.
    process = folder.start(latency=0.05)
    until(lambda: len(folder.log_lines()) >= 60, process)
    begun = monotonic()
    said = kill(process, number)
    assert process.returncode == 130, said
    assert monotonic() - begun < 4
    assert "stopping" in said
    assert not (folder.out / "stats.json").exists()
    answered, asked = folder.answered(), folder.log_lines()
    failed = orjson.loads((uninterrupted.out / "stats.json").read_bytes())["outcomes"]["failed"]
    assert len(set(asked) - answered) <= failed, "more than the refused requests were asked and not kept"

    folder.finish()
    assert not answered & set(folder.log_lines()[len(asked) :])
    assert folder.result() == uninterrupted.result()
    for message in (hurried, said):
        assert "Traceback" not in message
        assert message.strip().splitlines()[-1].startswith("mga: Stopped.")
        assert "run the same command again" in " ".join(message.split())


def test_workers_end_with_the_process_that_began_them(room: Path) -> None:
    """`kill -9` of it: nobody is left who asks and is paid for."""
    log, out = room / "helped.log", room / "helped"
    command = [sys.executable, "-m", "mga", "expand", "--config", str(room / "settings.toml"), "--out", str(out)]
    command += ["--workers", "3", "--concurrency", "2", "--engine", f"scripted:?latency=1&log={log}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def asking() -> set[int]:
        return {int(line.split()[0]) for line in log.read_text().splitlines()} if log.exists() else set()

    until(lambda: len(asking()) == 3, process, 90)
    kill(process)
    deadline = monotonic() + DEADLINE_S
    while any(_lives(pid) for pid in asking()):
        assert monotonic() < deadline, "workers go on without the process that began them"
        sleep(0.01)


def _lives(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_full_disk_stops_the_run_which_continues_when_there_is_room(room: Path, uninterrupted: Folder) -> None:
    """A limit on the size of any file stands in for the end of the disk."""
    folder = new_folder(room, "full")

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, resource.RLIM_INFINITY))

    engine_log = folder.log
    engine_log.touch()
    process = folder.start(latency=0.002, preexec_fn=little_room)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("mga: Cannot write"), said
    assert not (folder.out / "stats.json").exists()
    folder.finish()
    assert folder.result() == uninterrupted.result()


def _cut_last_line(folder: Folder) -> None:
    """As after a power loss: the last line of an open journal is on the disk only in part."""
    journal = next(path for path in sorted((folder.out / "journal").iterdir()) if path.stat().st_size)
    data = journal.read_bytes()
    start = data[:-1].rfind(b"\n") + 1
    os.truncate(journal, (start + len(data)) // 2)
