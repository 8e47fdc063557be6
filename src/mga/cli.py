"""The front door: one verb per command. Errors are one sentence and an exit code.

Exit codes: 0 done · 1 done, but every text failed · 2 something to put right first · 130 stopped by Ctrl-C.
"""

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mga.config import ExpandConfig, Variant, load_config
from mga.errors import InputError, MgaError
from mga.verbs.budget import budget
from mga.verbs.clean import clean
from mga.verbs.decontaminate import decontaminate
from mga.verbs.dedup import dedup
from mga.verbs.diversity import diversity
from mga.verbs.patterns import patterns

app = typer.Typer(
    help="Expand a pretraining corpus by genre-audience reformulation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunFolder = Annotated[Path, typer.Argument(help="folder of a run", metavar="RUN")]


def main() -> None:
    """Run the command line; turn our errors into a sentence and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows another in its place
            stream.reconfigure(errors="replace")
    try:
        app()
    except MgaError as error:
        from mga.runs.on_this_machine import InterruptedRunError

        print(f"mga: {error}", file=sys.stderr)
        sys.exit(130 if isinstance(error, InterruptedRunError) else 2)
    except KeyboardInterrupt:
        print("mga: stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def _option(name: str, *flags: str, **more: Any) -> Any:
    """A flag whose help and default come from the setting of the same name."""
    field = ExpandConfig.model_fields[name]
    default = "" if field.default is None else f" [default: {field.default}]"
    return typer.Option(*flags, help=f"{field.description}{default}", show_default=False, **more)


def _share_or_word(value: str | None) -> str | float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return value


@app.command()
def expand(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help=ExpandConfig.model_fields["input"].description, metavar="INPUT..."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder of the run, new or to be continued")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings; flags win")] = None,
    engine: Annotated[str | None, _option("engine")] = None,
    judge_engine: Annotated[str | None, _option("judge_engine")] = None,
    pairs: Annotated[int | None, _option("pairs")] = None,
    pair_seeds: Annotated[
        bool | None,
        typer.Option("--pair-seeds/--no-pair-seeds", help="draw directions for pairs from built-in seeds"),
    ] = None,
    variant: Annotated[Variant | None, _option("variant")] = None,
    judge: Annotated[str | None, _option("judge", metavar="all|none|SHARE")] = None,
    min_score: Annotated[int | None, _option("min_score")] = None,
    language: Annotated[str | None, _option("language")] = None,
    limit: Annotated[int | None, _option("limit")] = None,
    text_key: Annotated[str | None, _option("text_key")] = None,
    id_key: Annotated[str | None, _option("id_key")] = None,
    concurrency: Annotated[int | None, _option("concurrency")] = None,
    seed: Annotated[int | None, _option("seed")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="ask no model: show the prompts, count, and estimate time and cost"),
    ] = False,
    tokens_per_second: Annotated[
        float, typer.Option(help="for --dry-run: generated tokens per second", min=0.001)
    ] = 1000.0,
    prompt_price: Annotated[float, typer.Option(help="for --dry-run: price of a million prompt tokens", min=0)] = 0.0,
    generated_price: Annotated[
        float, typer.Option(help="for --dry-run: price of a million generated tokens", min=0)
    ] = 0.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Rewrite every document for several genres and audiences, judge and clean the texts.

    Run the same command again to continue a run that was stopped.
    """
    import asyncio

    from rich.console import Console
    from rich.text import Text

    flags: dict[str, Any] = {
        "engine": engine,
        "judge_engine": judge_engine,
        "pairs": pairs,
        "variant": variant,
        "judge": _share_or_word(judge),
        "min_score": min_score,
        "language": language,
        "limit": limit,
        "text_key": text_key,
        "id_key": id_key,
        "concurrency": concurrency,
        "seed": seed,
        "input": inputs or None,
        "pairing": {"seeds": pair_seeds},
    }
    settings = load_config(config, flags)
    if dry_run:
        _dry_run(settings, tokens_per_second, prompt_price, generated_price)
        return
    if out is None:
        raise InputError("Name the folder of the run with --out.")

    from mga.runs.on_this_machine import InterruptedRunError
    from mga.runs.on_this_machine import expand as carry
    from mga.runs.progress import Progress
    from mga.runs.run import Run
    from mga.runs.session import all_sessions
    from mga.runs.show import totals

    console = Console(stderr=True)
    try:
        stats = asyncio.run(carry(settings, Run(out), Progress(console, quiet)))
    except KeyboardInterrupt:
        raise InterruptedRunError("Stopped before the work began.") from None
    console.print(totals(stats, settings.pairs))
    console.print(Text(str(all_sessions(out)), style="dim"), soft_wrap=True)
    print(out)
    if stats.outcomes.get("failed", 0) == sum(stats.outcomes.values()):
        sys.exit(1)


def _dry_run(settings: ExpandConfig, speed: float, prompt_price: float, generated_price: float) -> None:
    import asyncio

    from mga.documents import find_files
    from mga.runs.estimate import estimate
    from mga.runs.show import printable

    found = asyncio.run(estimate(settings, find_files(settings.input)))
    for task, prompt in found.prompts.items():
        print(f"──── prompt: {task} ────\n{printable(prompt)}")
    print("──── estimate ────")
    for problem in found.problems:
        print(f"skipped: {problem}")
    print(f"documents         {found.documents:>16,}   (skipped input: {len(found.problems):,})")
    print(f"chunks            {found.chunks:>16,}")
    print(f"document tokens   {found.source_tokens:>16,}   estimated from characters")
    print(f"requests          {found.requests:>16,}")
    print(f"prompt tokens     {found.prompt_tokens:>16,}   of them {found.shared_prompt_tokens:,} repeat a document")
    print(f"generated tokens  {found.generated_tokens:>16,}")
    print(f"hours             {found.hours(speed):>16,.2f}   at {speed:,.0f} generated tokens per second")
    if prompt_price or generated_price:
        cost = found.cost(prompt_price, generated_price)
        print(f"cost              {cost:>16,.2f}   at {prompt_price} and {generated_price} per million tokens")


@app.command("tune-engine")
def tune_engine(
    engine: Annotated[str, typer.Argument(help="a llamacpp: engine", metavar="ENGINE")] = "llamacpp:smollm2-135m",
) -> None:
    """Find the settings with which llama.cpp works fastest on this machine, and save them for later runs.

    Takes some minutes; nothing else should be running.
    """
    from rich.console import Console

    from mga.runs.tune import shown, tune

    console = Console(stderr=True)
    found = tune(engine, lambda line: console.print(line, soft_wrap=True, highlight=False))
    if found.file is None:
        print("The settings stay as they are; no others were faster.")
    else:
        print(f"{found.after / found.before:.2f} × as fast as before: {shown(found.settings)}")
        print(f"Saved in {found.file}.")


@app.command()
def status(run: RunFolder) -> None:
    """Tell how far a run is and what it has counted."""
    from rich.console import Console

    from mga.runs.run import Run
    from mga.runs.show import status as status_of

    Console().print(status_of(Run(run)))


@app.command()
def show(
    run: RunFolder,
    n: Annotated[int, typer.Option("--n", "-n", help="how many documents", min=1)] = 3,
    dropped: Annotated[bool, typer.Option("--dropped", help="what was not kept, with the reasons")] = False,
) -> None:
    """Show documents beside what was written from them."""
    from rich.console import Console

    from mga.runs.run import Run
    from mga.runs.show import examples

    console = Console()
    for example in examples(Run(run), n, dropped, console):
        console.print(example)


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(help="folder to write", metavar="OUT")],
    schema: Annotated[str, typer.Option("--schema", help="plain, or mgacorpus: the published layout")] = "plain",
) -> None:
    """Write the kept texts in another layout."""
    from mga.runs.export import export as write
    from mga.runs.run import Run

    rows = write(Run(run), schema, out)
    print(f"{rows:,} rows in {out}")


for verb in (clean, patterns, dedup, decontaminate, diversity):
    app.command()(verb)
app.add_typer(budget, name="budget")


if __name__ == "__main__":
    main()
