"""The processes of a training: one, or as many as torchrun has started. Scale-out is torch's own FSDP2."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from mga.errors import InputError, StopError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all: `rank` from 0, their `count`, and the device of this one."""

    rank: int
    count: int
    device: Any

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier()

    def sum(self, values: Any) -> Any:
        """A tensor added up over all, in place."""
        if self.count > 1:
            import torch.distributed as dist

            dist.all_reduce(values)
        return values

    def least(self, values: Any) -> Any:
        """The least of a tensor over all, in place."""
        if self.count > 1:
            import torch.distributed as dist

            dist.all_reduce(values, dist.ReduceOp.MIN)
        return values

    def shard(self, model: Any, dtype: Any) -> Any:
        """Divide a model's weights among all, layer by layer (FSDP2); one process has its model as it is."""
        if self.count == 1:
            return model
        import torch
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        mixed = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
        options = {"mp_policy": mixed} if dtype != torch.float32 else {}
        for layer in model.model.layers:
            fully_shard(layer, **options)
        fully_shard(model, **options)
        return model

    def computing_in(self, dtype: Any) -> Any:
        """The precision of a forward pass: FSDP2 casts by itself."""
        import torch

        if self.count > 1 or dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype)


def join() -> Processes:
    """This process, after it has met the others that torchrun has started with it, if any."""
    import torch

    gpu = torch.cuda.is_available()
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(0, 1, torch.device("cuda" if gpu else "cpu"))
    import torch.distributed as dist

    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo", **({"device_id": device} if gpu else {}))
    return Processes(dist.get_rank(), count, device)


def leave(processes: Processes) -> None:
    """Part from the others."""
    if processes.count > 1:
        import torch.distributed as dist

        dist.destroy_process_group()


def start(count: int, work: Callable[..., object], *given: Any) -> None:
    """Run a module's function in so many processes on this machine, as torchrun would.

    Raises the first error of theirs.
    """
    import torch
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if torch.cuda.is_available() and count > torch.cuda.device_count():
        raise InputError(f"--processes {count}: this machine has {torch.cuda.device_count()} GPUs.")
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="mga",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        start_method="spawn",
        monitor_interval=0.2,
    )
    try:
        elastic_launch(launch, work)(*given)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        raise StopError(f"A process of the training has ended: {_sentence(failure)}") from None


def _sentence(failure: Any) -> str:
    message = failure.message if isinstance(failure.message, str) else str(failure.message.get("message", failure))
    return message.strip().splitlines()[-1] if message.strip() else f"exit code {failure.exitcode}"
