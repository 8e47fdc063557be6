"""`mga tune-engine`: the fastest settings of llama.cpp on this machine."""

from typing import Annotated

import typer


def tune_engine(
    engine: Annotated[str, typer.Argument(help="a llamacpp: engine", metavar="ENGINE")] = "llamacpp:smollm2-135m",
) -> None:
    """Find the settings with which llama.cpp works fastest on this machine, and save them for later runs.

    Takes some minutes; nothing else should be running.
    """
    from functools import partial

    from rich.console import Console

    from mga.engines.llamacpp.tune import shown, tune
    from mga.expand.tuning_work import rewrite_requests

    console = Console(stderr=True)
    found = tune(
        engine, partial(rewrite_requests, uri=engine), lambda line: console.print(line, soft_wrap=True, highlight=False)
    )
    if found.file is None:
        print("The settings stay as they are; no others were faster.")
    else:
        print(f"{found.after / found.before:.2f} × as fast as before: {shown(found.settings)}")
        print(f"Saved in {found.file}.")
