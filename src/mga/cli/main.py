"""The command line: one function per command. Errors are one sentence and an exit code.

Exit codes: 0 done · 1 done, but every text failed · 2 something to put right first · 130 stopped by Ctrl-C · 143 by
SIGTERM.
"""

from mga.interrupts import STOPPED, asked, heard, listen, raising_interrupts

if __name__ == "__main__":
    listen()  # the imports take a second

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from mga.cli.boilerplate import boilerplate
from mga.cli.budget import budget
from mga.cli.clean import clean
from mga.cli.collapse import collapse
from mga.cli.collapse_generations import collapse_generations
from mga.cli.compare_prompts import compare_prompts
from mga.cli.decontaminate import decontaminate
from mga.cli.dedup import dedup
from mga.cli.diversity import diversity
from mga.cli.evaluate import evaluate
from mga.cli.expand import expand, worker
from mga.cli.group import Command, Group
from mga.cli.looking import export, show, status
from mga.cli.losses import losses
from mga.cli.plan import plan
from mga.cli.pretrain import pretrain
from mga.cli.report import report
from mga.cli.sample import sample
from mga.cli.study import study
from mga.cli.tool.group import tool
from mga.cli.top import top
from mga.cli.tune_engine import tune_engine
from mga.cli.unusable_rows import tell_of_unusable_rows
from mga.errors import InterruptedRunError, MgaError
from mga.packages import wrong_packages
from mga.terminal import printable

app = typer.Typer(cls=Group, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)

CARRYING = (expand, worker, status, top, show, report, export, compare_prompts, plan, tune_engine)
WHOLE_CORPORA = (clean, boilerplate, dedup, decontaminate, diversity)
MODELS = (pretrain, evaluate, study, losses, sample, collapse, collapse_generations)
COMMANDS: tuple[Callable[..., None], ...] = CARRYING + WHOLE_CORPORA + MODELS
for command in COMMANDS:
    app.command(cls=Command)(command)
app.add_typer(budget, name="budget")
app.add_typer(tool, name="tool")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"mga {version('mga')}")
        raise typer.Exit


@app.callback()
def _mga(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and end", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Expand a pretraining corpus by genre-audience reformulation."""
    tell_of_unusable_rows()


def main() -> None:
    """Run the command line; turn our errors and signals into a sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows another in its place
            stream.reconfigure(errors="replace")
    try:
        with raising_interrupts():
            app(prog_name="mga")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except BaseException as error:
        if isinstance(error, InterruptedRunError):
            _end(str(error), heard())
        if asked() or isinstance(error, KeyboardInterrupt):  # whatever a library has made of it
            _end(STOPPED, heard())
        if isinstance(error, MgaError):
            _end(str(error), 2)
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] != "mga":
            _end(wrong_packages(error), 2)
        raise


def _end(sentence: str, code: int) -> None:
    print(f"mga: {printable(sentence)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
