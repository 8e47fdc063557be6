"""The command `mga plan`."""

from pathlib import Path
from typing import Annotated

import typer

SOME_SERVER = "http://127.0.0.1:8000/v1#model"
SIZES = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def plan(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="the corpus: files, folders, globs or fsspec URLs; or --tokens", metavar="INPUT..."),
    ] = None,
    measured: Annotated[
        Path | None, typer.Option("--measured", help="folder of a small run with the same model and settings")
    ] = None,
    measured_gpus: Annotated[int, typer.Option("--measured-gpus", help="GPUs of that run", min=1)] = 1,
    gpus: Annotated[int | None, typer.Option("--gpus", help="GPUs: how many hours?", min=1)] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="hours: how many GPUs?", min=0.01)] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option("--tokens-per-second", help="generated tokens per second and GPU", min=0.001)
    ] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="tokens of a corpus not at hand: 195B")] = None,
    documents: Annotated[str | None, typer.Option("--documents", help="its documents: 190M")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file with settings, without a run")] = None,
    pairs: Annotated[int | None, typer.Option("--pairs", help="without a run: pairs per document", min=1)] = None,
    judge: Annotated[str | None, typer.Option("--judge", help="without a run: all, none or a share")] = None,
    text_key: Annotated[str | None, typer.Option("--text-key", help="column or field of the text")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="only so many documents", min=1)] = None,
    shard_size: Annotated[int | None, typer.Option("--shard-size", help="input rows per shard", min=1)] = None,
    gpus_per_worker: Annotated[int, typer.Option("--gpus-per-worker", help="GPUs per replica", min=1)] = 1,
    speed_spread: Annotated[
        float, typer.Option("--speed-spread", help="how workers differ in speed: 0.1 is a tenth", min=0, max=2)
    ] = 0.1,
    gpu_lifetime: Annotated[
        float, typer.Option("--gpu-lifetime", help="hours until a GPU fails or is taken away, on average", min=0.01)
    ] = 50_000.0,
    start_minutes: Annotated[float, typer.Option(help="until a new worker's first request", min=0)] = 5.0,
    replace_minutes: Annotated[float, typer.Option(help="from a death until another worker is started", min=0)] = 10.0,
    lease_seconds: Annotated[
        float | None, typer.Option(help="until a dead worker's shard is taken again  [default: that of mga]", min=0)
    ] = None,
    gpu_price: Annotated[float, typer.Option(help="price of a GPU for an hour", min=0)] = 0.0,
    prompt_price: Annotated[float, typer.Option(help="price of a million prompt tokens", min=0)] = 0.0,
    generated_price: Annotated[float, typer.Option(help="price of a million generated tokens", min=0)] = 0.0,
    seeds: Annotated[int, typer.Option("--seeds", help="simulated runs", min=2, max=1000)] = 20,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file to write the plan to")] = None,
) -> None:
    """Tell tokens, shards, GPUs, hours, storage and cost of a whole job, from a small run of it.

    Asks no model and reads a sample of the corpus.
    """
    from dataclasses import replace

    from rich.console import Console

    from mga import interrupts
    from mga.checks import check_documents, check_kind
    from mga.config import load_config
    from mga.data.documents import find_files
    from mga.data.output_folder import RUN
    from mga.data.store import write_json
    from mga.errors import InputError
    from mga.planning.corpus_size import measure_corpus, stated_corpus
    from mga.planning.forecast import Prices, forecast, forecast_for, work_of
    from mga.planning.measured import LOST_S, expected_demand, longest_document
    from mga.planning.measured import measured as read_run
    from mga.planning.simulation import Fleet
    from mga.planning.table import as_values, shown
    from mga.runs.claims import LEASE_S

    if (gpus is None) == (hours is None):
        raise InputError("Give either --gpus or --hours: the other one is what the plan tells.")
    if (measured is None) == (tokens_per_second is None):
        raise InputError("Give either --measured RUN, a small run of the same job, or --tokens-per-second of a GPU.")
    if measured and (config or pairs or judge):
        raise InputError("With --measured the run's own settings count; leave out --config, --pairs and --judge.")
    if bool(inputs) == bool(tokens and documents) or bool(tokens) != bool(documents):
        raise InputError("Name the corpus by its files, or by both --tokens and --documents.")
    if out and out.is_dir():
        raise InputError(f"{out} is a folder; name a file with --out.")

    if measured:
        check_kind(measured, RUN)
        run = read_run(measured)
        settings, context, demand, notes = run.config, run.context, run.demand, run.notes
        rate, lost_s = run.rate / measured_gpus, run.lost_s
        device = "CPU machine" if run.on_cpu else "GPU"
    else:
        flags = {"pairs": pairs, "judge": _share_or_word(judge)}
        settings = load_config(config, flags)
        if "engine" not in settings.model_fields_set:  # the embedded model has settings of its own; nobody plans for it
            settings = load_config(config, flags | {"engine": SOME_SERVER})
        context, demand, notes = None, interrupts.run(expected_demand(settings)), ()
        rate, lost_s, device = tokens_per_second or 0.0, LOST_S, "GPU"
    if inputs:
        check_documents(inputs, text_key or settings.text_key)
    longest = interrupts.run(longest_document(settings, context))
    if inputs:
        with Console(stderr=True).status("looking into the corpus"):
            at_once = longest / demand.tokens_per_estimate
            size = measure_corpus(find_files(inputs), text_key or settings.text_key, max(1, int(at_once)), limit)
    else:
        size = stated_corpus(_number(tokens, "--tokens"), _number(documents, "--documents"), longest, limit)
        size = replace(size, tokens=size.tokens * (1 / demand.tokens_per_estimate))

    work = work_of(size, demand, shard_size or settings.shard_size)
    fleet = Fleet(
        workers=-(-(gpus or 1) // gpus_per_worker),
        spread=speed_spread,
        lifetime_s=gpu_lifetime * 3600 / gpus_per_worker,
        start_s=start_minutes * 60,
        replace_s=replace_minutes * 60,
        lease_s=LEASE_S if lease_seconds is None else lease_seconds,
        lost_s=lost_s,
    )
    with Console(stderr=True).status("simulating"):
        if hours is None:
            found = forecast(work, rate, fleet, gpus_per_worker, seeds)
        else:
            found = forecast_for(hours, work, rate, fleet, gpus_per_worker, seeds)
    prices = Prices(gpu_price, prompt_price, generated_price)
    Console().print(shown(work, found, prices, notes, device))
    if out:
        write_json(out, as_values(work, found, prices))
        print(out)


def _number(given: str | None, flag: str) -> float:
    """195B, 190M, 1.5e9, 1_000."""
    from mga.errors import InputError

    text = (given or "").strip().upper().replace(",", "")
    factor = SIZES.get(text[-1:], 1.0)
    try:
        value = float(text[:-1] if text[-1:] in SIZES else text) * factor
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e18:
        raise InputError(f"{flag} {given!r} is not a number above 1; write 195B, 190M or 1500.")
    return value


def _share_or_word(value: str | None) -> str | float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return value
