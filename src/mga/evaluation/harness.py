"""lm-evaluation-harness, asked for items and answers; the scores are computed from what it saves of each item."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mga.errors import InputError, StopError
from mga.evaluation.local_data import local, missing
from mga.evaluation.own_text import task as own_task
from mga.evaluation.signals import smooth
from mga.evaluation.suites import FOLDERS, OWN, SUITES, Benchmark
from mga.packages import require

HUB = ("huggingface.co", 443)
HUB_ANSWERS_WITHIN_S = 3.0
FEWSHOT_SEED = 1234
"""The harness's own, so that the examples before a question are those of its command line."""


class Harness:
    """The tasks that lm-eval knows, and CODAH. `data` is a folder of local datasets, `own` a file of items."""

    def __init__(self, names: Sequence[str], data: Path | None, own: Path | None, cache: Path) -> None:
        if data is None and names:
            _without_waiting_for_the_hub()
        self._manager = _task_manager(all(name in SUITES or name in FOLDERS for name in names))
        self._data, self._own, self._cache = data, own, cache

    @property
    def names(self) -> list[str]:
        """Everything that can be asked for."""
        known = [*self._manager.all_tasks]
        return [*known, OWN] if self._own else known

    def load(self, benchmarks: Sequence[Benchmark]) -> dict[str, list[Any]]:
        """The harness's task objects of each benchmark, with their datasets.

        Raises InputError that names the datasets which are not there, before any is read.
        """
        specifications = {one: [*self._specifications(one.name)] for one in benchmarks}
        absent: dict[str, list[str]] = {}
        for one, leaves in specifications.items():
            for leaf in leaves:
                if leaf.pop("absent", False):
                    absent.setdefault(leaf["dataset_path"], []).append(one.name)
        if absent:
            raise missing(absent, self._data)
        return {one.name: [self._task(leaf, one.shots) for leaf in leaves] for one, leaves in specifications.items()}

    def _specifications(self, name: str) -> Iterator[dict[str, Any]]:
        """What is asked of the harness for a task, or for each task of a group: its name and where its data is."""
        from lm_eval.tasks._index import Kind
        from lm_eval.tasks._yaml_loader import load_yaml

        if name == OWN:
            assert self._own is not None
            yield own_task(self._own, OWN)
            return
        entry = self._manager.task_index[name]
        if entry.kind in (Kind.GROUP, Kind.TAG):
            members = entry.tags or [self._name(member) for member in load_yaml(entry.yaml_path)["task"]]
            for member in sorted(members):
                yield from self._specifications(member)
            return
        settings = load_yaml(entry.yaml_path, resolve_func=False)
        path, configuration = settings.get("dataset_path"), settings.get("dataset_name")
        if self._data is None or not path:
            yield {"task": name}
            return
        found = local(self._data, path, configuration)
        yield {"task": name, **found} if found else {"task": name, "dataset_path": path, "absent": True}

    def _build(self, settings: dict[str, Any]) -> Any:
        """A task of the harness, or of its kind, with settings of ours over its own."""
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.tasks._yaml_loader import load_yaml

        entry = self._manager.task_index.get(settings["task"])
        whole = {**load_yaml(entry.yaml_path), **settings} if entry else settings
        if "class" in whole:  # written in Python: it finds its own data
            return self._manager.load([settings["task"]])["tasks"][settings["task"]]
        return ConfigurableTask(config={key: whole[key] for key in whole if key not in ("tag", "group", "task_list")})

    @staticmethod
    def _name(member: str | Mapping[str, Any]) -> str:
        return member if isinstance(member, str) else str(member.get("task") or member["group"])

    def _task(self, leaf: dict[str, Any], shots: int) -> Any:
        keywords = {**leaf.get("dataset_kwargs", {}), "cache_dir": str(self._cache)}
        try:
            task = self._build({**leaf, "dataset_kwargs": keywords})
        except Exception as error:  # of the library, of the network, of the files
            said = " ".join(str(error).split())[:300]
            if self._data is None and leaf["task"] != OWN:
                raise InputError(
                    f"The dataset of {leaf['task']} cannot be had from the hub ({said}); --data takes local copies."
                ) from error
            raise InputError(f"The dataset of {leaf['task']} cannot be read: {said}") from error
        task.set_config(key="num_fewshot", value=shots)
        return task


@cache
def _task_manager(suites_alone: bool) -> Any:
    """The harness's index of tasks; of all 14,000 it takes many seconds."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    require("Benchmarks", "evaluate", "datasets", "lm_eval")
    import datasets
    import lm_eval
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    ours = str(files("mga.evaluation") / "tasks")
    if not suites_alone:
        return TaskManager(include_path=ours)
    theirs = Path(lm_eval.__file__).parent / "tasks"
    folders = sorted({str(theirs / folder) for folder in FOLDERS.values() if folder})
    return TaskManager(include_path=[*folders, ours], include_defaults=False)


def load_model(path: Path, device: str | None, batch: int | None) -> Any:
    """A model as the harness asks it. Raises InputError when it cannot be loaded."""
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return HFLM(
            pretrained=str(path),
            device=device,
            dtype="float32" if device == "cpu" else "auto",
            batch_size=batch or (16 if device == "cpu" else "auto"),
        )
    except Exception as error:  # each of the libraries below has errors of its own
        raise InputError(f"The model {path} cannot be loaded: {' '.join(str(error).split())[:300]}") from error


def ask(model: Any, tasks: Sequence[Any], limit: int | None) -> list[dict[str, Any]]:
    """A row for each item of the tasks: task, item, the harness's own scores, and the smooth ones of choices."""
    from lm_eval import evaluate

    for task in tasks:
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
    named = {task.task_name: task for task in tasks}
    try:
        found = evaluate(model, named, limit=limit, log_samples=True, bootstrap_iters=0, verbosity="ERROR")
    except AssertionError as error:
        raise InputError(
            f"The harness cannot ask {tasks[0].task_name}: an answer is longer than the {model.max_length} tokens "
            "that the model reads."
        ) from error
    except (ValueError, IndexError) as error:
        raise StopError(f"The harness cannot ask {tasks[0].task_name}: {' '.join(str(error).split())[:300]}") from error
    rows = []
    for task in tasks:
        samples = found["samples"][task.task_name]
        filters = {sample["filter"]: None for sample in samples}
        last = [*filters][-1]  # of gsm8k and mmlu_pro the most lenient extraction of an answer
        rows += [_row(task, sample) for sample in samples if sample["filter"] == last]
    return rows


def _row(task: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"task": task.task_name, "item": int(sample["doc_id"]), "hash": sample["doc_hash"]}
    row |= {name: float(sample[name]) for name in sample["metrics"] if isinstance(sample[name], int | float)}
    if task.OUTPUT_TYPE == "multiple_choice":
        answers = [float(response[0][0]) for response in sample["resps"]]
        lengths = [max(len(asked[1].encode()), 1) for asked in sample["arguments"]]
        row |= smooth(answers, lengths, _right(task, sample["doc"]))
    return row


def _right(task: Any, item: Any) -> int:
    """Which choice is right. Where choices go into the question (winogrande), the harness calls it the text."""
    right = task.doc_to_text(item) if task.multiple_input else task.doc_to_target(item)
    if isinstance(right, str):
        return int(right) if right.isdigit() else int(task.doc_to_choice(item).index(right))
    return int(right[0] if isinstance(right, list) else right)


def _without_waiting_for_the_hub() -> None:
    """Set the libraries' offline switches where the hub does not answer, so that they use what they have, or fail."""
    if os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE"):
        return
    try:
        socket.create_connection(HUB, HUB_ANSWERS_WITHIN_S).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
