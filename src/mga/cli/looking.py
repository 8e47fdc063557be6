"""Commands that look into a run, or hand its texts over: `mga status`, `mga show`, `mga export`."""

from typing import Annotated

import typer

from mga.cli.options import option

RunFolder = Annotated[str, typer.Argument(help="folder of a run: a path or a URL (s3://…)", metavar="RUN")]


def status(run: RunFolder) -> None:
    """Tell how far a run is and what it has counted."""
    from rich.console import Console

    from mga.checks import check_kind
    from mga.data.output_folder import RUN, STAGE
    from mga.runs.run import Run
    from mga.runs.show import status as status_of

    check_kind(run, RUN, STAGE)
    Console().print(status_of(Run(run)))


def show(
    run: RunFolder,
    n: Annotated[int, typer.Option("--n", "-n", help="how many documents", min=1)] = 3,
    dropped: Annotated[bool, typer.Option("--dropped", help="what was not kept, with the reasons")] = False,
) -> None:
    """Show documents beside what was written from them."""
    from rich.console import Console

    from mga.checks import check_kind
    from mga.data.output_folder import RUN, STAGE
    from mga.runs.run import Run
    from mga.runs.show import examples

    check_kind(run, RUN, STAGE)
    console = Console()
    for example in examples(Run(run), n, dropped, console):
        console.print(example)


def export(
    run: RunFolder,
    out: Annotated[str, typer.Argument(help="folder to write", metavar="OUT")],
    schema: Annotated[str, typer.Option("--schema", help="plain, or mgacorpus: the published layout")] = "plain",
    license_name: Annotated[str | None, option("license", "--license")] = None,
) -> None:
    """Write the kept texts in another layout, with a dataset card."""
    from mga.checks import check_kind
    from mga.data.output_folder import RUN, STAGE
    from mga.data.store import place
    from mga.runs.export import export as write
    from mga.runs.run import Run

    check_kind(run, RUN, STAGE)
    rows = write(Run(run), schema, place(out), license_name)
    print(f"{rows:,} rows in {out}")
