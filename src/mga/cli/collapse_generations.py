"""The command `mga collapse-generations`."""

from typing import Annotated

import typer

from mga.cli.options import CorpusFiles, IdKey, Out, TextKey
from mga.packages import require

NEEDED = ("numba", "numpy", "scipy", "tokenizers", "torch", "transformers")


def collapse_generations(
    docs: CorpusFiles,
    out: Out,
    generations: Annotated[int, typer.Option(help="models in a line, each trained on the one before", min=1)] = 4,
    rows: Annotated[int, typer.Option(help="of 128 tokens that each model is trained on", min=64)] = 3000,
    epochs: Annotated[int, typer.Option(help="how often each model sees them", min=1)] = 4,
    temperature: Annotated[float, typer.Option(help="at which a model writes for the next", min=0.01)] = 0.8,
    held_out: Annotated[int, typer.Option(help="documents kept from training, to judge on", min=24)] = 96,
    by: Annotated[
        str | None, typer.Option("--by", help="column of the source or genre; adds a model of other sources")
    ] = None,
    how: Annotated[
        str | None,
        typer.Option(
            help="expand: a model writes five genres to each passage; continue: it goes on from beginnings",
            show_default="expand with --by, else continue",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="how often all is done, with other documents and models", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="the first of them", min=0, max=2**20)] = 0,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
) -> None:
    """Make tiny models collapse on purpose, and measure which detectors notice and which cry wolf.

    Run the same command again to continue where it was stopped, or with more --seeds.
    """
    require("mga collapse-generations", "transformers,corpus", *NEEDED)
    import sys

    from rich.console import Console

    from mga.checks import open_checked
    from mga.collapse.generations.generation_rows import CONTINUE, EXPAND
    from mga.collapse.generations.generations import Plan, collapse_on_purpose
    from mga.collapse.table import generations_report
    from mga.data.output_folder import GENERATIONS, check_output

    how = how or (EXPAND if by else CONTINUE)
    plan = Plan(generations, rows, epochs, temperature, held_out, seeds=seeds, seed=seed, how=how)
    corpus = open_checked(docs, text_key, id_key, {"--by": by})
    check_output(out, GENERATIONS)
    record = collapse_on_purpose(corpus, out, plan, by, lambda line: print(line, file=sys.stderr))
    Console().print(generations_report(record))
    print(out)
