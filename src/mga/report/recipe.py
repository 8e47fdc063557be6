"""The part of a run's page that says how it was made: settings, prompts, models, versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from mga.errors import InputError
from mga.prompts.library import load
from mga.report.blocks import Block, Cell, Code, Folded, Prose, Section, Table
from mga.report.source import Source


def recipe(sources: Sequence[Source]) -> Section:
    """Settings side by side, those that differ first; prompts word for word."""
    settings = [_settings(source) for source in sources]
    names = list(dict.fromkeys(name for of in settings for name in of))
    differ = [name for name in names if len({of.get(name) for of in settings}) > 1]
    columns = ["setting", *(source.name for source in sources)]

    def rows(chosen: Sequence[str]) -> list[list[Cell]]:
        return [[name, *(of.get(name, "–") for of in settings)] for name in chosen]

    blocks: list[Block] = []
    if len(sources) > 1:
        blocks.append(
            Table("What differs", columns, rows(differ)) if differ else Prose("All settings and inputs are the same.")
        )
    same = [name for name in names if name not in differ]
    blocks.append(
        Folded("All settings" if len(sources) == 1 else "What is the same", [Table("Settings", columns, rows(same))])
    )
    return Section("recipe", "Settings and prompts", [*blocks, *_prompts(sources)])


def _settings(source: Source) -> dict[str, str]:
    record = source.record
    if not source.is_run:
        return {
            "made by": f"mga {source.command}",
            **_flat({k: record.get(k) for k in ("settings", "given", "versions")}),
        }
    identity = record["identity"]
    chosen = {"created": record["created"], "run": record["run"], "input": identity["input"]}
    chosen |= {"model": identity["model"], "judge": identity["judge_model"]}
    return _flat({**chosen, "prompts": identity["prompts"], "versions": record["versions"]} | record["config"])


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names with plain values."""
    found: dict[str, str] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            found |= _flat(inner, f"{prefix}{name}.")
        elif inner is not None:
            found[f"{prefix}{name}"] = ", ".join(map(str, inner)) if isinstance(inner, list | tuple) else str(inner)
    return found


def _prompts(sources: Sequence[Source]) -> list[Block]:
    """Each prompt that any run has used, once, under its name and fingerprint."""
    used: dict[str, list[str]] = {}
    for source in sources:
        if source.is_run:
            for task, name in source.record["identity"]["prompts"].items():
                if task in ("pairs", "reformulate", "judge"):
                    used.setdefault(name, []).append(source.name)
    blocks: list[Block] = []
    for name, runs in used.items():
        of = f" ({', '.join(runs)})" if len(sources) > 1 else ""
        said = (source.record.get("prompt_texts", {}).get(name) for source in sources)
        text = next((text for text in said if text), None)
        blocks.append(Folded(f"Prompt {name}{of}", [Code(text) if text else _shipped(name)]))
    return blocks


def _shipped(name: str) -> Block:
    """The wording behind a fingerprint, for a run that keeps none, if this version of mga still has it."""
    stem, _, fingerprint = name.partition("@")
    try:
        prompt = load(stem)
    except InputError:
        return Prose("This version of mga has no prompt of this name.")
    if prompt.fingerprint != fingerprint:
        return Prose(f"This version of mga words this prompt otherwise ({prompt.fingerprint}).")
    return Code(prompt.whole)
