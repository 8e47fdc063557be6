"""4-bit weights for llama.cpp that know what they are multiplied with.

In Q4_0 a block of 32 neighbours in a row has 16 steps of one scale, −8 to 7 of it, and the scale may be negative. Two
things make the rounding better than to the nearest step of a scale that the largest value gives:

- the scale is the one with which the block loses least, each column weighed by the mean square of what it is
  multiplied with;
- later columns correct for the error of earlier ones (GPTQ, Frantar et al. 2022), by H = Σ xxᵀ over the inputs x of
  calibration texts.

General libraries round to scales above zero, from −7.5 to 7.5 of them, which costs a small model dearly here
(docs/performance.md). The grid is llama.cpp's own, so that the file holds exactly what was chosen.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mga.toolmodel.calibration import Encoded
from mga.toolmodel.gguf_file import BLOCK, Tensors

LOWEST, HIGHEST = -8, 7
DAMPING = 0.01
"""Of GPTQ: so much of the mean of H's diagonal is added to it."""

HESSIAN_BYTES = 4 << 30
"""What may lie in memory at once; layers whose matrices need more take another pass over the texts."""

_CANDIDATES = 25


def on_the_grid_of_q4_0(folder: Path, texts: Sequence[Encoded]) -> Tensors:
    """The weights of a model, those of its layers on the grid, with scales (`NAME_scale`: rows × blocks) beside."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options = {"dtype": torch.float32, "local_files_only": True}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval().to(device)
    scales: dict[str, Any] = {}
    with torch.inference_mode():
        for some in _groups(model):
            for name, hessian in _hessians(model, some, texts).items():
                weight = some[name].weight
                rounded, scales[f"{name}.weight_scale"] = rounded_by(weight, hessian)
                weight.copy_(rounded)
    held = {**model.state_dict(), **scales}
    return {name: (tuple(value.shape), partial(_as_numpy, value)) for name, value in held.items()}


def rounded_by(weights: Any, hessian: Any) -> tuple[Any, Any]:
    """A matrix (rows × columns) on the grid, and its scales (rows × blocks), by the Hessian of its inputs."""
    import torch

    left, rounded = weights.clone(), torch.empty_like(weights)
    importance = hessian.diagonal()
    factors = _inverse_factors(hessian)
    scales = weights.new_empty(len(weights), weights.shape[1] // BLOCK)
    for block in range(scales.shape[1]):
        first, end = block * BLOCK, (block + 1) * BLOCK
        scale = best_scales(left[:, first:end], importance[first:end])
        errors = torch.empty_like(left[:, first:end])
        for column in range(first, end):
            rounded[:, column] = _nearest(left[:, column], scale)
            error = (left[:, column] - rounded[:, column]) / factors[column, column]
            left[:, column:end] -= error[:, None] * factors[column, column:end]
            errors[:, column - first] = error
        left[:, end:] -= errors @ factors[first:end, end:]
        scales[:, block] = scale
    return rounded, scales


def best_scales(blocks: Any, importance: Any) -> Any:
    """For each block (blocks × 32) the scale that loses least of Σ importance · (value − step · scale)², as 16 bits
    hold it.

    The candidates round with steps around a 8th of the largest value; each then gets the scale that fits its steps
    best, Σ i·v·s / Σ i·s².
    """
    import torch

    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scales, most = torch.zeros_like(largest), torch.zeros_like(largest)
    for candidate in range(_CANDIDATES):
        steps = LOWEST - 0.1 * (candidate - _CANDIDATES // 2)
        rounded = (blocks * (steps / largest).nan_to_num(0, 0, 0)).round_().clamp_(LOWEST, HIGHEST)
        fits = (importance * blocks * rounded).sum(1, keepdim=True)
        square = (importance * rounded * rounded).sum(1, keepdim=True)
        explained = (fits * fits / square).nan_to_num(0)
        better = explained > most
        most = torch.where(better, explained, most)
        scales = torch.where(better, fits / square, scales)
    return scales[:, 0].half().float()


def _nearest(values: Any, scales: Any) -> Any:
    return (values / scales).nan_to_num(0, 0, 0).round_().clamp_(LOWEST, HIGHEST) * scales


def _inverse_factors(hessian: Any) -> Any:
    """The upper Cholesky factor of the damped Hessian's inverse. A column that was never used has no weight in it."""
    import torch

    damped = hessian.clone()
    diagonal = damped.diagonal()
    diagonal += DAMPING * diagonal.mean() + torch.finfo(torch.float32).tiny
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def _groups(model: Any) -> Iterator[dict[str, Any]]:
    """The matrices of the layers in order, as many at once as their Hessians have room."""
    import torch

    some: dict[str, Any] = {}
    size = 0
    for name, module in model.base_model.named_modules(prefix=model.base_model_prefix):
        if isinstance(module, torch.nn.Linear) and module.in_features % BLOCK == 0:
            needed = 4 * module.in_features**2
            if some and size + needed > HESSIAN_BYTES:
                yield some
                some, size = {}, 0
            some[name] = module
            size += needed
    if some:
        yield some


def _hessians(model: Any, matrices: dict[str, Any], texts: Sequence[Encoded]) -> dict[str, Any]:
    """Σ xxᵀ (columns × columns) over what each matrix is multiplied with in all texts."""
    import torch

    found = {name: torch.zeros(m.in_features, m.in_features, device=m.weight.device) for name, m in matrices.items()}

    def add(name: str, _module: Any, given: tuple[Any, ...]) -> None:
        inputs = given[0].flatten(0, -2)
        found[name].addmm_(inputs.T, inputs)

    hooks = [module.register_forward_pre_hook(partial(add, name)) for name, module in matrices.items()]
    try:
        for text in texts:
            model.base_model(torch.from_numpy(text.ids).long()[None].to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _as_numpy(held: Any) -> Any:
    return held.float().cpu().numpy()
