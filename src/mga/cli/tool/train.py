"""The command `mga tool train`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.packages import require

NEEDED = (
    "accelerate",
    "datasets",
    "matplotlib",
    "numba",
    "numpy",
    "peft",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
)


def train(
    data: Annotated[Path, typer.Argument(help="folder of mga tool examples", metavar="DATA")],
    out: Annotated[Path, typer.Option("--out", help="folder of the model, new or to be continued")],
    base: Annotated[
        str, typer.Option("--base", help="Hugging Face folder with a chat template, a GGUF file, or smollm2-135m")
    ] = "smollm2-135m",
    stage: Annotated[str, typer.Option("--stage", help="pairs, reformulate, or both in one model")] = "both",
    epochs: Annotated[float, typer.Option(help="how often each example is seen", min=0.01)] = 3.0,
    batch: Annotated[int, typer.Option(help="examples a step, over all processes", min=1)] = 32,
    micro_batch: Annotated[int, typer.Option(help="examples a process computes at once", min=1)] = 1,
    learning_rate: Annotated[
        float | None, typer.Option(help="the highest; 2e-5, of an adapter 2e-4, if not given", min=0)
    ] = None,
    lora: Annotated[int, typer.Option(help="rank of an adapter, merged at the end; 0 trains all weights", min=0)] = 0,
    sequence: Annotated[int, typer.Option(help="longest example, in tokens", min=16)] = 8192,
    packing: Annotated[
        bool | None, typer.Option("--packing/--no-packing", help="several examples in a row, on GPUs with flash-attn")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="steps between checkpoints", min=1)] = 50,
    validation_prompts: Annotated[int, typer.Option(help="held-out prompts answered before and after", min=0)] = 32,
    seed: Annotated[int, typer.Option(help="of order and adapter", min=0)] = 0,
) -> None:
    """Train a tool model on examples: the loss is of replies alone.

    On several GPUs: accelerate launch -m mga tool train … (all else the same).
    Run the same command again to continue where it was stopped.
    """
    require("mga tool train", "train", *NEEDED)
    import os
    import sys

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when its bars are imported
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # spinning threads keep out the one they wait for
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(switch, "1")  # everything is on the disk

    from mga.checks import check_kind
    from mga.data.output_folder import EXAMPLES
    from mga.toolmodel.train.finetune import TrainSettings, finetune

    check_kind(data, EXAMPLES)
    settings = TrainSettings(
        epochs,
        batch,
        micro_batch,
        learning_rate,
        sequence=sequence,
        lora=lora,
        packing=packing,
        checkpoint_every=checkpoint_every,
        validation_prompts=validation_prompts,
        seed=seed,
    )
    finetune(data, base, stage, out, settings, lambda line: print(line, file=sys.stderr, flush=True))
    if os.environ.get("RANK", "0") == "0":
        print(out)
