"""The commands `mga tool …`."""

import typer

from mga.cli.group import Command, Group
from mga.cli.tool.compare import compare
from mga.cli.tool.examples import examples
from mga.cli.tool.quantize import quantize
from mga.cli.tool.rounds import rounds
from mga.cli.tool.train import train

tool = typer.Typer(
    help="Make, compare and quantize tool models: small models that do the work of a large one.",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
)
for command in (examples, train, compare, rounds, quantize):
    tool.command(cls=Command)(command)
