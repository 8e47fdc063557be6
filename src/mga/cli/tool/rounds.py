"""The command `mga tool rounds`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.tool.train import NEEDED
from mga.packages import require


def rounds(
    documents: Annotated[list[str], typer.Argument(help="documents, as for mga expand", metavar="DOCS...")],
    teacher: Annotated[str, typer.Option("--teacher", help="engine that writes first")],
    judge_engine: Annotated[str, typer.Option("--judge-engine", help="who judges all texts")],
    out: Annotated[Path, typer.Option("--out", help="folder to write, new or to be continued")],
    base: Annotated[
        str, typer.Option("--base", help="Hugging Face folder with a chat template, a GGUF file, or smollm2-135m")
    ] = "smollm2-135m",
    most: Annotated[int, typer.Option("--rounds", help="at most", min=1)] = 3,
    count: Annotated[int, typer.Option("--documents", help="of each round", min=2)] = 500,
    held_out: Annotated[int, typer.Option("--held-out", help="documents to compare on", min=2)] = 100,
    margin: Annotated[
        float, typer.Option(help="how much lower than the teacher's the student's share may be", min=0, max=1)
    ] = 0.02,
    epochs: Annotated[float, typer.Option(help="how often each example is seen", min=0.01)] = 3.0,
    batch: Annotated[int, typer.Option(help="examples a step", min=1)] = 32,
    micro_batch: Annotated[int, typer.Option(help="examples computed at once", min=1)] = 1,
    learning_rate: Annotated[float | None, typer.Option(help="2e-5, of an adapter 2e-4, if not given", min=0)] = None,
    lora: Annotated[int, typer.Option(help="rank of an adapter; 0 trains all weights", min=0)] = 0,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with settings of mga expand, for all runs")
    ] = None,
    seed: Annotated[int, typer.Option(help="of all drawing", min=0)] = 0,
) -> None:
    """Collect, judge, train, judge the student, keep what it got right: again until it is as good, or gains nothing.

    Run the same command again to continue where it was stopped.
    """
    require("mga tool rounds", "train", *NEEDED)
    import os
    import sys

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when its bars are imported
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # spinning threads keep out the one they wait for
    for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(switch, "1")  # everything is on the disk

    from mga.checks import check_documents
    from mga.config import load_config
    from mga.data.output_folder import ROUNDS, check_output
    from mga.toolmodel.train.finetune import TrainSettings
    from mga.toolmodel.train.rounds import RoundSettings, with_seed
    from mga.toolmodel.train.rounds import rounds as carry

    keys = load_config(config, {})
    check_documents(documents, keys.text_key, keys.id_key)
    check_output(out, ROUNDS)
    training = TrainSettings(epochs, batch, micro_batch, learning_rate, lora=lora)
    settings = RoundSettings(most, count, held_out, margin=margin, training=training, config=config)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    record = carry(teacher, judge_engine, base, documents, out, with_seed(settings, seed), say)
    say(record["ended"])
    print(out / f"round-{len(record['history'])}" / "tool")
