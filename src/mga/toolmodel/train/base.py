"""The base of a tool model: a Hugging Face folder, or one made of the weights in a GGUF file."""

from pathlib import Path
from typing import Any

from mga.data.store import committed
from mga.engines.llamacpp.embedded_model import EMBEDDED_MODELS, fetch
from mga.errors import InputError
from mga.packing.gguf_tokenizer import for_transformers


def base_folder(given: str, made: Path) -> Path:
    """The folder of a base. Of a GGUF file, or of the embedded model by its name, `made` is written first.

    Raises InputError when there is none, or it has no chat template.
    """
    path = Path(given).expanduser()
    if given in EMBEDDED_MODELS and not path.exists():
        path = fetch(given)
    if path.is_file() and path.suffix == ".gguf":
        if not made.is_dir():
            hf_folder(path, made)
        path = made
    if not (path / "config.json").is_file():
        raise InputError(
            f"There is no base {given}: give a Hugging Face folder, a .gguf file or {', '.join(EMBEDDED_MODELS)}."
        )
    return path


def hf_folder(gguf: Path, out: Path) -> None:
    """The Llama in a GGUF file as transformers saves it: bfloat16 safetensors, tokenizer and chat template."""
    import shutil

    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    settings = {k: v for k, v in loaded.config.to_dict().items() if k != "quantization_config"}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig.from_dict(settings))
    model.load_state_dict(loaded.state_dict())
    beside = out.with_name(f".{out.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(beside)
    for_transformers(gguf).save_pretrained(beside)
    committed(beside, out)


def perplexity(folder: Path, texts: list[str]) -> tuple[float, int]:
    """Of a model on texts, each from its beginning, and the number of tokens: to see that a base is what it seems."""
    import math

    import numpy as np

    from mga.scoring.model import load

    scorer = load(str(folder))
    begin: list[Any] = [] if scorer.prefix is None else [scorer.prefix]
    ids = [np.concatenate([begin, scorer.encode(text).ids]).astype(np.int32) for text in texts]
    losses = np.concatenate([one.loss for one in scorer.score(ids, scorer.context // 4)])
    return math.exp(float(losses.mean(dtype=np.float64))), len(losses)
