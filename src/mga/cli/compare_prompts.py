"""The command `mga compare-prompts`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mga.config import MODEL_SETTINGS, ExpandConfig, load_config
from mga.embedders.names import DEFAULT
from mga.errors import InputError
from mga.packages import require

NEEDED = ("krippendorff", "matplotlib", "numba", "numpy", "scipy", "sklearn", "tokenizers")
DOCUMENT_TOKENS = 1_000
DOCUMENT_TOKENS_EMBEDDED = 300
"""So that twenty documents take some minutes on two cores."""


def _setting(name: str, flag: str) -> Any:
    return typer.Option(flag, help=ExpandConfig.model_fields[name].description, show_default=False)


def compare_prompts(
    inputs: Annotated[
        list[str],
        typer.Argument(help="documents, as for mga expand; or the folder of a prompt comparison", metavar="INPUT..."),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="folder to write, new or to be continued")] = None,
    variants: Annotated[
        str, typer.Option("--variants", help="what to compare: variants, styles, prompt files, with commas")
    ] = "strict,base,relaxed",
    engine: Annotated[str | None, _setting("engine", "--engine")] = None,
    judge_engine: Annotated[str | None, _setting("judge_engine", "--judge-engine")] = None,
    sample: Annotated[int, typer.Option("--sample", help="documents drawn from the input", min=2)] = 200,
    document_tokens: Annotated[
        int | None,
        typer.Option(
            "--document-tokens",
            help=f"of a document, a beginning of so many tokens is taken [default: {DOCUMENT_TOKENS}; "
            f"with an embedded generator {DOCUMENT_TOKENS_EMBEDDED}]",
            min=64,
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", help="pairs of a document, for variants that take any", min=1)] = 2,
    judged: Annotated[int, typer.Option("--judged", help="documents and texts the judge is tested on", min=2)] = 100,
    repeats: Annotated[int, typer.Option("--repeats", help="further judgements of the same text", min=2)] = 2,
    embedder: Annotated[
        str, typer.Option("--embedder", help="the packaged model, a sentence-transformers folder, or URL#MODEL")
    ] = DEFAULT,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with settings of mga expand; flags win")
    ] = None,
    text_key: Annotated[str | None, _setting("text_key", "--text-key")] = None,
    id_key: Annotated[str | None, _setting("id_key", "--id-key")] = None,
    concurrency: Annotated[int | None, _setting("concurrency", "--concurrency")] = None,
    seed: Annotated[int, typer.Option("--seed", help="of all drawing", min=0, max=2**63 - 1)] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Compare variants of the prompt on the same documents: scores, texts, a map, and what the judge is worth.

    Give the same command again to continue; `mga compare-prompts FOLDER` prints a finished comparison and asks no
    model.
    """
    require(
        "mga compare-prompts",
        "compare",
        "krippendorff",
        "matplotlib",
        "numba",
        "numpy",
        "scipy",
        "sklearn",
        "tokenizers",
    )
    from rich.console import Console

    from mga.checks import check_documents
    from mga.data.output_folder import PROMPT_COMPARISON, check_output
    from mga.prompt_comparison.carry import carry, compare_again
    from mga.prompt_comparison.settings import RECORD, PromptComparisonSettings
    from mga.prompt_comparison.tables import shown

    console = Console(stderr=True)
    if out is None:
        if len(inputs) == 1 and (Path(inputs[0]) / RECORD).is_file():
            folder = Path(inputs[0])
            comparison = compare_again(folder, console, quiet)
        else:
            raise InputError("Name the folder of the prompt comparison with --out.")
    else:
        folder = out
        given = tuple(name.strip() for name in variants.split(",") if name.strip())
        keys = load_config(config, {"engine": engine, "text_key": text_key, "id_key": id_key})
        check_documents(inputs, keys.text_key, keys.id_key)
        check_output(out, PROMPT_COMPARISON)
        generator = keys.engine
        longest = document_tokens or (DOCUMENT_TOKENS_EMBEDDED if generator in MODEL_SETTINGS else DOCUMENT_TOKENS)
        settings = PromptComparisonSettings(given, embedder, sample, longest, pairs, judged, repeats, seed)
        flags = {
            "engine": engine,
            "judge_engine": judge_engine,
            "text_key": text_key,
            "id_key": id_key,
            "concurrency": concurrency,
        }
        comparison = carry(inputs, folder, settings, config, flags, console, quiet)
    Console().print(shown(comparison))
    print(folder / "comparison.md")
    console.print(f"One page of it all: mga report {folder} --open", highlight=False, markup=False, soft_wrap=True)
