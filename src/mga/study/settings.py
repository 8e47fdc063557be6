"""A study in TOML: sources once, strategies by what they do with them, sizes, seeds, one budget for all.

budget = "1B"
sequence = 2048
seeds = [0, 1, 2]
tokenizer = "train:8192"          # or a tokenizer.json, a folder with one, smollm2-135m

[[source]]                        # as in a recipe of mga budget
name = "good"
paths = "good.parquet"

[[source]]
name = "rewrites"
expands = "good"
paths = "run"

[[strategy]]
name = "repeat"

[[strategy]]
name = "expand"
strategy = "expand"

[[size]]
name = "134M"
size = "134M"

[training]
batch_sequences = 128
learning_rate = 3e-3
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mga.errors import InputError
from mga.mixture.amounts import Amount
from mga.mixture.recipe import PackSettings, Recipe, Source, Strategy
from mga.pretrain.config import ModelSettings, PretrainConfig, TrainingSettings

OF_THE_BUDGET = 0.98
"""Trained on: packing makes a few sequences more or less of each strategy, and all are to have equally many steps."""

Name = Annotated[str, Field(pattern=r"^[\w.]+$", description="letters, digits, _ and . only: it names folders")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class StudyStrategy(_Section):
    """One way to spend the budget."""

    name: Name
    strategy: Strategy = Strategy.REPEAT
    sources: tuple[str, ...] | None = Field(
        None, description="by name; if not given, all for expand and only-synthetic, else those that expand nothing"
    )
    upsample: tuple[str, ...] = Field((), description="upsample: the sources to repeat")
    expansion: Literal["within", "beside"] = Field("within", description="expand: as in a recipe")
    weights: dict[str, float] = Field({}, description="weights: the share of each source")
    epochs: dict[str, float] = Field({}, description="weights: instead, how often each source is seen")


class Size(ModelSettings):
    """A model, as in the settings of mga pretrain, with a name."""

    name: Name


class Evaluation(_Section):
    """What the models are asked."""

    tasks: tuple[str, ...] = Field((), description="benchmarks or suites of mga evaluate")
    data: str | None = Field(None, description="folder of local datasets")
    limit: int | None = Field(None, ge=1, description="items of each benchmark")
    own: int = Field(100, ge=0, description="held-out passages to be continued; 0: none")
    checkpoints: int = Field(5, ge=1, description="points on the curve over tokens, the last one at its end; at most")
    validation_sequences: int = Field(64, ge=1, description="held-out sequences of each source for its loss")


class StudySettings(_Section):
    """A study."""

    note: str = Field("", description="for people")
    budget: Amount = Field(gt=0, description="tokens that every model is trained on")
    sequence: int = Field(2048, ge=8, description="tokens per sequence")
    seed: int = Field(0, ge=0, lt=2**63, description="of what is held out and asked, the same for all trainings")
    seeds: tuple[int, ...] = Field(
        (0, 1, 2), min_length=1, description="of weights, drawing and order; one training each"
    )
    tokenizer: str = Field("train:8192", description="train:SIZE learns one of the originals; or as in a recipe")
    source: tuple[Source, ...] = Field(min_length=1)
    strategy: tuple[StudyStrategy, ...] = Field(min_length=2, description="the first is what others are compared with")
    size: tuple[Size, ...] = Field(min_length=1)
    training: dict[str, Any] = Field(description="[training] of mga pretrain, without tokens, steps and seed")
    pack: PackSettings = PackSettings()
    evaluation: Evaluation = Evaluation()
    mask_documents: bool = False

    @field_validator("training")
    @classmethod
    def _is_training(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in ("tokens", "steps", "seed"):
            if name in given:
                raise ValueError(f"{name} is the study's own: budget and seeds decide it")
        TrainingSettings.model_validate(given)
        return given

    @model_validator(mode="after")
    def _names_fit(self) -> "StudySettings":
        for what, all_ in (("strategies", self.strategy), ("sizes", self.size), ("seeds", self.seeds)):
            names = [getattr(one, "name", one) for one in all_]
            if len(set(names)) < len(names):
                raise ValueError(f"two {what} are called the same")
        known = {source.name for source in self.source}
        for one in self.strategy:
            for name in (*(one.sources or ()), *one.upsample, *one.weights, *one.epochs):
                if name not in known:
                    raise ValueError(f"strategy {one.name} names the source {name!r}, which is not here")
        if self.tokenizer.startswith("train:") and not re.fullmatch(r"train:\d+", self.tokenizer):
            raise ValueError("tokenizer is train:SIZE, as train:8192, or a tokenizer")
        return self

    @property
    def step_tokens(self) -> int:
        """Tokens of a step."""
        return int(self.training["batch_sequences"]) * self.sequence

    @property
    def steps(self) -> int:
        """Steps of every training."""
        return int(OF_THE_BUDGET * self.budget // self.step_tokens)

    def runs(self) -> list["Run"]:
        """All trainings, seed by seed, so that whole comparisons are there early."""
        return [Run(one, size, seed) for seed in self.seeds for size in self.size for one in self.strategy]

    def recipe(self, strategy: StudyStrategy, seed: int, tokenizer: str) -> Recipe:
        """The budget of a strategy. Raises InputError when its sources do not suit it."""
        with_rewrites = strategy.strategy in (Strategy.EXPAND, Strategy.ONLY_SYNTHETIC)
        named = strategy.sources or [s.name for s in self.source if with_rewrites or s.expands is None]
        sources = [
            source.model_copy(
                update={
                    "upsample": source.name in strategy.upsample,
                    "weight": strategy.weights.get(source.name),
                    "epochs": strategy.epochs.get(source.name),
                }
            )
            for source in self.source
            if source.name in named
        ]
        values: dict[str, Any] = {
            "budget": self.budget,
            "strategy": strategy.strategy,
            "expansion": strategy.expansion,
            "tokenizer": tokenizer,
            "source": [source.model_dump() for source in sources],
            "pack": {**self.pack.model_dump(), "sequence": self.sequence, "seed": seed},
        }
        if self.pack.held_out.seed is None:
            values["pack"]["held_out"]["seed"] = self.seed
        try:
            return Recipe.model_validate(values)
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise InputError(f"Strategy {strategy.name}: {said}.") from None

    def pretraining(self, run: "Run", packed: Path, steps: int) -> PretrainConfig:
        """The settings of one training."""
        every = -(-steps // self.evaluation.checkpoints)
        return PretrainConfig.model_validate(
            {
                "model": run.size.model_dump(exclude={"name"}),
                "data": {"packed": str(packed), "mask_documents": self.mask_documents},
                "training": {**self.training, "steps": steps, "seed": run.seed},
                "validation": {"every": every, "sequences": self.evaluation.validation_sequences},
                "checkpoints": {"every": every},
            }
        )


@dataclass(frozen=True, slots=True)
class Run:
    """One training of the study."""

    strategy: StudyStrategy
    size: Size
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.strategy.name}-{self.size.name}-{self.seed}"


def load_study(path: Path, places: Mapping[str, str]) -> StudySettings:
    """The settings in a file; `places` (source → path) win over its paths. Raises InputError that names the setting."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from error
    sources = values.get("source", [])
    for name, place in places.items():
        mine = [source for source in sources if isinstance(source, dict) and source.get("name") == name]
        if not mine:
            raise InputError(f"--source {name}=…: {path} has no source {name!r}.")
        mine[0]["paths"] = place
    try:
        return StudySettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            raise InputError(f"Unknown setting {where!r} in {path}.") from None
        raise InputError(f"Setting {where!r} in {path}: {what[0].lower()}{what[1:]}.") from None
