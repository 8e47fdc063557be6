"""The command `mga pretrain`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mga.packages import require


def pretrain(
    config: Annotated[Path, typer.Argument(help="TOML file: model, data, training, …", metavar="CONFIG")],
    out: Annotated[Path, typer.Option("--out", help="folder of the training, new or to be continued")],
    processes: Annotated[
        int, typer.Option(help="processes on this machine, one a GPU; torchrun starts them on several machines", min=1)
    ] = 1,
    plan: Annotated[bool, typer.Option("--plan", help="train nothing: parameters, steps, memory, FLOPs")] = False,
) -> None:
    """Pretrain a Llama on packed data, with the schedule of the paper: warmup, stable, decay.

    Give the same command again to go on where it was stopped.
    """
    require("mga pretrain", "train", "numpy", "torch", "transformers")
    import os

    from mga.pretrain.config import load_config

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when its bars are imported
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # spinning threads keep out the one they wait for
    import transformers

    transformers.utils.logging.disable_progress_bar()
    settings = load_config(config)
    if plan:
        _print_plan(settings, processes)
    elif processes > 1:
        from mga.pretrain.processes import start

        start(processes, train_here, settings, out)
    else:
        train_here(settings, out)


def train_here(settings: Any, out: Path) -> None:
    """Train in this process; the first of several prints where the result lies."""
    import os
    import sys

    from mga.pretrain.train import pretrain as train

    train(settings, out, lambda line: print(line, file=sys.stderr, flush=True))
    if os.environ.get("RANK", "0") == "0":
        print(out)


def _print_plan(settings: Any, processes: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from mga.mixture.amounts import shown
    from mga.pretrain.train import memory, outline

    plan = outline(settings, processes)
    table = Table(box=None, show_header=False)
    table.add_row("parameters", f"{plan.parameters.total:,}")
    table.add_row("  without embeddings and head", f"{plan.parameters.layers:,}")
    table.add_row("steps", f"{plan.steps - plan.begin:,}")
    table.add_row("tokens", shown(plan.step_tokens * (plan.steps - plan.begin)))
    table.add_row("tokens a step", shown(plan.step_tokens))
    table.add_row("FLOPs", f"{plan.flops:.3g}")
    table.add_row("GPU hours at 40% of an H100", f"{plan.flops / 0.4 / 989e12 / 3600:,.2f}")
    fixed, moving = memory(settings, plan)
    table.add_row("weights, gradients, optimizer", f"{fixed / 1e9:,.2f} GB, divided among the processes")
    table.add_row("activations, about", f"{moving / 1e9:,.2f} GB a process")
    Console().print(table)
