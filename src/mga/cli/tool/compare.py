"""The command `mga tool compare`."""

from pathlib import Path
from typing import Annotated

import typer

from mga.cli.options import option


def compare(
    documents: Annotated[
        list[str],
        typer.Argument(help="held-out documents, as for mga expand; or a folder of examples", metavar="DOCS|DATA..."),
    ],
    student: Annotated[str, typer.Option("--student", help="engine of the tool model")],
    judge_engine: Annotated[str, typer.Option("--judge-engine", help="who judges the texts of both")],
    out: Annotated[Path, typer.Option("--out", help="folder to write, new or to be continued")],
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="engine it is compared with; else it stands alone")
    ] = None,
    stage: Annotated[
        str, typer.Option("--stage", help="pairs, reformulate (both write for the same pairs), or both")
    ] = "reformulate",
    margin: Annotated[
        float, typer.Option("--margin", help="how much lower its share of acceptable texts may be", min=0, max=1)
    ] = 0.02,
    sample: Annotated[int, typer.Option("--sample", help="documents drawn from the input", min=2)] = 500,
    document_tokens: Annotated[
        int, typer.Option("--document-tokens", help="of a document, a beginning of so many tokens is taken", min=64)
    ] = 2_000,
    pairs: Annotated[int | None, option("pairs", "--pairs")] = None,
    variant: Annotated[str | None, option("variant", "--variant")] = None,
    student_variant: Annotated[
        str | None,
        typer.Option("--student-variant", help="the student's own prompt; if not given, one in its folder's prompts/"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with settings of mga expand; flags win")
    ] = None,
    text_key: Annotated[str | None, option("text_key", "--text-key")] = None,
    id_key: Annotated[str | None, option("id_key", "--id-key")] = None,
    concurrency: Annotated[int | None, option("concurrency", "--concurrency")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of all drawing", min=0, max=2**63 - 1)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Compare a tool model with its teacher: acceptable texts by a judge's word, with intervals and a verdict.

    Run the same command again to continue where it was stopped.
    """
    import sys

    from rich.console import Console

    from mga.checks import check_documents
    from mga.config import load_config
    from mga.data.output_folder import COMPARISON, check_output
    from mga.errors import InputError
    from mga.toolmodel.compare.compare import CompareSettings, prompt_beside
    from mga.toolmodel.compare.compare import compare as compared
    from mga.toolmodel.compare.comparison_table import comparison_report
    from mga.toolmodel.train.data_folder import is_data

    if stage not in ("pairs", "reformulate", "both"):
        raise InputError(f"--stage is pairs, reformulate or both, not {stage!r}.")
    if not (len(documents) == 1 and is_data(Path(documents[0]))):
        keys = load_config(config, {"text_key": text_key, "id_key": id_key})
        check_documents(documents, keys.text_key, keys.id_key)
    check_output(out, COMPARISON)
    settings = CompareSettings(
        stage,  # type: ignore[arg-type]
        margin,
        sample,
        document_tokens,
        pairs or 5,
        variant or "base",
        student_variant or prompt_beside(student),
        seed,
        config,
        {"text_key": text_key, "id_key": id_key, "concurrency": concurrency},
    )

    def say(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    progress = None if quiet else Console(stderr=True)
    figures = compared(teacher, student, judge_engine, documents, out, settings, say, progress)
    Console().print(comparison_report(figures))
    print(out / "comparison.json")
    if not quiet:
        runs = " ".join(str(out / "runs" / side) for side in ("teacher", "student") if side in figures)
        print(f"One page of the texts: mga report {runs} --open", file=sys.stderr)
