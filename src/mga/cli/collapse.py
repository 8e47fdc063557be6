"""The command `mga collapse`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mga.cli.options import IdKey, TextKey
from mga.errors import InputError
from mga.packages import require

if TYPE_CHECKING:
    from mga.collapse.collapse import Documents


def collapse(
    real: Annotated[Path, typer.Argument(help="losses of the model trained on real text", metavar="REAL_LOSSES")],
    synt: Annotated[Path, typer.Argument(help="losses of the one trained on synthetic text", metavar="SYNT_LOSSES")],
    docs: Annotated[
        list[str] | None,
        typer.Option(
            help="a set of documents, by ids: FILE, NAME=FILE, or synthetic=FILE (real= or synthetic= say its kind); "
            "may be repeated. All, as mga losses was given them, if not given",
            metavar="[NAME=]FILE",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file to write all figures to")] = None,
    window: Annotated[float, typer.Option(help="of the first anomaly, as a share of the document")] = 0.05,
    k: Annotated[float, typer.Option("--k", help="standard deviations beyond the mean difference")] = 1.0,
    reading: Annotated[
        str,
        typer.Option(
            help="of the absolute value: average (of the window's mean: either model worse), signed (none: only the "
            "synthetic-trained one worse), tokens (of each token)"
        ),
    ] = "average",
    edges: Annotated[str, typer.Option(help="of the bands of mean difference")] = "-0.5,-0.1,0,0.1,0.5",
    least_tokens: Annotated[int, typer.Option(help="of a document in the histograms", min=1)] = 100,
    circular_shifts: Annotated[
        int, typer.Option(help="of all documents, for the test against chance; 0: no test", min=0)
    ] = 200,
    cases: Annotated[int, typer.Option(help="documents to show of each set", min=0)] = 5,
    seen: Annotated[str | None, typer.Option(help="name of a set that was trained on (with --unseen)")] = None,
    unseen: Annotated[str | None, typer.Option(help="name of a set that was not")] = None,
    history: Annotated[
        list[Path] | None, typer.Option(help="further losses, of other steps or runs (mga losses --run, --step)")
    ] = None,
    real_samples: Annotated[Path | None, typer.Option(help="samples of the real-trained model (mga sample)")] = None,
    synt_samples: Annotated[Path | None, typer.Option(help="samples of the synthetic-trained model")] = None,
    prefix: Annotated[int, typer.Option(help="tokens before an exact continuation", min=1)] = 50,
    continuation: Annotated[int, typer.Option(help="tokens of an exact continuation", min=1)] = 50,
    seed: Annotated[int, typer.Option(help="of circular_shifts and resampling", min=0, max=2**63 - 1)] = 0,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
) -> None:
    """Compare two models token by token: has synthetic text changed the model, or harmed it?

    Changes nothing; writes only the file of --out.
    """
    require("mga collapse", "corpus", "numba", "numpy", "tokenizers")
    from typing import cast

    from rich.console import Console

    from mga.checks import check_kind
    from mga.collapse.collapse import Options, compare
    from mga.collapse.positions import Reading, Rule
    from mga.collapse.samples import compare_texts
    from mga.collapse.table import collapse_report
    from mga.data.output_folder import LOSSES, SAMPLES
    from mga.data.store import write_json

    if out and out.is_dir():
        raise InputError(f"{out} is a folder; name a file with --out.")
    if (real_samples is None) != (synt_samples is None):
        raise InputError("Texts are compared in pairs: give both --real-samples and --synt-samples.")
    options = Options(
        Rule(window, k, cast(Reading, reading)),
        _numbers(edges),
        least_tokens,
        circular_shifts,
        cases,
        seed,
        prefix,
        continuation,
        seen,
        unseen,
    )
    for folder in (real, synt, *(history or [])):
        check_kind(folder, LOSSES)
    for samples in (real_samples, synt_samples):
        if samples is not None:
            check_kind(samples, SAMPLES)
    with Console(stderr=True).status("comparing"):
        texts = compare_texts(real_samples, synt_samples) if real_samples and synt_samples else None
        sets = _sets(docs or [], text_key, id_key)
        figures = compare(real, synt, sets, options, history or [], texts)
    if out:
        write_json(out, figures)
    Console().print(collapse_report(figures))
    if out:
        print(out)


def _numbers(given: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in given.split(",") if number.strip())
    except ValueError:
        raise InputError(f"--edges are numbers with commas between them, not {given!r}.") from None


def _sets(given: list[str], text_key: str, id_key: str) -> "list[Documents]":
    from mga.checks import open_checked
    from mga.collapse.collapse import Documents, looks_synthetic
    from mga.scoring.texts import ids_of

    sets: list[Documents] = []
    for one in given:
        name, named, path = one.partition("=")
        name, path = (name, path) if named else (Path(one).stem, one)
        synthetic = {"real": False, "synthetic": True}.get(name, looks_synthetic(name))
        if any(held.name == name for held in sets):
            raise InputError(f"Two sets of documents are called {name!r}; name them with --docs NAME=FILE.")
        sets.append(Documents(name, synthetic, frozenset(ids_of(open_checked([path], text_key, id_key)))))
    return sets
