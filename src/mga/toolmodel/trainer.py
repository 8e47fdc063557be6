"""TRL's trainer with an order of examples that depends on the epoch alone.

Examples of like length go together, so that little is padding. transformers' own sampler for that draws from the global
random numbers, and a training that goes on in the middle of an epoch would see another order than one never stopped.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTTrainer


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


class ByLengthTrainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
    """SFTTrainer over `ByLength`; packed examples are all of one length, and keep TRL's own order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.packing:
            return super()._get_train_sampler(train_dataset)
        data = self.train_dataset if train_dataset is None else train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return ByLength([len(ids) for ids in data["input_ids"]], batch, self.args.data_seed or 0)
