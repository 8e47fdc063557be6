"""The settings of a pretraining, from TOML. Strict: an unknown key names the nearest known one.

[model]
size = "134M"                # of the paper, or the fields of an architecture of your own

[data]
packed = "DATA"              # what mga budget pack has written

[training]
batch_sequences = 128
learning_rate = 3e-3
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mga.errors import InputError
from mga.mixture.amounts import Amount


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class ModelSettings(_Section):
    """A Llama: one of the paper's sizes by name, or its fields. The vocabulary is that of the packed data."""

    size: str | None = Field(None, description="134M, 377M, 1.7B, 7B or 13B: the paper's Table 7")
    hidden_size: int | None = Field(None, ge=1, description="width of the residual stream")
    intermediate_size: int | None = Field(None, ge=1, description="width of the feed-forward layers")
    num_hidden_layers: int | None = Field(None, ge=1, description="layers")
    num_attention_heads: int | None = Field(None, ge=1, description="query heads")
    num_key_value_heads: int | None = Field(None, ge=1, description="key and value heads; as many as query heads")
    tie_word_embeddings: bool = Field(False, description="the head shares its weights with the embeddings")
    rope_theta: float = Field(500_000.0, gt=0, description="base of the rotary embeddings, Llama 3's")

    @model_validator(mode="after")
    def _is_whole(self) -> "ModelSettings":
        fields = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        given = [name for name in fields if getattr(self, name) is not None]
        if self.size is not None and (given or self.num_key_value_heads):
            raise ValueError(f"size and {(given or ['num_key_value_heads'])[0]} exclude each other")
        if self.size is None and len(given) < len(fields):
            raise ValueError(f"needs a size, or {', '.join(name for name in fields if name not in given)}")
        if self.hidden_size and self.num_attention_heads:
            if self.hidden_size % (2 * self.num_attention_heads):
                raise ValueError("hidden_size must be num_attention_heads times an even number")
            if self.num_attention_heads % (self.num_key_value_heads or 1):
                raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        return self


class DataSettings(_Section):
    """What is read."""

    packed: str = Field(min_length=1, description="folder that mga budget pack has written")
    mask_documents: bool = Field(False, description="no token sees another document, positions begin anew with each")


class TrainingSettings(_Section):
    """How it is trained: AdamW, warmup-stable-decay (paper, section 5)."""

    tokens: Amount | None = Field(None, gt=0, description="tokens to train on; all that was packed if not given")
    steps: int | None = Field(None, ge=1, description="instead: steps")
    batch_sequences: int = Field(ge=1, description="sequences a step, over all processes")
    micro_batch: int | None = Field(None, ge=1, description="sequences a process computes at once; all of its share")
    learning_rate: float = Field(gt=0, description="of the stable phase")
    warmup: float = Field(0.001, ge=0, le=1, description="share of the steps in which the rate rises from 0")
    decay: float = Field(0.25, ge=0, le=1, description="share of the steps, the last, in which it falls to 0; 0: none")
    weight_decay: float = Field(0.1, ge=0, description="of matrices; norms have none")
    betas: tuple[float, float] = Field((0.9, 0.95), description="of AdamW")
    epsilon: float = Field(1e-8, gt=0, description="of AdamW")
    clip: float = Field(1.0, gt=0, description="greatest norm of the gradient")
    z_loss: float = Field(0.0, ge=0, description="weight of the squared log of the softmax's sum; 0: off")
    seed: int = Field(0, ge=0, lt=2**31, description="of the weights at the beginning")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="of the computation; weights are float32. auto: bfloat16 on a GPU, float32 on a CPU"
    )
    compile: bool | None = Field(None, description="torch.compile; on a GPU if not said")
    attention: Literal["sdpa", "flash_attention_2", "flash_attention_3", "eager"] = Field(
        "sdpa", description="sdpa takes torch's flash kernels where they fit; the others need their packages"
    )
    checkpointing: bool = Field(False, description="compute activations again instead of keeping them: less memory")

    @model_validator(mode="after")
    def _fits(self) -> "TrainingSettings":
        if self.tokens is not None and self.steps is not None:
            raise ValueError("tokens and steps exclude each other")
        if self.warmup + self.decay > 1:
            raise ValueError("warmup and decay are shares: together 1 at most")
        return self


class ValidationSettings(_Section):
    """Losses on held-out documents, by source."""

    every: int | None = Field(None, ge=1, description="steps between; as often as checkpoints if not given")
    sequences: int = Field(64, ge=1, description="of each source, the first ones")


class CheckpointSettings(_Section):
    """What is kept."""

    every: int | None = Field(None, ge=1, description="steps between; a tenth of all if not given")
    keep: int | None = Field(None, ge=1, description="only so many of the latest models; all if not given")
    states: Literal["last", "all"] = Field(
        "last", description="optimizer states: the last, to go on from, or all, to branch from any checkpoint"
    )


class LogSettings(_Section):
    """What is told."""

    every: int = Field(10, ge=1, description="steps between lines of log.jsonl")
    tensorboard: bool = Field(False, description="also event files for TensorBoard, in tensorboard/")


class BranchSettings(_Section):
    """Begin at a checkpoint of another run, with its optimizer, at its place in the data; the decay begins there."""

    run: str = Field(min_length=1, description="folder of that run")
    step: int | None = Field(None, ge=1, description="one whose state was kept; its last if not given")


class PretrainConfig(_Section):
    """A pretraining."""

    note: str = Field("", description="for people")
    model: ModelSettings
    data: DataSettings
    training: TrainingSettings
    validation: ValidationSettings = ValidationSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    log: LogSettings = LogSettings()
    branch: BranchSettings | None = None


def load_config(given: str | Path | Mapping[str, Any]) -> PretrainConfig:
    """The settings in a TOML file, or in a mapping of sections. Raises InputError that names the setting."""
    where = "the settings" if isinstance(given, Mapping) else str(given)
    try:
        values = given if isinstance(given, Mapping) else tomllib.loads(Path(given).read_text(encoding="utf-8"))
        return PretrainConfig.model_validate(values)
    except OSError as error:
        raise InputError(f"Cannot read {where}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where} is not valid TOML: {error}.") from error
    except ValidationError as error:
        raise InputError(_explained(error, where)) from None


def _explained(error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    names = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        section: Any = PretrainConfig
        for name in names[:-1]:
            section = section.model_fields[name].annotation
            section = BranchSettings if section not in _Section.__subclasses__() else section
        near = difflib.get_close_matches(names[-1], section.model_fields, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(section.model_fields)}."
        return f"Unknown setting {'.'.join(names)!r} in {where}; {known}"
    what = first["msg"].removeprefix("Value error, ")
    return f"Setting {'.'.join(names)!r} in {where}: {what[0].lower()}{what[1:]}."
