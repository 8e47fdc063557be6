"""What a training leaves: models as Hugging Face folders, and the state from which it goes on as if never stopped.

checkpoints/step-0000100/   config.json, model.safetensors, tokenizer.json, …
state/step-0000100/         weights, optimizer, random numbers, by torch.distributed.checkpoint: any number of processes
                            can read what another number has written
"""

import shutil
import warnings
from pathlib import Path
from typing import Any

from mga.data.store import committed, read_json, write_json
from mga.errors import InputError, StopError
from mga.pretrain.data import Data
from mga.pretrain.finite import state_is_finite
from mga.pretrain.processes import Processes


def step_name(step: int) -> str:
    """The folder's name of a step."""
    return f"step-{step:07}"


def steps_of(folder: Path) -> list[int]:
    """The steps that have a folder, in order."""
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-[0-9]*"))


def save_state(folder: Path, step: int, model: Any, optimizer: Any, processes: Processes, keep_all: bool) -> None:
    """Write all that training goes on from, whole or not at all; earlier states go when it stands."""
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict

    final = folder / step_name(step)
    beside = folder / f".{final.name}.writing"
    if processes.first:
        shutil.rmtree(beside, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    processes.wait()
    weights, moments = get_state_dict(model, optimizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        dcp.save(
            {"model": weights, "optimizer": moments, "random": torch.get_rng_state()},
            checkpoint_id=str(beside),
            no_dist=processes.count == 1,
        )
    processes.wait()
    if processes.first:
        write_json(beside / "step.json", {"step": step})
        shutil.rmtree(final, ignore_errors=True)
        committed(beside, final)
        for earlier in [] if keep_all else steps_of(folder):
            if earlier < step:
                shutil.rmtree(folder / step_name(earlier), ignore_errors=True)
    processes.wait()


def load_state(folder: Path, step: int, model: Any, optimizer: Any, processes: Processes) -> None:
    """Put a saved state into a model and its optimizer. Raises StopError for one that is damaged, or not
    finite."""
    import torch
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    place = folder / step_name(step)
    weights, moments = get_state_dict(model, optimizer)
    held = {"model": weights, "optimizer": moments, "random": torch.get_rng_state()}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            dcp.load(held, checkpoint_id=str(place), no_dist=processes.count == 1)
    except Exception as error:  # of many kinds, by what is damaged
        said = str(error).strip().splitlines()
        raise StopError(
            f"The state {place} cannot be read ({said[0] if said else type(error).__name__}); remove it, to go on from "
            "an earlier one."
        ) from error
    set_state_dict(model, optimizer, model_state_dict=held["model"], optim_state_dict=held["optimizer"])
    if not state_is_finite(model, optimizer, processes):
        raise StopError(
            f"The state {place} holds NaN or infinite weights, and nothing can be trained from it; remove it, to go on "
            "from an earlier one, or begin in another --out."
        )
    torch.set_rng_state(held["random"])


def branch_state(run: str, step: int | None) -> tuple[Path, int]:
    """The folder of states of a run, and the step to begin at. Raises InputError when there is none."""
    folder = Path(run).expanduser() / "state"
    known = steps_of(folder)
    if not known:
        raise InputError(f"{run} has no state to branch from: is it a run of mga pretrain?")
    if step is not None and step not in known:
        raise InputError(
            f"{run} has kept the states of steps {', '.join(map(str, known))}, none of {step}: "
            'checkpoints.states = "all" keeps them all.'
        )
    return folder, step if step is not None else known[-1]


def save_model(folder: Path, step: int, model: Any, data: Data, processes: Processes, keep: int | None) -> None:
    """The model as a folder that transformers, vLLM, lm-eval and mga open; more than `keep` lose the oldest."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    final = folder / step_name(step)
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if processes.first and not final.exists():
        beside = folder / f".{final.name}.writing"
        shutil.rmtree(beside, ignore_errors=True)
        model.save_pretrained(beside, state_dict=weights)
        tokenizer(data).save_pretrained(beside)
        committed(beside, final)
        for earlier in steps_of(folder)[:-keep] if keep else []:
            shutil.rmtree(folder / step_name(earlier), ignore_errors=True)
    processes.wait()


def tokenizer(data: Data) -> Any:
    """The tokenizer of the packed data, as transformers keeps it: documents begin and end with the separator."""
    import transformers

    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(data.folder / "tokenizer.json"),
        bos_token=data.separator,
        eos_token=data.separator,
        model_max_length=data.sequence,
    )


def cut_log(path: Path, step: int) -> None:
    """Take out of a log what came after a step: it is done again."""
    import orjson

    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines():
        try:
            if orjson.loads(line)["step"] <= step:
                kept.append(line)
        except (orjson.JSONDecodeError, KeyError):
            continue  # a line that a kill has cut off
    beside = path.with_name(f".{path.name}.writing")
    beside.write_bytes(b"".join(line + b"\n" for line in kept))
    beside.replace(path)


def last_step(folder: Path) -> int | None:
    """The step of the newest state, if there is any."""
    known = steps_of(folder)
    return int(read_json(folder / step_name(known[-1]) / "step.json")["step"]) if known else None
