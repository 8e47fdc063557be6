"""A run is stopped in every way there is, and continued: nothing is lost, nothing doubled, nothing paid twice."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic

import orjson
import pytest

DOCUMENTS = 40
SHARDS = 6  # of 7 rows
KILLS_WHILE_ASKING = 16
DEADLINE_S = 20.0
POLLS_AT_THE_PIPE = 40
STAGES = ("kept", "dropped", "failed", "shards")

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
    def log(self) -> Path:
        return self.path / "asked.log"

    def start(self, latency: float, **how: object) -> subprocess.Popen[str]:
        """`mga expand` in a process of its own."""
        engine = f"scripted:?latency={latency}&flaws=0.2&faults=0.05&log={self.log}"
        command = [sys.executable, "-m", "mga.cli", "expand", "--config", str(self.path.parent / "settings.toml")]
        command += ["--out", str(self.out), "--engine", engine]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)  # type: ignore[call-overload, no-any-return]

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

    def journal(self, shard: int) -> Path:
        return self.out / "journal" / f"{shard:05}.jsonl"

    def result(self) -> dict[str, bytes]:
        """Every file that a finished run must have in common with every other run on the same input."""
        files = [path for part in STAGES for path in sorted((self.out / part).glob("**/*"))]
        files += [self.out / "stats.json"]
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}


def until(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Poll until something is reached; the process must still be at work then."""
    deadline = monotonic() + DEADLINE_S
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


class Witness:
    """Sees every line that ever reached a journal, also after the journal's shard is published and it is deleted:
    a second name (hard link) is given to every journal before a process starts."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.names = folder.path / "journals"
        self.names.mkdir()

    def watch(self) -> None:
        for shard in range(SHARDS):
            name, journal = self.names / f"{shard:05}", self.folder.journal(shard)
            if name.exists() or self.folder.shard_done(shard):
                assert name.exists() or not self.folder.shard_done(shard), "a shard was finished unwatched"
                continue
            journal.parent.mkdir(exist_ok=True)
            journal.touch()
            os.link(journal, name)

    def keys(self) -> set[str]:
        """Keys of all requests whose reply stands in a whole line."""
        lines = [line for name in self.names.iterdir() for line in name.read_bytes().split(b"\n")[:-1]]
        return {orjson.loads(line)[0] for line in lines}

    def lines(self, shard: int) -> int:
        return (self.names / f"{shard:05}").read_bytes().count(b"\n")


def test_twenty_kills_change_nothing_and_cost_nothing(room: Path, uninterrupted: Folder) -> None:
    """Sixteen kills at moments counted in requests, the first at the first, the last near the end; four while a
    shard is being published, one in each step of it."""
    folder = new_folder(room, "killed")
    witness = Witness(folder)
    wanted = len(set(uninterrupted.log_lines()))
    rng = Random(7)
    moments = sorted(rng.sample(range(2, wanted - 40), KILLS_WHILE_ASKING - 2))
    plan: list[int | str] = [1, *moments, wanted - 20]
    for place, stage in zip((13, 10, 7, 4), STAGES, strict=True):
        plan.insert(place, stage)
    before = killed = 0
    answered: set[str] = set()
    published = set()

    def check_nothing_answered_was_asked() -> None:
        again = answered & set(folder.log_lines()[before:])
        assert not again, f"after {killed} kills {len(again)} requests with a journaled reply were asked again"

    for moment in plan:
        before = len(folder.log_lines())
        if isinstance(moment, int):
            _kill_at(folder, moment)
        else:
            _kill_while_publishing(folder, witness, uninterrupted, moment)
        killed += 1
        check_nothing_answered_was_asked()
        published.add(sum(folder.shard_done(shard) for shard in range(SHARDS)))
        witness.watch()
        if killed == len(plan) // 2:
            _cut_last_line(folder)
        answered = witness.keys()

    before = len(folder.log_lines())
    folder.finish()
    check_nothing_answered_was_asked()
    assert killed == 20
    assert min(published) == 0 < max(published) < SHARDS, "kills must land before and after shards were published"
    assert set(folder.log_lines()) == set(uninterrupted.log_lines())
    assert folder.result() == uninterrupted.result()
    assert not list(folder.out.glob("**/*.writing"))


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


def _kill_while_publishing(folder: Folder, witness: Witness, uninterrupted: Folder, stage: str) -> None:
    """Kill a process just before it writes a stage's file of an open shard. A pipe in the place of the file beside
    makes it wait there, since nobody reads from it."""
    has_file = [s for s in range(SHARDS) if list((uninterrupted.out / stage).glob(f"{s:05}.*"))]
    shard = next(s for s in has_file if not folder.shard_done(s))
    pipe = folder.out / stage / f".{shard:05}.{'json' if stage == 'shards' else 'parquet'}.writing"
    pipe.parent.mkdir(exist_ok=True)
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    usage = orjson.loads((uninterrupted.out / "shards" / f"{shard:05}.json").read_bytes())["usage"]
    replies = sum(spent["requests"] for spent in usage.values())
    earlier = [
        folder.out / part / f"{shard:05}.parquet"
        for part in STAGES[: STAGES.index(stage)]
        if (uninterrupted.out / part / f"{shard:05}.parquet").exists()
    ]
    process = folder.start(latency=0.002)
    stood = 0

    def stands_at_the_pipe() -> bool:
        nonlocal stood
        there = witness.lines(shard) == replies and all(path.exists() for path in earlier)
        stood = stood + 1 if there else 0
        return stood > POLLS_AT_THE_PIPE  # all before it is done, and has been for a while

    until(stands_at_the_pipe, process)
    kill(process)
    assert process.returncode == -signal.SIGKILL
    assert not folder.shard_done(shard)
    assert folder.journal(shard).exists(), "a journal must outlive its shard's publishing"
    pipe.unlink()


def test_a_kill_before_the_journal_is_deleted_leaves_no_journal(room: Path, uninterrupted: Folder) -> None:
    """Between the file that makes a shard done and the deletion of its journal lies a moment too short to hit."""
    folder = Folder(room / "between")
    shutil.copytree(uninterrupted.path, folder.path)
    (folder.out / "stats.json").unlink()
    folder.journal(2).write_bytes(b'["key","pairs","text","stop",1,1,0,[]]\n')
    before = len(folder.log_lines())
    folder.finish()
    assert len(folder.log_lines()) == before, "a finished run asked again"
    assert folder.result() == uninterrupted.result()
    assert list((folder.out / "journal").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_keeps_what_was_received_and_says_how_to_continue(
    room: Path, uninterrupted: Folder, number: signal.Signals
) -> None:
    folder = new_folder(room, number.name)
    witness = Witness(folder)

    # An engine that never answers: a second signal does not wait for the grace.
    process = folder.start(latency=600.0)
    until(lambda: _catches_sigterm(process.pid), process)
    begun = monotonic()
    process.send_signal(number)
    assert process.stderr is not None
    assert any("stopping" in line for line in iter(process.stderr.readline, ""))
    hurried = kill(process, number)
    assert process.returncode == 130, hurried
    assert monotonic() - begun < 4
    witness.watch()

    # An engine that answers soon: what is in flight is finished and kept.
    process = folder.start(latency=0.05)
    until(lambda: len(folder.log_lines()) >= 60, process)
    begun = monotonic()
    said = kill(process, number)
    assert process.returncode == 130, said
    assert monotonic() - begun < 4
    assert "stopping" in said
    assert not (folder.out / "stats.json").exists()
    answered, asked = witness.keys(), folder.log_lines()
    failed = orjson.loads((uninterrupted.out / "stats.json").read_bytes())["outcomes"]["failed"]
    assert len(set(asked) - answered) <= failed, "more than the refused requests were asked and not kept"

    folder.finish()
    assert not answered & set(folder.log_lines()[len(asked) :])
    assert folder.result() == uninterrupted.result()
    for message in (hurried, said):
        assert "Traceback" not in message
        assert message.strip().splitlines()[-1].startswith("mga: Stopped.")
        assert "run the same command again" in " ".join(message.split())


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


def _catches_sigterm(pid: int) -> bool:
    """Whether the process has its own answer to SIGTERM, which it has from when it lets documents in."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
