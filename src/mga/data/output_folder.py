"""A folder that a command writes, and goes on in where it was stopped: who has it, what made it, whether it is done.

Each kind of folder has one record, a JSON file: `kind` and `version`; the identity, which is everything that decides
the result; what is good to know about it; and, once all is done, the results. A `.lock` beside it is held by the
process that works there. A command that leaves such a folder needs a `FolderKind` here and one `with`:

    with open_output(out, LOSSES, {"settings": settings}, {"versions": versions}) as folder:
        if not folder.is_complete:
            ...  # parts that exist whole or not at all; those that are there are not made again
            folder.finish({"counts": counts})
        return folder.record
"""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from mga.config import differences
from mga.data.first_version import read_record
from mga.data.store import Place, listed, read_json, write_json
from mga.errors import InputError, StopError

SHOWN = 3
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True, slots=True)
class FolderKind:
    """A kind of folder: the file of its record, what it is to people, the command that writes it, and the field of the
    record that is there once all is done. `version` changes when an older version could not go on in the folder."""

    record: str
    what: str
    command: str
    result: str
    version: int = 1

    @property
    def name(self) -> str:
        """What the record says under `kind`."""
        return self.record.removesuffix(".json")


RUN = FolderKind("run.json", "a run", "mga expand", "")
STAGE = FolderKind("stage.json", "a curated corpus", "mga clean, dedup or decontaminate", "counts")
PACK = FolderKind("pack.json", "packed data", "mga budget pack", "counts")
PRETRAINING = FolderKind("pretrain.json", "a pretraining", "mga pretrain", "totals")
EVALUATION = FolderKind("evaluation.json", "an evaluation", "mga evaluate", "results")
STUDY = FolderKind("study.json", "a study", "mga study", "reading")
LOSSES = FolderKind("losses.json", "losses of tokens", "mga losses", "counts")
SAMPLES = FolderKind("sample.json", "samples of a model", "mga sample", "texts")
GENERATIONS = FolderKind("generations.json", "generations of models", "mga collapse-generations", "detectors")
PROMPT_COMPARISON = FolderKind("prompt-comparison.json", "a prompt comparison", "mga compare-prompts", "complete")
EXAMPLES = FolderKind("examples.json", "training examples", "mga tool examples", "counts")
TOOL = FolderKind("tool.json", "a tool model", "mga tool train", "after")
COMPARISON = FolderKind("compare.json", "a comparison of tool models", "mga tool compare", "complete")
ROUNDS = FolderKind("rounds.json", "rounds of training", "mga tool rounds", "ended")
QUANTIZATION = FolderKind("quantization.json", "a quantized model", "mga tool quantize", "result")

CORPORA = (RUN, STAGE)
MODELS = (PACK, PRETRAINING, EVALUATION, STUDY, LOSSES, SAMPLES, GENERATIONS, PROMPT_COMPARISON)
TOOLS = (EXAMPLES, TOOL, COMPARISON, ROUNDS, QUANTIZATION)
KINDS: tuple[FolderKind, ...] = CORPORA + MODELS + TOOLS
"""All kinds of folders that commands write; those of runs are taken and recorded by `mga.runs.run`."""


class OutputFolder:
    """A folder that this process has, with its record."""

    def __init__(self, path: Path, kind: FolderKind, record: dict[str, Any], first: bool = True) -> None:
        self.path = path
        self.record = record
        self._kind = kind
        self._first = first

    @property
    def is_complete(self) -> bool:
        """Whether everything was done before."""
        return self.record.get(self._kind.result) is not None

    def update(self, figures: Mapping[str, Any]) -> None:
        """Put figures into the record; of several processes the first writes it."""
        self.record |= figures
        if self._first:
            write_json(self.path / self._kind.record, self.record)

    def finish(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Write the results, after everything else: the folder is done. Returns the record."""
        self.update({self._kind.result: True, **figures})
        return self.record


@contextmanager
def open_output(
    path: Path,
    kind: FolderKind,
    identity: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
    *,
    may_change: Sequence[str] = (),
    may_replace: Callable[[Mapping[str, Any]], bool] = lambda old: False,
    wait_s: float = 0,
    first: bool = True,
    meet: Callable[[], None] = lambda: None,
) -> Iterator[OutputFolder]:
    """Take a folder for this process alone, new or begun with the same identity.

    `identity` is what decides the result, as JSON values; `about` goes into a new record beside it. Settings in
    `may_change` (dotted names) may differ from those of before, and all may where `may_replace` says so of the old
    record: the record begins anew then, without its results.
    Another process is waited for `wait_s` seconds. Of processes that work together, `first` takes the folder and
    writes the record, after all have come to `meet`. When the work ends in an InputError before anything was written,
    the folder is free again for better settings.

    Raises InputError when the folder is in use, holds something else, or was made otherwise; StopError when it cannot
    be written to.
    """
    identity = orjson.loads(orjson.dumps(identity))
    lock = exclusive(path, wait_s) if first else None
    try:
        old = _existing(path, kind)
        if old is not None and _is_same(path, kind, old, identity, may_change, may_replace):
            yield OutputFolder(path, kind, old, first)
            return
        folder = OutputFolder(
            path, kind, {"kind": kind.name, "version": kind.version, **identity, **(about or {})}, first
        )
        meet()
        folder.update({})
        try:
            yield folder
        except InputError:
            if first and old is None and {file.name for file in path.iterdir()} <= {kind.record, ".lock"}:
                (path / kind.record).unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.errno not in _NO_ROOM and not str(error.filename or "").startswith(str(path)):
            raise
        raise StopError(f"Cannot work in {path}: {error.strerror}. Make room or rights, then run again.") from error
    finally:
        if lock:
            lock.release()


def check_output(path: Path, kind: FolderKind) -> None:
    """Raise InputError for a folder that `open_output` would refuse whatever the settings: to be asked before anything
    is computed. Makes nothing."""
    if path.is_dir():
        if (path / ".lock").exists():
            exclusive(path).release()
        _existing(path, kind)
    elif path.exists() or path.is_symlink():
        raise InputError(f"Cannot write in {path}: it is a file, not a directory; choose another --out.")


def exclusive(folder: Path, wait_s: float = 0) -> FileLock:
    """Make a folder and take it for this process alone, until the lock is released. Raises InputError when another
    process has it (after waiting so many seconds), or it cannot be written."""
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise InputError(f"Another mga process is working in {folder}; wait for it or stop it.") from None
    except OSError as error:
        raise InputError(f"Cannot write in {folder}: {error.strerror}; choose another --out.") from error
    return lock


def kind_of(folder: Place) -> FolderKind | None:
    """What a folder is, by the record in it; None for anything that no command of mga has written."""
    names = {file.name for file in listed(folder, "*.json")}
    for kind in KINDS:
        if kind.record in names:
            with suppress(InputError):
                record = read_json(folder / kind.record)
                if isinstance(record, dict) and (record.get("kind") == kind.name or (kind is RUN and "run" in record)):
                    return kind
    return None


def _existing(path: Path, kind: FolderKind) -> dict[str, Any] | None:
    """The record of a folder of this kind that was begun, None of an empty one. Raises InputError for anything else."""
    file = path / kind.record
    if file.exists():
        record = read_record(file)
        if not isinstance(record, dict) or record.get("kind", kind.name) != kind.name:
            raise InputError(f"{file} is not of {kind.command}; choose another --out.")
        if (version := record.get("version", kind.version)) != kind.version:
            raise InputError(
                f"{path} has version {version} of such folders, and this mga writes version {kind.version}; go on with "
                "the mga that began it, or choose another --out."
            )
        return record
    if not path.is_dir():
        return None
    if (other := kind_of(path)) is not None:
        raise InputError(f"{path} holds {other.what} ({other.command}); choose another --out.")
    if others := _others(path, kind):
        raise InputError(f"{path} is not empty ({', '.join(others[:SHOWN])}, …); choose another --out.")
    return None


def _others(path: Path, kind: FolderKind) -> list[str]:
    """What lies in a folder beside the record; hidden files are left out."""
    return sorted(file.name for file in path.iterdir() if not file.name.startswith(".") and file.name != kind.record)


def _is_same(
    path: Path,
    kind: FolderKind,
    old: Mapping[str, Any],
    identity: Mapping[str, Any],
    may_change: Sequence[str],
    may_replace: Callable[[Mapping[str, Any]], bool],
) -> bool:
    """Whether a record has this identity, to the letter. Raises InputError when more differs than may."""
    changed = differences({name: old.get(name) for name in identity}, identity)
    wrong = [one for one in changed if one.partition(" (")[0] not in may_change]
    if wrong and not may_replace(old):
        said = "; ".join(wrong)
        raise InputError(
            f"{path} was made otherwise: {said}. Use the settings it was begun with, or choose another --out."
        )
    return not changed
