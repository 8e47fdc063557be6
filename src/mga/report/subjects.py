"""What a page is about, by what the user has named: runs and stages, a prompt comparison, models compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mga.data.store import Place, exists, read_json
from mga.errors import InputError
from mga.report.source import names_of

Figures = Mapping[str, Any]

_LABORATORY = {"version", "sample", "engines", "settings", "variants", "controls", "judge", "map", "tables"}
_COLLAPSE = {"version", "models", "settings", "groups", "history", "memorisation", "texts", "verdict"}
_GENERATIONS = {"settings", "models", "detectors"}
_VERSION = 1


@dataclass(slots=True)
class Subjects:
    """`folders` of runs and stages (a prompt comparison's: its variants' runs, in their order), the `comparison` of a
    prompt comparison, and by name what `mga collapse` (`collapses`), `mga collapse-generations` (`generations`) and
    `mga study` (`studies`) have written."""

    folders: list[Place] = field(default_factory=list)
    comparison: Figures | None = None
    collapses: dict[str, Figures] = field(default_factory=dict)
    generations: dict[str, Figures] = field(default_factory=dict)
    studies: dict[str, Figures] = field(default_factory=dict)


def subjects_of(given: Sequence[Place]) -> Subjects:
    """Everything named, with the JSON read. Raises InputError for JSON that is of no command with pictures."""
    found = Subjects()
    for place, name in zip(given, names_of(given), strict=True):
        if place.name.endswith(".json") and place.is_file():
            figures = _figures(place)
            if figures.keys() >= _COLLAPSE and figures["version"] == _VERSION:
                found.collapses[name] = figures
            elif figures.keys() >= _GENERATIONS:
                found.generations[name] = figures
            else:
                raise InputError(
                    f"{place} holds no figures that this version shows: what mga collapse --out or "
                    "mga collapse-generations has written can be."
                )
        elif exists(place / "prompt-comparison.json"):
            if len(given) > 1:
                raise InputError(f"{place} is a prompt comparison and has a page of its own; name nothing beside it.")
            found.comparison = _comparison(place)
            found.folders = [place / "runs" / variant for variant in found.comparison["settings"]["variants"]]
        elif exists(place / "generations.json"):
            found.generations[name] = _figures(place / "generations.json")
            if not found.generations[name].keys() >= _GENERATIONS:
                raise InputError(
                    f"{place} is not finished; give the mga collapse-generations command that began it again."
                )
        elif exists(place / "study.json"):
            found.studies[name] = _figures(place / "study.json")
            if "rows" not in found.studies[name]:
                raise InputError(f"No training of the study {place} is done yet.")
        else:
            found.folders.append(place)
    return found


def _comparison(folder: Place) -> Figures:
    path = folder / "comparison.json"
    if not exists(path):
        raise InputError(
            f"The prompt comparison {folder} is not finished; give the mga compare-prompts command that began it again."
        )
    figures = _figures(path)
    if not figures.keys() >= _LABORATORY or figures["version"] != _VERSION:
        raise InputError(f"{path} is not as this version writes it; write it anew with mga compare-prompts {folder}.")
    return figures


def _figures(path: Place) -> Figures:
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path} is not of mga.")
    return found
