"""Arguments that the verbs on whole corpora share."""

import os
from pathlib import Path
from typing import Annotated

import typer

CorpusFiles = Annotated[
    list[str],
    typer.Argument(help="a run's folder, or Parquet and JSON Lines: files, folders, globs, URLs", metavar="CORPUS..."),
]
Out = Annotated[Path, typer.Option("--out", help="folder to write, new or to be continued")]
TextKey = Annotated[str, typer.Option("--text-key", help="column or field of the text")]
IdKey = Annotated[str, typer.Option("--id-key", help="column or field of the id")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="threads; as many as there are cores if not given", min=1)
]
OnlyReport = Annotated[bool, typer.Option("--only-report", help="remove nothing; write only what would be removed")]


def threads(given: int | None) -> int:
    """The number of threads to use: given, or one for each core this process may use."""
    return given or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else given or os.cpu_count() or 1
