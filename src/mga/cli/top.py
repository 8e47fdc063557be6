"""The command `mga top`."""

from typing import Annotated

import typer


def top(
    run: Annotated[str, typer.Argument(help="folder of a run, here or on an object store", metavar="RUN")],
    once: Annotated[bool, typer.Option("--once", help="print one frame and end")] = False,
    every: Annotated[float, typer.Option(help="seconds between looks", min=0.2)] = 2.0,
) -> None:
    """Watch a run while it works: progress, rates, what was dropped and why, errors, workers and their servers.

    Reads the run's folder alone, so it works from any machine that sees it. Ends with the run, or by Ctrl-C.
    """
    import sys

    from rich.console import Console

    from mga.checks import check_kind
    from mga.data.output_folder import RUN
    from mga.data.store import place
    from mga.runs.monitoring.status import Look
    from mga.runs.monitoring.top import WIDTH_OF_FILES, follow, frame

    check_kind(run, RUN)
    look = Look(place(run))
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
    if once or not console.is_terminal:
        console.print(frame(look.now(), console.height))
    else:
        follow(look, console, every)
