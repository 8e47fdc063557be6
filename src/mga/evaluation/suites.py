"""Which benchmarks, with how many examples before each question (paper, section 5 and its scaling figures)."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from mga.errors import InputError

MAIN = {
    "arc_easy": 0,
    "arc_challenge": 0,
    "winogrande": 0,
    "hellaswag": 0,
    "mmlu": 5,
    "mmlu_pro": 0,
    "commonsense_qa": 0,
    "openbookqa": 0,
    "piqa": 0,
    "triviaqa": 0,
    "gsm8k": 5,
}
SCALING = {
    **MAIN,
    "arc_easy": 8,
    "arc_challenge": 8,
    "triviaqa": 5,
    "winogrande": 5,
    "codah": 0,
    "drop": 0,
    "race": 0,
}
CLOZE = dict.fromkeys(("arc_easy", "hellaswag", "openbookqa", "piqa", "winogrande"), 0)
"""What models of less than a billion parameters begin to answer: the choices are texts, not letters."""

SUITES = {"paper-main": MAIN, "paper-scaling": SCALING, "early": CLOZE}

FOLDERS = {
    **{name: name for name in SCALING},
    "arc_easy": "arc",
    "arc_challenge": "arc",
    "mmlu": "mmlu/default",
    "codah": "",
}
"""Where lm-eval keeps them, so that not all of its tasks must be read; codah is ours."""

METRICS = {"mmlu_pro": "exact_match", "triviaqa": "exact_match", "gsm8k": "exact_match", "drop": "f1"}
"""The score of a benchmark that has more than one, or none called acc. Of gsm8k, answers found flexibly."""

OWN = "own"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A task, or a group of tasks, of the harness by its name, and how many examples come before each question."""

    name: str
    shots: int


def chosen(names: Sequence[str], known: Sequence[str], shots: int | None) -> list[Benchmark]:
    """The benchmarks of suites and single names, each once, in order. `shots` wins over a suite's.

    Raises InputError for a name that is neither, with the nearest one.
    """
    found: dict[str, int] = {}
    for name in names:
        if name in SUITES:
            found |= SUITES[name]
        elif name in known:
            found[name] = MAIN.get(name, 0)
        else:
            near = difflib.get_close_matches(name, [*SUITES, *known], n=1)
            hint = f"did you mean {near[0]}?" if near else f"suites are {', '.join(SUITES)}."
            raise InputError(f"There is no benchmark {name}; {hint}")
    return [Benchmark(name, given if shots is None else shots) for name, given in found.items()]
