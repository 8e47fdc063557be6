"""The prompt comparison: the same documents, the same pairs, one prompt after the other, and what came of it.

prompt-comparison.json          settings, fingerprints of prompts and input
sample.jsonl      the documents · pairs.jsonl  their pairs, found by the first variant that takes pairs
runs/NAME/        an ordinary run folder for each variant
texts/NAME.parquet    its texts that passed cleaning, judged low or not
judging.json      what the judge said of planted pairs, swapped texts and the same texts again
vectors.parquet   of all texts, by their hash
comparison.json, comparison.md, map.svg
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mga import interrupts
from mga.config import ExpandConfig
from mga.data.documents import InputFile, find_files, fingerprint
from mga.data.store import read_json, write_atomically, write_json
from mga.embedders.choose import choose_embedder
from mga.embedders.vectors import Vectors
from mga.errors import InputError
from mga.prompt_comparison.compare import compare
from mga.prompt_comparison.judging import ask_judge, judgements_in
from mga.prompt_comparison.map import draw
from mga.prompt_comparison.questions import questions
from mga.prompt_comparison.settings import ORIGINALS, PromptComparisonSettings, folder_of, record_of
from mga.prompt_comparison.tables import as_markdown, tables_of
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run
from mga.runs.sample import sample_documents, write_sample
from mga.runs.texts import Written, write_pairs_of, write_texts, written_in

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie in a prompt comparison's folder."""

    folder: Path

    @property
    def sample(self) -> Path:
        return self.folder / "sample.jsonl"

    @property
    def pairs(self) -> Path:
        return self.folder / "pairs.jsonl"

    def run(self, name: str) -> Path:
        return self.folder / "runs" / name

    def is_done(self, name: str) -> bool:
        return (self.run(name) / "stats.json").is_file()

    def texts(self, name: str) -> Path:
        return self.folder / "texts" / f"{name}.parquet"


def carry(
    inputs: Sequence[str],
    folder: Path,
    settings: PromptComparisonSettings,
    config: Path | None,
    flags: Mapping[str, Any],
    console: Console,
    quiet: bool = False,
) -> dict[str, Any]:
    """Begin or continue a prompt comparison, carry it to its end, and return the comparison.

    `config` and `flags` are settings of `mga expand` for all variants. Raises InputError and StopError with everything
    received kept.
    """
    places = Places(folder)
    rules = {name: settings.rules(variant, config, flags) for name, variant in settings.by_name.items()}
    files = find_files(inputs)
    choose_embedder(settings.embedder)  # what cannot be had is said before hours of writing
    with folder_of(folder, settings, rules, fingerprint(files)) as taken:
        _carry(files, places, settings, config, flags, console, quiet)
        comparison = compare_again(folder, console, quiet, settings.embedder)
        taken.finish({})
        return comparison


def _carry(
    files: Sequence[InputFile],
    places: Places,
    settings: PromptComparisonSettings,
    config: Path | None,
    flags: Mapping[str, Any],
    console: Console,
    quiet: bool,
) -> None:
    """Draw the sample, let every variant write, ask the judge: what is not there yet."""
    say = _sayer(console, quiet)
    folder = places.folder
    if not places.sample.exists():
        first = settings.rules(settings.variants[0], config, flags)
        draw_sample = write_sample(
            places.sample,
            files,
            first.text_key,
            first.id_key,
            settings.sample,
            settings.document_tokens,
            settings.seed,
        )
        interrupts.run(draw_sample)
    documents = sample_documents(places.sample)
    for name, variant in settings.by_name.items():
        takes_pair = settings.prompt(variant).takes_pair
        if not places.is_done(name):
            say(f"variant {name}:")
            given = places.pairs if takes_pair and places.pairs.exists() else None
            run = settings.run(variant, config, flags, places.sample, given)
            interrupts.run(expand(run, Run(places.run(name)), Progress(console, quiet)))
        if takes_pair and not places.pairs.exists():
            write_pairs_of(places.run(name), documents, places.pairs)
    if judgements_in(folder) is None:
        texts = {name: written_in(places.run(name), documents).texts for name in settings.by_name}
        asked = questions(documents, texts, settings.judged, settings.repeats, settings.seed)
        say(f"judge: {len(asked):,} questions about texts whose right verdict is known, or asked again")
        judging = settings.run(settings.variants[0], config, flags, places.sample, None)
        interrupts.run(ask_judge(folder, judging, asked, say))


def compare_again(folder: Path, console: Console, quiet: bool = False, embedder: str | None = None) -> dict[str, Any]:
    """The comparison from texts and verdicts that are there, written anew; no model writes or judges.

    Vectors that are missing come from `embedder`, as it was given: the record has it without passwords.
    Raises InputError when something is still to be asked.
    """
    places, record = Places(folder), record_of(folder)
    say = _sayer(console, quiet)
    rules = {name: ExpandConfig.model_validate(record["rules"][name]) for name in record["settings"]["variants"]}
    judgements = judgements_in(folder)
    if missing := [name for name in rules if not places.is_done(name)]:
        raise InputError(
            f"{folder} is not finished ({', '.join(missing)} to do); give the command that began it again."
        )
    if judgements is None:
        raise InputError(f"{folder} is not finished (the judge is to be tested); give the command that began it again.")
    documents = sample_documents(places.sample)
    written: dict[str, Written] = {name: written_in(places.run(name), documents) for name in rules}
    for name, found in written.items():
        write_texts(places.texts(name), found.texts)
    named = str(record["settings"]["embedder"])
    vectors = Vectors(folder / "vectors.parquet", lambda: choose_embedder(embedder or named), say)
    texts_files = {name: places.texts(name) for name in rules}
    comparison = compare(documents, written, rules, texts_files, judgements, vectors, record["settings"]["seed"])
    run = read_json(places.run(next(iter(rules))) / "run.json")
    judge = read_json(folder / "judging.json")["model"]
    comparison["engines"] = {"generator": run["identity"]["model"], "judge": judge, "embedder": named}
    comparison["settings"] = record["settings"]
    comparison["tables"] = tables_of(comparison)
    write_json(folder / "comparison.json", comparison)
    write_atomically(folder / "comparison.md", as_markdown(comparison).encode())
    words = {name: str(figures["place"] or "no texts") for name, figures in comparison["variants"].items()}
    draw(folder / "map.svg", comparison["map"]["points"], {ORIGINALS: "", **words})
    return comparison


def _sayer(console: Console, quiet: bool) -> Say:
    def say(line: str) -> None:
        if not quiet:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    return say
