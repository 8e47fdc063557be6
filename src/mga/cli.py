"""The front door: one verb per command. Errors are one sentence and an exit code.

Exit codes: 0 done · 1 done, but every text failed · 2 something to put right first · 130 stopped by Ctrl-C.
"""

import io
import sys
from collections.abc import Callable

import typer

from mga.errors import InterruptedRunError, MgaError
from mga.verbs.budget import budget
from mga.verbs.clean import clean
from mga.verbs.collapse import collapse
from mga.verbs.collapse_generations import collapse_generations
from mga.verbs.decontaminate import decontaminate
from mga.verbs.dedup import dedup
from mga.verbs.diversity import diversity
from mga.verbs.evaluate import evaluate
from mga.verbs.expand import expand, worker
from mga.verbs.lab import lab
from mga.verbs.looking import export, show, status
from mga.verbs.losses import losses
from mga.verbs.patterns import patterns
from mga.verbs.plan import plan
from mga.verbs.pretrain import pretrain
from mga.verbs.report import report
from mga.verbs.sample import sample
from mga.verbs.study import study
from mga.verbs.tool.group import tool
from mga.verbs.top import top
from mga.verbs.tune_engine import tune_engine

app = typer.Typer(
    help="Expand a pretraining corpus by genre-audience reformulation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

CARRYING = (expand, worker, status, top, show, report, export, lab, plan, tune_engine)
WHOLE_CORPORA = (clean, patterns, dedup, decontaminate, diversity)
MODELS = (pretrain, evaluate, study, losses, sample, collapse, collapse_generations)
VERBS: tuple[Callable[..., None], ...] = CARRYING + WHOLE_CORPORA + MODELS
for verb in VERBS:
    app.command()(verb)
app.add_typer(budget, name="budget")
app.add_typer(tool, name="tool")


def main() -> None:
    """Run the command line; turn our errors into a sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows another in its place
            stream.reconfigure(errors="replace")
    try:
        app()
    except MgaError as error:
        print(f"mga: {error}", file=sys.stderr)
        sys.exit(130 if isinstance(error, InterruptedRunError) else 2)
    except KeyboardInterrupt:
        print("mga: stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
