"""llama.cpp in this process, through xllamacpp: a GGUF file, continuous batching, JSON schemas, log-probabilities.

xllamacpp carries llama.cpp's own server. We load the model here and talk to it over loopback with a key
drawn for this process, so that one client serves this engine and every other.

A sequence ("slot") keeps the tokens of its last prompt. All requests about a document go to one slot, which computes
the document once (`slots.py`); where they spread over several, what was computed is carried along (`saved_prompts.py`).
"""

import asyncio
import os
import secrets
from pathlib import Path

from mga.engines.engine import Reply, Request
from mga.engines.llamacpp.embedded_model import EMBEDDED_MODELS, fetch
from mga.engines.llamacpp.saved_prompts import SavedPrompts
from mga.engines.llamacpp.settings import LlamaCppSettings, default_settings, has_gpu, saved_settings
from mga.engines.llamacpp.slots import Slots
from mga.engines.servers.endpoint import Endpoint
from mga.engines.servers.wire import Features
from mga.errors import InputError, StopError
from mga.packages import require

SLOT_CONTEXT = 8192
STARTS_WITHIN_S = 300.0
# llama.cpp's order with top-k first: penalties look at the 40 likeliest tokens instead of the whole vocabulary, which
# takes a tenth of the time of a small model (docs/performance.md).
SAMPLERS = ("top_k", "penalties", "dry", "top_p", "min_p", "temperature")


class LlamaCppEngine:
    """Engine on a GGUF file, or on an embedded model by its name."""

    context: int | None = SLOT_CONTEXT

    def __init__(self, model: str, concurrency: int | None = None, settings: LlamaCppSettings | None = None) -> None:
        self._given = model
        self.model = model if model in EMBEDDED_MODELS else Path(model).name
        self.features = str(Features())
        self.settings = settings
        self._concurrency = concurrency
        self._saved = SavedPrompts()
        self._use_slots(concurrency or (settings or LlamaCppSettings()).sequences)
        self._server: object | None = None
        self._endpoint: Endpoint | None = None

    async def start(self) -> None:
        # llama.cpp's threads spin while they wait for each other. On a machine that does anything else a spinning
        # thread keeps out the one it waits for: half the speed is lost. Read once, when the library is loaded.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
        require("The llamacpp engine", "llamacpp", "xllamacpp")
        import xllamacpp

        path = model_file(self._given)
        settings = self.settings or saved_settings(path) or default_settings()
        if self._concurrency:
            settings = settings.model_copy(update={"sequences": self._concurrency})
        self.settings = settings
        device = "gpu" if has_gpu() else "cpu"
        self.features = f"{device}, {Features()}; {settings.sequences} sequences of {SLOT_CONTEXT:,} tokens"
        self._use_slots(settings.sequences)
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.model_alias = {self.model}
        settings.apply(params)
        params.n_ctx = SLOT_CONTEXT * settings.sequences
        params.cache_ram_mib = 0
        params.endpoint_slots, params.slot_save_path = True, f"{self._saved.folder}/"
        params.verbosity = -1
        key = secrets.token_hex()
        params.api_keys = [key]
        try:
            server = xllamacpp.Server(params)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"llama.cpp cannot load {path}: is it a complete GGUF file? ({error})") from error
        self._server = server
        self._endpoint = Endpoint(f"{server.listening_address}/v1", self.model, key=key)
        # Its thread must have begun to take tasks: ended before that, it never ends.
        try:
            async with asyncio.timeout(STARTS_WITHIN_S):
                while await self._endpoint.status("/slots") != 200:  # noqa: ASYNC110 - nobody sets an event
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise StopError(f"llama.cpp has loaded {path} and does not answer.") from None

    async def ask(self, request: Request) -> Reply:
        endpoint, saved = self._running(), self._saved
        slot, is_new = await self._slots.take(request.affinity)
        try:
            if is_new:
                await saved.restore(request.affinity, slot, endpoint)
            reply = await endpoint.ask(request, {"id_slot": slot, "cache_prompt": True, "samplers": SAMPLERS})
            await saved.save(request.affinity, slot, endpoint)
            return reply
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
        self._saved.close()

    def _use_slots(self, count: int) -> None:
        self._slots = Slots(count)
        self.documents_in_flight = count
        self.requests_in_flight = self.most_in_flight = 16 * count

    def _running(self) -> Endpoint:
        if self._endpoint is None:
            raise StopError("The llamacpp engine was asked before it was started.")
        return self._endpoint


def model_file(given: str) -> Path:
    """The file of an embedded model, fetched if need be, or of a path. Raises InputError when there is none."""
    if given in EMBEDDED_MODELS:
        return fetch(given)
    path = Path(given).expanduser()
    if not path.is_file():
        known = ", ".join(f"llamacpp:{name}" for name in EMBEDDED_MODELS)
        raise InputError(f"There is no model file {path}. Give a .gguf file, or an embedded model: {known}.")
    return path
