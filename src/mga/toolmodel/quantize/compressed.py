"""W8A8 by llm-compressor, which sees what the layers are multiplied with on calibration texts.

8-bit weights (a scale per row) and activations (a scale per token, found while running), as the paper's tool models are
served: SmoothQuant moves the outliers of activations into the weights, GPTQ makes later columns of a matrix correct for
the rounding of earlier ones. Written as compressed-tensors, for vLLM and transformers.
"""

import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mga.toolmodel.quantize.calibration import Encoded

SMOOTHING = 0.8
"""Of SmoothQuant: how much of the outliers goes into the weights, 0.5 being half."""

_HEAD = "lm_head"


def compress_w8a8(folder: Path, target: Path, texts: Sequence[Encoded]) -> None:
    """Write the model of a folder as W8A8 into another, which exists whole or not at all."""
    import torch
    import transformers

    with _llm_compressor():
        from llmcompressor import oneshot
        from llmcompressor.modifiers.gptq import GPTQModifier
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        transformers.utils.logging.disable_progress_bar()
        dtype = "auto" if torch.cuda.is_available() else torch.float32
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        rows = [{"input_ids": torch.from_numpy(text.ids).long()} for text in texts]
        oneshot(
            model=model,
            tokenizer=transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True),
            dataset=torch.utils.data.DataLoader(rows),
            recipe=[
                SmoothQuantModifier(smoothing_strength=SMOOTHING),
                GPTQModifier(targets="Linear", scheme="W8A8", ignore=[_HEAD]),
            ],
            max_seq_length=max(len(text.ids) for text in texts),
            num_calibration_samples=len(rows),
        )
        _store_as(model, transformers.AutoConfig.from_pretrained(folder, local_files_only=True).dtype)
        _save(model, folder, target)


def _store_as(model: Any, dtype: Any) -> None:
    """Give what is not quantized the type it had in the original folder."""
    for module in model.modules():
        if dtype is not None and not hasattr(module, "quantization_scheme"):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)


def _save(model: Any, folder: Path, target: Path) -> None:
    beside = target.with_name(f".{target.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    model.save_pretrained(beside, save_compressed=True)
    for file in (*folder.glob("tokenizer*"), *folder.glob("*.jinja"), *folder.glob("special_tokens_map.json")):
        shutil.copy2(file, beside)
    (beside / "recipe.yaml").unlink(missing_ok=True)
    beside.rename(target)


@contextmanager
def _llm_compressor() -> Iterator[None]:
    """Its library, without its log and its hub."""
    os.environ.setdefault("LLM_COMPRESSOR_LOG_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import llmcompressor

    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # how the library traces is not ours
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Attempting to save a model with offloaded modules")
            yield
    finally:
        llmcompressor.reset_session()
