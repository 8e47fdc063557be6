"""What a causal language model says of the tokens of texts: their losses, and how sure it was.

A model is a Hugging Face folder, or a GGUF file, whose weights transformers unpacks: llama.cpp's server, which is all
that xllamacpp offers, gives probabilities of generated tokens only, none of a prompt's. The body of the model runs once
over a batch; its head runs over some tokens at a time in float32, so that the scores of a whole batch, 200 KB a token,
never lie in memory together.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.data.documents import InputFile, fingerprint
from mga.errors import InputError, StopError
from mga.packages import require
from mga.packing.gguf_tokenizer import for_transformers
from mga.scoring.windows import Window, batches, windows_of

BATCH_TOKENS = {"cpu": 4096, "cuda": 65_536}
_HEAD_SCORES = {"cpu": 1 << 23, "cuda": 1 << 28}
_PROBE = "The quick brown fox jumps over the lazy dog."
_MODEL_FILES = ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as tokens: `ids` (int32), and the character at which each ends (`ends`, int32)."""

    ids: NDArray[np.int32]
    ends: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Of each scored token, in nats: `loss` = −ln p(token), `entropy` of the prediction; `top_probability` of the
    likeliest token; `rank` of the token itself (1: the likeliest). float32, rank int32."""

    loss: NDArray[np.float32]
    entropy: NDArray[np.float32]
    top_probability: NDArray[np.float32]
    rank: NDArray[np.int32]

    @classmethod
    def room(cls, tokens: int) -> "TokenScores":
        """For so many tokens, to be filled."""
        loss, entropy, top = (np.empty(tokens, np.float32) for _ in range(3))
        return cls(loss, entropy, top, np.empty(tokens, np.int32))


class Scorer:
    """A loaded model. `context` is the number of ids it reads at once, `prefix` the id that begins a document (None:
    the tokenizer names none, and a document's first token is not scored)."""

    def __init__(self, model: Any, tokenizer: Any, context: int | None) -> None:
        import torch

        self._torch, self._model, self._tokenizer = torch, model, tokenizer
        config = model.config.get_text_config(decoder=True)
        self.device: str = model.device.type
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.most_context: int | None = getattr(config, "max_position_embeddings", None)
        self.context = context or min(self.most_context or 8192, 8192)
        first = tokenizer.bos_token_id
        self.prefix: int | None = tokenizer.eos_token_id if first is None else first
        self.vocabulary = int(config.vocab_size)
        self.padded = 0
        self.read = 0
        head = model.get_output_embeddings()
        self._head = None
        if head is not None and self._head_is_all(head):
            weight = head.weight.detach().float()
            bias = getattr(head, "bias", None)
            self._head = (weight, None if bias is None else bias.detach().float())

    def encode(self, text: str) -> Encoded:
        """The tokens of a text, without any that the tokenizer would add."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = np.asarray(found["input_ids"], np.int32)
        ends = np.asarray(found["offset_mapping"], np.int32).reshape(-1, 2)[:, 1]
        return Encoded(ids, np.maximum.accumulate(ends) if len(ends) else ends)

    def score(self, sequences: Sequence[NDArray[np.int32]], overlap: int) -> list[TokenScores]:
        """Scores of every id but the first of each sequence. Raises StopError when the model computes no numbers."""
        windows = [w for i, ids in enumerate(sequences) for w in windows_of(i, len(ids), self.context, overlap)]
        found = [TokenScores.room(max(len(ids) - 1, 0)) for ids in sequences]
        for batch in batches(windows, BATCH_TOKENS[self.device]):
            self._score_batch(sequences, batch, found)
        return found

    def generate(
        self, prompts: NDArray[np.int32], tokens: int, temperature: float, seed: int
    ) -> list[NDArray[np.int32]]:
        """So many tokens after each prompt (rows × ids), drawn from the model's own probabilities; no end is taken."""
        torch = self._torch
        begin = [] if self.prefix is None else [np.full((len(prompts), 1), self.prefix)]
        shown = torch.from_numpy(np.concatenate([*begin, prompts], 1).astype(np.int64)).to(self.device)
        torch.manual_seed(seed)
        with torch.inference_mode():
            made = self._model.generate(
                shown,
                attention_mask=torch.ones_like(shown),
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                pad_token_id=0,
            )
        return list(made[:, shown.shape[1] :].cpu().numpy().astype(np.int32))

    def decode(self, ids: NDArray[np.int32]) -> str:
        """The text of some tokens."""
        return str(self._tokenizer.decode(ids.tolist(), skip_special_tokens=True))

    def _score_batch(
        self, sequences: Sequence[NDArray[np.int32]], batch: list[Window], found: list[TokenScores]
    ) -> None:
        torch = self._torch
        shown = np.zeros((len(batch), len(batch[0])), np.int64)
        targets: list[NDArray[np.int32]] = []
        places: list[NDArray[np.int64]] = []
        for row, window in enumerate(batch):
            ids = sequences[window.sequence]
            shown[row, : len(window)] = ids[window.first : window.end]
            targets.append(ids[window.scored : window.end + 1])
            places.append(row * shown.shape[1] + np.arange(window.scored - 1 - window.first, len(window)))
        self.read += sum(map(len, batch))
        self.padded += shown.size - sum(map(len, batch))
        with torch.inference_mode():
            scores = self._predictions(
                torch.from_numpy(shown).to(self.device),
                torch.from_numpy(np.concatenate(places)).to(self.device),
                torch.from_numpy(np.concatenate(targets).astype(np.int64)).to(self.device),
            )
        if not np.isfinite(scores[0]).all():
            raise StopError(
                "The model gives a token no probability (its loss is NaN or infinite): its weights are damaged."
            )
        at = 0
        for window, ids in zip(batch, targets, strict=True):
            mine = found[window.sequence]
            inside = slice(window.scored - 1, window.scored - 1 + len(ids))
            for column, values in zip((mine.loss, mine.entropy, mine.top_probability, mine.rank), scores, strict=True):
                column[inside] = values[at : at + len(ids)]
            at += len(ids)

    def _predictions(self, shown: Any, places: Any, targets: Any) -> list[NDArray[Any]]:
        """Loss, entropy, top probability and rank of the targets, predicted at places of the flattened batch.

        Rows are padded on the right: under a causal mask no token sees what comes after it, so none sees padding.
        """
        torch = self._torch
        if self._head is None:
            states = self._model(shown, use_cache=False).logits
        else:
            states = self._model.base_model(shown, use_cache=False)[0]
        states = states.reshape(-1, states.shape[-1])[places]
        columns: list[list[Any]] = [[], [], [], []]
        some = max(_HEAD_SCORES[self.device] // self.vocabulary, 1)
        for first in range(0, len(targets), some):
            logits = states[first : first + some].float()
            if self._head is not None:
                logits = torch.nn.functional.linear(logits, *self._head)
            for column, values in zip(columns, _of_logits(torch, logits, targets[first : first + some]), strict=True):
                column.append(values)
        return [torch.cat(column).cpu().numpy() for column in columns]

    def _head_is_all(self, head: Any) -> bool:
        """Whether the scores are the body's last states through the head, with nothing after it (no soft cap, no
        scale)."""
        torch = self._torch
        ids = torch.tensor([self._tokenizer(_PROBE, add_special_tokens=False)["input_ids"]], device=self._model.device)
        with torch.inference_mode():
            whole = self._model(ids, use_cache=False).logits.float()
            if not whole.isfinite().all():
                raise InputError("The model computes no numbers (NaN): its weights are damaged.")
            apart = head(self._model.base_model(ids, use_cache=False)[0]).float()
        return bool(apart.shape == whole.shape and torch.allclose(apart, whole, rtol=1e-3, atol=1e-3))


def _of_logits(torch: Any, logits: Any, targets: Any) -> tuple[Any, Any, Any, Any]:
    """Loss, entropy, top probability, rank (tokens) from scores in float32 (tokens × vocabulary)."""
    of_target = logits.gather(1, targets[:, None])
    rank = (logits > of_target).sum(1, dtype=torch.int32) + 1
    best = logits.amax(1, keepdim=True)
    below = (logits - best).clamp_(min=-1e4)
    weights = below.exp()
    total = weights.sum(1)
    log_total = total.log()
    entropy = log_total - torch.linalg.vecdot(weights, below) / total
    loss = log_total - (of_target - best)[:, 0]
    return loss, entropy.clamp_(min=0), 1 / total, rank


def load(given: str, device: str | None = None, dtype: str = "auto", context: int | None = None) -> Scorer:
    """The model in a Hugging Face folder or a GGUF file. Raises InputError for what cannot be used.

    `dtype` auto: float32 on a CPU; on a GPU that of the weights.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # spinning threads keep out the one they wait for
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    require("Losses", "transformers", "torch", "transformers")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    path = Path(given).expanduser()
    model_files(path)
    place, options = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        kind = torch.float32 if dtype == "auto" and device == "cpu" else dtype
        tokenizer = (
            for_transformers(path)
            if path.is_file()
            else transformers.AutoTokenizer.from_pretrained(place, local_files_only=True)
        )
        model, found = transformers.AutoModelForCausalLM.from_pretrained(
            place, local_files_only=True, dtype=kind, output_loading_info=True, **options
        )
        if missing := found["missing_keys"]:
            raise InputError(f"{path} lacks {len(missing)} of the model's weights, such as {min(missing)}.")
        if not tokenizer.is_fast:
            raise InputError(f"The tokenizer in {path} does not say where its tokens end in a text (no fast one).")
        scorer = Scorer(model.eval().to(device), tokenizer, context)
    except InputError:
        raise
    except Exception as error:  # each of the libraries below has errors of its own
        said = " ".join(str(error).split())[:300]
        raise InputError(f"transformers cannot load {path} on {device}: {said}") from error
    most = scorer.most_context
    if context and most and context > most:
        raise InputError(f"The model reads at most {most:,} tokens at once; --context is {context:,}.")
    return scorer


def model_files(path: Path) -> list[Path]:
    """The files that make a model. Raises InputError when there is none at the path."""
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(f"{path} is neither a model folder nor a .gguf file.")
        return [path]
    if not path.is_dir():
        raise InputError(f"There is no model {path}: give a Hugging Face folder or a .gguf file.")
    if not (path / "config.json").is_file():
        raise InputError(f"{path} has no config.json: it holds no whole model (an adapter is merged first).")
    return sorted({file for pattern in _MODEL_FILES for file in path.glob(pattern)})


def model_fingerprint(path: Path) -> str:
    """Identity of a model: names, sizes, and the first and last 64 KiB of its files."""
    import fsspec

    disk = fsspec.filesystem("file")
    return fingerprint([InputFile(str(file), file.name, file.stat().st_size, disk) for file in model_files(path)])
