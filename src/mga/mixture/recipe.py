"""A data budget in TOML: the sources with their unique tokens, the tokens to train on, and a strategy.

budget = "1000B"
strategy = "expand"

[[source]]
name = "fineweb-edu-dedup"
unique = "195B"

[[source]]
name = "mga"
unique = "770B"
expands = "fineweb-edu-dedup"
"""

import difflib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mga.errors import InputError
from mga.mixture.amounts import Amount


class Strategy(StrEnum):
    """What to do when the budget is larger than the data.

    repeat: every source equally often. collect-more: the same, with all that could be collected (`available`).
    upsample: the sources marked `upsample` fill what the others, taken once, leave. expand: rewrites share with the
    source they expand. only-synthetic: rewrites take its place. weights: shares or epochs as given.
    """

    REPEAT = "repeat"
    COLLECT_MORE = "collect-more"
    UPSAMPLE = "upsample"
    EXPAND = "expand"
    ONLY_SYNTHETIC = "only-synthetic"
    WEIGHTS = "weights"


def _listed(given: object) -> object:
    return [given] if isinstance(given, str) else given


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Section):
    """One corpus of the mixture."""

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$", description="letters, digits, - _ . only: it names folders")
    unique: Amount | None = Field(None, gt=0, description="unique tokens; `mga budget pack` counts its own")
    available: Amount | None = Field(None, gt=0, description="collect-more: unique tokens there would be in all")
    expands: str | None = Field(None, description="the source these rewrites were made from")
    discount: Annotated[float, Field(ge=0, le=1)] | Literal["unknown"] = Field(
        "unknown",
        description="rewrites: the share by which a unique token teaches less than one of new text; "
        "0: as much, 1: nothing, unknown: plans show a range",
    )
    upsample: bool = Field(False, description="upsample: this is the source to repeat")
    weight: float | None = Field(
        None,
        ge=0,
        description="weights: share of the budget; with what `epochs` take, all make 1 together, or 100 as percent",
    )
    epochs: float | None = Field(None, ge=0, description="weights: instead, how often its tokens are seen")
    paths: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="pack: a run's folder, or files, folders, globs, URLs of Parquet and JSON Lines"
    )
    text_key: str = Field("text", description="column of the text")
    id_key: str = Field("id", description="column of the id")
    source_key: str | None = Field(None, description="column of the source document's id; source_id where there is one")
    megadocs: bool = Field(False, description="stitch the texts of one source document into one, in random order")


class HeldOut(_Section):
    """What no model trains on: chosen by source document, so that its rewrites are held out with it."""

    share: float = Field(0.0, ge=0, lt=1, description="of the source documents, drawn by the hash of their id")
    column: str | None = Field(None, description="or those whose row in a source that expands nothing has here …")
    values: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field((), description="… one of these values")
    seed: int | None = Field(None, ge=0, lt=2**63, description="of the drawing; that of pack if not given")
    unknown: Literal["refuse", "leave-out"] = Field(
        "refuse", description="rewrites that name no document of the source they expand: an error, or left out"
    )

    @property
    def holds_any(self) -> bool:
        """Whether anything is to be held out."""
        return self.share > 0 or self.column is not None

    @model_validator(mode="after")
    def _go_together(self) -> "HeldOut":
        if (self.column is None) != (not self.values):
            raise ValueError("column and values go together")
        return self


class PackSettings(_Section):
    """How texts become sequences."""

    sequence: int = Field(8192, ge=8, le=1 << 24, description="tokens per sequence")
    packing: Literal["best-fit", "concatenate"] = Field(
        "best-fit", description="best-fit cuts no text that fits a sequence; concatenate fills all, cutting anywhere"
    )
    separator: str | None = Field(None, description="token at the end of each document; the tokenizer's end of text")
    joiner: str = Field("\n\n", description="between the texts of a megadoc")
    shard_tokens: Amount = Field(2**25, ge=1, le=2**31, description="tokens per file, and in memory at a time per core")
    seed: int = Field(0, ge=0, lt=2**63, description="of all drawing and shuffling")
    held_out: HeldOut = HeldOut()

    @property
    def held_out_seed(self) -> int:
        """The seed that decides what is held out, and in which order it is packed."""
        return self.seed if self.held_out.seed is None else self.held_out.seed


class Recipe(_Section):
    """A data budget, and how to pack it."""

    note: str = Field("", description="for people")
    budget: Amount = Field(gt=0, description="tokens to train on")
    strategy: Strategy = Strategy.REPEAT
    expansion: Literal["within", "beside"] = Field(
        "within", description="expand: rewrites share what their source would get, or stand beside all as one more"
    )
    tokenizer: str | None = Field(None, description="tokenizer.json, a folder with it, a GGUF file, or smollm2-135m")
    source: tuple[Source, ...] = Field(min_length=1)
    pack: PackSettings = PackSettings()

    @model_validator(mode="after")
    def _names_fit(self) -> "Recipe":
        names = [source.name for source in self.source]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources are named {name!r}")
        for source in self.source:
            if source.expands is not None:
                original = next((other for other in self.source if other.name == source.expands), None)
                if original is None or original.expands is not None:
                    raise ValueError(f"{source.name} expands {source.expands!r}, which is no original source here")
            elif source.discount != "unknown":
                raise ValueError(f"{source.name} has a discount, which is for rewrites, and expands no source")
        return self


def shipped_recipes() -> dict[str, str]:
    """Name → TOML of the recipes that come with mga: those of the paper."""
    folder = files("mga.mixture") / "recipes"
    found = {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}
    return {name: found[name].read_text(encoding="utf-8") for name in sorted(found)}


def load_recipe(given: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a file, or one that comes with mga by name; `changes` (nested, None: none) win over it.

    Raises InputError that names the file and the setting.
    """
    shipped = shipped_recipes()
    path = Path(given)
    try:
        values = tomllib.loads(shipped[given] if given in shipped else path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = difflib.get_close_matches(given, shipped, n=1)
        hint = f"did you mean {near[0]}?" if near else f"those that come with mga: {', '.join(shipped)}."
        raise InputError(f"There is no recipe {given}; {hint}") from None
    except OSError as error:
        raise InputError(f"Cannot read the recipe {given}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"The recipe {given} is not valid TOML: {error}.") from error
    for name, value in (changes or {}).items():
        if isinstance(value, Mapping):
            value = {**values.get(name, {}), **{k: v for k, v in value.items() if v is not None}}
        if value is not None:
            values[name] = value
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise InputError(_explained(error, given, values)) from None


def _explained(error: ValidationError, given: str, values: Mapping[str, Any]) -> str:
    first = error.errors()[0]
    place = list(first["loc"])
    where = ".".join(str(part) for part in place)
    if place[:1] == ["source"] and len(place) > 1 and isinstance(values.get("source"), list):
        named = values["source"][int(place[1])]
        name = named.get("name", place[1]) if isinstance(named, Mapping) else place[1]
        where = ".".join(["source", str(name), *map(str, place[2:])])
    if first["type"] == "extra_forbidden":
        section: type[BaseModel] = Recipe
        if len(place) > 1:
            section = HeldOut if "held_out" in place[:-1] else Source if place[0] == "source" else PackSettings
        near = difflib.get_close_matches(str(place[-1]), section.model_fields, n=1)
        known = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(section.model_fields)}."
        return f"Unknown setting {where!r} in {given}; {known}"
    what = first["msg"].removeprefix("Value error, ")
    return f"Recipe {given}: {what}." if not where else f"Setting {where!r} in {given}: {what[0].lower()}{what[1:]}."
