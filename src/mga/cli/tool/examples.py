"""The command `mga tool examples`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.packages import require


def examples(
    runs: Annotated[list[str], typer.Argument(help="folders of mga expand, all texts judged", metavar="RUN...")],
    out: Annotated[Path, typer.Option("--out", help="folder to write")],
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", help="the base model's: its folder, tokenizer.json, a GGUF file")
    ] = "smollm2-135m",
    min_score: Annotated[int, typer.Option(help="least score of the judge", min=1, max=5)] = 3,
    unjudged: Annotated[bool, typer.Option("--unjudged", help="take texts that no judge has read too")] = False,
    pairs: Annotated[int, typer.Option(help="most examples of stage 1", min=0)] = 15_000,
    reformulations: Annotated[int, typer.Option(help="most examples of stage 2", min=0)] = 35_000,
    prompt_tokens: Annotated[int, typer.Option(help="longest prompt", min=1)] = 4096,
    reply_tokens: Annotated[int, typer.Option(help="longest reply", min=1)] = 4096,
    accepted_pairs: Annotated[
        float,
        typer.Option(help="share of a document's texts to be acceptable for its pairs", min=0, max=1),
    ] = 0.8,
    held_out: Annotated[float, typer.Option(help="share of the documents to compare with", min=0, max=0.9)] = 0.05,
    threshold: Annotated[float, typer.Option(help="texts more alike than this count once", min=0.5, max=1)] = 0.8,
    seed: Annotated[int, typer.Option(help="of all drawing", min=0)] = 0,
) -> None:
    """Make training examples of both stages from judged runs: for `mga tool train`."""
    require("mga tool examples", "corpus", "numba", "numpy", "tokenizers")
    import sys

    from mga.checks import check_kind
    from mga.data.output_folder import EXAMPLES, RUN, check_output
    from mga.data.store import place
    from mga.packing.tokenizer import load_tokenizer
    from mga.toolmodel.train.examples import ExampleSettings, collect

    for run in runs:
        check_kind(run, RUN)
    check_output(out, EXAMPLES)
    settings = ExampleSettings(
        min_score,
        unjudged,
        prompt_tokens,
        reply_tokens,
        pairs,
        reformulations,
        accepted_pairs,
        held_out,
        threshold,
        seed,
    )
    collect(
        [place(run) for run in runs],
        load_tokenizer(tokenizer),
        out,
        settings,
        lambda line: print(line, file=sys.stderr),
    )
    print(out)
