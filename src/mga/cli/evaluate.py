"""The command `mga evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.options import IdKey, Out, TextKey
from mga.packages import require


def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Hugging Face folders, or runs of mga pretrain", metavar="CHECKPOINT..."),
    ],
    out: Out,
    tasks: Annotated[
        str, typer.Option("--tasks", help="paper-main, paper-scaling, early, or names of lm-eval's, with commas")
    ] = "",
    data: Annotated[
        Path | None, typer.Option("--data", help="folder of local datasets: FOLDER/OWNER/NAME; else from the hub")
    ] = None,
    own: Annotated[
        list[str] | None,
        typer.Option("--own", help="texts that no model was trained on; can be given again", metavar="DOCS"),
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="examples before each question; the suite's if not given", min=0)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="only so many items of each task", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="rows asked at once", min=1)] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one")] = None,
    seed: Annotated[int, typer.Option(help="of the wrong continuations of --own", min=0)] = 0,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
) -> None:
    """Ask models the questions of benchmarks, through lm-evaluation-harness, and compare them in one table.

    Run the same command again, with more checkpoints or tasks if you like: what was asked is not asked again.
    """
    harness = ("datasets", "lm_eval") if tasks else ()
    require("mga evaluate", "evaluate", "matplotlib", "numpy", "tokenizers", "torch", "transformers", *harness)
    import os
    import sys

    from rich.console import Console

    from mga.checks import open_checked
    from mga.data.output_folder import EVALUATION, check_output
    from mga.errors import InputError

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when its bars are imported
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # spinning threads keep out the one they wait for

    from mga.evaluation.evaluate import Settings
    from mga.evaluation.evaluate import evaluate as ask_all
    from mga.evaluation.table import draw, results_table

    if device not in (None, "cpu", "cuda"):
        raise InputError(f"--device is cpu or cuda, not {device!r}.")
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    corpus = open_checked(own, text_key, id_key) if own else None
    check_output(out, EVALUATION)
    settings = Settings(shots, limit, batch, device, seed)
    record = ask_all(checkpoints, out, names, data, corpus, settings, lambda line: print(line, file=sys.stderr))
    Console().print(results_table(record))
    if draw(record, out / "evaluation.svg"):
        print(out / "evaluation.svg")
    print(out)
