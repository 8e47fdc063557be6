"""The command `mga report`."""

from typing import Annotated

import typer


def report(
    given: Annotated[
        list[str],
        typer.Argument(
            help="folders of runs, here or on an object store, of what mga clean, dedup, … have written, or of a "
            "prompt comparison; what mga collapse --out has written",
            metavar="RUN...",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="file to write [default: report.html in the folder; of a JSON file beside it; else here]",
            show_default=False,
        ),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="show it in the browser")] = False,
    prompt_price: Annotated[float, typer.Option(help="price of a million prompt tokens", min=0)] = 0.0,
    generated_price: Annotated[float, typer.Option(help="price of a million generated tokens", min=0)] = 0.0,
) -> None:
    """Write one self-contained HTML page about runs side by side, a prompt comparison, or models compared.

    Counts from input to kept, scores, reasons, genres and audiences, lengths, speed, settings and prompts, and examples
    to look through; of a prompt comparison also the map and the judge; of models where they differ, and the verdict.
    It needs no network and opens from the disk. Text of documents and models stays text.
    """
    from pathlib import Path

    from rich.console import Console

    from mga.checks import check_kind
    from mga.data.output_folder import GENERATIONS, PROMPT_COMPARISON, RUN, STAGE, STUDY
    from mga.data.store import place
    from mga.errors import InputError
    from mga.report.cost import Prices
    from mga.report.report import default_place
    from mga.report.report import report as write

    places = [place(one) for one in given]
    for one in given:
        if not one.endswith(".json"):
            check_kind(one, RUN, STAGE, PROMPT_COMPARISON, GENERATIONS, STUDY)
    target = place(out) if out else default_place(places)
    if open_it and not isinstance(target, Path):
        raise InputError("A page on an object store is not opened in the browser; leave out --open, or --out.")
    with Console(stderr=True).status("reading"):
        size = write(places, target, Prices(prompt_price, generated_price))
    print(f"{target} ({size / 1e6:.1f} MB)")
    if open_it and isinstance(target, Path):
        import webbrowser

        webbrowser.open(target.resolve().as_uri())
