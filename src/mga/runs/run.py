"""The run folder: what was asked, what is done, what is open. Everything in it can be read with common tools.

run.json    settings, versions, prompts word for word, model, seed, fingerprint and rows of the input
settings.json             for workers on other machines: the command that began the run
kept/ dropped/ failed/    outcomes, one Parquet file per shard
shards/     one file per finished shard with its figures, written last: it makes the shard done
open/       what is being published
claims/ workers/          who works on what (claims.py)
journal/    replies received for shards that are not done
sessions/   a file for each process that worked on the run: how long, how fast, with which engines
logs/       of each of these processes, and of servers that the run has started itself
stats.json, README.md     totals and dataset card, written when the run is complete

Publishing survives death and doubt. A worker puts its files into open/, each under its own name, and then creates
`open/SHARD.won`, which only one can create; whoever comes by moves the winner's files to their places, the file in
shards/ last. A worker that comes too late finds the shard done, or won, and deletes its files.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, reduce
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

import orjson

from mga.config import ExpandConfig, differences, load_settings
from mga.data.first_version import read_record
from mga.data.outcomes import DROPPED_SCHEMA, KEPT_SCHEMA, outcome_row, write_rows
from mga.data.published import check_published
from mga.data.store import (
    Place,
    as_json,
    create,
    delete,
    exists,
    listed,
    move,
    place,
    read,
    read_json,
    sweep,
    write_atomically,
    write_json,
)
from mga.errors import InputError, StopError
from mga.expand.recipe import Recipe
from mga.expand.shard import Cut, ShardStats
from mga.records import Outcome, content_id
from mga.runs.card import run_card
from mga.runs.claims import Claims
from mga.runs.journals import clear, has_replies
from mga.runs.monitoring.session import SESSIONS

LOGS = "logs"
CONTINUE = "run the same command again to continue"
LOOK_AGAIN_S = 0.1
_READ_AT_ONCE = 16
_OUTCOMES = ("kept", "dropped", "failed")
_SUPPORTING = ("claims", "workers", "open")


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a run this run. Only a run with an equal identity is continued."""

    settings: Mapping[str, Any]
    input: str
    model: str
    judge_model: str
    prompts: Mapping[str, str]

    @property
    def id(self) -> str:
        return content_id(sorted(flat(asdict(self)).items()))[:12]


class Run:
    """A run folder, opened for work or for looking. Any number of processes may work on it."""

    def __init__(self, folder: str | Path | Place) -> None:
        self.folder: Place = place(folder) if isinstance(folder, str | Path) else folder
        self.id = ""
        self.model = ""
        self.prompt = ""
        self.rows: Sequence[int] = ()  # of each file of the input
        self.cut = Cut(0, 1)

    def begin(
        self,
        config: ExpandConfig,
        recipe: Recipe,
        identity: Identity,
        count: Callable[[], list[int]],
        claims: Claims,
    ) -> None:
        """Create the run or continue it; `count` is called when the input's rows are not known yet. `claims` have
        begun with the id of this identity.

        Raises InputError when the folder belongs to something else or to a run with other settings: one that has
        begun, or that somebody works on.
        """
        self.id, self.model, self.prompt = identity.id, identity.model, identity.prompts["reformulate"]

        @cache
        def record() -> bytes:
            rows = count()
            return as_json(
                {
                    "run": self.id,
                    "created": datetime.now(UTC).isoformat(timespec="seconds"),
                    "config": config.public(),
                    "identity": asdict(identity),
                    "prompt_texts": recipe.prompt_texts,
                    "rows": sum(rows),
                    "rows_of_files": rows,
                    "context_tokens": recipe.context,
                    "versions": _versions(),
                }
            )

        is_new = False
        while (found := self._found()) is None or found["run"] != self.id or claims.is_run_taken():
            if found is None:
                is_new = create(self.folder / "run.json", record())
            elif found["run"] == self.id or not claims.take_run():
                time.sleep(LOOK_AGAIN_S)
            else:
                try:
                    self._make_way(identity, claims)
                    create(self.folder / "run.json", record())
                finally:
                    claims.give_run_back()
        if not is_new:
            check_published(self.folder)
        self.rows = found["rows_of_files"]
        self.cut = Cut(sum(self.rows), config.shard_size)
        self._clear_up()

    def _make_way(self, identity: Identity, claims: Claims) -> None:
        """Remove a run with other settings that has not begun. Raises InputError for any other."""
        found = self._found()
        if found is None or found["run"] == self.id:
            return
        if self._has_begun() or claims.works_on(found["run"]):
            self._refuse_others(found, identity)
        for problems_alone in listed(self.folder / "shards", "[!.]*.json"):
            delete(problems_alone)
        delete(self.folder / "run.json")

    def _found(self) -> dict[str, Any] | None:
        """What run.json says now, if there is one. Raises InputError when it is not of mga."""
        try:
            found = orjson.loads(read(self.folder / "run.json"))
        except FileNotFoundError:
            return None
        except (OSError, orjson.JSONDecodeError) as error:
            raise InputError(f"Cannot read {self.folder / 'run.json'}: {error}.") from error
        if "identity" not in found:
            raise InputError(f"{self.folder} holds a run.json that is not of mga; choose another --out.")
        return dict(found)

    def prepare(self) -> None:
        """Make the folder. Raises InputError when it cannot be written, or holds something else."""
        if isinstance(self.folder, Path):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                what = f"{error.strerror}; choose another --out"
                raise InputError(f"Cannot write in {self.folder}: {what}.") from error
        if self._found() is None:
            self._refuse_what_is_no_run()

    def submit(self, config: ExpandConfig) -> str:
        """Leave the settings for workers that begin later, elsewhere, with the folder that relative paths in them start
        from; returns their id, which such a worker hands to `join`.

        Raises InputError when these could not do the same: the run has other settings and has begun, or is worked on,
        or an address holds a password, which is written into no file.
        """
        self.prepare()
        refuse_secrets(config)
        settings = config.public()
        path = self.folder / "settings.json"
        submitted = {"directory": str(Path.cwd()), "settings": settings}
        if not create(path, as_json(submitted)):
            changed = differences(read_json(path)["settings"], settings)
            if changed and (self._has_begun() or self._is_worked_on()):
                raise InputError(f"{self.folder} was begun with other settings: {'; '.join(changed)}.")
            write_json(path, submitted)
        return content_id(as_json(submitted))

    def join(self, submitted_id: str | None = None) -> ExpandConfig:
        """The settings that `submit` left; this process goes to the folder that relative paths in them start from.

        Raises InputError when there are none, when others have been left since (`submitted_id` are those this worker
        was started for), or when there is no such folder here.
        """
        path = self.folder / "settings.json"
        if not exists(path):
            raise InputError(f"{self.folder} holds no settings.json; begin the run with mga expand --on … first.")
        submitted = read_json(path)
        if submitted_id is not None and content_id(as_json(submitted)) != submitted_id:
            raise InputError(
                f"{self.folder} has been given other settings since this worker was started for it: "
                f"{path} says which. Give the command that started it again, with another --out."
            )
        if isinstance(self.folder, Path):
            self.folder = self.folder.absolute()
        try:
            os.chdir(submitted["directory"])
        except OSError as error:
            where = f"the folder that the run was begun in ({submitted['directory']})"
            raise InputError(f"Cannot go to {where}: {error.strerror}. Every worker must see it.") from error
        return load_settings(submitted["settings"], str(path))

    def record(self) -> dict[str, Any]:
        """What run.json says. Raises InputError when the folder holds no run."""
        path = self.folder / "run.json"
        if not exists(path):
            raise no_run(self.folder)
        record: dict[str, Any] = read_json(path)
        if "identity" not in record:
            raise InputError(f"{self.folder} holds a run.json that is not of mga.")
        return record

    def whole(self) -> "Run":
        """This run, for readers of what it has published. Raises InputError when any of it is missing or truncated."""
        self.record()
        check_published(self.folder)
        return self

    def done(self) -> frozenset[int]:
        """Numbers of the finished shards; one listing."""
        return frozenset(int(path.stem) for path in listed(self.folder / "shards", "[!.]*.json"))

    def is_done(self, shard: int) -> bool:
        """Whether a shard is finished."""
        return exists(self.folder / "shards" / f"{shard:05}.json")

    def stats(self) -> ShardStats:
        """The figures of all finished shards together."""
        with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
            return reduce(ShardStats.__add__, pool.map(self.stats_of, sorted(self.done())), ShardStats())

    def stats_of(self, shard: int) -> ShardStats:
        """The figures of a finished shard."""
        return ShardStats.model_validate(read_record(self.folder / "shards" / f"{shard:05}.json"))

    def publish(self, shard: int, worker: str, outcomes: Sequence[Outcome], stats: ShardStats) -> bool:
        """Write a shard's outcomes and figures; False when another worker has published it."""
        opened, won = self.folder / "open", self._won(shard)
        parts = []
        for status in _OUTCOMES:
            rows = [outcome_row(o, self.model, self.prompt, self.id) for o in outcomes if o.status == status]
            if rows:
                schema = KEPT_SCHEMA if status == "kept" else DROPPED_SCHEMA
                write_rows(opened / f"{shard:05}.{worker}.{status}.parquet", rows, schema)
                parts.append(status)
        write_json(opened / f"{shard:05}.{worker}.shards.json", stats.model_dump(mode="json"))
        mine = create(won, as_json({"worker": worker, "parts": parts, "run": self.id}))
        if (found := self._found()) is None or found["run"] != self.id:
            if mine:
                delete(won)
            self._withdraw(shard, worker, parts)
            raise StopError(
                f"{self.folder} no longer holds the run that this worker works on; nothing was added to it."
            )
        if mine and not self.is_done(shard):
            self._give_names(shard, worker, parts)
            return True
        if mine:  # it was published and cleared up before: this worker was taken for dead long ago
            delete(won)
        self._withdraw(shard, worker, parts)
        self._settle(shard)
        return False

    def _withdraw(self, shard: int, worker: str, parts: Sequence[str]) -> None:
        """Delete what a worker has put into open/ and not published."""
        for part in parts:
            delete(self.folder / "open" / f"{shard:05}.{worker}.{part}.parquet")
        delete(self.folder / "open" / f"{shard:05}.{worker}.shards.json")

    def is_complete(self) -> bool:
        """Whether every shard is done."""
        record = self.record()
        return len(self.done()) == len(Cut(record["rows"], record["config"]["shard_size"]))

    def complete(self) -> ShardStats:
        """Write stats.json and the dataset card, once every shard is done; returns the totals."""
        stats = self.stats()
        record = self.record()
        if not stats.documents:
            first = f"{stats.problems[0]}" if stats.problems else "It has no rows"
            raise InputError(f"The input holds no document. {first}.")
        pairs = record["config"]["pairs"]
        if stats.chunks * pairs != sum(stats.outcomes.values()):
            raise StopError(f"The counts in {self.folder} do not add up; please report this with its run.json.")
        write_json(self.folder / "stats.json", {**stats.model_dump(mode="json"), "judging": stats.judging.as_values()})
        write_atomically(self.folder / "README.md", run_card(record, stats).encode())
        return stats

    def leave(self) -> None:
        """Delete what only the work on a run needed, which is complete, and what was half written when a process was
        killed. Late workers find every shard done."""
        clear(self.folder, self.done())
        if isinstance(self.folder, Path):
            for folder in (
                self.folder,
                self.folder / SESSIONS,
                self.folder / "shards",
                *map(self.folder.joinpath, _OUTCOMES),
            ):
                sweep(folder)
        for name in _SUPPORTING:
            for path in listed(self.folder / name, "*"):
                delete(path)
            if isinstance(self.folder, Path):
                with suppress(OSError):
                    (self.folder / name).rmdir()

    def _clear_up(self) -> None:
        """What a kill has left half done: shards that are won and not settled, journals of shards that are done."""
        for won in listed(self.folder / "open", "[!.]*.won"):
            self._settle(int(won.stem))
        clear(self.folder, self.done())

    def _settle(self, shard: int) -> None:
        """Finish what a winner has left; nothing when nobody has won."""
        won = self._won(shard)
        try:
            found = orjson.loads(read(won))
        except FileNotFoundError:
            return
        if self.is_done(shard):
            delete(won)
        elif found.get("run", self.id) != self.id:  # left by a worker of a run that was here before
            self._withdraw(shard, found["worker"], found["parts"])
            delete(won)
        else:
            self._give_names(shard, found["worker"], found["parts"])

    def _give_names(self, shard: int, worker: str, parts: Sequence[str]) -> None:
        """Move the winner's files to their places, the one that makes the shard done last."""
        opened = self.folder / "open"
        for part in parts:
            move(opened / f"{shard:05}.{worker}.{part}.parquet", self.folder / part / f"{shard:05}.parquet")
        move(opened / f"{shard:05}.{worker}.shards.json", self.folder / "shards" / f"{shard:05}.json")
        delete(self._won(shard))

    def _won(self, shard: int) -> Place:
        return self.folder / "open" / f"{shard:05}.won"

    def _has_begun(self) -> bool:
        """Whether anything was asked or expanded. Before that, other settings cost nothing."""
        return has_replies(self.folder) or self.stats().documents > 0

    def _refuse_what_is_no_run(self) -> None:
        """Raise InputError when the folder holds anything but what a run has before it begins."""
        if isinstance(self.folder, Path):
            ours = {LOGS, "settings.json", "claims", "workers"}
            others = [
                p.name for p in self.folder.iterdir() if not p.name.startswith((".", "slurm")) and p.name not in ours
            ]
            if others:
                raise InputError(f"{self.folder} is not empty and no run ({min(others)}, …); choose another --out.")

    def _is_worked_on(self) -> bool:
        found = self._found()
        return found is not None and Claims(self.folder).works_on(found["run"])

    def _refuse_others(self, record: Mapping[str, Any], identity: Identity) -> NoReturn:
        """Raise InputError, which names what is different."""
        old, new = record["identity"], asdict(identity)
        changed = differences(old["settings"], new["settings"])
        changed += differences({k: old[k] for k in old if k != "settings"}, {k: new[k] for k in new if k != "settings"})
        raise InputError(
            f"{self.folder} holds a run with other settings: {'; '.join(changed)}. "
            "Use the settings it was begun with, or another --out."
        )


def refuse_secrets(config: ExpandConfig) -> None:
    """Raise InputError when settings hold what may be a password, which workers elsewhere would need."""
    for name in ("engine", "judge_engine", "input", "headers"):
        if config.public()[name] != config.model_dump(mode="json")[name]:
            raise InputError(
                f"The {name.replace('_', '-')} has what may be a password or key (in its address, in "
                "args of its command, or as a value), which workers elsewhere would need and no file may hold. Keys go "
                'into MGA_API_KEY, values of headers into variables: X-Name = "$VARIABLE".'
            )


def no_run(folder: Place) -> InputError:
    """Why there is nothing to see in a folder without a run.json."""
    if exists(folder / "settings.json"):
        return InputError(f"No worker has begun the run in {folder} yet; its job may still be in the queue.")
    return InputError(f"{folder} holds no run (there is no run.json in it).")


def _versions() -> dict[str, str]:
    """Of Python, mga, and the libraries that results could depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in ("mga", "json-repair", "orjson", "pyarrow", "regex", "xllamacpp"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and values."""
    found: dict[str, str] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            found |= flat(inner, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = repr(inner)
    return found
