"""TRL's trainer with an order of examples that depends on the epoch alone, and with the bare loss of replies.

Examples of like length go together, so that little is padding. transformers' own sampler for that draws from the global
random numbers, and a training that goes on in the middle of an epoch would see another order than one never stopped.

TRL measures entropy and accuracy with every loss, in a head that computes everything twice to spare memory; a reply has
at most 4,096 tokens, and their scores fit. They are the only ones computed: a prompt's tokens have no loss.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTTrainer

IGNORED = -100
"""The label of what has no loss: prompts and padding."""


class ByLength(Sampler):  # type: ignore[misc, unused-ignore]
    """Places of examples, grouped by length, shuffled anew in every epoch."""

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed, self._epoch = list(lengths), batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the loader before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        drawn = torch.Generator().manual_seed(self._seed * 100_003 + self._epoch)
        return iter(get_length_grouped_indices(self._lengths, self._batch, generator=drawn))


class ReplyTrainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
    """SFTTrainer over `ByLength`; packed examples are all of one length, and keep TRL's own order and loss."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.packing:
            return super()._get_train_sampler(train_dataset)
        data = self.train_dataset if train_dataset is None else train_dataset
        # of all processes, so that their number does not change what a step sees
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return ByLength([len(ids) for ids in data["input_ids"]], batch, self.args.data_seed or 0)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross-entropy of the labelled tokens, in nats: their sum over `num_items_in_batch`, which counts those of
        all processes in a step, or their mean."""
        if self.args.packing or return_outputs or not _keeps_some(self.accelerator.unwrap_model(model)):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        shown = {name: value for name, value in inputs.items() if name != "labels"}
        targets = inputs["labels"][:, 1:]
        places = (targets != IGNORED).any(0).nonzero()[:, 0]
        targets = targets[:, places]
        logits = model(**shown, use_cache=False, logits_to_keep=places).logits
        total = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if num_items_in_batch is None:
            return total / (targets != IGNORED).sum().clamp(min=1)
        loss = total / torch.as_tensor(num_items_in_batch, device=total.device)
        # DDP takes the mean of the processes' gradients, and the divisor counts the tokens of all of them.
        return loss * self.accelerator.num_processes if self.args.average_tokens_across_devices else loss


def _keeps_some(model: Any) -> bool:
    """Whether the architecture can compute the scores of chosen tokens alone."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    forward = getattr(type(base), "forward", base.forward)
    return "logits_to_keep" in inspect.signature(forward).parameters
