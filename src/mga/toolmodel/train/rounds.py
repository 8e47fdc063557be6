"""Collect, judge, filter, train, judge the student, keep what it got right, again (paper, section 2: iteratively).

rounds.json          settings, and the history: what each round collected, trained, and reached
documents/           held_out.jsonl (compared on, never trained on) and round-N.jsonl
round-N/run          the generator's run, all judged: the teacher's first, then that of the last student
round-N/data         examples of all runs so far      round-N/tool   the model      round-N/comparison

Ends when the student is not worse than the teacher by the margin, when a round brought no gain that can be told from
chance, or after the last round. A model that was trained on its own good texts starts from the base again, so that
nothing is learned twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from mga import interrupts
from mga.config import load_config
from mga.data.documents import find_files, fingerprint
from mga.data.output_folder import ROUNDS, open_output
from mga.data.store import write_atomically
from mga.engine_uri import engine_identity
from mga.errors import InputError
from mga.packing.tokenizer import load_tokenizer
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run
from mga.runs.sample import sample_documents, write_sample
from mga.stats import Share, difference_of_shares
from mga.toolmodel.compare.compare import CompareSettings, compare
from mga.toolmodel.train.base import base_folder
from mga.toolmodel.train.examples import ExampleSettings, collect
from mga.toolmodel.train.finetune import TrainSettings, finetune

Say = Callable[[str], None]
NOT_WORSE = "non-inferior"


@dataclass(frozen=True, slots=True)
class RoundSettings:
    """`rounds` at most, each over `documents` others; `held_out` documents to compare on. `flags` and `config` are
    settings of `mga expand` for all runs."""

    rounds: int = 3
    documents: int = 500
    held_out: int = 100
    document_tokens: int = 2_000
    margin: float = 0.02
    seed: int = 0
    examples: ExampleSettings = field(default_factory=ExampleSettings)
    training: TrainSettings = field(default_factory=TrainSettings)
    config: Path | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)


def rounds(
    teacher: str, judge: str, base: str, documents: Sequence[str], out: Path, settings: RoundSettings, say: Say
) -> dict[str, Any]:
    """Carry the rounds out in the folder `out`, or go on there; what rounds.json holds.

    Raises InputError when the input has too few documents, or the folder holds other rounds; each step goes on where it
    was stopped.
    """
    with open_output(out, ROUNDS, _identity(teacher, judge, base, documents, settings)) as taken:
        parts = _documents(out, documents, settings)
        folder = base_folder(base, out / "base")
        history: list[dict[str, Any]] = taken.record.get("history", [])
        generator = teacher if not history else _student(out, len(history))
        while not taken.is_complete:
            number = len(history) + 1
            say(f"── round {number}: {'the teacher' if number == 1 else 'the student'} writes")
            history.append(_round(number, generator, teacher, judge, folder, parts, out, settings, say))
            taken.update({"history": history, "ended": _ended(history, settings.rounds)})
            say(told(history[-1]))
            generator = _student(out, number)
        return taken.record


def _identity(teacher: str, judge: str, base: str, documents: Sequence[str], settings: RoundSettings) -> dict[str, Any]:
    values = {name: value for name, value in asdict(settings).items() if name not in ("rounds", "config", "flags")}
    config = load_config(settings.config, {**settings.flags, "engine": teacher, "judge_engine": judge})
    return {
        "settings": values,
        "rules": config.deciding(),
        "engines": {"teacher": engine_identity(teacher), "judge": engine_identity(judge)},
        "base": Path(base).name,
        "input": fingerprint(find_files(documents)),
    }


def _documents(out: Path, given: Sequence[str], settings: RoundSettings) -> list[Path]:
    """The files of documents: the held-out ones first, then those of each round."""
    folder = out / "documents"
    folder.mkdir(exist_ok=True)
    files = [folder / "held_out.jsonl", *(folder / f"round-{i + 1}.jsonl" for i in range(settings.rounds))]
    if all(file.exists() for file in files):
        return files
    count = settings.held_out + settings.rounds * settings.documents
    config = load_config(settings.config, settings.flags)
    keys = [config.text_key, config.id_key]
    drawn = folder / "drawn.jsonl"
    found = find_files(given)
    interrupts.run(write_sample(drawn, found, keys[0], keys[1], count, settings.document_tokens, settings.seed))
    sample = sample_documents(drawn)
    if len(sample) < count:
        raise InputError(
            f"The input has {len(sample):,} different documents; {settings.held_out:,} to compare on and "
            f"{settings.rounds} rounds of {settings.documents:,} are {count:,}."
        )
    order = sorted(sample, key=lambda document: document.key)
    borders = [settings.held_out + i * settings.documents for i in range(settings.rounds + 1)]
    for file, first, end in zip(files, [0, *borders], borders, strict=False):
        lines = [orjson.dumps({"id": one.source_id, "text": one.text}) + b"\n" for one in order[first:end]]
        write_atomically(file, b"".join(lines))
    drawn.unlink()
    return files


def _student(out: Path, number: int) -> str:
    return f"transformers:{out / f'round-{number}' / 'tool'}"


def _round(
    number: int,
    generator: str,
    teacher: str,
    judge: str,
    base: Path,
    parts: Sequence[Path],
    out: Path,
    settings: RoundSettings,
    say: Say,
) -> dict[str, Any]:
    """One round; what it collected and reached."""
    here = out / f"round-{number}"
    here.mkdir(exist_ok=True)
    flags = {**settings.flags, "text_key": "text", "id_key": "id", "judge": "all", "judge_engine": judge}
    config = load_config(settings.config, {**flags, "engine": generator, "input": [str(parts[number])]})
    interrupts.run(expand(config, Run(here / "run"), Progress(Console(stderr=True), quiet=True)))
    runs = [out / f"round-{i}" / "run" for i in range(1, number + 1)]
    examples = collect(runs, load_tokenizer(str(base)), here / "data", settings.examples, say)
    trained = finetune(here / "data", str(base), "both", here / "tool", settings.training, say)
    comparing = CompareSettings(
        "both",
        settings.margin,
        settings.held_out,
        settings.document_tokens,
        config.pairs,
        config.variant,
        seed=settings.seed,
        config=settings.config,
        flags=settings.flags,
    )
    figures = compare(teacher, _student(out, number), judge, [str(parts[0])], here / "comparison", comparing, say)
    return {
        "round": number,
        "generator": "teacher" if number == 1 else "student",
        "examples": examples["counts"],
        "loss": {"before": trained["before"]["loss"], "after": trained["after"]["loss"]},
        "teacher": figures["teacher"]["acceptable"],
        "student": figures["student"]["acceptable"],
        "difference": figures["difference"],
    }


def _ended(history: Sequence[Mapping[str, Any]], most: int) -> str | None:
    """Why there is no further round; None when there is one."""
    last = history[-1]
    if last["difference"]["verdict"] == NOT_WORSE:
        return "the student is not worse than the teacher"
    if len(history) > 1 and gain(history[-2]["student"], last["student"])[1] <= 0:
        return "the last round brought no gain that can be told from chance"
    return "all rounds are done" if len(history) >= most else None


def gain(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[float, float, float]:
    """The difference of two rounds' shares with its 95% interval."""
    return difference_of_shares(Share(**before), Share(**after))


def told(row: Mapping[str, Any]) -> str:
    """A round in a line."""
    counts = ", ".join(f"{stage} {of['train']:,}" for stage, of in row["examples"].items())
    student, teacher = row["student"], row["teacher"]
    return (
        f"round {row['round']}: examples {counts}; acceptable {student['share']:.1%} ({student['low']:.1%} to "
        f"{student['high']:.1%}), the teacher {teacher['share']:.1%}: {row['difference']['verdict']}"
    )


def with_seed(settings: RoundSettings, seed: int) -> RoundSettings:
    """The same with one seed for all drawing."""
    examples, training = replace(settings.examples, seed=seed), replace(settings.training, seed=seed)
    return replace(settings, seed=seed, examples=examples, training=training)
