"""Weights rounded by llm-compressor, which sees what the layers are multiplied with on calibration texts.

w8a8   8-bit weights (a scale per row) and activations (a scale per token, found while running), as the paper's tool
       models are served: SmoothQuant moves the outliers of activations into the weights, GPTQ makes later columns of
       a matrix correct for the rounding of earlier ones. Written as compressed-tensors, for vLLM and transformers.
q4_0   4-bit weights with a scale for each 32 of a row: the grid of llama.cpp's Q4_0, so that GPTQ's choice can be
       written to a GGUF file as it is. llama.cpp itself would round each value to its nearest.
"""

import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mga.toolmodel.calibration import Encoded
from mga.toolmodel.gguf_file import Tensors

SMOOTHING = 0.8
"""Of SmoothQuant: how much of the outliers goes into the weights, 0.5 being half."""

_HEAD = "lm_head"


def compress_w8a8(folder: Path, target: Path, texts: Sequence[Encoded]) -> None:
    """Write the model of a folder as W8A8 into another, which exists whole or not at all."""
    with _llm_compressor():
        from llmcompressor.modifiers.gptq import GPTQModifier
        from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

        recipe = [
            SmoothQuantModifier(smoothing_strength=SMOOTHING),
            GPTQModifier(targets="Linear", scheme="W8A8", ignore=[_HEAD]),
        ]
        model = _calibrated(folder, recipe, texts)
        beside = target.with_name(f".{target.name}.writing")
        shutil.rmtree(beside, ignore_errors=True)
        model.save_pretrained(beside, save_compressed=True)
        for file in (*folder.glob("tokenizer*"), *folder.glob("*.jinja"), *folder.glob("special_tokens_map.json")):
            shutil.copy2(file, beside)
        (beside / "recipe.yaml").unlink(missing_ok=True)
        beside.rename(target)


def on_the_grid_of_q4_0(folder: Path, texts: Sequence[Encoded]) -> Tensors:
    """The weights of a model on the grid of Q4_0, with the scales (`NAME_scale`: rows × blocks) of its matrices."""
    with _llm_compressor():
        from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
        from llmcompressor.modifiers.gptq import GPTQModifier

        weights = QuantizationArgs(
            num_bits=4, symmetric=True, strategy="group", group_size=32, observer="memoryless_mse"
        )
        scheme = QuantizationScheme(targets=["Linear"], weights=weights)
        model = _calibrated(folder, [GPTQModifier(config_groups={"q4_0": scheme}, ignore=[_HEAD])], texts)
        return {name: (tuple(held.shape), partial(_as_numpy, held)) for name, held in model.state_dict().items()}


def _as_numpy(held: Any) -> Any:
    return held.float().cpu().numpy()


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


def _calibrated(folder: Path, recipe: Sequence[Any], texts: Sequence[Encoded]) -> Any:
    import torch
    import transformers
    from llmcompressor import oneshot

    transformers.utils.logging.disable_progress_bar()
    dtype = "auto" if torch.cuda.is_available() else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    rows = [{"input_ids": torch.from_numpy(text.ids).long()} for text in texts]
    longest = max(len(text.ids) for text in texts)
    oneshot(
        model=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True),
        dataset=torch.utils.data.DataLoader(rows),
        recipe=list(recipe),
        max_seq_length=longest,
        num_calibration_samples=len(rows),
    )
    return model
