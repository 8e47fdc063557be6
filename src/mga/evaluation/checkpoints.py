"""Models to evaluate: folders as transformers saves them, and the checkpoints of pretraining runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mga.data.store import read_json
from mga.errors import InputError
from mga.pretrain.checkpoint import steps_of


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's folder. Of a pretraining run also the run's name, the step and the tokens it had seen."""

    path: Path
    run: str
    name: str
    step: int | None = None
    tokens: int | None = None

    @property
    def title(self) -> str:
        """What it is called in tables."""
        return self.name if self.step is None else f"{self.run} · {self.step:,}"


def find(given: Sequence[Path]) -> list[Checkpoint]:
    """The checkpoints of folders; of a pretraining run all of them. Raises InputError for what is no model."""
    found = [one for path in given for one in _of(path.expanduser())]
    names = [(one.run, one.name) for one in found]
    for one in found:
        if names.count((one.run, one.name)) > 1:
            raise InputError(f"Two checkpoints are called {one.run}/{one.name}; rename one of the folders.")
    return found


def _of(path: Path) -> list[Checkpoint]:
    if (path / "pretrain.json").is_file():
        steps = steps_of(path / "checkpoints")
        if not steps:
            raise InputError(f"{path} has no checkpoint yet.")
        return [one for step in steps for one in _of(path / "checkpoints" / f"step-{step:07}")]
    if not path.is_dir():
        raise InputError(f"There is no model {path}: give a Hugging Face folder, or a run of mga pretrain.")
    if not (path / "config.json").is_file():
        raise InputError(f"{path} has no config.json: it holds no whole model (an adapter is merged first).")
    if not any(path.glob("tokenizer*")):
        raise InputError(f"{path} has no tokenizer; put the one that it was trained with beside the model.")
    run = path.resolve().parent.parent
    if path.name.startswith("step-") and (run / "pretrain.json").is_file():
        step = int(path.name.removeprefix("step-"))
        return [
            Checkpoint(path, run.name, path.name, step, step * int(read_json(run / "pretrain.json")["step_tokens"]))
        ]
    return [Checkpoint(path, path.resolve().name, path.resolve().name)]
