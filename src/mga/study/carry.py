"""Strategies × sizes × seeds: pack, pretrain, evaluate, compare. Read `study` first: it is the table of contents.

study.json          settings; with rows, curves, differences and their reading once anything is done
tokenizer/          learned of the originals, where none is given
packs/STRATEGY-SEED/       runs/STRATEGY-SIZE-SEED/       evaluations/STRATEGY-SIZE-SEED/
held-out/passages.jsonl    held-out passages of the originals, to be continued
"""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson

from mga.data.corpus_files import open_corpus
from mga.data.output_folder import STUDY, OutputFolder, exclusive, open_output
from mga.data.store import read_json, write_atomically, write_json
from mga.engine_uri import public_uri
from mga.errors import InputError, StopError
from mga.evaluation.evaluate import Settings as EvaluationSettings
from mga.evaluation.evaluate import evaluate, score_of
from mga.evaluation.harness import Harness
from mga.evaluation.own_text import write_items
from mga.evaluation.signals import SMOOTH
from mga.evaluation.suites import chosen as benchmarks
from mga.mixture.amounts import shown
from mga.mixture.recipe import Recipe, Source
from mga.packages import require
from mga.packing.draw import Part, part_of
from mga.packing.held_out import HeldOutSet, held_out_set, id_hash
from mga.packing.pack import check as check_recipe
from mga.packing.pack import divided, pack, salt
from mga.packing.packed import open_packed
from mga.packing.texts import all_texts
from mga.packing.tokenise import measure
from mga.packing.tokenizer import Tokenizer, load_tokenizer
from mga.pretrain.model import llama_config
from mga.pretrain.train import check_batches, pretrain, require_attention
from mga.study.compare import curves, differences, reading
from mga.study.settings import Run, StudySettings, StudyStrategy

Say = Callable[[str], None]
SHARED_S = 60.0
"""How long another machine's entry is waited for."""
LEARNED_WITHIN_S = 3600.0
"""How long the tokenizer is waited for that another machine learns."""
TOKENIZER_TEXT = 50_000_000
"""Characters that a tokenizer is learned of."""


def study(settings: StudySettings, out: Path, only: str, workers: int, say: Say) -> dict[str, Any]:
    """Carry out a study in the folder `out`, or go on there; `only` (a pattern of STRATEGY-SIZE-SEED) does some of the
    trainings, so that machines can share them. Returns what study.json holds.

    Raises InputError when the folder holds another study, or no training is called so.
    """
    chosen = [run for run in settings.runs() if fnmatch.fnmatchcase(run.name, only)]
    if not chosen:
        names = ", ".join(run.name for run in settings.runs()[:4])
        raise InputError(f"No training is called {only}; the first are {names}.")
    is_new = not (out / "study.json").exists()
    with TemporaryDirectory() as scratch:
        check(settings, Path(scratch), workers, say, count=is_new)
    with _folder(settings, out):
        pass  # refused now, or begun; machines that share a study hold it for moments alone
    tokenizer = _tokenizer(settings, out)
    for run in chosen:
        if _has_results(out, run):
            continue
        say(f"── {run.name}")
        packed = _pack(settings, run, tokenizer, out, workers, say)
        try:
            pretrain(_pretraining(settings, run, packed), out / "runs" / run.name, say)
        except StopError as error:
            raise StopError(f"Training {run.name}: {error}") from error
        _evaluate(settings, run, tokenizer, out, say)
    return gather(settings, out)


def check(settings: StudySettings, scratch: Path, workers: int, say: Say, count: bool = True) -> None:
    """All that can be known of a study before its first training; `scratch` is a folder for what is made meanwhile.

    Raises InputError for a package, file, column, size, benchmark or dataset that is not there, for held-out documents
    that are unknown or too few, and, if texts are to be counted, for a strategy whose budget its texts do not fit.
    """
    steps = settings.steps
    for size in settings.size:
        config = settings.pretraining(Run(settings.strategy[0], size, settings.seeds[0]), scratch, max(steps, 1))
        check_batches(config, 1)
        require_attention(config)
        llama_config(config.model, 1, settings.sequence)
    for strategy in settings.strategy:
        with _named(strategy):
            check_recipe(settings.recipe(strategy, settings.seeds[0], settings.tokenizer))
    if steps < 1:
        raise InputError(
            f"There is less than one step: a step is {shown(settings.step_tokens)} tokens, the budget "
            f"{shown(settings.budget)}; choose another budget, or smaller batches."
        )
    everything = _held_out_recipe(settings)
    rule = held_out_set(everything)
    _check_questions(settings, scratch)
    if count:
        say("counting tokens")
        _check_amounts(settings, everything, rule, scratch, workers)


@contextmanager
def _named(strategy: StudyStrategy) -> Iterator[None]:
    """Errors say in which strategy."""
    try:
        yield
    except InputError as error:
        name = f"Strategy {strategy.name}: "
        raise InputError(f"{name}{str(error).removeprefix(name)}") from None


def _check_questions(settings: StudySettings, scratch: Path) -> None:
    """Raise InputError when a benchmark or its data are not there, or passages of one's own are too few."""
    asked = settings.evaluation
    if asked.own or asked.tasks:
        require("The evaluation of a study", "evaluate", "lm_eval", "datasets")
    items = None
    if asked.own:
        rows = [orjson.loads(line) for line in _held_out_texts(settings, scratch).read_bytes().splitlines()]
        items = scratch / "items.jsonl"
        write_items((row["text"] for row in rows), items, settings.seed, asked.limit)
    if asked.tasks:
        harness = Harness(asked.tasks, Path(asked.data) if asked.data else None, items, scratch / "datasets")
        harness.load(benchmarks(asked.tasks, harness.names, None))


def _check_amounts(settings: StudySettings, everything: Recipe, rule: HeldOutSet, scratch: Path, workers: int) -> None:
    """Raise InputError when the texts that a strategy draws for any seed do not make all steps."""
    tokenizer = _loaded(_tokenizer(settings, scratch), settings)
    measured: dict[str, list[tuple[int, dict[str, Any]]]] = {source.name: [] for source in everything.source}
    for name, number, columns in measure(everything.source, tokenizer, rule, workers):
        measured[name].append((number, columns))
    for strategy in settings.strategy:
        for seed in settings.seeds:
            recipe = settings.recipe(strategy, seed, settings.tokenizer)

            def parts(source: int, recipe: Recipe = recipe) -> Iterator[Part]:
                one = recipe.source[source]
                for number, columns in measured[one.name]:
                    yield part_of(number, columns, salt(recipe.pack.seed, source), one.megadocs)

            with _named(strategy):
                _, times = divided(recipe, parts)
            drawn = sum(times[one.name].tokens(part) for i, one in enumerate(recipe.source) for part in parts(i))
            _require_steps(settings, strategy.name, drawn // settings.sequence)


def _require_steps(settings: StudySettings, strategy: str, sequences: int) -> None:
    batch = int(settings.training["batch_sequences"])
    if settings.steps > sequences // batch:
        raise InputError(
            f"Strategy {strategy}: its texts make {sequences // batch} steps of {batch} sequences, "
            f"and {settings.steps} are needed; choose another budget, or smaller batches."
        )


def _folder(settings: StudySettings, out: Path) -> AbstractContextManager[OutputFolder]:
    identity = settings.model_dump(mode="json", exclude={"note"})
    for source in identity["source"]:
        source["paths"] = [public_uri(path) for path in source["paths"]]
        del source["discount"]  # which decides no training
    return open_output(out, STUDY, {"settings": identity}, {"mga": version("mga")}, wait_s=SHARED_S)


def _tokenizer(settings: StudySettings, out: Path) -> str:
    """Where the tokenizer lies, learned of the originals that are not held out for any seed, if none is given."""
    if not settings.tokenizer.startswith("train:"):
        return settings.tokenizer
    folder = out / "tokenizer"
    lock = exclusive(folder, LEARNED_WITHIN_S)
    try:
        path = folder / "tokenizer.json"
        if not path.exists():
            size = int(settings.tokenizer.removeprefix("train:"))
            write_atomically(path, _learned(_originals(settings), size).encode())
        return str(path)
    finally:
        lock.release()


def _learned(texts: Iterator[str], size: int) -> str:
    """The definition of a byte-level BPE tokenizer of so many tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return str(made.to_str())


def _originals(settings: StudySettings) -> Iterator[str]:
    """Texts of the originals that are trained on, up to TOKENIZER_TEXT characters."""
    rule = held_out_set(_held_out_recipe(settings))
    read = 0
    for source in settings.source:
        for text, name in _rows(source) if source.expands is None else ():
            if _is_held_out(rule, name):
                continue
            yield text
            read += len(text)
            if read > TOKENIZER_TEXT:
                return


def _rows(source: Source) -> Iterator[tuple[str, str]]:
    """Text and source document of every row."""
    for texts in all_texts(source):
        yield from zip(texts.texts, texts.sources, strict=True)


def _is_held_out(rule: HeldOutSet, name: str) -> bool:
    return bool(rule.holds(np.array([id_hash(name, rule.seed)], np.uint64))[0])


def _held_out_recipe(settings: StudySettings) -> Recipe:
    """All sources under the rule of held-out documents, whatever a strategy takes of them."""
    everything = settings.strategy[0].model_copy(update={"sources": tuple(s.name for s in settings.source)})
    return settings.recipe(everything, settings.seeds[0], settings.tokenizer)


def _pack(settings: StudySettings, run: Run, tokenizer: str, out: Path, workers: int, say: Say) -> Path:
    folder = out / "packs" / f"{run.strategy.name}-{run.seed}"
    folder.parent.mkdir(exist_ok=True)
    recipe = settings.recipe(run.strategy, run.seed, tokenizer)
    pack(recipe, _loaded(tokenizer, settings), folder, workers, say)
    return folder


def _loaded(tokenizer: str, settings: StudySettings) -> Tokenizer:
    return load_tokenizer(tokenizer, settings.pack.separator)


def _pretraining(settings: StudySettings, run: Run, packed: Path) -> Any:
    """The same steps for all strategies. Raises InputError when too little was packed for them."""
    _require_steps(settings, run.strategy.name, len(open_packed(packed)))
    return settings.pretraining(run, packed, settings.steps)


def _evaluate(settings: StudySettings, run: Run, tokenizer: str, out: Path, say: Say) -> None:
    asked = settings.evaluation
    own = None
    if asked.own:
        own = open_corpus([str(_held_out_texts(settings, out))], "text", "id")
    if own is None and not asked.tasks:
        (out / "evaluations" / run.name).mkdir(parents=True, exist_ok=True)
        write_json(out / "evaluations" / run.name / "evaluation.json", {"results": []})
        return
    folder = out / "evaluations" / run.name
    folder.parent.mkdir(exist_ok=True)
    data = Path(asked.data) if asked.data else None
    limit = EvaluationSettings(limit=asked.limit, seed=settings.seed)
    evaluate([out / "runs" / run.name], folder, asked.tasks, data, own, limit, say)


def _held_out_texts(settings: StudySettings, out: Path) -> Path:
    """Held-out passages of the originals, the same for all trainings; equally many of each source where it has them."""
    path = out / "held-out" / "passages.jsonl"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    rule = held_out_set(_held_out_recipe(settings))
    originals = [source for source in settings.source if source.expands is None]
    each = -(-settings.evaluation.own // len(originals))
    lines = []
    for source in originals:
        held = [(text, name) for text, name in _rows(source) if _is_held_out(rule, name)]
        held.sort(key=lambda row: id_hash(row[1], settings.seed + 1))
        lines += [orjson.dumps({"id": name, "text": text, "source": source.name}) for text, name in held[:each]]
    if not lines:
        raise InputError("No document is held out: set pack.held_out, or evaluation.own = 0.")
    write_atomically(path, b"\n".join(lines) + b"\n")
    return path


def _has_results(out: Path, run: Run) -> bool:
    path = out / "evaluations" / run.name / "evaluation.json"
    return path.exists() and "results" in read_json(path)


def gather(settings: StudySettings, out: Path) -> dict[str, Any]:
    """Figures of all trainings that are done, their curves and differences, written to study.json."""
    done = [run for run in settings.runs() if _has_results(out, run)]
    rows = [row for run in done for row in _figures(settings, run, out)]
    strategies = [one.name for one in settings.strategy]
    found = differences(rows, strategies[0])
    with _folder(settings, out) as folder:
        figures = {
            "trainings": {"done": len(done), "of": len(settings.runs())},
            "plans": {one.name: _shares(out, one.name, settings.seeds) for one in settings.strategy},
            "rows": rows,
            "curves": curves(rows),
            "differences": found,
            "reading": reading(found, strategies),
        }
        return folder.finish(figures)


def _shares(out: Path, strategy: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """What a strategy has made of each source: unique tokens, epochs, tokens, of the first seed that was packed."""
    for seed in seeds:
        path = out / "packs" / f"{strategy}-{seed}" / "pack.json"
        if path.exists() and "plan" in (record := read_json(path)):
            return [{"source": name, **share} for name, share in record["plan"].items()]
    return []


def _figures(settings: StudySettings, run: Run, out: Path) -> Iterator[dict[str, Any]]:
    about = {"strategy": run.strategy.name, "size": run.size.name, "seed": run.seed}
    lines = [orjson.loads(line) for line in (out / "runs" / run.name / "log.jsonl").read_bytes().splitlines()]
    originals = {source.name for source in settings.source if source.expands is None}
    for line in lines:
        for name, loss in line.get("validation", {}).items():
            if name in originals:
                yield {**about, "tokens": line["tokens"], "measure": f"{name} loss", "value": loss}
    results = read_json(out / "evaluations" / run.name / "evaluation.json")["results"]
    for task, all_ in groupby(results, key=lambda row: row["task"]):
        for row in all_:
            if row["metric"] in (score_of(task), *SMOOTH):
                measure = f"{task} {row['metric']}"
                yield {**about, "tokens": row["tokens"], "measure": measure, "value": row["value"]}
