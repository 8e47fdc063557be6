"""Typed settings of an expansion, from TOML and flags. Strict: an unknown key names the nearest known one.

Every field says what it does; the command line takes its help texts and defaults from here.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mga.engine_uri import engine_identity, public_uri
from mga.errors import InputError
from mga.prompts.library import is_prompt_file, reformulation_prompt

Variant: TypeAlias = str
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sampling(_Section):
    """How tokens are drawn, in the wire format's names. What is left out stays at the server's default."""

    temperature: float | None = Field(None, ge=0, description="0 takes the likeliest token")
    top_p: float | None = Field(None, gt=0, le=1, description="nucleus of this probability mass")
    min_p: float | None = Field(None, ge=0, le=1, description="drop tokens less likely than this times the best")
    repeat_penalty: float | None = Field(None, gt=0, description="llama.cpp: divide the logits of recent tokens")
    repeat_last_n: int | None = Field(None, ge=-1, description="llama.cpp: how many tokens count as recent")
    repetition_penalty: float | None = Field(None, gt=0, description="vLLM and SGLang: the same idea")
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description="penalty by count of occurrences")
    presence_penalty: float | None = Field(None, ge=-2, le=2, description="penalty for having occurred")
    dry_multiplier: float | None = Field(None, ge=0, description="llama.cpp: strength of DRY, which stops loops")
    dry_base: float | None = Field(None, ge=1, description="llama.cpp: growth of DRY with the length of the repeat")
    dry_allowed_length: int | None = Field(None, ge=0, description="llama.cpp: repeats up to this length are free")
    dry_penalty_last_n: int | None = Field(None, ge=-1, description="llama.cpp: how far back DRY looks")

    def wire(self) -> dict[str, float]:
        """The fields that are set."""
        return self.model_dump(exclude_none=True)


class PairSettings(_Section):
    """Stage 1: proposing (genre, audience) pairs."""

    recipe: Literal["together", "one-by-one"] = Field(
        "together", description="all pairs in one request, or one request each, which suits very small models"
    )
    seeds: bool = Field(False, description="give the model directions drawn from built-in genre and audience seeds")
    attempts: int = Field(3, ge=1, description="requests before missing or repeated pairs are given up")
    near_identical: Share = Field(0.6, description="pairs whose words overlap more than this are the same pair")
    max_tokens: int = Field(1024, ge=64, description="longest reply, in tokens")
    given: str | None = Field(None, description="file of pairs to use as they are, so that none are asked for")
    sampling: Sampling = Sampling(temperature=1.0, top_p=0.95)


class RewriteSettings(_Section):
    """Stage 2: writing the text of a pair."""

    max_reply_ratio: float = Field(
        3.0, gt=0, description="a reply may have this many times the document's tokens (but 256 at least)"
    )
    sampling: Sampling = Sampling(temperature=0.7, top_p=0.95)


class JudgeSettings(_Section):
    """The judge of limited consistency."""

    attempts: int = Field(2, ge=1, description="requests before a verdict is given up")
    max_tokens: int = Field(400, ge=32, description="longest reply, in tokens")
    expected_score: bool = Field(False, description="also the mean score over the probabilities of the five digits")
    sampling: Sampling = Sampling(temperature=0.0)


class CleaningRules(_Section):
    """Thresholds of the rules that a text must pass. Shares run from 0 to 1; 0 or 1 switches a rule off."""

    min_words: int = Field(20, ge=0, description="fewer words: dropped as too_short")
    max_repeated: Share = Field(
        0.3,
        description="share of repeated word 6-grams, beyond what the document itself has: repetition_loop",
    )
    max_copied: Share = Field(0.8, description="share of word 8-grams copied from the document: near_copy")
    min_coverage: Share = Field(0.08, description="share of the document's keywords that must occur: low_coverage")
    check_language: bool = Field(
        True,
        description="a text in another language than its document is dropped as wrong_language (extra: languages)",
    )
    max_cut: Share = Field(0.5, description="share of the reply that cutting boilerplate may take: boilerplate")
    phrases: str | None = Field(None, description="file of boilerplate that replaces the built-in one")
    patterns: str | None = Field(
        None,
        description="file of this corpus's own boilerplate (mga boilerplate), or starter: those that come with mga",
    )


class ExpandConfig(_Section):
    """All settings of `mga expand`."""

    input: tuple[str, ...] = Field((), description="files, folders, globs or fsspec URLs")
    engine: str = Field("llamacpp:smollm2-135m", description="generator: the model that proposes pairs and writes")
    judge_engine: str | None = Field(None, description="judge model, if it is not the generator")
    text_key: str = Field("text", description="column or field of the text")
    id_key: str = Field("id", description="column or field of the id")
    limit: int | None = Field(None, ge=1, description="expand only the first documents")
    pairs: int = Field(5, ge=1, le=32, description="(genre, audience) pairs per document; 1 for a style")
    variant: Variant = Field(
        "base",
        description="how to rewrite: base, strict, relaxed, a style (wiki, faq, …: README), a prompt file",
    )
    language: str | None = Field(None, description="language of the rewrites; the document's own if not given")
    judge: Literal["all", "none"] | Share = Field("all", description="which rewrites are judged: all, none or a share")
    min_score: int = Field(3, ge=1, le=5, description="a judged rewrite below this score is dropped")
    max_prompt_tokens: int = Field(4096, ge=256, description="longest prompt; longer documents are cut into chunks")
    max_reply_tokens: int = Field(4096, ge=64, description="longest rewrite, in tokens")
    license: str | None = Field(None, description="licence of the documents, for the dataset card")
    concurrency: int | None = Field(None, ge=1, description="requests in flight (llamacpp: sequences); else auto-tuned")
    headers: dict[str, str] = Field(
        {}, description="further headers of requests to an address; a value of $NAME is that of the environment"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of every random draw")
    shard_size: int = Field(1000, ge=1, description="input rows per shard; the first shards are smaller")
    pairing: PairSettings = PairSettings()
    rewriting: RewriteSettings = RewriteSettings()
    judging: JudgeSettings = JudgeSettings()
    cleaning: CleaningRules = CleaningRules()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_model_settings(cls, given: Any) -> Any:
        """Settings measured for an embedded model come before our defaults and after everything given."""
        if not isinstance(given, Mapping):
            return given
        return _merged(MODEL_SETTINGS.get(str(given.get("engine", cls.model_fields["engine"].default)), {}), given)

    def public(self) -> dict[str, Any]:
        """All settings as plain values, without secrets: what is saved."""
        values = self.model_dump(mode="json")
        values["input"] = [public_uri(given) for given in self.input]
        values["engine"] = public_uri(self.engine)
        values["judge_engine"] = self.judge_engine and public_uri(self.judge_engine)
        values["headers"] = {name: value if value.startswith("$") else "…" for name, value in self.headers.items()}
        return values

    def sent_headers(self) -> dict[str, str]:
        """The headers with their values. Raises InputError for a variable that the environment lacks."""
        sent = {}
        for name, value in self.headers.items():
            variable = value.removeprefix("$").strip("{}")
            if value.startswith("$") and not (value := os.environ.get(variable, "").strip()):
                raise InputError(f"The header {name} takes its value from {variable}, which is not set here.")
            sent[name] = value
        return sent

    def deciding(self) -> dict[str, Any]:
        """The settings that change results: a run with others of these is another run."""
        values = self.public() | {"engine": engine_identity(self.engine)}
        values["judge_engine"] = self.judge_engine and engine_identity(self.judge_engine)
        # Files of prompts and pairs count by what they hold (`Recipe.prompts`), wherever they lie.
        values["pairing"]["given"] = None
        if is_prompt_file(self.variant):
            values["variant"] = Path(self.variant).stem
        for free in ("input", "concurrency", "license", "headers"):
            del values[free]
        return values


# Measured on real documents: see docs/performance.md, "The embedded model's recipe".
MODEL_SETTINGS: dict[str, dict[str, Any]] = {
    "llamacpp:smollm2-135m": {
        "pairing": {
            "recipe": "one-by-one",
            "seeds": True,
            "max_tokens": 200,
            "sampling": {"temperature": 0.7, "min_p": 0.1, "repeat_penalty": 1.1, "repeat_last_n": 128},
        },
        "rewriting": {
            "max_reply_ratio": 1.5,
            "sampling": {
                "temperature": 0.4,
                "min_p": 0.1,
                "repeat_penalty": 1.1,
                "repeat_last_n": 128,
                "dry_multiplier": 0.5,
                "dry_allowed_length": 4,
                "dry_penalty_last_n": 512,
            },
        },
        "judging": {"max_tokens": 200},
    }
}


def load_config(path: Path | None, flags: Mapping[str, Any]) -> ExpandConfig:
    """Settings from a TOML file and flags (nested like the file; None: not given); a flag wins.

    Raises InputError that names the setting and the file.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"Cannot read the config {path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"The config {path} is not valid TOML: {error}.") from error
        if isinstance(values.get("input"), str):
            values["input"] = [values["input"]]
    values = _merged(values, _given(flags))
    return load_settings(_merged(_style_settings(values, path), values), path)


def load_settings(values: Mapping[str, Any], source: object = None) -> ExpandConfig:
    """Settings from plain values. Raises InputError that names the setting and the source."""
    try:
        return ExpandConfig.model_validate(values)
    except ValidationError as error:
        raise InputError(_explain(error, source)) from None


def _style_settings(values: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    """What a style needs, which comes before our defaults: one text of a document, thresholds for texts of its kind."""
    variant = values.get("variant")
    if not isinstance(variant, str):
        return {}
    try:
        prompt = reformulation_prompt(variant)
    except InputError as error:
        raise InputError(f"Setting 'variant'{_in(path)}: {str(error)[:1].lower()}{str(error)[1:]}") from None
    if prompt.takes_pair:
        return {}
    if values.get("pairs", 1) != 1:
        raise InputError(f"The style {variant} writes one text of a document; leave out pairs = {values['pairs']}.")
    return {"pairs": 1, "cleaning": dict(prompt.cleaning)}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every setting in which two dumps differ, as "name (old → new)"."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} ({before} → {after})")
    return found


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    nested = {k: _given(v) if isinstance(v, Mapping) else v for k, v in flags.items()}
    return {k: v for k, v in nested.items() if v not in (None, {})}


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(below, value)
        else:
            merged[name] = value
    return merged


def _explain(error: ValidationError, path: object) -> str:
    first = error.errors()[0]
    names = _setting(first["loc"])
    where = ".".join(names)
    if first["type"] == "extra_forbidden":
        known = _known_names(names[:-1])
        near = difflib.get_close_matches(names[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
        return f"Unknown setting {where!r}{_in(path)}; {hint}"
    given = public_uri(repr(first["input"]))
    # A setting that takes several types has an error for each: all that would be right is said.
    wanted = [e["msg"][0].lower() + e["msg"][1:] for e in error.errors() if _setting(e["loc"]) == names]
    return f"Setting {where!r}{_in(path)}: {', or '.join(dict.fromkeys(wanted))} (given: {given})."


def _setting(place: tuple[int | str, ...]) -> list[str]:
    """Where in the settings an error lies, without pydantic's names for the members of a union."""
    members = ("literal", "constrained", "function", "float", "str")
    return [str(part) for part in place if not str(part).startswith(members)]


def _in(path: object) -> str:
    return f" in {path}" if path else ""


def _known_names(section: list[str]) -> list[str]:
    model: type[BaseModel] = ExpandConfig
    for name in section:
        annotation = model.model_fields[name].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
