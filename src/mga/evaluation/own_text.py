"""A benchmark of the user's own held-out text: which of four continuations is the true one?

For languages and subjects that have no benchmark. Each passage is cut after a share of its words; what follows is the
right answer, what follows in three other passages, equally many words, the wrong ones. Every choice is well written and
of the same corpus, so that only what the model makes of the passage tells them apart.
"""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from mga.data.store import write_atomically
from mga.errors import InputError

CHOICES = 4
WORDS = 24
FEWEST = 3 * WORDS
LONGEST = 160


def write_items(texts: Iterable[str], path: Path, seed: int, limit: int | None) -> int:
    """The items of texts as JSON Lines; returns how many. Texts under 72 words make none.

    Raises InputError when fewer than eight texts are long enough.
    """
    cut = []
    for text in texts:
        words = text.split()
        if len(words) < FEWEST:
            continue
        at = min(len(words) - WORDS, LONGEST)
        cut.append((" ".join(words[max(0, at - LONGEST) : at]), " ".join(words[at : at + WORDS])))
        if limit and len(cut) >= limit:
            break
    if len(cut) < 2 * CHOICES:
        raise InputError(
            f"{len(cut)} of the own texts have {FEWEST} words or more; continuations need {2 * CHOICES} of them."
        )
    drawn = random.Random(seed)
    lines = []
    for i, (context, right) in enumerate(cut):
        others = drawn.sample([j for j in range(len(cut)) if j != i], CHOICES - 1)
        choices = [f" {cut[j][1]}" for j in others]
        label = drawn.randrange(CHOICES)
        choices.insert(label, f" {right}")
        lines.append(orjson.dumps({"context": context, "choices": choices, "label": label}))
    write_atomically(path, b"\n".join(lines) + b"\n")
    return len(lines)


def task(path: Path, name: str) -> dict[str, Any]:
    """The harness's configuration of such a benchmark."""
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": [str(path)]}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "target_delimiter": "",
        "metric_list": [
            {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
        ],
    }
