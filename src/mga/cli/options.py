"""Arguments that the commands on whole corpora share."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mga.config import ExpandConfig

CorpusFiles = Annotated[
    list[str],
    typer.Argument(help="a run's folder, or Parquet and JSON Lines: files, folders, globs, URLs", metavar="CORPUS..."),
]
Out = Annotated[Path, typer.Option("--out", help="folder to write, new or to be continued")]
TextKey = Annotated[str, typer.Option("--text-key", help="column or field of the text")]
IdKey = Annotated[str, typer.Option("--id-key", help="column or field of the id")]
Workers = Annotated[int | None, typer.Option("--workers", help="cores to use; all of them if not given", min=1)]
OnlyReport = Annotated[bool, typer.Option("--only-report", help="remove nothing; write only what would be removed")]
MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", help="serve Prometheus metrics on this port (0: a free one)", min=0, max=65535),
]
MetricsAddress = Annotated[
    str, typer.Option("--metrics-address", help="address to serve metrics on; 0.0.0.0: to every machine that asks")
]
MetricsFile = Annotated[
    Path | None,
    typer.Option("--metrics-file", help="write the metrics for node-exporter every few seconds", metavar="FILE.prom"),
]
LogFile = Annotated[
    Path | None,
    typer.Option("--log-file", help="the log of RUN/logs in this file too, one JSON object a line", metavar="FILE"),
]


def threads(given: int | None) -> int:
    """The number of threads to use: given, or one for each core this process may use."""
    return given or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else given or os.cpu_count() or 1


def option(name: str, *flags: str, **more: Any) -> Any:
    """A flag whose help and default come from the setting of the same name."""
    field = ExpandConfig.model_fields[name]
    default = "" if field.default is None else f" [default: {field.default}]"
    return typer.Option(*flags, help=f"{field.description}{default}", show_default=False, **more)
