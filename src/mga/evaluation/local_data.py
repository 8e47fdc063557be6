"""Datasets of benchmarks on this disk instead of the hub.

FOLDER/OWNER/NAME/     a copy of the hub's repository: hf download OWNER/NAME --repo-type dataset --local-dir …
FOLDER/OWNER/NAME/CONFIG/test.jsonl   or its splits as Parquet or JSON Lines, in a folder for each configuration
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mga.errors import InputError

SPLITS = ("train", "auxiliary_train", "validation", "dev", "test")
KINDS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}


def local(folder: Path, path: str, name: str | None) -> dict[str, Any] | None:
    """What to change in a task's configuration so that its dataset comes from a folder; None if it is not there."""
    places = [place for place in (folder / path, folder / path.rpartition("/")[2]) if place.is_dir()]
    if not places:
        return None
    card = places[0] / "README.md"
    if card.is_file() and "configs:" in card.read_text(encoding="utf-8", errors="replace"):
        return {"dataset_path": str(places[0])}
    within = places[0] / name if name and (places[0] / name).is_dir() else places[0]
    files = {split: found for split in SPLITS if (found := _files(within, split))}
    if not files:
        return None
    kind = KINDS[Path(next(iter(files.values()))[0]).suffix]
    return {"dataset_path": kind, "dataset_name": None, "dataset_kwargs": {"data_files": files}}


def _files(folder: Path, split: str) -> list[str]:
    found = [path for path in sorted(folder.rglob(f"{split}*")) if path.suffix in KINDS]
    return [str(path) for path in found if path.name.removeprefix(split)[:1] in (".", "-", "_")]


def missing(datasets: Mapping[str, list[str]], folder: Path | None) -> InputError:
    """The sentence about datasets that are not there: path → the tasks that need it."""
    first = next(iter(datasets))
    tasks = ", ".join(sorted({task for needed in datasets.values() for task in needed})[:6])
    more = f" and {len(datasets) - 1} other datasets are" if len(datasets) > 1 else " is"
    where = f"not in {folder}" if folder else "on the hub, which this machine is not to ask (HF_HUB_OFFLINE)"
    return InputError(
        f"{first}{more} {where} (for {tasks}); where the hub can be reached: "
        f"hf download {first} --repo-type dataset --local-dir FOLDER/{first}, then --data FOLDER."
    )
