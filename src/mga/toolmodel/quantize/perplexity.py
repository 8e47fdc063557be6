"""How much worse a quantized model predicts held-out texts than the model it was made from, on the same tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, expm1
from pathlib import Path
from typing import Any

import numpy as np

from mga import stats
from mga.errors import InputError
from mga.scoring.model import Scorer, load
from mga.toolmodel.quantize.calibration import Encoded


@dataclass(frozen=True, slots=True)
class Losses:
    """Of each text, the sum of its losses (nats) and the tokens that were scored."""

    sums: list[float]
    tokens: list[int]

    @property
    def perplexity(self) -> float:
        return exp(sum(self.sums) / sum(self.tokens))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Perplexities on the same tokens, and their `ratio` less 1 with its 95% interval over texts (None of one text)."""

    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    texts: int
    tokens: int


def losses_of(scorer: Scorer, texts: Sequence[Encoded]) -> Losses:
    """The losses of the replies."""
    found = scorer.score([text.ids for text in texts], 0)
    kept = [scores.loss[text.reply - 1 :].astype(np.float64) for scores, text in zip(found, texts, strict=True)]
    return Losses([float(losses.sum()) for losses in kept], [len(losses) for losses in kept])


def comparison(before: Losses, after: Losses) -> Comparison:
    """Perplexity after against before. The interval is of the ratio estimator ΣΔ/Σtokens with texts as clusters."""
    apart = [after_ - before_ for before_, after_ in zip(before.sums, after.sums, strict=True)]
    found = stats.ratio(apart, before.tokens)
    low, high = (None if end is None else expm1(end) for end in (found.low, found.high))
    return Comparison(before.perplexity, after.perplexity, expm1(found.value), low, high, found.n, sum(before.tokens))


def load_gguf(file: Path, original: Path) -> Scorer:
    """A GGUF file by the settings and the tokenizer of the folder it was made from: its weights alone are read, since
    transformers leaves out what it says of stretched contexts and of cutting texts."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    config: Any = transformers.AutoConfig.from_pretrained(original, local_files_only=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(original, local_files_only=True)
    options = {"gguf_file": file.name, "config": config, "local_files_only": True, "output_loading_info": True}
    model, found = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options)
    if missing := found["missing_keys"]:
        raise InputError(f"{file} lacks {len(missing)} of the model's weights, such as {min(missing)}.")
    return Scorer(model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, None)


def load_either(made: Path, original: Path) -> Scorer:
    """A quantized model, whatever its form."""
    return load(str(made)) if made.is_dir() else load_gguf(made, original)
