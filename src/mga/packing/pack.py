"""From a recipe to sequences on disk. Read `pack` first: it is the table of contents.

pack.json            recipe, plan and settings; with `counts` once all is done
train/               shards (mga.packing.shard)
validation/SOURCE/   held-out texts of each source, packed once, by concatenation
documents/SOURCE/    where each text came from, and whether it is held out
tokenizer.json       what the ids mean
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mga.checks import check_corpus
from mga.data.corpus_files import ordered
from mga.data.output_folder import PACK, OutputFolder, open_output
from mga.data.store import read_json, write_atomically, write_json
from mga.engine_uri import public_uri
from mga.errors import InputError
from mga.mixture.plan import Plan, check_strategy, plan
from mga.mixture.recipe import Recipe
from mga.packing.draw import Histogram, Part, Shelves, Times, draws, read_part
from mga.packing.held_out import HeldOutSet, held_out_set
from mga.packing.shard import Layout, write_shard
from mga.packing.texts import corpus_of
from mga.packing.tokenise import Folders, tokenise
from mga.packing.tokenizer import Tokenizer

Say = Callable[[str], None]


def pack(recipe: Recipe, tokenizer: Tokenizer, out: Path, workers: int, say: Say) -> dict[str, Any]:
    """Draw, tokenize, shuffle and pack what a recipe says into the folder `out`, or continue there; returns
    what pack.json holds. Raises InputError when the folder holds something else, and for what `check` refuses."""
    check(recipe)
    rule = None if (out / "pack.json").exists() else held_out_set(recipe)
    with _folder(out, recipe, tokenizer) as folder:
        if folder.is_complete:  # a kill may have come before the end of `_finish`
            shutil.rmtree(out / ".scratch", ignore_errors=True)
            return folder.record
        write_atomically(out / "tokenizer.json", tokenizer.definition.encode())
        folders = Folders(out / "documents", out / ".scratch" / "tokens")
        _tokenise(recipe, tokenizer, rule, folders, workers, say)

        def parts(source: int) -> Iterator[Part]:
            one = recipe.source[source]
            for table in folders.parts(one.name):
                yield read_part(folders, one.name, salt(recipe.pack.seed, source), table, one.megadocs)

        plan_, times = divided(recipe, parts)
        for warning in plan_.warnings():
            say(warning)
        layout = _layout(recipe, tokenizer)
        counts = {
            "train": _pack_training(recipe, plan_, times, parts, folders, layout, out, workers),
            "validation": _pack_validation(recipe, folders, layout, out),
        }
        return _finish(folder, plan_, counts)


def check(recipe: Recipe) -> None:
    """What can be known before texts are tokenized. Raises InputError when the strategy lacks something, a source has
    no files, or a file lacks a column."""
    check_strategy(recipe)
    for source in recipe.source:
        if not source.paths:
            raise InputError(f"Source {source.name} has no `paths`: where are its texts?")
    for source in recipe.source:
        others = {"source_key": source.source_key} if source.source_key else None
        try:
            check_corpus(corpus_of(source), others, text_option="text_key", id_option="id_key")
        except InputError as error:
            raise InputError(f"Source {source.name}: {error}") from error


def _folder(out: Path, recipe: Recipe, tokenizer: Tokenizer) -> AbstractContextManager[OutputFolder]:
    """Take the folder for this process, new or with the same work begun. Until training data are written, how texts are
    divided and packed may change: the texts that are tokenized already are kept."""
    identity = _identity(recipe, tokenizer)

    def is_tokenised_alike(held: Mapping[str, Any]) -> bool:
        return not ((out / "train").exists() or "counts" in held) and _of_texts(held) == _of_texts(identity)

    about = {"vocabulary": tokenizer.vocabulary, "dtype": tokenizer.dtype.str, "mga": version("mga")}
    return open_output(out, PACK, identity, about, may_replace=is_tokenised_alike)


def _identity(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Any]:
    described = recipe.model_dump(mode="json", exclude={"note", "tokenizer"})
    for source in described["source"]:
        source["paths"] = [public_uri(path) for path in source["paths"]]
        del source["discount"]  # which decides no token
    return {
        "recipe": described,
        "tokenizer": {"fingerprint": tokenizer.fingerprint, "separator": tokenizer.separator_token},
        "corpora": {source.name: corpus_of(source).fingerprint for source in recipe.source},
    }


def _of_texts(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What of an identity decides how texts are tokenized and held out."""
    recipe = identity["recipe"]
    keys = ("name", "expands", "paths", "text_key", "id_key", "source_key")
    return {
        "sources": [{key: source.get(key) for key in keys} for source in recipe["source"]],
        "held_out": recipe["pack"]["held_out"],
        "seed": recipe["pack"]["seed"],
        **{name: identity[name] for name in ("tokenizer", "corpora")},
    }


def _tokenise(
    recipe: Recipe, tokenizer: Tokenizer, rule: HeldOutSet | None, folders: Folders, workers: int, say: Say
) -> None:
    done = folders.ids.parent / "tokenised.json"
    if done.exists():
        return
    read = 0
    for name, size in tokenise(recipe.source, tokenizer, rule or held_out_set(recipe), folders, workers):
        if read // (1 << 30) != (read + size) // (1 << 30):
            say(f"{(read + size) / 1e9:,.0f} GB of text tokenized, at {name}")
        read += size
    write_json(done, {"bytes": read})


def divided(recipe: Recipe, parts: Callable[[int], Iterable[Part]]) -> tuple[Plan, dict[str, Times]]:
    """How the budget is divided among the texts in the parts of each source (given its number in the recipe), and how
    often those are seen. Raises InputError when the recipe's numbers and the texts do not go together."""
    histograms = {source.name: Histogram() for source in recipe.source}
    for i, source in enumerate(recipe.source):
        for part in parts(i):
            free = ~part.held_out
            histograms[source.name].add(part.keys[free], part.lengths[free] + 1)
    counts = {name: float(histogram.tokens.sum()) for name, histogram in histograms.items()}
    sources = [source.model_copy(update={"unique": counts[source.name] or None}) for source in recipe.source]
    plan_ = plan(recipe.model_copy(update={"source": tuple(sources)}), counts)
    wanted = {share.name: share.tokens for share in plan_.shares}
    return plan_, {name: histogram.times(wanted.get(name, 0.0)) for name, histogram in histograms.items()}


def salt(seed: int, source: int) -> int:
    """What makes the random numbers of a source's texts differ from another's, and from another seed's."""
    return (seed * 1_000_003 + source * 7_777_777 + 1) % 2**63


def _layout(recipe: Recipe, tokenizer: Tokenizer) -> Layout:
    joiner, _ = tokenizer.encode([recipe.pack.joiner])
    megadocs = tuple(i for i, source in enumerate(recipe.source) if source.megadocs)
    settings = recipe.pack
    return Layout(
        settings.sequence,
        settings.packing == "best-fit",
        tokenizer.separator,
        joiner,
        megadocs,
        tokenizer.dtype,
        tokenizer.name,
        settings.seed,
    )


def _pack_training(
    recipe: Recipe,
    plan_: Plan,
    times: dict[str, Times],
    parts: Callable[[int], Iterable[Part]],
    folders: Folders,
    layout: Layout,
    out: Path,
    workers: int,
) -> dict[str, Any]:
    shards = max(1, round(plan_.budget / recipe.pack.shard_tokens))
    shelves = Shelves(folders.ids.parent / "draws", shards)
    for i, source in enumerate(recipe.source):
        for part in parts(i):
            shelves.add(draws(part, i, times[source.name], ~part.held_out))
    shelves.flush()
    names = [source.name for source in recipe.source]

    def work(number: int) -> dict[str, Any]:
        path = out / "train" / f"{number:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.with_suffix(".json").exists():
            return dict(read_json(path.with_suffix(".json")))
        return write_shard(path, shelves.shard(number), names, folders, layout, number)

    return _summed(ordered(work, range(shards), workers), layout)


def _pack_validation(recipe: Recipe, folders: Folders, layout: Layout, out: Path) -> dict[str, Any]:
    names = [source.name for source in recipe.source]
    counts: dict[str, Any] = {}
    for i, source in enumerate(recipe.source):
        path = out / "validation" / source.name / "00000"
        shelves = Shelves(folders.ids.parent / f"held-{source.name}", 1)
        for table in folders.parts(source.name):
            part = read_part(folders, source.name, salt(recipe.pack.held_out_seed, i), table, False)
            shelves.add(draws(part, i, Times(1, 0.0), part.held_out))
        shelves.flush()
        held = shelves.shard(0)
        if len(held):
            path.parent.mkdir(parents=True, exist_ok=True)
            plain = replace(layout, best_fit=False, megadocs=())
            counts[source.name] = _summed(iter([write_shard(path, held, names, folders, plain, 0)]), plain)
    return counts


def _summed(shards: Iterator[dict[str, Any]], layout: Layout) -> dict[str, Any]:
    total: dict[str, Any] = {"shards": 0, "sequences": 0, "tokens": 0, "documents": 0, "cut": 0, "by_source": {}}
    for counts in shards:
        total["shards"] += 1
        for name in ("sequences", "tokens", "documents", "cut"):
            total[name] += counts[name]
        for name, tokens in counts["by_source"].items():
            total["by_source"][name] = total["by_source"].get(name, 0) + tokens
    total["padding"] = total["sequences"] * layout.sequence - total["tokens"]
    return total


def _finish(folder: OutputFolder, plan_: Plan, counts: dict[str, Any]) -> dict[str, Any]:
    shares = {s.name: {"unique": s.unique, "epochs": s.epochs, "tokens": s.tokens} for s in plan_.shares}
    record = folder.finish({"plan": shares, "counts": counts})
    shutil.rmtree(folder.path / ".scratch")
    return record
