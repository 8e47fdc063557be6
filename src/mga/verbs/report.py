"""The verb `mga report`."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="folders of runs, or of what mga clean, dedup, … have written", metavar="RUN..."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="file to write [default: report.html in the folder; of several folders, here]"),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="show it in the browser")] = False,
    prompt_price: Annotated[float, typer.Option(help="price of a million prompt tokens", min=0)] = 0.0,
    generated_price: Annotated[float, typer.Option(help="price of a million generated tokens", min=0)] = 0.0,
) -> None:
    """Write one self-contained HTML page about a run, or about several side by side.

    Counts from input to kept, scores, reasons, genres and audiences, lengths, speed, settings and prompts, and examples
    to look through. It needs no network and opens from the disk. Text of documents and models stays text.
    """
    from rich.console import Console

    from mga.report.cost import Prices
    from mga.report.report import report as write

    place = out or (runs[0] if len(runs) == 1 else Path()) / "report.html"
    with Console(stderr=True).status("reading"):
        size = write(runs, place, Prices(prompt_price, generated_price))
    print(f"{place} ({size / 1e6:.1f} MB)")
    if open_it:
        import webbrowser

        webbrowser.open(place.resolve().as_uri())
