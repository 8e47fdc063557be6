"""Whether a run's folder still holds what its finished shards have published. Every reader of runs asks this first."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mga.data.store import Place, listed, read_json
from mga.errors import InputError

STATUSES = ("kept", "dropped", "failed")
_AT_ONCE = 16


def check_published(folder: Place) -> None:
    """Raise InputError unless every finished shard of a run has its files, with as many rows as were published.

    On a disk the end of each Parquet file is read, which a truncated one lacks. In an object store, where no file is
    ever half there, one listing of each folder shows whether all are. A folder that holds no run passes.
    """
    shards = listed(folder / "shards", "[!.]*.json")
    if isinstance(folder, Path):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            checked = pool.map(lambda path: list(faults(folder, int(path.stem), read_json(path))), shards)
            _refuse([fault for found in checked for fault in found])
        return
    if not shards:
        return
    present = {status: {path.name for path in listed(folder / status, "*.parquet")} for status in STATUSES}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        published = dict(zip((path.stem for path in shards), pool.map(read_json, shards), strict=True))
    _refuse(
        [
            f"{folder / status / name}.parquet is missing"
            for name, shard in published.items()
            for status in STATUSES
            if shard["outcomes"].get(status) and f"{name}.parquet" not in present[status]
        ]
    )


def check_shards(folder: Place, shards: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
    """The same for some finished shards, given with what their files in shards/ say; in a store nothing is asked."""
    if isinstance(folder, Path):
        _refuse([fault for number, shard in shards for fault in faults(folder, number, shard)])


def faults(folder: Path, number: int, shard: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the files of a finished shard, one sentence each."""
    for status in STATUSES:
        if expected := shard["outcomes"].get(status, 0):
            file = folder / status / f"{number:05}.parquet"
            try:
                rows = pq.read_metadata(file).num_rows
            except FileNotFoundError:
                yield f"{file} is missing"
            except (OSError, pa.ArrowException):
                yield f"{file} cannot be read (it is truncated or damaged)"
            else:
                if rows != expected:
                    yield f"{file} holds {rows:,} rows instead of {expected:,}"


def _refuse(found: list[str]) -> None:
    if found:
        more = f" (and {len(found) - 1:,} more files)" if len(found) > 1 else ""
        raise InputError(
            f"{found[0]}{more}, although its shard is finished. Restore it from a copy; or delete the shard's file in "
            "shards/ and give the mga expand command again, which asks for that shard anew."
        )
