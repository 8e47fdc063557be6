"""The command `mga study`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.options import Out, Workers, threads
from mga.packages import require


def study(
    settings: Annotated[Path, typer.Argument(help="TOML file: sources, strategies, sizes, seeds", metavar="STUDY")],
    out: Out,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="where a source lies, whatever the file says", metavar="NAME=PATH"),
    ] = None,
    only: Annotated[
        str, typer.Option(help="only trainings called so (a pattern), for machines that share a study")
    ] = "*",
    plan: Annotated[bool, typer.Option("--plan", help="train nothing: show what would be trained")] = False,
    speed: Annotated[
        float | None,
        typer.Option(help="with --plan: FLOPs a second that are reached (peak × MFU), for hours", min=1),
    ] = None,
    workers: Workers = None,
) -> None:
    """Repeat, collect more, upsample or expand? Train small models by each strategy, on your data, and compare them.

    Every strategy gets the same budget, steps and seeds. Give the same command again to go on where it was stopped.
    """
    require("mga study", "train,evaluate", "numpy", "scipy", "tokenizers", "torch", "transformers")
    import os
    import sys
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from mga.errors import InputError

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when its bars are imported
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # spinning threads keep out the one they wait for
    import transformers

    from mga.study.settings import load_study
    from mga.study.table import differences_table, plan_table

    places = {name: path for name, _, path in (one.partition("=") for one in source or [])}
    if wrong := [name for name, path in places.items() if not path]:
        raise InputError(f"--source is NAME=PATH, not {wrong[0]!r}.")
    asked = load_study(settings, places)
    from mga.study.carry import check

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    transformers.utils.logging.disable_progress_bar()
    if plan:
        with TemporaryDirectory() as scratch:
            check(asked, Path(scratch), threads(workers), say)
        Console().print(plan_table(asked, speed))
        return
    from mga.report.report import report
    from mga.study.carry import study as carry

    record = carry(asked, out, only, threads(workers), say)
    console = Console()
    console.print(differences_table(record))
    for sentence in record["reading"]:
        console.print(sentence)
    report([out], out / "report.html")
    print(out / "report.html")
