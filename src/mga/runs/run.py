"""The run folder: what was asked, what is done, what is open. Everything in it can be read with common tools.

run.json    settings, versions, prompts, model, seed, fingerprint of the input
kept/ dropped/ failed/    outcomes, one Parquet file per shard
shards/     one file per finished shard with its figures, written last: it makes the shard done
journal/    replies received for shards that are not done
sessions/   a file for each process that worked on the run: how long, how fast, with which engines
logs/       of servers that the run has started itself
stats.json, README.md     totals and dataset card, written when the run is complete
"""

import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import reduce
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mga.config import ExpandConfig, differences
from mga.engines.journal import Journal
from mga.errors import InputError, StopError
from mga.expand.recipe import Recipe
from mga.expand.shard import ShardStats
from mga.records import Outcome, content_id
from mga.runs.card import run_card
from mga.store import (
    DROPPED_SCHEMA,
    KEPT_SCHEMA,
    outcome_row,
    read_json,
    write_atomically,
    write_json,
    write_rows,
)

LOGS = "logs"
CONTINUE = "run the same command again to continue"


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
    """A run folder, opened for work (one process at a time) or for looking."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = ""
        self.model = ""
        self.prompt = ""
        self._lock = FileLock(folder / ".lock")

    def begin(self, config: ExpandConfig, recipe: Recipe, identity: Identity, rows: int | None) -> None:
        """Create the folder or continue in it. Raises InputError when it belongs to another run or is in use."""
        self.id, self.model, self.prompt = identity.id, identity.model, identity.prompts["reformulate"]
        record = self.folder / "run.json"
        if record.exists() and "identity" not in read_json(record):
            raise InputError(f"{self.folder} holds a run.json that is not of mga; choose another --out.")
        others = [p.name for p in self.folder.iterdir() if not p.name.startswith(".") and p.name != LOGS]
        if record.exists() and self._has_begun():
            self._check_same(read_json(record), identity)
            for shard in self.done():  # a kill may have come before publishing deleted it
                self.journal(shard).remove()
            return
        if record.exists():
            for problems_alone in (self.folder / "shards").glob("*.json"):
                problems_alone.unlink()
        elif others:
            raise InputError(f"{self.folder} is not empty and no run ({min(others)}, …); choose another --out.")
        write_json(
            record,
            {
                "run": self.id,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "config": config.public(),
                "identity": asdict(identity),
                "rows": rows,
                "context_tokens": recipe.context,
                "versions": _versions(),
            },
        )

    def _has_begun(self) -> bool:
        """Whether anything was asked or expanded. Before that, other settings cost nothing."""
        journals = (self.folder / "journal").glob("*.jsonl")
        return any(path.stat().st_size for path in journals) or self.stats().documents > 0

    def lock(self) -> None:
        """Take the folder for this process. Raises InputError when it cannot be written or is taken."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"Another mga process is working in {self.folder}; wait for it or stop it.") from None
        except OSError as error:
            raise InputError(f"Cannot write in {self.folder}: {error.strerror}; choose another --out.") from error

    def release(self) -> None:
        """Give the folder back."""
        self._lock.release()

    def record(self) -> dict[str, Any]:
        """What run.json says. Raises InputError when the folder holds no run."""
        path = self.folder / "run.json"
        if not path.is_file():
            raise InputError(f"{self.folder} holds no run (there is no run.json in it).")
        record: dict[str, Any] = read_json(path)
        if "identity" not in record:
            raise InputError(f"{self.folder} holds a run.json that is not of mga.")
        return record

    def done(self) -> frozenset[int]:
        """Numbers of the finished shards."""
        return frozenset(int(path.stem) for path in (self.folder / "shards").glob("*.json"))

    def stats(self) -> ShardStats:
        """The figures of all finished shards together."""
        paths = sorted((self.folder / "shards").glob("*.json"))
        return reduce(ShardStats.__add__, (ShardStats.model_validate(read_json(p)) for p in paths), ShardStats())

    def journal(self, shard: int) -> Journal:
        """The journal of an open shard, with all that was received for it before."""
        return Journal(self.folder / "journal" / f"{shard:05}.jsonl")

    def open_journals(self) -> list[Journal]:
        """Journals of shards that were begun and are not done."""
        return [Journal(path) for path in sorted((self.folder / "journal").glob("*.jsonl"))]

    def publish(self, shard: int, outcomes: Sequence[Outcome], stats: ShardStats, journal: Journal) -> None:
        """Write a shard's outcomes, then the file that makes it done, then drop its journal."""
        for status in ("kept", "dropped", "failed"):
            rows = [outcome_row(o, self.model, self.prompt, self.id) for o in outcomes if o.status == status]
            schema = KEPT_SCHEMA if status == "kept" else DROPPED_SCHEMA
            write_rows(self.folder / status / f"{shard:05}.parquet", rows, schema)
        full = stats.model_copy(update={"usage": journal.usage})
        write_json(self.folder / "shards" / f"{shard:05}.json", full.model_dump(mode="json"))
        journal.remove()

    def complete(self) -> ShardStats:
        """Write stats.json and the dataset card, once every shard is done; returns the totals."""
        stats = self.stats()
        record = self.record()
        pairs = record["config"]["pairs"]
        if stats.chunks * pairs != sum(stats.outcomes.values()):
            raise StopError(f"The counts in {self.folder} do not add up; please report this with its run.json.")
        write_json(self.folder / "stats.json", stats.model_dump(mode="json"))
        write_atomically(self.folder / "README.md", run_card(record, stats).encode())
        return stats

    def _check_same(self, record: Mapping[str, Any], identity: Identity) -> None:
        old, new = record["identity"], asdict(identity)
        changed = differences(old["settings"], new["settings"])
        changed += differences({k: old[k] for k in old if k != "settings"}, {k: new[k] for k in new if k != "settings"})
        if changed:
            raise InputError(
                f"{self.folder} holds a run with other settings: {'; '.join(changed)}. "
                "Use the settings it was begun with, or another --out."
            )


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
