"""The command `mga decontaminate`."""

from typing import Annotated, Any

import typer

from mga.cli.options import CorpusFiles, IdKey, OnlyReport, Out, TextKey, Workers, threads
from mga.packages import require

WORST = 10

Against = Annotated[
    list[str],
    typer.Option("--against", help="benchmark items: Parquet or JSON Lines; may be given several times"),
]
Fields = Annotated[
    str | None, typer.Option("--fields", help="fields of the items to search for, a,b; the usual ones if not given")
]
Ngram = Annotated[int, typer.Option("--ngram", help="words in common that make a text contaminated", min=4)]
Shortest = Annotated[int, typer.Option("--shortest", help="words of the shortest item that is searched for", min=4)]
Template = Annotated[
    int, typer.Option("--template", help="an n-gram of more items than this is a template, no item; 0: none is", min=0)
]


def decontaminate(
    corpus: CorpusFiles,
    against: Against,
    out: Out,
    fields: Fields = None,
    ngram: Ngram = 13,
    shortest: Shortest = 8,
    template: Template = 10,
    text_key: TextKey = "text",
    id_key: IdKey = "id",
    workers: Workers = None,
    only_report: OnlyReport = False,
) -> None:
    """Remove the texts that hold items of benchmarks, and report which.

    Run the same command again to continue where it was stopped.
    """
    require("mga decontaminate", "corpus", "numba", "numpy")
    from dataclasses import asdict

    from rich.console import Console

    from mga.checks import open_checked
    from mga.curation.contamination.benchmarks import read_benchmarks
    from mga.curation.contamination.decontaminate import Limits, build_index
    from mga.curation.contamination.decontaminate import decontaminate as carry
    from mga.curation.stage import Stage
    from mga.data.corpus_files import open_corpus
    from mga.data.store import read_json

    limits = Limits(ngram, shortest, template)
    benchmarks = open_corpus(against)
    chosen = [name.strip() for name in fields.split(",") if name.strip()] if fields is not None else None
    settings = {"against": benchmarks.fingerprint, "fields": chosen, "id_key": id_key, **asdict(limits)}
    stage = Stage(out, "decontaminate", open_checked(corpus, text_key, id_key), settings, only_report)
    with stage.work():
        if not stage.is_complete:
            carry(stage, build_index(read_benchmarks(benchmarks.files, chosen), limits), threads(workers))
        held = read_json(out / "stage.json")
    _show(held, Console(stderr=True))
    print(out)


def _show(record: dict[str, Any], console: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    from mga.curation.contamination.decontaminate import REASON
    from mga.terminal import printable

    counts, found = record["counts"], record["contamination"]
    contaminated = counts["reasons"].get(REASON, 0)
    unusable = counts["rows"] - counts["kept"] - contaminated
    hit = sum(one["items_hit"] for one in found["benchmarks"].values())
    lines = [
        f"contaminated texts {contaminated:>12,} of {counts['rows']:,}",
        *([f"rows not searched  {unusable:>12,} (they cannot be used)"] if unusable else []),
        f"items found        {hit:>12,} of {found['items']:,} ({found['items_too_short']:,} too short to be searched)",
        f"n-grams searched   {found['ngrams']:>12,} (and {found['template_ngrams']:,} templates left out)",
    ]
    if found["fields"]:
        lines.append("texts by field     " + ", ".join(f"{name} {n:,}" for name, n in found["fields"].items()))
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    worst = sorted(found["benchmarks"].items(), key=lambda one: (-one[1]["texts"], one[0]))[:WORST]
    table = Table("benchmark", "items found", "of", "texts", box=None)
    for name, one in worst:
        table.add_row(escape(printable(name)), *(f"{one[key]:,}" for key in ("items_hit", "items", "texts")))
    if contaminated:
        console.print(table)
