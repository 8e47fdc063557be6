"""Whether numbers of a training are finite: one that holds NaN or infinity is never saved, and never gone on from."""

from collections.abc import Iterable
from typing import Any

from mga.pretrain.processes import Processes

NEVER = 1 << 62


def all_finite(tensors: Iterable[Any]) -> bool:
    """Whether every floating-point tensor holds neither NaN nor infinity, of one divided among processes this share."""
    import torch

    finite = torch.tensor(True)
    for tensor in tensors:
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        if local.is_floating_point():
            finite = finite.to(local.device) & torch.isfinite(local).all()
    return bool(finite)


def state_is_finite(model: Any, optimizer: Any, processes: Processes) -> bool:
    """Whether all weights and all moments of the optimizer are finite, in every process."""
    import torch

    moments = (value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value))
    finite = all_finite(model.parameters()) and all_finite(moments)
    return bool(processes.least(torch.tensor(int(finite), device=processes.device)) > 0)


class FiniteSteps:
    """Notes the first step with a loss or gradient norm that is NaN or infinite; looking at one waits for no GPU."""

    def __init__(self, processes: Processes) -> None:
        import torch

        self._processes = processes
        self._first = torch.full((), NEVER, dtype=torch.int64, device=processes.device)

    def see(self, step: int, *values: Any) -> None:
        """Take in the figures of a step: tensors of one number each."""
        import torch

        for value in values:
            local = (value.to_local() if hasattr(value, "to_local") else value).detach()
            seen = torch.where(torch.isfinite(local), NEVER, step).to(self._first.device)
            self._first = torch.minimum(self._first, seen)

    def first_bad(self) -> int | None:
        """The first step of any process that was not finite; None if there is none."""
        first = int(self._processes.least(self._first.clone()))
        return None if first == NEVER else first
