"""A student beside its teacher: the same held-out documents through both, judged alike, and what may be said of it.

compare.json      settings, fingerprints
sample.jsonl      the documents
pairs/SIDE.jsonl  the pairs that a side has proposed (stage 1 alone), figures beside; pairs/given.jsonl: those of DATA
runs/SIDE/        an ordinary run folder for each side, written for given pairs: `mga report`, `mga show` read it
comparison.json   the figures (`mga.toolmodel.compare.figures`)

Stage `reformulate`: both write for the same pairs, the teacher's or those of DATA. `pairs`: both propose, the teacher
writes for both. `both`: each writes for its own. Every text is judged, and the rules that compare it with its document
(coverage, copies) are off, as in the paper's Table 1.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson
from rich.console import Console

from mga import interrupts
from mga.config import ExpandConfig, load_config
from mga.data.documents import find_files, fingerprint
from mga.data.output_folder import COMPARISON, EXAMPLES, open_output
from mga.data.store import write_atomically, write_json
from mga.engine_uri import engine_identity, public_uri
from mga.errors import InputError
from mga.expand.given_pairs import write_given_pairs
from mga.prompts.library import reformulation_prompt
from mga.records import Document, Pair
from mga.runs.executors.local import expand
from mga.runs.monitoring.progress import Progress
from mga.runs.run import Run
from mga.runs.sample import sample_documents, write_sample
from mga.toolmodel.compare.figures import figures_of
from mga.toolmodel.compare.proposals import propose_all
from mga.toolmodel.train.data_folder import held_out_documents, is_data

Stage = Literal["pairs", "reformulate", "both"]
Side = Literal["teacher", "student"]

RECORD = COMPARISON.record


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """`sample` counts documents, `document_tokens` (estimated) is the longest beginning of one that is taken; `margin`
    is how much lower the student's share of acceptable texts may be. `config` and `flags`, a file and what wins over
    it, are settings of `mga expand` for both sides; `student_variant` is a prompt of the student's own."""

    stage: Stage = "reformulate"
    margin: float = 0.02
    sample: int = 500
    document_tokens: int = 2_000
    pairs: int = 5
    variant: str = "base"
    student_variant: str | None = None
    seed: int = 0
    config: Path | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)

    def variant_of(self, side: Side) -> str:
        return (side == "student" and self.student_variant) or self.variant


def compare(
    teacher: str | None,
    student: str,
    judge: str,
    documents: Sequence[str],
    out: Path,
    settings: CompareSettings,
    say: Any,
    console: Console | None = None,
) -> dict[str, Any]:
    """Begin or continue a comparison in the folder `out` and carry it to its end; the figures of comparison.json.

    `documents` are an input of `mga expand`, or a folder of examples, whose held-out documents are taken. Without a
    teacher only the student is measured. Raises InputError and StopError with everything received kept.
    """
    if teacher is None:
        _check_alone(documents, settings)
    engines: dict[Side, str] = {"student": student} if teacher is None else {"teacher": teacher, "student": student}
    configs = {side: _config(side, uri, judge, settings) for side, uri in engines.items()}
    with open_output(out, COMPARISON, _identity(engines, judge, documents, configs, settings)) as folder:
        sample = _sample(out, documents, settings, configs["student"])
        pairs = {side: _pairs_file(out, side, engines, settings) for side in engines}
        proposed = _propose(out, pairs, engines, configs, sample, say)
        for side in engines:
            generator: Side = "teacher" if settings.stage == "pairs" else side
            run_folder = out / "runs" / side
            if not (run_folder / "stats.json").is_file():
                say(f"{side}: {public_uri(engines[generator])} writes")
                run = _run(configs[generator], out / "sample.jsonl", pairs[side])
                interrupts.run(expand(run, Run(run_folder), Progress(console or Console(stderr=True), console is None)))
        runs = {side: out / "runs" / side for side in engines}
        result = figures_of(runs, sample, proposed, settings.stage, settings.margin, configs["student"].min_score)
        result["engines"] = {side: public_uri(uri) for side, uri in engines.items()} | {"judge": public_uri(judge)}
        result["settings"] = folder.record["settings"]
        write_json(out / "comparison.json", result)
        folder.finish({})
        return result


def _check_alone(documents: Sequence[str], settings: CompareSettings) -> None:
    if settings.stage == "pairs":
        raise InputError("To compare pairs, name a --teacher: it writes for them.")
    if settings.stage == "reformulate" and not is_data(Path(documents[0])):
        raise InputError("Without a --teacher, the pairs to write for must be in DATA; or take --stage both.")


def prompt_beside(engine: str) -> str | None:
    """The reformulation prompt that travels with a model (`prompts/` in its folder), if exactly one does."""
    place = Path(engine.partition(":")[2].partition("?")[0]).expanduser()
    folder = (place.parent if place.is_file() else place) / "prompts"
    found = [file for file in sorted(folder.glob("*.md")) if file.stem.startswith("reformulate")]
    return str(found[0]) if len(found) == 1 else None


def _config(side: Side, engine: str, judge: str, settings: CompareSettings) -> ExpandConfig:
    variant = settings.variant_of(side)
    if not reformulation_prompt(variant).takes_pair:
        raise InputError(f"The style {variant} takes no pair; mga compare-prompts compares styles.")
    own = {"engine": engine, "judge_engine": judge, "variant": variant, "pairs": settings.pairs, "seed": settings.seed}
    return load_config(settings.config, {**settings.flags, **own})


def _run(config: ExpandConfig, sample: Path, pairs: Path) -> ExpandConfig:
    """The settings of a side's run: the sample alone, its pairs, everything judged."""
    values = config.model_dump()
    values |= {"input": (str(sample),), "text_key": "text", "id_key": "id", "limit": None, "judge": "all"}
    values["cleaning"] |= {"min_coverage": 0.0, "max_copied": 1.0}
    values["pairing"]["given"] = str(pairs)
    return ExpandConfig.model_validate(values)


def _identity(
    engines: Mapping[Side, str],
    judge: str,
    documents: Sequence[str],
    configs: Mapping[Side, ExpandConfig],
    settings: CompareSettings,
) -> dict[str, Any]:
    values = asdict(settings)
    for name in ("config", "flags", "variant", "student_variant", "margin"):  # margin: of the reading, not of the work
        del values[name]
    return {
        "settings": values,
        "engines": {side: engine_identity(uri) for side, uri in engines.items()} | {"judge": engine_identity(judge)},
        "prompts": {side: reformulation_prompt(settings.variant_of(side)).fingerprint for side in engines},
        "rules": {side: config.deciding() for side, config in configs.items()},
        "input": fingerprint(find_files(documents, [EXAMPLES])),
    }


def _sample(out: Path, documents: Sequence[str], settings: CompareSettings, config: ExpandConfig) -> list[Document]:
    path = out / "sample.jsonl"
    if not path.exists():
        data = Path(documents[0])
        keys, longest = [config.text_key, config.id_key], settings.document_tokens
        files = find_files(documents, [EXAMPLES])
        if len(documents) == 1 and is_data(data):
            files = find_files([_written(out, held_out_documents(data))])
            keys, longest = ["text", "id"], sys.maxsize  # they were chunks of a run, and their pairs are known by them
        drawing = write_sample(path, files, keys[0], keys[1], settings.sample, longest, settings.seed)
        interrupts.run(drawing)
    return sample_documents(path)


def _written(out: Path, held: Mapping[Document, Sequence[Pair]]) -> str:
    """The held-out documents of DATA as an input, and their pairs as a file of given ones."""
    lines = [{"id": document.source_id, "text": document.text} for document in held]
    path = out / "held_out.jsonl"
    write_atomically(path, b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
    if pairs := {document.text: list(dict.fromkeys(of)) for document, of in held.items() if of}:
        write_given_pairs(out / "pairs" / "given.jsonl", pairs)
    return str(path)


def _pairs_file(out: Path, side: Side, engines: Mapping[Side, str], settings: CompareSettings) -> Path:
    """Where the pairs lie that a side's texts are written for."""
    if settings.stage != "reformulate":
        return out / "pairs" / f"{side}.jsonl"
    given = out / "pairs" / "given.jsonl"
    if not given.exists() and "teacher" not in engines:
        raise InputError("The held-out examples have no pairs to write for; name a --teacher, or take --stage both.")
    return given if given.exists() else out / "pairs" / "teacher.jsonl"


def _propose(
    out: Path,
    pairs: Mapping[Side, Path],
    engines: Mapping[Side, str],
    configs: Mapping[Side, ExpandConfig],
    sample: Sequence[Document],
    say: Any,
) -> dict[Side, dict[str, Any]]:
    """Let each side propose whose pairs are used; figures of it by side."""
    proposed = {}
    for side, uri in engines.items():
        file = out / "pairs" / f"{side}.jsonl"
        if file in pairs.values():
            say(f"{side}: {public_uri(uri)} proposes pairs")
            logs = out / "logs" / side
            proposed[side] = interrupts.run(propose_all(uri, configs[side], sample, file, logs, say))
    return proposed
