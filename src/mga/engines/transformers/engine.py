"""Transformers in this process: a model folder as training leaves it, on one GPU or the CPU (`batch_in_flight.py`).

Every row draws from a generator seeded by its request, so a request asked alone is answered the same every time. In
company, or after another prompt about its document, it meets the same random numbers, but sums are rounded
differently: two nearly equal tokens may change places, and the text goes on differently from there.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mga.engines.engine import Reply, Request
from mga.errors import InputError, MgaError, StopError
from mga.packages import require

if TYPE_CHECKING:  # torch and transformers are imported when an engine starts, which says so if they are missing
    from mga.engines.transformers.batch import Batch
    from mga.engines.transformers.token_choice import Matcher

ROWS = {"cuda": 64, "cpu": 16}
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


class TransformersEngine:
    """Engine on a Hugging Face model folder. `device` is cuda or cpu (None: cuda where there is one).

    `ignored` names what requests asked for and this engine does not do.
    """

    context: int | None = None
    features = "not started"

    def __init__(self, folder: str, concurrency: int | None = None, device: str | None = None) -> None:
        self._path = Path(folder).expanduser()
        self._concurrency = concurrency
        self._device = device
        self.model = self._path.resolve().name
        self.ignored: set[str] = set()
        self._use_rows(ROWS["cpu"])
        self._folder: _Folder | None = None
        self._batch: Batch | None = None

    async def start(self) -> None:
        """Load the model, in a thread. Raises InputError for a folder or an installation that cannot be used."""
        if not self._path.is_dir():
            raise InputError(f"There is no model folder {self._path}.")
        if not (self._path / "config.json").is_file():
            raise InputError(f"{self._path} has no config.json: it holds no whole model (an adapter is merged first).")
        folder, model = await asyncio.to_thread(_load, self._path, self._device)
        from mga.engines.transformers.batch import Batch

        self.context, self.features = folder.context, folder.features
        self._use_rows(ROWS[model.device.type])
        self._folder = folder
        self._batch = Batch(model, folder.decode, folder.ends, self.documents_in_flight)

    async def ask(self, request: Request) -> Reply:
        folder, batch = self._running()
        self.ignored |= request.sampling.keys() - batch.settings
        prompt, matcher = await asyncio.to_thread(folder.prepare, request)
        if request.schema is not None and matcher is None:
            self.ignored.add("schema")
        room = request.max_tokens if self.context is None else min(request.max_tokens, self.context - len(prompt))
        if not prompt:
            raise InputError("The prompt is empty.")
        if room < 1:
            raise InputError(f"The prompt has {len(prompt)} tokens, the model's context {self.context}.")
        return await batch.answer(request, prompt, room, matcher)

    async def alive(self) -> bool:
        return self._batch is not None and self._batch.alive()

    async def count_tokens(self, text: str) -> int:
        folder, _ = self._running()
        return len(await asyncio.to_thread(folder.encode, text))

    async def close(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            await asyncio.to_thread(batch.close)

    def _use_rows(self, rows: int) -> None:
        self.documents_in_flight = self._concurrency or rows
        self.requests_in_flight = self.most_in_flight = 2 * self.documents_in_flight  # the next wait here, no row idles

    def _running(self) -> "tuple[_Folder, Batch]":
        if self._folder is None or self._batch is None:
            raise StopError("The transformers engine was asked before it was started.")
        return self._folder, self._batch


def _load(path: Path, device: str | None) -> "tuple[_Folder, Any]":
    """What a folder says about text and tokens, and its model on the device. Raises InputError and nothing else."""
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as for llamacpp: spinning threads keep each other out
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    require("The transformers engine", "transformers", "torch", "transformers")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = _load_model(path, device)
        folder = _Folder(tokenizer, model)
        with torch.inference_mode():
            first = model(torch.tensor([folder.encode("Hello")], device=device)).logits
    except MgaError:
        raise
    except Exception as error:  # each of the libraries below has errors of its own
        said = " ".join(str(error).split())[:300]
        raise InputError(f"transformers cannot load {path} on {device}: {said}") from error
    if not first.isfinite().all():
        raise InputError(f"The model in {path} computes no numbers (NaN): its weights are damaged.")
    return folder, model


def _load_model(path: Path, device: str) -> Any:
    """The folder's causal language model on the device, whole and of a kind that can be batched."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path, local_files_only=True).get_text_config(decoder=True)
    if strange := set(getattr(config, "layer_types", None) or ()) - _ATTENTION:
        raise InputError(f"The transformers engine cannot batch {', '.join(strange)}: serve {path} with vLLM.")
    options = {"local_files_only": True, "dtype": _dtype(config, device), "output_loading_info": True}
    model, found = AutoModelForCausalLM.from_pretrained(path, **options)
    if missing := found["missing_keys"]:
        raise InputError(f"{path} lacks {len(missing)} of the model's weights, such as {min(missing)}.")
    return model.eval().to(device)


def _dtype(config: Any, device: str) -> Any:
    """bfloat16 on GPUs, and on CPUs that multiply it (twice as fast there) if the weights are; else float32."""
    import torch

    if device == "cpu":
        cpu: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        if config.dtype != torch.bfloat16 or not (cpu.get("avx512_bf16") or cpu.get("amx_bf16")):
            return torch.float32
    return torch.bfloat16


class _Folder:
    """What a folder says about text and tokens: tokenizer, chat template, context, the tokens that end a reply."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        from mga.engines.transformers.token_choice import schema_matchers

        self._tokenizer = tokenizer
        self.context: int | None = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        ends = model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        self.ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
        self._matcher = schema_matchers(tokenizer, self.ends)
        schemas = "JSON schemas" if self._matcher({"type": "object"}) else "no JSON schemas (pip install llguidance)"
        dtype = str(model.dtype).removeprefix("torch.")
        self.features = f"{model.device.type}, {dtype}, log-probabilities, {schemas}"

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def prepare(self, request: Request) -> "tuple[list[int], Matcher | None]":
        """The prompt's token ids, and what holds the reply to the schema (None: nothing does)."""
        if self._tokenizer.chat_template is None:
            prompt = self._tokenizer(request.prompt)["input_ids"]
        else:
            messages = [{"role": "user", "content": request.prompt}]
            options = {"add_generation_prompt": True, "return_dict": True, "enable_thinking": False}
            prompt = self._tokenizer.apply_chat_template(messages, **options)["input_ids"]
        return prompt, None if request.schema is None else self._matcher(request.schema)
