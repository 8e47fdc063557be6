"""Language models small enough to be trained on a laptop in a minute: for collapse on purpose, not for use.

transformers' Llama with a tokenizer of its own, written as an ordinary model folder, so that everything that reads a
checkpoint reads these too.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.errors import InputError
from mga.pretrain.finite import all_finite

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # spinning threads keep out the one they wait for
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 1024
BOS = "<|begin|>"
BATCH_ROWS = 32
PEAK_RATE = 4e-3
WARMUP = 0.05
SIZES = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


def train_tokenizer(texts: Iterable[str], marks: Sequence[str] = ()) -> Any:
    """A byte-level BPE tokenizer of VOCABULARY tokens, BOS the first, then `marks`, which no text is cut into."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(  # type: ignore[no-untyped-call, unused-ignore]
        vocab_size=VOCABULARY,
        special_tokens=[BOS, *marks],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, additional_special_tokens=list(marks)
    )


def train(folder: Path, tokenizer: Any, rows: NDArray[np.int32], steps: int, seed: int, context: int) -> None:
    """Train a model on rows of ids (documents × ids, each a text's beginning after BOS) and write it to a new folder.

    AdamW with a linear warm-up and a cosine to a tenth of the rate; BATCH_ROWS rows a step, every row once an epoch.
    """
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=context,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.bos_token_id,
        tie_word_embeddings=True,
        dtype="float32",
        **SIZES,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.LlamaForCausalLM(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.1)
    warm = max(int(WARMUP * steps), 1)

    def rate(step: int) -> float:
        through = (step - warm) / max(steps - warm, 1)
        return (step + 1) / warm if step < warm else 0.1 + 0.45 * (1 + np.cos(np.pi * through))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    held = torch.from_numpy(rows.astype(np.int64))
    random = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < BATCH_ROWS:
            order = torch.cat([order, torch.randperm(len(held), generator=random)])
        batch, order = held[order[:BATCH_ROWS]].to(device), order[BATCH_ROWS:]
        logits = model(batch[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    if not all_finite([loss, *model.parameters()]):
        raise InputError("A tiny model diverged (its loss or weights are NaN or infinite); choose another --seed.")
    save(folder, model.eval(), tokenizer)


def save(folder: Path, *parts: Any) -> None:
    """A model or a tokenizer, or both, as a new folder, whole or not at all."""
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    for part in parts:
        part.save_pretrained(beside)
    beside.rename(folder)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that `save` has written."""
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
