"""llama.cpp in this process, through xllamacpp: a GGUF file, continuous batching, JSON schemas, log-probabilities.

xllamacpp carries llama.cpp's own server. We load the model here and talk to it over loopback with a key
drawn for this process, so that one client serves this engine and every other.

A sequence ("slot") keeps the tokens of its last prompt. All requests about a document go to one slot, which
computes the document once; only when slots stand idle does a document spread over several.
"""

import os
import secrets
from pathlib import Path

from mga.engines.embedded_model import EMBEDDED_MODELS, fetch
from mga.engines.endpoint import Endpoint
from mga.engines.engine import Reply, Request
from mga.engines.wire import Features
from mga.errors import InputError, StopError

DEFAULT_SLOTS = 8
SLOT_CONTEXT = 8192
CPU_BATCH = 128  # tokens per pass; 512 leaves the caches of a CPU (docs/performance.md)


class LlamaCppEngine:
    """Engine on a GGUF file, or on an embedded model by its name."""

    context: int | None = SLOT_CONTEXT

    def __init__(self, model: str, concurrency: int | None = None) -> None:
        self._given = model
        self.model = model if model in EMBEDDED_MODELS else Path(model).name
        self._slots = _Slots(concurrency or DEFAULT_SLOTS)
        self.documents_in_flight = len(self._slots)
        self.requests_in_flight = self.most_in_flight = 16 * len(self._slots)
        self.features = Features()
        self._server: object | None = None
        self._endpoint: Endpoint | None = None

    async def start(self) -> None:
        # llama.cpp's threads spin while they wait for each other. On a machine that does anything else a spinning
        # thread keeps out the one it waits for: half the speed is lost. Read once, when the library is loaded.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        try:
            import xllamacpp
        except ImportError:
            raise InputError(
                "The llamacpp engine needs xllamacpp: pip install 'mga[llamacpp]' (or choose another --engine)."
            ) from None
        path = fetch(self._given) if self._given in EMBEDDED_MODELS else _existing(self._given)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.model_alias = {self.model}
        params.n_parallel = len(self._slots)
        params.n_ctx = SLOT_CONTEXT * len(self._slots)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 1
        if not any("gpu" in str(d.get("type", "")).lower() for d in xllamacpp.get_device_info()):
            params.n_ubatch = CPU_BATCH
        params.cache_ram_mib = 0
        params.verbosity = -1
        key = secrets.token_hex()
        params.api_keys = [key]
        try:
            server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"llama.cpp cannot load {path}: is it a complete GGUF file? ({error})") from error
        self._server = server
        self._endpoint = Endpoint(f"{server.listening_address}/v1", self.model, key=key)

    async def ask(self, request: Request) -> Reply:
        slot = self._slots.take(request.affinity)
        try:
            return await self._running().ask(request, {"id_slot": slot, "cache_prompt": True})
        finally:
            self._slots.give_back(slot)

    async def alive(self) -> bool:
        return await self._running().alive()

    async def count_tokens(self, text: str) -> int:
        return await self._running().count_tokens(text)

    async def close(self) -> None:
        if self._endpoint is not None:
            await self._endpoint.close()
        self._endpoint = self._server = None

    def _running(self) -> Endpoint:
        if self._endpoint is None:
            raise StopError("The llamacpp engine was asked before it was started.")
        return self._endpoint


class _Slots:
    """Which sequence answers next: the document's own, else an idle one, else the document's least busy."""

    def __init__(self, count: int) -> None:
        self._load = [0] * count
        self._owner: list[str | None] = [None] * count

    def __len__(self) -> int:
        return len(self._load)

    def take(self, affinity: str) -> int:
        own = [i for i, owner in enumerate(self._owner) if owner == affinity]
        idle = [i for i, load in enumerate(self._load) if load == 0]
        idle_own = [i for i in own if self._load[i] == 0]
        candidates = idle_own or idle or own or range(len(self._load))
        slot = min(candidates, key=lambda i: self._load[i])
        self._owner[slot] = affinity
        self._load[slot] += 1
        return slot

    def give_back(self, slot: int) -> None:
        self._load[slot] -= 1


def _existing(given: str) -> Path:
    path = Path(given).expanduser()
    if not path.is_file():
        known = ", ".join(f"llamacpp:{name}" for name in EMBEDDED_MODELS)
        raise InputError(f"There is no model file {path}. Give a .gguf file, or an embedded model: {known}.")
    return path
