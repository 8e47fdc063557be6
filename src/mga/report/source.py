"""What a page is about: the folder of a run, or one that a command on whole corpora has written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mga.data.store import Place, exists
from mga.errors import InputError
from mga.expand.shard import ShardStats
from mga.runs.monitoring.session import SessionStats, all_sessions
from mga.runs.rows import stage_counts, stage_record
from mga.runs.run import Run


@dataclass(frozen=True, slots=True)
class Source:
    """One folder. `record` is its run.json or stage.json; a stage's `stats` are its outcomes and reasons alone."""

    name: str
    folder: Place
    record: Mapping[str, Any]
    stats: ShardStats
    sessions: SessionStats
    complete: bool

    @property
    def command(self) -> str:
        """Who has written it: expand, or the stage's command."""
        return str(self.record.get("command", "expand"))

    @property
    def is_run(self) -> bool:
        return self.command == "expand"

    @property
    def rows(self) -> int:
        """All outcomes."""
        return sum(self.stats.outcomes.values())

    @property
    def text_key(self) -> str:
        """The column of the texts."""
        return str(self.record["settings"].get("text_key", "text")) if not self.is_run else "text"


def sources_of(folders: Sequence[Place]) -> list[Source]:
    """The folders opened, under names that differ. Raises InputError for one that holds no run, or nothing done yet."""
    return [_source(folder, name) for folder, name in zip(folders, names_of(folders), strict=True)]


def _source(folder: Place, name: str) -> Source:
    stage = stage_record(folder)
    if stage is None:
        run = Run(folder)
        complete = exists(folder / "stats.json")
        source = Source(name, folder, run.whole().record(), run.stats(), all_sessions(folder), complete)
    else:
        source = Source(name, folder, stage, _stage_stats(folder, stage), SessionStats(), "counts" in stage)
    if not source.rows:
        raise InputError(f"{folder} has no finished shard yet; there is nothing to show.")
    return source


def _stage_stats(folder: Place, stage: Mapping[str, Any]) -> ShardStats:
    counts = stage_counts(folder, stage)
    outcomes = {"kept": counts["kept"], "dropped": counts["rows"] - counts["kept"]}
    if stage.get("failed"):
        outcomes["failed"] = stage["failed"]
    return ShardStats(outcomes=outcomes, reasons=counts["reasons"])


def names_of(folders: Sequence[Place]) -> list[str]:
    """The last parts of the paths, as many as tell them apart. Raises InputError for a path that is there twice."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("The same folder or file is named twice.")
    parts = [[part.encode("utf-8", "replace").decode() for part in folder.resolve().parts] for folder in folders]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(path[-depth:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
