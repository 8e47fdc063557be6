"""Scales for 4-bit weights that know what the weights are multiplied with.

In Q4_0 a block of 32 neighbours in a row has 16 steps of one scale, −8 to 7 of it; the scale may be negative. llama.cpp
takes it from the block's largest value. Here it is the one with which the block loses least of what matters: squared
errors, weighed by the mean square of what the column is multiplied with in calibration texts, and by √(σ² + v²) of the
value v in its row, as llama.cpp does with an importance matrix. What this and other ways cost: docs/performance.md.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mga.toolmodel.quantize.calibration import Encoded
from mga.toolmodel.quantize.gguf_file import BLOCK

LOWEST, HIGHEST = -8, 7
_CANDIDATES = 25


def scales_by_texts(folder: Path, texts: Sequence[Encoded]) -> dict[str, NDArray[np.float32]]:
    """Scales (rows × blocks) of every matrix in a model's layers, by transformers' name of its weights."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"dtype": "auto" if device == "cuda" else torch.float32, "local_files_only": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval().to(device)
    with torch.inference_mode():
        matrices = {
            name: module
            for name, module in model.base_model.named_modules(prefix=model.base_model_prefix)
            if isinstance(module, torch.nn.Linear) and module.in_features % BLOCK == 0
        }
        inputs = _mean_squares(model.base_model, matrices, texts)
        return {
            f"{name}.weight": best_scales(module.weight.float(), inputs[name]).cpu().numpy()
            for name, module in matrices.items()
        }


def best_scales(weights: Any, importance: Any) -> Any:
    """For each block of a matrix (rows × columns) the scale that loses least, as 16 bits hold it (rows × blocks).

    The candidates round with steps around an eighth of the largest value; each then gets the scale that fits its steps
    best, Σ i·v·s / Σ i·s².
    """
    import torch

    matters = importance * (weights.square().mean(1, keepdim=True) + weights.square()).sqrt()
    blocks, matters = (values.unflatten(1, (-1, BLOCK)) for values in (weights, matters))
    largest = blocks.gather(2, blocks.abs().argmax(2, keepdim=True))
    scales, most = torch.zeros_like(largest), torch.zeros_like(largest)
    for candidate in range(_CANDIDATES):
        steps = LOWEST - 0.1 * (candidate - _CANDIDATES // 2)
        rounded = (blocks * (steps / largest).nan_to_num(0, 0, 0)).round_().clamp_(LOWEST, HIGHEST)
        fits = (matters * blocks * rounded).sum(2, keepdim=True)
        square = (matters * rounded * rounded).sum(2, keepdim=True)
        explained = (fits * fits / square).nan_to_num(0)
        better = explained > most
        most = torch.where(better, explained, most)
        scales = torch.where(better, fits / square, scales)
    return scales[..., 0].half().float()


def _mean_squares(body: Any, matrices: dict[str, Any], texts: Sequence[Encoded]) -> dict[str, Any]:
    """The mean square of each column that a matrix is multiplied with in all texts."""
    import torch

    found = {name: torch.zeros(module.in_features, device=body.device) for name, module in matrices.items()}
    tokens = sum(len(text.ids) for text in texts)

    def add(name: str, _module: Any, given: tuple[Any, ...]) -> None:
        found[name] += given[0].float().square().sum((0, 1)) / tokens

    hooks = [module.register_forward_pre_hook(partial(add, name)) for name, module in matrices.items()]
    try:
        for text in texts:
            body(torch.from_numpy(text.ids).long()[None].to(body.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found
