"""The commands `mga budget plan`, `count`, `pack` and `trace`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mga.cli.group import Command, Group
from mga.cli.options import CorpusFiles, Out, TextKey, Workers, threads
from mga.errors import InputError
from mga.packages import require

budget = typer.Typer(
    help="Divide a token budget among sources, count tokens, and pack them for training.",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
)

RecipeName = Annotated[str, typer.Argument(help="a TOML file, or paper-… as it comes with mga", metavar="RECIPE")]
TokenizerName = Annotated[
    str | None,
    typer.Option("--tokenizer", help="tokenizer.json, a folder with one, a GGUF file, or smollm2-135m", metavar="FILE"),
]
Separator = Annotated[str | None, typer.Option("--separator", help="token that ends a document, if not the usual one")]
STRATEGIES = "repeat, collect-more, upsample, expand, only-synthetic or weights, whatever the recipe says"


@budget.command("plan", cls=Command)
def plan(
    recipe: RecipeName,
    strategy: Annotated[str | None, typer.Option("--strategy", help=STRATEGIES)] = None,
    tokens: Annotated[str | None, typer.Option("--budget", help="tokens to train on: 500B", metavar="TOKENS")] = None,
    expansion: Annotated[
        float, typer.Option("--expansion", help="tell what rewrites of so many times the tokens would buy", min=0.1)
    ] = 4.0,
    as_json: Annotated[bool, typer.Option("--json", help="the plan as JSON")] = False,
) -> None:
    """Tell how often each source is seen, and what that is worth."""
    from mga.mixture.plan import plan as divided
    from mga.mixture.plan import purchases
    from mga.mixture.recipe import load_recipe
    from mga.mixture.repetition import MOST_DISCOUNT

    read = load_recipe(recipe, {"strategy": strategy, "budget": tokens})
    found = divided(read)
    bought = purchases(found, expansion)
    if as_json:
        _print_json(found, bought)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from mga.mixture.amounts import shown

    table = Table(title=f"{shown(found.budget)} tokens, {found.strategy}", title_justify="left", box=None)
    for name in ("source", "weight", "unique", "epochs", "tokens", "effective unique", "discounted"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for share in found.shares:
        cells = (f"{share.weight:.2%}", shown(share.unique), f"{share.epochs:.2f}", shown(share.tokens))
        table.add_row(escape(share.name), *cells, shown(share.effective), _range(*share.discounted))
    unique = sum(share.unique for share in found.shares)
    cells = ("", shown(unique), f"{found.budget / unique:.2f}", shown(found.budget))
    table.add_row("together", *cells, shown(found.effective), _range(*found.discounted))
    console = Console(soft_wrap=True, highlight=False)
    console.width = max(console.width, 110)  # a narrow screen breaks lines, not figures
    console.print(table)
    print("effective unique: unique tokens that would teach as much (Muennighoff et al. 2023, arXiv 2305.16264).")
    if any(most for share in found.shares for most in share.discounts):
        print(
            "discounted: a token of rewrites may teach less than one of new text. What is unknown is shown from "
            f"{1 - MOST_DISCOUNT:.1%} (32 rewrites a document, arXiv 2603.18534) to all of it (arXiv 2510.01631, "
            "2502.04235); set `discount` of the source to what you have measured."
        )
    for warning in found.warnings():
        print(f"warning: {warning}")
    for one in bought:
        print(
            f"Rewriting {one.name} {one.factor:g}×: {one.before:.2f} epochs become {one.after:.2f}; "
            f"{_signed(one.gained)} effective unique tokens if a rewrite taught as much as a new text, "
            f"{_signed(one.gained_at_least)} with the most that is known to be discounted."
        )


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _range(low: float, high: float) -> str:
    from mga.mixture.amounts import shown

    return shown(high) if low == high else f"{shown(low)} … {shown(high)}"


def _signed(tokens: float) -> str:
    from mga.mixture.amounts import shown

    return f"{'−' if tokens < 0 else '+'}{shown(abs(tokens))}"


def _print_json(found: Any, bought: Any) -> None:
    from dataclasses import asdict

    from mga.data.store import as_json

    shares = [
        {**asdict(s), "epochs": s.epochs, "effective": s.effective, "discounted": s.discounted} for s in found.shares
    ]
    figures = {"budget": found.budget, "effective": found.effective, "discounted": found.discounted}
    value = {"strategy": found.strategy.value, **figures, "sources": shares}
    print(as_json({**value, "warnings": found.warnings(), "expansions": [asdict(one) for one in bought]}).decode())


@budget.command("count", cls=Command)
def count(
    corpus: CorpusFiles,
    tokenizer: TokenizerName = None,
    separator: Separator = None,
    text_key: TextKey = "text",
    workers: Workers = None,
) -> None:
    """Count the tokens of a corpus."""
    require("mga budget count", "corpus", "numpy", "tokenizers")
    import time

    from mga.checks import open_checked
    from mga.packing.count import count as counted
    from mga.packing.tokenizer import load_tokenizer

    if tokenizer is None:
        raise InputError("Name the tokenizer with --tokenizer.")
    files = open_checked(corpus, text_key)
    loaded = load_tokenizer(tokenizer, separator)
    began = time.monotonic()
    found = counted(files, loaded, threads(workers))
    seconds = max(time.monotonic() - began, 1e-9)
    print(f"documents {found.documents:>18,}   ({found.empty:,} without text)")
    print(f"bytes     {found.bytes:>18,}   {seconds:,.1f} s, {found.bytes / seconds / 1e6:,.1f} MB/s")
    print(f"tokens    {found.tokens:>18,}   {found.bytes / max(found.tokens, 1):.2f} bytes each")
    print(f"unique    {found.unique:>18,}   with the separator {loaded.separator_token} behind each; for a recipe")


@budget.command("pack", cls=Command)
def pack(
    recipe: RecipeName,
    out: Out,
    tokenizer: TokenizerName = None,
    separator: Separator = None,
    strategy: Annotated[str | None, typer.Option("--strategy", help=STRATEGIES)] = None,
    tokens: Annotated[str | None, typer.Option("--budget", help="tokens to train on: 500M", metavar="TOKENS")] = None,
    sequence: Annotated[int | None, typer.Option("--sequence", help="tokens per sequence [default: 8192]")] = None,
    packing: Annotated[str | None, typer.Option("--packing", help="best-fit or concatenate")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="seed of every random draw [default: 0]", min=0)] = None,
    workers: Workers = None,
) -> None:
    """Draw, tokenize, shuffle and pack a recipe's texts into sequences for training.

    Run the same command again to continue where it was stopped.
    """
    require("mga budget pack", "corpus", "numpy", "tokenizers")
    import sys
    import time

    from mga.data.output_folder import PACK, check_output
    from mga.mixture.recipe import load_recipe
    from mga.packing.pack import check as check_recipe
    from mga.packing.pack import pack as work
    from mga.packing.tokenizer import load_tokenizer

    settings = {"sequence": sequence, "packing": packing, "seed": seed, "separator": separator}
    read = load_recipe(recipe, {"strategy": strategy, "budget": tokens, "tokenizer": tokenizer, "pack": settings})
    if read.tokenizer is None:
        raise InputError("Name the tokenizer with --tokenizer, or in the recipe.")
    check_output(out, PACK)
    check_recipe(read)
    began = time.monotonic()
    loaded = load_tokenizer(read.tokenizer, read.pack.separator)
    done = work(read, loaded, out, threads(workers), lambda line: print(line, file=sys.stderr))
    train = done["counts"]["train"]
    held = {name: counts["tokens"] for name, counts in done["counts"]["validation"].items()}
    print(f"{'source':24} {'unique':>16} {'epochs':>8} {'planned':>16} {'packed':>16} {'held out':>14}")
    for source in read.source:
        share = done["plan"].get(source.name, {"unique": 0, "epochs": 0, "tokens": 0})
        print(
            f"{source.name:24} {share['unique']:>16,.0f} {share['epochs']:>8.2f} {share['tokens']:>16,.0f} "
            f"{train['by_source'][source.name]:>16,} {held.get(source.name, 0):>14,}"
        )
    room = max(train["sequences"] * read.pack.sequence, 1)
    print(
        f"{_many(train['sequences'], 'sequence')} of {read.pack.sequence:,} tokens in "
        f"{_many(train['shards'], 'shard')}, {train['padding'] / room:.2%} padding, {_many(train['cut'], 'cut')} in "
        f"{_many(train['documents'], 'document')}; "
        f"{time.monotonic() - began:,.1f} s"
    )
    print(out)


@budget.command("trace", cls=Command)
def trace(
    data: Annotated[Path, typer.Argument(help="folder of `mga budget pack`, or its validation/SOURCE", metavar="DATA")],
    sequence: Annotated[int, typer.Argument(help="from 0", metavar="SEQUENCE")],
    position: Annotated[int, typer.Argument(help="from 0", metavar="POSITION")],
) -> None:
    """Tell which text, and which epoch of it, a token of packed data is from."""
    require("mga budget trace", "corpus", "numpy")
    from dataclasses import asdict

    from mga.packing.packed import open_packed

    packed = open_packed(data)
    origin = packed.trace(sequence, position)
    print(f"token     {packed[sequence][position]}")
    if origin is None:
        print("padding")
        return
    for name, value in asdict(origin).items():
        print(f"{name:9} {value!r}" if isinstance(value, str) else f"{name:9} {value}")
