"""How llama.cpp runs a model on this machine: defaults, and what `mga tune-engine` has found and saved."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import orjson
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mga.wheel import cache_folder

FILE = "tuned-engines.json"
CPU_BATCH = 128  # 512 leaves the caches of a CPU (docs/performance.md)
GPU_BATCH = 512

Speculation = Literal["none", "ngram-simple", "ngram-mod"]


class LlamaCppSettings(BaseModel):
    """What decides speed alone: none of these is meant to change what a model says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="CPU threads")
    sequences: int = Field(8, ge=1, description="sequences decoded in parallel")
    batch: int = Field(CPU_BATCH, ge=1, description="tokens computed in one pass")
    cache: Literal["f16", "q8_0"] = Field("f16", description="type of the keys and values kept")
    flash_attention: Literal["auto", "on", "off"] = Field("auto", description="flash attention")
    speculation: Speculation = Field("none", description="drafts of the next tokens from repeated n-grams")

    def apply(self, params: Any) -> None:
        """Write them into an `xllamacpp.CommonParams`."""
        import xllamacpp

        params.n_parallel = self.sequences
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self.threads
        params.n_ubatch = self.batch
        kind = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{self.cache.upper()}")
        params.cache_type_k = params.cache_type_v = kind
        flash = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}[self.flash_attention]
        params.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{flash}")
        if self.speculation != "none":
            name = f"COMMON_SPECULATIVE_TYPE_{self.speculation.upper().replace('-', '_')}"
            params.speculative.types = [getattr(xllamacpp.common_speculative_type, name)]


def default_settings() -> LlamaCppSettings:
    """What suits most machines: batches for a GPU where llama.cpp has one, for a CPU elsewhere."""
    return LlamaCppSettings(batch=GPU_BATCH if has_gpu() else CPU_BATCH)


def has_gpu() -> bool:
    """Whether this build of llama.cpp finds a GPU."""
    import xllamacpp

    return any("gpu" in str(device.get("type", "")).lower() for device in xllamacpp.get_device_info())


def saved_settings(model: Path) -> LlamaCppSettings | None:
    """What was found for this model on this machine with this llama.cpp, if anything was."""
    try:
        return LlamaCppSettings.model_validate(_saved().get(_key(model)))
    except ValidationError:
        return None


def save_settings(model: Path, settings: LlamaCppSettings) -> Path:
    """Keep settings for `saved_settings`; returns the file."""
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        beside = file.with_suffix(".writing")
        known = _saved() | {_key(model): settings.model_dump()}
        beside.write_bytes(orjson.dumps(known, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
        beside.replace(file)
    return file


def _saved() -> dict[str, Any]:
    try:
        known = orjson.loads(_file().read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return known if isinstance(known, dict) else {}


def _file() -> Path:
    return cache_folder() / FILE


def _key(model: Path) -> str:
    """The model's file, the machine's processors, and the build: what settings depend on."""
    import xllamacpp

    devices = [f"{device['name']} {device['description']}" for device in xllamacpp.get_device_info()]
    size = model.stat().st_size
    return f"{model.name} ({size} bytes), {', '.join(devices)}, {os.cpu_count()} threads, {version('xllamacpp')}"
