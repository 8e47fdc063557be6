"""A pretraining, top to bottom: read `pretrain`, then `_train`.

pretrain.json      settings, data, parameters, versions; `totals` once it is done
log.jsonl          a line for steps (loss, rate, norm, tokens per second, MFU), a line for each validation
checkpoints/       models as Hugging Face folders      state/   from what training goes on
"""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from mga.data.output_folder import PRETRAINING, OutputFolder, open_output
from mga.errors import InputError, InterruptedRunError, StopError
from mga.mixture.amounts import shown
from mga.pretrain.checkpoint import branch_state, cut_log, last_step, load_state, save_model, save_state
from mga.pretrain.config import PretrainConfig
from mga.pretrain.data import IGNORED, Batch, Data, open_data, read_batch, shares
from mga.pretrain.finite import FiniteSteps, state_is_finite
from mga.pretrain.model import Parameters, count_parameters, flops_per_token, llama_config
from mga.pretrain.processes import Processes, join, leave
from mga.pretrain.schedule import rate
from mga.pretrain.throughput import peak_flops, utilisation

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outline:
    """A training before it begins: its data, model, and how long it is."""

    data: Data
    llama: Any
    parameters: Parameters
    steps: int
    begin: int
    batch: int
    checkpoint_every: int
    validate_every: int

    @property
    def step_tokens(self) -> int:
        """Tokens a step, padding included."""
        return self.batch * self.data.sequence

    @property
    def flops(self) -> float:
        """Operations of all steps."""
        each = flops_per_token(self.llama, self.parameters, self.data.sequence)
        return each * self.step_tokens * (self.steps - self.begin)


def outline(config: PretrainConfig, processes: int = 1) -> Outline:
    """What a training would be on so many processes. Raises InputError when data and settings do not fit each other."""
    check_batches(config, processes)
    data = open_data(config.data.packed)
    settings = config.training
    step_tokens = settings.batch_sequences * data.sequence
    most = len(data.train) // settings.batch_sequences
    steps = settings.steps or (int(settings.tokens) // step_tokens if settings.tokens else most)
    if steps > most:
        raise InputError(
            f"{steps:,} steps of {settings.batch_sequences} sequences need {shown(steps * step_tokens)} tokens; "
            f"{data.folder} has {shown(len(data.train) * data.sequence)}: pack a larger budget, or train for less."
        )
    if steps < 1:
        raise InputError(f"There is less than one step: a step is {shown(step_tokens)} tokens.")
    begin = branch_state(config.branch.run, config.branch.step)[1] if config.branch else 0
    if begin >= steps:
        raise InputError(f"The branch begins at step {begin:,}, and training ends at step {steps:,}.")
    llama = llama_config(config.model, data.vocabulary, data.sequence)
    every = config.checkpoints.every or max(steps // 10, 1)
    return Outline(
        data,
        llama,
        count_parameters(llama),
        steps,
        begin,
        settings.batch_sequences,
        every,
        config.validation.every or every,
    )


def check_batches(config: PretrainConfig, processes: int) -> None:
    """Raise InputError when the batch cannot be divided so, or would not keep documents apart as asked.

    flash-attn isolates the documents of a sequence by position ids, which transformers reads so only in micro-batches
    of one sequence; in larger ones each token would see all documents before it.
    """
    settings = config.training
    micro = micro_batch(config, processes)
    shares(0, settings.batch_sequences, processes, micro)
    if config.data.mask_documents and settings.attention.startswith("flash_attention") and micro > 1:
        raise InputError(
            f"data.mask_documents with training.attention = {settings.attention!r} keeps documents apart only in "
            f"micro-batches of one sequence, and here they have {micro}: set training.micro_batch = 1, or "
            "training.attention = 'sdpa'."
        )


def require_attention(config: PretrainConfig) -> None:
    """Raise InputError when the package of `training.attention` is not installed."""
    import transformers

    installed = {
        "flash_attention_2": transformers.utils.is_flash_attn_2_available,
        "flash_attention_3": transformers.utils.is_flash_attn_3_available,
    }.get(config.training.attention)
    if installed and not installed():
        raise InputError(
            f"training.attention = {config.training.attention!r} needs a GPU and flash-attn, which are not here; "
            "'sdpa' takes torch's own flash kernels."
        )


def micro_batch(config: PretrainConfig, processes: int) -> int:
    """Sequences that a process computes at once."""
    return config.training.micro_batch or max(config.training.batch_sequences // processes, 1)


def memory(config: PretrainConfig, plan: Outline) -> tuple[float, float]:
    """Bytes of weights, gradients and AdamW's moments (16 a parameter), and roughly of a micro-batch's activations:
    34 a token, layer and unit of the hidden size (arXiv 2205.05198, without the attention matrix), or 2 when they are
    computed again; and of its scores in float32 and their gradient."""
    llama, settings = plan.llama, config.training
    tokens = (settings.micro_batch or settings.batch_sequences) * plan.data.sequence
    each = 2 if settings.checkpointing else 34
    activations = each * llama.num_hidden_layers * llama.hidden_size + 10 * llama.vocab_size
    return 16.0 * plan.parameters.total, float(tokens * activations)


def pretrain(config: PretrainConfig, out: Path, say: Say) -> dict[str, Any]:
    """Train a model, or go on where a training was stopped, in this process and those torchrun has started with it.

    Returns what pretrain.json holds. Raises InputError when `out` holds another training; StopError when a loss,
    gradient or weight is NaN or infinite (the last state before it stays), or memory does not suffice;
    InterruptedRunError when it was asked to stop: it can go on then.
    """
    import torch

    processes = join()
    try:
        plan = outline(config, processes.count)
        require_attention(config)
        with _folder(out, config, plan, processes) as folder:
            if not folder.is_complete:
                folder.finish({"totals": _train(config, plan, out, processes, say if processes.first else _silent)})
            return folder.record
    except torch.OutOfMemoryError as error:
        raise StopError(
            f"The memory of the GPU does not suffice; choose a smaller training.micro_batch (now "
            f"{config.training.micro_batch or 'all at once'}), or training.checkpointing = true."
        ) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise StopError("Memory does not suffice; choose a smaller training.micro_batch.") from error
    finally:
        leave(processes)


def _silent(line: str) -> None:
    pass


def _folder(
    out: Path, config: PretrainConfig, plan: Outline, processes: Processes
) -> AbstractContextManager[OutputFolder]:
    """The folder, new or with the same training begun. What decides no result may change."""
    apart: Any = {"note": True, "log": True, "data": {"packed"}, "checkpoints": {"keep"}}  # what decides no result
    about = {
        "packed": str(plan.data.folder),
        "architecture": plan.llama.to_diff_dict(),
        "parameters": {"total": plan.parameters.total, "without_embeddings": plan.parameters.layers},
        "steps": plan.steps,
        "sequence": plan.data.sequence,
        "step_tokens": plan.step_tokens,
        "versions": {name: version(name) for name in ("mga", "torch", "transformers")},
    }
    identity = {"settings": config.model_dump(mode="json", exclude=apart), "data": plan.data.fingerprint}
    return open_output(out, PRETRAINING, identity, about, first=processes.first, meet=processes.wait)


def _train(config: PretrainConfig, plan: Outline, out: Path, processes: Processes, say: Say) -> dict[str, Any]:
    import torch

    settings, data = config.training, plan.data
    dtype = _dtype(settings.dtype, processes)
    model = _build(config, plan, processes, dtype)
    optimizer = _optimizer(model, config, processes)
    step = _begin(config, plan, out, model, optimizer, processes, say)
    log = _Log(out, step, config.log.tensorboard, processes)
    stopped = _StopAsked()
    batches = _batches(config, data, range(step, plan.steps), processes)
    flops = flops_per_token(plan.llama, plan.parameters, data.sequence)
    peak = peak_flops(processes.device)
    since, since_step = time.monotonic(), step
    steps_seen = FiniteSteps(processes)
    with stopped.listening():
        for micro_batches in batches:
            for group in optimizer.param_groups:
                branched = plan.begin if config.branch else None
                share = rate(step, plan.steps, settings.warmup, settings.decay, branched)
                group["lr"] = settings.learning_rate * share
            labels = sum(int((batch.labels != IGNORED).sum()) for batch in micro_batches)
            counts = processes.sum(torch.tensor([labels, stopped.asked], dtype=torch.float64).to(processes.device))
            total = torch.zeros((), device=processes.device)
            for i, batch in enumerate(micro_batches):
                if processes.count > 1:
                    model.set_requires_gradient_sync(i == len(micro_batches) - 1)
                loss, penalty = _loss(model, batch.to(processes.device), settings.z_loss, processes, dtype)
                # FSDP2 takes the mean of the processes' gradients; the loss is the mean over all tokens of the step.
                ((loss + penalty) * (processes.count / counts[0])).backward()
                total += loss.detach()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            steps_seen.see(step, total, norm)
            asked = False
            logs, validates, saves = (
                step % every == 0 or step == plan.steps
                for every in (config.log.every, plan.validate_every, plan.checkpoint_every)
            )
            if (logs or validates or saves) and (bad := steps_seen.first_bad()) is not None:
                raise _not_finite(f"The loss or its gradient is NaN or infinite at step {bad:,}", out)
            if logs:
                mean = float(processes.sum(total) / counts[0])
                size = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
                now = time.monotonic()
                speed = plan.step_tokens * (step - since_step) / (now - since)
                since, since_step = now, step
                line = {
                    "loss": mean,
                    "learning_rate": settings.learning_rate * share,
                    "gradient_norm": size,
                    "tokens_per_second": round(speed, 1),
                }
                if peak:
                    line["mfu"] = round(utilisation(speed, flops, peak, processes.count), 4)
                log.write(step, plan.step_tokens, line)
                say(_told(step, plan, mean, speed, line.get("mfu")))
                asked = bool(counts[1] > 0)
            if validates:
                began = time.monotonic()
                found = validate(model, data, config, processes, dtype)
                if found:
                    log.write(step, plan.step_tokens, {"validation": found})
                    say("  held out: " + ", ".join(f"{name} {loss:.4f}" for name, loss in found.items()))
                since += time.monotonic() - began
            if saves or asked:
                began = time.monotonic()
                if not state_is_finite(model, optimizer, processes):
                    raise _not_finite(f"Weights are NaN or infinite after step {step:,}", out)
                save_model(out / "checkpoints", step, model, data, processes, config.checkpoints.keep)
                save_state(
                    out / "state", step, model, optimizer, processes, keep_all=config.checkpoints.states == "all"
                )
                since += time.monotonic() - began
            if asked and step < plan.steps:
                raise InterruptedRunError(f"Stopped after step {step:,}; the same command goes on from there.")
    log.close()
    return {"steps": step, "tokens": step * plan.step_tokens}


def _not_finite(what: str, out: Path) -> StopError:
    """The error of a training that has diverged: from which state another one may begin, and how."""
    kept = last_step(out / "state")
    begin = "from its beginning"
    if kept is not None:
        begin = f"from the state of step {kept:,}, which is kept ([branch] run = {str(out)!r}, step = {kept})"
    return StopError(
        f"{what}, so nothing of it was saved; the same settings would come to it again. Train in another --out with a "
        f"smaller training.learning_rate or training.clip, {begin}."
    )


def _dtype(given: str, processes: Processes) -> Any:
    import torch

    if given == "auto":
        given = "bfloat16" if processes.device.type == "cuda" else "float32"
    return getattr(torch, given)


def _build(config: PretrainConfig, plan: Outline, processes: Processes, dtype: Any) -> Any:
    """The model with its first weights, in float32, on its device, divided among the processes."""
    import torch
    import transformers
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    settings = config.training
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(settings.seed)
    plan.llama._attn_implementation = settings.attention
    with torch.device("cpu" if processes.first else "meta"):
        model = transformers.LlamaForCausalLM(plan.llama)
    if settings.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if processes.count == 1:
        model = model.to(processes.device)
    else:
        weights = model.state_dict() if processes.first else {}
        model = processes.shard(model.to("meta"), dtype).to_empty(device=processes.device)
        rotary = type(model.model.rotary_emb)
        model.model.rotary_emb = rotary(plan.llama, device=processes.device)  # its buffers are in no state
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
        set_model_state_dict(model, weights, options=options)
    if settings.compile or (settings.compile is None and processes.device.type == "cuda"):
        for layer in model.model.layers:
            layer.compile()
    return model.train()


def _optimizer(model: Any, config: PretrainConfig, processes: Processes) -> Any:
    import torch

    settings = config.training
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    norms = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": norms, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.epsilon, fused=processes.count == 1
    )


def _begin(
    config: PretrainConfig, plan: Outline, out: Path, model: Any, optimizer: Any, processes: Processes, say: Say
) -> int:
    """The step to go on after, with its state loaded; 0 for a new training."""
    states = out / "state"
    step = last_step(states)
    if step is None and config.branch:
        states, step = branch_state(config.branch.run, plan.begin)
    if step is None:
        say(
            f"{shown(plan.parameters.total)} parameters ({shown(plan.parameters.layers)} without embeddings), "
            f"{plan.steps:,} steps of {shown(plan.step_tokens)} tokens"
        )
        return 0
    load_state(states, step, model, optimizer, processes)
    say(f"going on after step {step:,}")
    return step


def _batches(config: PretrainConfig, data: Data, steps: range, processes: Processes) -> Iterator[list[Batch]]:
    """For each step, this process's micro-batches; those of the next step are read meanwhile."""
    count = config.training.batch_sequences
    micro = micro_batch(config, processes.count)

    def read(step: int) -> list[Batch]:
        mine = shares(step * count, count, processes.count, micro)[processes.rank]
        return [read_batch(data.train, some, config.data.mask_documents) for some in mine]

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, steps.start)
        for step in steps:
            ready = ahead.result()
            if step + 1 < steps.stop:
                ahead = reader.submit(read, step + 1)
            yield ready


def _loss(model: Any, batch: Batch, z_loss: float, processes: Processes, dtype: Any) -> tuple[Any, Any]:
    """Sum of the losses of a batch's labels, in nats, and the z-loss term to add, both float32."""
    import torch

    with processes.computing_in(dtype):
        logits = model(batch.ids, position_ids=batch.positions, use_cache=False).logits
    logits = logits.flatten(0, 1).float()
    labels = batch.labels.flatten()
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    if not z_loss:
        return loss, 0.0
    return loss, z_loss * logits[labels != IGNORED].logsumexp(-1).square().sum()


def validate(model: Any, data: Data, config: PretrainConfig, processes: Processes, dtype: Any) -> dict[str, float]:
    """Mean loss of a token, in nats, on the first held-out sequences of each source."""
    import torch

    each = micro_batch(config, processes.count)
    found = {}
    model.eval()
    for name, packed in data.validation.items():
        count = min(len(packed), config.validation.sequences)
        sums = torch.zeros(2, dtype=torch.float64, device=processes.device)
        for first in range(0, count, each * processes.count):
            start = first + processes.rank * each
            mine = range(start, min(start + each, count))
            with torch.no_grad():  # all processes compute equally often: one that has none left computes in vain
                batch = read_batch(packed, mine or range(1), config.data.mask_documents).to(processes.device)
                loss, _ = _loss(model, batch, 0.0, processes, dtype)
            if mine:
                sums += torch.stack([loss.double(), (batch.labels != IGNORED).sum().double()])
        processes.sum(sums)
        found[name] = float(sums[0] / sums[1])
    model.train()
    return found


def _told(step: int, plan: Outline, loss: float, speed: float, mfu: float | None) -> str:
    left = (plan.steps - step) * plan.step_tokens / speed
    ahead = f"{left / 3600:.1f} h" if left > 5400 else f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
    used = f" · MFU {mfu:.1%}" if mfu is not None else ""
    return f"step {step:,}/{plan.steps:,} · loss {loss:.4f} · {speed:,.0f} tokens/s{used} · {ahead} left"


class _StopAsked:
    """Whether somebody asked to stop, by Ctrl-C or SIGTERM (Slurm's, before it takes a node): heard once, at the end of
    a logged step."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        def ask(signum: int, frame: object) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True

        try:
            before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever runs it there stops it his own way
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Log:
    """log.jsonl, and TensorBoard's files where wanted."""

    def __init__(self, out: Path, step: int, tensorboard: bool, processes: Processes) -> None:
        self._path = out / "log.jsonl"
        self._writes = processes.first
        self._board: Any = None
        if self._writes:
            cut_log(self._path, step)
            if tensorboard:
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, step_tokens: int, values: dict[str, Any]) -> None:
        """Add a line."""
        if not self._writes:
            return
        with self._path.open("ab") as file:
            file.write(orjson.dumps({"step": step, "tokens": step * step_tokens, **values}) + b"\n")
        if self._board:
            flat = values.get("validation", values)
            prefix = "validation" if "validation" in values else "train"
            for name, value in flat.items():
                self._board.add_scalar(f"{prefix}/{name}", value, step)

    def close(self) -> None:
        """Write what is not written."""
        if self._board:
            self._board.close()
