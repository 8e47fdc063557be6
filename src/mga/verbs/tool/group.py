"""The verbs `mga tool …`."""

import typer

from mga.verbs.tool.compare import compare
from mga.verbs.tool.examples import examples
from mga.verbs.tool.quantize import quantize
from mga.verbs.tool.rounds import rounds
from mga.verbs.tool.train import train

tool = typer.Typer(
    help="Make, compare and quantize tool models: small models that do the work of a large one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for verb in (examples, train, compare, rounds, quantize):
    tool.command()(verb)
