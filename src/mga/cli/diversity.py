"""The command `mga diversity`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.options import CorpusFiles, TextKey, Workers, threads
from mga.embedders.names import DEFAULT
from mga.packages import require


def diversity(
    corpus: CorpusFiles,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file to write the figures to")] = None,
    by: Annotated[str | None, typer.Option("--by", help="column to group by: model, prompt, kind, …")] = None,
    text_key: TextKey = "text",
    seed: Annotated[int, typer.Option("--seed", help="of the samples", min=0, max=2**63 - 1)] = 0,
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            help=f"gives the Vendi score vectors, not words: {DEFAULT}, a sentence-transformers folder, URL#MODEL",
        ),
    ] = None,
    workers: Workers = None,
) -> None:
    """Measure how diverse a corpus is: genres and audiences, texts, siblings, beside the originals.

    Warns of signs that the generator has collapsed. Changes nothing; writes only the file of --out.
    """
    require("mga diversity", "corpus", "numba", "numpy")
    from rich.console import Console

    from mga.checks import open_checked
    from mga.curation.diversity.measures import measure
    from mga.curation.diversity.table import report
    from mga.data.store import without_links, write_json
    from mga.embedders.choose import choose_embedder
    from mga.errors import InputError

    opened = open_checked(corpus, text_key, others={"--by": by})
    if out and out.is_dir():
        raise InputError(f"{out} is a folder; name a file with --out.")
    if out and any(
        without_links(Path(file.url)).parent in (without_links(out), *without_links(out).parents)
        for file in opened.files
    ):
        raise InputError(f"{out} lies among the files of the corpus and would be read as one; choose another --out.")
    chosen = choose_embedder(embedder) if embedder else None
    with Console(stderr=True).status("reading"):
        figures = measure(opened, by, seed, threads(workers), chosen)
    if out:
        write_json(out, figures)
    Console().print(report(figures))
    if out:
        print(out)
