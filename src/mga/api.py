"""What a notebook or a pipeline calls: the functions behind the command line, typed.

    from mga import api

    run = api.expand("corpus/*.parquet", out="run", engine="http://host:8000/v1#model", pairs=5)
    run.table()                                         # kept texts, an Arrow table
    api.preview([{"text": "…"}], n=1, engine="scripted:")     # a few documents, nothing left on the disk

Other keywords are settings of `mga expand`, its sections as dicts: `cleaning={"min_words": 9}`. What users can mend
is raised as `mga.errors.InputError`; after a `StopError` the run can be continued. Nothing is printed unless
`quiet=False`.
"""

import asyncio
import tempfile
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from mga.config import load_config
from mga.errors import InputError
from mga.packages import require

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mga.expand.shard import ShardStats

    Rows: TypeAlias = Iterable[Mapping[str, Any]] | pa.Table | pa.RecordBatchReader
    """Documents in memory: dicts, an Arrow table or reader, a `datasets.Dataset` (an iterable of dicts)."""

Status = Literal["kept", "dropped", "failed"]
STATUSES: tuple[Status, ...] = ("kept", "dropped", "failed")
Result = TypeVar("Result")


class ExpandedRun:
    """The folder of a run, finished or not, and its rows as tables. Opening reads the run's record and no rows."""

    def __init__(self, folder: str | Path) -> None:
        from mga.runs.run import Run

        self._run = Run(folder)
        self.record: dict[str, Any] = self._run.record()
        """What `run.json` says: settings, model, prompts word for word, versions, rows of the input."""

    @property
    def folder(self) -> str:
        """The folder as it was given: a path or a URL."""
        return str(self._run.folder)

    @property
    def stats(self) -> "ShardStats":
        """Counts of all finished shards: documents, outcomes, reasons, scores, tokens."""
        return self._run.stats()

    @property
    def complete(self) -> bool:
        """Whether every shard is done."""
        return self._run.is_complete()

    def table(self, status: Status = "kept", columns: Sequence[str] | None = None) -> "pa.Table":
        """All rows of one status in input order, or some of their columns. Columns: docs/architecture.md, "The run
        folder". Raises InputError when a finished shard's file is missing or damaged."""
        import pyarrow as pa

        from mga.data.outcomes import DROPPED_SCHEMA, KEPT_SCHEMA, read_rows

        schema = KEPT_SCHEMA if status == "kept" else DROPPED_SCHEMA
        wanted = list(schema.names if columns is None else columns)
        if unknown := [name for name in wanted if name not in schema.names]:
            raise InputError(f"There is no column {unknown[0]!r}; there are: {', '.join(schema.names)}.")
        self._run.whole()
        rows = list(read_rows(self._run.folder / status, wanted))
        return pa.Table.from_pylist(rows, pa.schema([schema.field(name) for name in wanted]))

    def to_pandas(self, status: Status = "kept", columns: Sequence[str] | None = None) -> "pd.DataFrame":
        """The same as a pandas DataFrame. Needs `pip install 'mga[notebook]'`."""
        require("to_pandas", "notebook", "pandas")
        return self.table(status, columns).to_pandas()

    def to_dataset(self, status: Status = "kept", columns: Sequence[str] | None = None) -> Any:
        """The same as a `datasets.Dataset`. Needs `pip install 'mga[notebook]'`."""
        require("to_dataset", "notebook", "datasets")
        from datasets import Dataset

        return Dataset(self.table(status, columns))

    def __repr__(self) -> str:
        state = "complete" if self.complete else "not complete"
        return f"ExpandedRun({self.folder!r}, {state}, {self.stats.outcomes.get('kept', 0):,} kept)"


def open_run(folder: str | Path) -> ExpandedRun:
    """The run in a folder (a path or a URL), finished or not. Raises InputError when there is none."""
    return ExpandedRun(folder)


def expand(
    documents: "str | Path | Sequence[str | Path] | Rows",
    out: str | Path,
    *,
    config: str | Path | None = None,
    workers: int = 1,
    quiet: bool = True,
    **settings: Any,
) -> ExpandedRun:
    """Rewrite documents for several genres and audiences, judge and clean the texts: `mga expand`.

    `documents` are files, folders, globs or URLs; or rows in memory, which are written to the folder `out`-input first.
    The same call continues a run that was stopped, and asks nothing twice. `config` is a TOML file, settings win over
    it.

    Raises InputError before anything is asked when a setting, the input or the folder is wrong, StopError when the
    engine cannot go on (the run can be continued).
    """
    return _from_anywhere(
        expand_async(documents, out, config=config, workers=workers, quiet=quiet, **settings),
    )


async def expand_async(
    documents: "str | Path | Sequence[str | Path] | Rows",
    out: str | Path,
    *,
    config: str | Path | None = None,
    workers: int = 1,
    quiet: bool = True,
    **settings: Any,
) -> ExpandedRun:
    """The same inside an event loop."""
    from rich.console import Console

    from mga.runs.executors.local import expand_here
    from mga.runs.monitoring.progress import Progress
    from mga.runs.run import Run

    given = load_config(Path(config) if config else None, {**settings, "input": _paths(documents, out)})
    run = Run(out)
    await expand_here(given, run, workers, Progress(Console(stderr=True), quiet))
    return ExpandedRun(out)


def preview(
    documents: "str | Path | Sequence[str | Path] | Rows",
    n: int = 3,
    *,
    config: str | Path | None = None,
    **settings: Any,
) -> "pa.Table":
    """All outcomes of the first `n` documents, kept or not, with the column `status`; nothing stays on the disk.

    Raises what `expand` does.
    """
    import pyarrow as pa

    if not _are_paths(documents):
        documents = islice(_rows_of(documents), n)
    with tempfile.TemporaryDirectory(prefix="mga-") as folder:
        run = expand(documents, Path(folder) / "run", config=config, limit=n, **settings)
        tables = {status: run.table(status) for status in STATUSES}
    labelled = [table.append_column("status", pa.array([status] * len(table))) for status, table in tables.items()]
    return pa.concat_tables(labelled, promote_options="default")


def _from_anywhere(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end; in a thread where this one has a loop that runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _are_paths(documents: object) -> bool:
    if isinstance(documents, str | Path):
        return True
    return isinstance(documents, list | tuple) and all(isinstance(one, str | Path) for one in documents)


def _paths(documents: Any, out: str | Path) -> list[str]:
    """Where the documents lie: those in memory are written beside the run, under a name made of what they hold."""
    if _are_paths(documents):
        return [str(one) for one in ([documents] if isinstance(documents, str | Path) else documents)]
    return [str(_written(_rows_of(documents), Path(f"{str(out).rstrip('/')}-input")))]


def _written(rows: Iterable[Mapping[str, Any]], folder: Path) -> Path:
    """The rows as JSON Lines in a file that is named by its content: other rows are another input, and are refused by
    the run as such."""
    import orjson

    folder.mkdir(parents=True, exist_ok=True)
    digest = blake2b(digest_size=8)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".writing", delete=False) as file:
        for row in rows:
            line = orjson.dumps(dict(row), default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
            digest.update(line)
            file.write(line)
    return Path(file.name).rename(folder / f"{digest.hexdigest()}.jsonl")


def _rows_of(documents: "Rows") -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa

    if isinstance(documents, pa.Table):
        documents = documents.to_reader()
    if isinstance(documents, pa.RecordBatchReader):
        for batch in documents:
            yield from batch.to_pylist()
        return
    for row in documents:
        if not isinstance(row, Mapping):
            raise InputError(f"A document in memory is a dict of columns, not {type(row).__name__}: {row!r:.80}.")
        yield row
