"""`mga expand` and `mga worker`: begin a run, continue it, take part in it, on one machine or many."""

import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mga import interrupts
from mga.checks import check_documents
from mga.cli.options import LogFile, MetricsAddress, MetricsFile, MetricsPort, option
from mga.config import ExpandConfig, Variant, load_config
from mga.errors import InputError, InterruptedRunError

if TYPE_CHECKING:
    from mga.expand.shard import ShardStats
    from mga.runs.monitoring.progress import Progress
    from mga.runs.run import Run

    Carry = Callable[[Progress], Coroutine[Any, Any, ShardStats | None]]

Quiet = Annotated[bool, typer.Option("--quiet", help="no progress")]
ASSUMED_TOKENS_PER_SECOND = 1000.0


def _share_or_word(value: str | None) -> str | float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return value


def expand(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help=ExpandConfig.model_fields["input"].description, metavar="INPUT..."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", help="folder of the run, new or to be continued: a path or a URL (s3://…)"),
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings; flags win")] = None,
    engine: Annotated[str | None, option("engine")] = None,
    judge_engine: Annotated[str | None, option("judge_engine")] = None,
    pairs: Annotated[int | None, option("pairs")] = None,
    pair_seeds: Annotated[
        bool | None,
        typer.Option("--pair-seeds/--no-pair-seeds", help="draw directions for pairs from built-in seeds"),
    ] = None,
    variant: Annotated[Variant | None, option("variant")] = None,
    judge: Annotated[str | None, option("judge", metavar="all|none|SHARE")] = None,
    min_score: Annotated[int | None, option("min_score")] = None,
    language: Annotated[str | None, option("language")] = None,
    limit: Annotated[int | None, option("limit")] = None,
    text_key: Annotated[str | None, option("text_key")] = None,
    id_key: Annotated[str | None, option("id_key")] = None,
    license_name: Annotated[str | None, option("license", "--license")] = None,
    concurrency: Annotated[int | None, option("concurrency")] = None,
    seed: Annotated[int | None, option("seed")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="ask no model: show the prompts, count, and estimate time and cost"),
    ] = False,
    tokens_per_second: Annotated[
        float | None,
        typer.Option(
            help="for --dry-run: generated tokens per second  [default: of the last run with this engine here]",
            min=0.001,
        ),
    ] = None,
    prompt_price: Annotated[float, typer.Option(help="for --dry-run: price of a million prompt tokens", min=0)] = 0.0,
    generated_price: Annotated[
        float, typer.Option(help="for --dry-run: price of a million generated tokens", min=0)
    ] = 0.0,
    quiet: Quiet = False,
    metrics_port: MetricsPort = None,
    metrics_address: MetricsAddress = "127.0.0.1",
    metrics_file: MetricsFile = None,
    log_file: LogFile = None,
    on: Annotated[str, typer.Option("--on", help="who carries the work: local, ray, ray:ADDRESS or slurm")] = "local",
    workers: Annotated[int, typer.Option("--workers", help="processes that share the work", min=1)] = 1,
    gpus: Annotated[float, typer.Option("--gpus", help="ray, slurm: GPUs for each worker", min=0)] = 0,
    cpus: Annotated[int, typer.Option("--cpus", help="ray, slurm: cores for each worker", min=1)] = 1,
    partition: Annotated[str | None, typer.Option("--partition", help="slurm: partition")] = None,
    account: Annotated[str | None, typer.Option("--account", help="slurm: account")] = None,
    time_limit: Annotated[str | None, typer.Option("--time", help="slurm: time limit of each worker")] = None,
    sbatch: Annotated[list[str] | None, typer.Option("--sbatch", help="slurm: another option, as it is")] = None,
    print_script: Annotated[
        bool, typer.Option("--print-script", help="slurm: prepare the folder and print the script; submit nothing")
    ] = False,
) -> None:
    """Rewrite every document for several genres and audiences, judge and clean the texts.

    Run the same command again to continue a run that was stopped. Several of them, on any machines that see the
    folder, share the work.
    """
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
        "license": license_name,
        "concurrency": concurrency,
        "seed": seed,
        "input": inputs or None,
        "pairing": {"seeds": pair_seeds},
    }
    settings = load_config(config, flags)
    check_documents(settings.input, settings.text_key, settings.id_key)
    if dry_run:
        _dry_run(settings, tokens_per_second, prompt_price, generated_price)
        return
    if out is None:
        raise InputError("Name the folder of the run with --out.")

    from mga.runs.monitoring.watch import Watching
    from mga.runs.run import Run

    executor, _, address = on.partition(":")
    run = Run(out)
    watching = Watching(metrics_port, metrics_address, metrics_file, log_file)
    if executor != "local" and watching != Watching():
        raise InputError("Metrics and logs are those of a worker; --on local has one, and mga top sees all of them.")
    if executor == "slurm":
        from mga.runs.executors.slurm import Job, prepare, submit

        if gpus != int(gpus):
            raise InputError(f"Slurm gives whole GPUs, not {gpus}; choose another --gpus.")
        options = [f"--{name}={value}" for name, value in (("partition", partition), ("account", account)) if value]
        job = Job(run.folder, workers, int(gpus), cpus, time_limit, (*options, *(sbatch or ())))
        if print_script:
            print(prepare(settings, run, job), end="")
        else:
            print(submit(settings, run, job))
        return
    if executor == "ray":
        from mga.runs.executors.ray import Cluster, expand_on_ray

        carry: Carry = partial(expand_on_ray, settings, run, Cluster(address, workers, gpus, cpus))
    elif on == "local":
        from mga.runs.executors.local import expand_here

        carry = partial(expand_here, settings, run, workers, watching=watching)
    else:
        raise InputError(f"Unknown --on {on!r}; there are: local, ray, ray:ADDRESS, slurm.")
    _carry(run, carry, settings, quiet, here=executor == "local")


def worker(
    run: Annotated[str, typer.Argument(help="folder of a run that mga expand has begun", metavar="RUN")],
    shard: Annotated[int | None, typer.Option("--shard", help="do this shard alone", min=0)] = None,
    submitted: Annotated[
        str | None, typer.Option("--submitted", help="id of the settings it was started for", hidden=True)
    ] = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="end when standard input closes", hidden=True)
    ] = False,
    quiet: Quiet = False,
    metrics_port: MetricsPort = None,
    metrics_address: MetricsAddress = "127.0.0.1",
    metrics_file: MetricsFile = None,
    log_file: LogFile = None,
) -> None:
    """Take part in a run: claim shards nobody works on, expand and publish them, until none is left.

    Workers may come and go at any time. What the executors start; also by hand, on any machine that sees the folder.
    """
    from mga.runs.executors.local import end_with_parent
    from mga.runs.executors.local import expand as carry
    from mga.runs.monitoring.watch import Watching
    from mga.runs.run import Run

    if with_parent:
        end_with_parent()
    folder = Run(run)
    watching = Watching(metrics_port, metrics_address, metrics_file, log_file)
    settings = folder.join(submitted)
    _carry(folder, partial(carry, settings, folder, watching=watching, wait=False, only=shard), settings, quiet)


def _carry(run: "Run", carry: "Carry", settings: ExpandConfig, quiet: bool, *, here: bool = True) -> None:
    """Do the work with its progress on the screen; then say what has come of it, and remember how fast the engine was
    when it was all on this machine (`here`)."""

    from rich.console import Console
    from rich.text import Text

    from mga.data.store import exists
    from mga.engines.speed import note_speed
    from mga.runs.monitoring.progress import Progress
    from mga.runs.monitoring.session import all_sessions
    from mga.runs.run import CONTINUE
    from mga.runs.show import totals

    console = Console(stderr=True)
    try:
        stats = interrupts.run(carry(Progress(console, quiet)))
    except KeyboardInterrupt:
        if not exists(run.folder / "run.json"):
            raise InterruptedRunError("Stopped before the work began.") from None
        if not run.is_complete():
            raise InterruptedRunError(f"Stopped. Every reply received is kept in {run.folder}; {CONTINUE}.") from None
        stats = None
    if stats is None:
        console.print("Nothing is left to begin here; mga status tells how far the run is.")
        return
    sessions = all_sessions(run.folder)
    if here:
        note_speed(settings.engine, settings.judge_engine, sessions.spent.generated_tokens, sessions.seconds)
    console.print(totals(stats, settings.pairs))
    console.print(Text(str(sessions), style="dim"), soft_wrap=True)
    print(run.folder)
    if stats.outcomes.get("failed", 0) == sum(stats.outcomes.values()):
        sys.exit(1)


def _speed(settings: ExpandConfig, given: float | None) -> tuple[float, str]:
    """Generated tokens per second to reckon with, and where the figure is from."""
    from mga.engines.speed import known_speed

    if given is not None:
        return given, "as given"
    if known := known_speed(settings.engine, settings.judge_engine):
        return known.tokens_per_second, f"measured on this machine, {known.measured}"
    return ASSUMED_TOKENS_PER_SECOND, "assumed: this engine has not worked here yet (--tokens-per-second)"


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def _dry_run(settings: ExpandConfig, given: float | None, prompt_price: float, generated_price: float) -> None:

    from mga.data.documents import find_files
    from mga.planning.estimate import estimate
    from mga.terminal import printable

    speed, basis = _speed(settings, given)
    found = interrupts.run(estimate(settings, find_files(settings.input)))
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
    print(f"hours             {found.hours(speed):>16,.2f}   at {_rate(speed)} generated tokens per second, {basis}")
    if prompt_price or generated_price:
        cost = found.cost(prompt_price, generated_price)
        print(f"cost              {cost:>16,.2f}   at {prompt_price} and {generated_price} per million tokens")
