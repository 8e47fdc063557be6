"""Supervised fine-tuning on replies, by TRL. Read `finetune` first: it is the table of contents.

config.json, model.safetensors, tokenizer…    the model, an adapter merged into it
README.md, prompts/    its card, and the prompts it was trained on: they are what it must be asked with
tool.json              settings, fingerprints, losses and valid replies before and after
losses.svg, tensorboard/    the course of the training
.training/             checkpoints, from which a training that was stopped goes on; gone when the model stands
"""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mga.data.output_folder import TOOL, OutputFolder, check_output, exclusive, open_output
from mga.data.store import committed, read_json, write_atomically, write_json
from mga.errors import InputError, StopError
from mga.scoring.model import model_fingerprint
from mga.toolmodel.train.base import base_folder
from mga.toolmodel.train.data_folder import RECORD, STAGES, Stage
from mga.toolmodel.train.examples import vocabulary_of
from mga.toolmodel.train.tool_card import tool_card
from mga.toolmodel.train.training_data import Examples, read_examples
from mga.toolmodel.train.validity import valid_replies

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a tool model is trained (defaults: the paper's, section 2 and appendix, where it says).

    `batch` is examples a step over all processes, `micro_batch` those computed at once; `lora` is the rank of an
    adapter (0: all weights are trained); `learning_rate` None is 2e-5, and 2e-4 of an adapter; `validation_prompts` is
    how many held-out prompts are answered before and after.
    """

    epochs: float = 3.0
    batch: int = 32
    micro_batch: int = 1
    learning_rate: float | None = None
    warmup: float = 0.03
    sequence: int = 8192
    lora: int = 0
    packing: bool | None = None
    checkpoint_every: int = 50
    validation_prompts: int = 32
    seed: int = 0
    tensorboard: bool = True

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or (2e-4 if self.lora else 2e-5)


def finetune(data: Path, base: str, stage: str, out: Path, settings: TrainSettings, say: Say) -> dict[str, Any]:
    """Train a model for a stage, or for both, and write the folder `out`, or go on there; what tool.json holds.

    Processes that `torchrun` or `accelerate launch` has started share the work; the first of them has the folder.
    Raises InputError when data and base do not fit each other, or `out` holds another training; StopError when memory
    does not suffice, or a loss, gradient or weight is NaN or infinite: no checkpoint is written then.
    """
    stages = list(STAGES) if stage == "both" else [_stage(stage)]
    record = _record(data)
    processes = _processes()
    first = processes.is_main_process
    if first:
        check_output(out, TOOL)
    try:
        with processes.main_process_first():
            folder = _base(base, out, first)
        tokenizer = _tokenizer(folder, record)
        examples = read_examples(data, stages, tokenizer, settings.sequence)
        identity = {
            "settings": asdict(settings),
            "stage": stage,
            "base": {"name": Path(base).name, "fingerprint": model_fingerprint(folder)},
            "data": {
                "prompts": {name: record["prompts"][name] for name in stages},
                "fingerprint": examples.fingerprint,
            },
        }
        with open_output(out, TOOL, identity, first=first, meet=processes.wait_for_everyone) as taken:
            if not taken.is_complete:
                _train(taken, data, folder, tokenizer, examples, settings, say)
            return taken.record
    except (MemoryError, RuntimeError) as error:
        if (
            isinstance(error, RuntimeError)
            and "allocate memory" not in str(error)
            and "out of memory" not in str(error)
        ):
            raise
        raise StopError("Memory does not suffice; choose --micro-batch 1, --lora 16, or shorter examples.") from error


def _base(given: str, out: Path, first: bool) -> Path:
    """The folder of the base; of a GGUF file, made in `out` by the first process."""
    lock = exclusive(out) if first else None
    try:
        return base_folder(given, out / ".base")
    finally:
        if lock:
            lock.release()


def _processes() -> Any:
    """accelerate's view of the processes that train together, one if nothing has started more."""
    import torch
    from accelerate import PartialState

    gpu = torch.cuda.is_available()
    return PartialState(cpu=not gpu, backend=None if gpu or "WORLD_SIZE" not in os.environ else "gloo")


def _stage(given: str) -> Stage:
    if given not in STAGES:
        raise InputError(f"--stage is {', '.join(STAGES)} or both, not {given!r}.")
    return given


def _record(data: Path) -> dict[str, Any]:
    if not (data / RECORD).is_file():
        raise InputError(f"{data} is no folder of mga tool examples.")
    return dict(read_json(data / RECORD))


def _tokenizer(folder: Path, record: dict[str, Any]) -> Any:
    """The base's tokenizer. Raises InputError when it has no chat template, or examples were counted with another."""
    import transformers

    from mga.packing.tokenizer import load_tokenizer

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.chat_template is None:
        raise InputError(f"The tokenizer of {folder} has no chat template: take an instruction-tuned base, or add one.")
    mine = load_tokenizer(str(folder), tokenizer.eos_token)
    if vocabulary_of(mine.definition) != record["tokenizer"]["vocabulary"]:
        raise InputError(
            "The examples were counted with another tokenizer than the base has; make them with mga tool examples "
            f"--tokenizer {folder}."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _train(
    folder: OutputFolder,
    data: Path,
    base: Path,
    tokenizer: Any,
    examples: Examples,
    settings: TrainSettings,
    say: Say,
) -> None:
    from transformers import PrinterCallback
    from transformers.trainer_utils import get_last_checkpoint

    out = folder.path
    begun = out / ".training" / "before.json"
    if not begun.exists():
        # by a trainer of its own: accelerate takes a model that it has prepared for measuring as prepared for training,
        # and the gradients of several processes would never meet
        measuring = _trainer(base, tokenizer, examples, out, settings)
        found = _measure(measuring, tokenizer, examples, settings)
        if measuring.is_world_process_zero():
            begun.parent.mkdir(exist_ok=True)
            write_json(begun, found)
        del measuring
    trainer = _trainer(base, tokenizer, examples, out, settings)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_telling(say))
    trainer.add_callback(_finite(out))
    trainer.accelerator.wait_for_everyone()
    before = read_json(begun)
    first = trainer.is_world_process_zero()
    if first:
        say(_told("before", before))
    last = get_last_checkpoint(str(out / ".training"))
    trainer.train(resume_from_checkpoint=last)
    after = _measure(trainer, tokenizer, examples, settings)
    if first:
        say(_told("after", after))
    history = [line for line in trainer.state.log_history if "loss" in line or "eval_loss" in line]
    figures = {
        "counts": {
            "train": len(examples.train),
            "held_out": len(examples.held_out),
            "reply_tokens": examples.reply_tokens,
        },
        "before": before,
        "after": after,
        "steps": trainer.state.global_step,
        "history": history,
        "versions": {name: version(name) for name in ("mga", "torch", "transformers", "trl", "peft")},
    }
    if first:
        _publish(trainer, tokenizer, data, base, folder, figures)
    trainer.accelerator.wait_for_everyone()
    folder.record |= figures


def _trainer(base: Path, tokenizer: Any, examples: Examples, out: Path, settings: TrainSettings) -> Any:
    """TRL's trainer over tokenized examples: the loss is of the replies alone."""
    import torch
    import transformers
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig

    from mga.toolmodel.train.trainer import ReplyTrainer

    disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    gpu = torch.cuda.is_available()
    flash = gpu and transformers.utils.is_flash_attn_2_available()
    packing = flash if settings.packing is None else settings.packing
    if packing and not flash:
        raise InputError(
            "Packing without leakage between examples needs a GPU and flash-attn; without --packing examples are "
            "padded to neighbours of their length."
        )
    processes = _processes().num_processes
    accumulate = max(settings.batch // (settings.micro_batch * processes), 1)
    arguments = SFTConfig(
        output_dir=str(out / ".training"),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.micro_batch,
        per_device_eval_batch_size=settings.micro_batch,
        gradient_accumulation_steps=accumulate,
        learning_rate=settings.rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup,
        max_length=settings.sequence,
        packing=packing,
        completion_only_loss=True,
        gradient_checkpointing=gpu,
        bf16=gpu,
        use_cpu=not gpu,
        ddp_backend=None if gpu or processes == 1 else "gloo",
        save_strategy="steps",
        save_steps=settings.checkpoint_every,
        save_total_limit=1,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would tell the mean of the steps before in place of NaN
        eval_strategy="epoch" if examples.held_out else "no",
        report_to=["tensorboard"] if settings.tensorboard else [],
        disable_tqdm=True,
        seed=settings.seed,
        data_seed=settings.seed,
        model_init_kwargs={
            "dtype": "float32",
            "local_files_only": True,
            "attn_implementation": "flash_attention_2" if flash else "sdpa",
        },
        dataset_kwargs={"skip_prepare_dataset": not packing},
    )
    adapter = None
    if settings.lora:
        from peft import LoraConfig

        adapter = LoraConfig(
            r=settings.lora, lora_alpha=2 * settings.lora, target_modules="all-linear", task_type="CAUSAL_LM"
        )
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(out / "tensorboard")
    return ReplyTrainer(
        model=str(base),
        args=arguments,
        train_dataset=Dataset.from_list([one.columns() for one in examples.train]),
        eval_dataset=Dataset.from_list([one.columns() for one in examples.held_out]) if examples.held_out else None,
        processing_class=tokenizer,
        peft_config=adapter,
    )


def _telling(say: Say) -> Any:
    """A callback that tells the course of a training."""
    from transformers import TrainerCallback

    class Telling(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            if state.is_world_process_zero and logs and "loss" in logs:
                say(f"step {state.global_step:,}/{state.max_steps:,} · loss {float(logs['loss']):.4f}")

    return Telling()


def _finite(out: Path) -> Any:
    """A callback that stops a training before a checkpoint, or the model, is written that is NaN or infinite."""
    from transformers import TrainerCallback

    from mga.pretrain.finite import all_finite

    def diverged(what: str) -> StopError:
        return StopError(
            f"{what}, so nothing of it was saved; the same settings would come to it again. Train in another --out "
            f"with a smaller --learning-rate; {out} keeps its last checkpoint."
        )

    class Finite(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            if not all_finite(model.parameters()):
                what = (
                    f"The checkpoint of step {state.global_step:,} in {out}" if state.global_step else "The base model"
                )
                raise StopError(f"{what} holds NaN or infinite weights; train from a sound base, in another --out.")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            figures = [float(logs[name]) for name in ("loss", "grad_norm") if name in (logs or {})]
            if not all(map(math.isfinite, figures)):
                raise diverged(f"The loss or its gradient is NaN or infinite at step {state.global_step:,}")

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
            if control.should_save and not all_finite(model.parameters()):
                raise diverged(f"Weights are NaN or infinite after step {state.global_step:,}")

    return Finite()


def _measure(trainer: Any, tokenizer: Any, examples: Examples, settings: TrainSettings) -> dict[str, Any]:
    """Loss of held-out replies (nats a token), and the share of held-out prompts that are answered in valid form."""
    found: dict[str, Any] = {"loss": None, "valid": {}}
    if examples.held_out:
        found["loss"] = float(trainer.evaluate()["eval_loss"])
    if settings.validation_prompts and trainer.is_world_process_zero():
        found["valid"] = valid_replies(trainer.model, tokenizer, examples.asked[: settings.validation_prompts])
    return found


def _publish(
    trainer: Any, tokenizer: Any, data: Path, base: Path, folder: OutputFolder, figures: dict[str, Any]
) -> None:
    """Write the whole model beside, then all of its files into the folder, tool.json last."""
    out = folder.path
    model = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    beside = out / ".model.writing"
    shutil.rmtree(beside, ignore_errors=True)
    model.config.use_cache = True
    model.to(_weights_type(base)).save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    shutil.copytree(data / "prompts", beside / "prompts")
    for path in sorted(beside.iterdir()):
        if (out / path.name).is_dir():
            shutil.rmtree(out / path.name)
        committed(path, out / path.name)
    _draw(figures["history"], out / "losses.svg")
    write_atomically(out / "README.md", tool_card({**folder.record, **figures}, data).encode())
    folder.finish(figures)
    for leftover in (beside, out / ".training", out / ".base"):
        shutil.rmtree(leftover, ignore_errors=True)


def _weights_type(base: Path) -> Any:
    import torch

    named = read_json(base / "config.json")
    return getattr(torch, str(named.get("dtype") or named.get("torch_dtype") or "float32"))


def _draw(history: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.5))
    for key, name in (("loss", "training"), ("eval_loss", "held out")):
        points = [(line["epoch"], line[key]) for line in history if key in line]
        if points:
            axis.plot(*zip(*points, strict=True), label=name, marker="o" if key == "eval_loss" else None)
    axis.set_xlabel("epoch")
    axis.set_ylabel("loss of replies, nats a token")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _told(when: str, found: dict[str, Any]) -> str:
    loss = (
        "no held-out examples"
        if found["loss"] is None
        else (f"loss of held-out replies {found['loss']:.4f} (perplexity {math.exp(min(found['loss'], 50)):.2f})")
    )
    valid = [f"{stage}: {v['valid']} of {v['of']} replies valid" for stage, v in found["valid"].items()]
    return "; ".join([f"{when}: {loss}", *valid])
