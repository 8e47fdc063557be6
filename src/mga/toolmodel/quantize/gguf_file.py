"""A Llama in a Hugging Face folder as a GGUF file for llama.cpp, a tensor in memory at a time.

What llama.cpp expects otherwise than transformers: within each head, the rows of the query and key projections that
rotate together stand side by side (transformers has them half a head apart), and vectors are float32. The factors by
which Llama 3 stretches the rotation are a tensor of their own.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, LlamaFileType, get_tensor_name_map, quants
from numpy.typing import NDArray

from mga.data.store import committed, read_json
from mga.errors import InputError
from mga.toolmodel.quantize.gguf_vocabulary import Vocabulary, vocabulary_of

Kind = Literal["f32", "f16", "q8_0", "q4_0"]
"""Of the matrices. Embeddings and head have q8_0 with q4_0, as rounding them to 4 bits costs more than it saves."""

Weights = NDArray[np.float32]
Tensors = Mapping[str, tuple[tuple[int, ...], Callable[[], Weights]]]
"""By transformers' name, a tensor's shape and what loads it."""

BLOCK = 32
"""Neighbours in a row that share a scale."""

_ACTIVATIONS = ("silu", "swish")


def write_gguf(folder: Path, target: Path, kind: Kind, scales: Mapping[str, Weights] | None = None) -> None:
    """Write the model of a folder to a file, which exists whole or not at all. `scales` (rows × blocks) are those of
    q4_0 by transformers' names; without them they come from each block's largest value.

    Raises InputError for a model or a tokenizer that this does not write.
    """
    config = llama_config(folder)
    vocabulary = vocabulary_of(folder, config["vocab_size"])
    beside = target.with_name(f".{target.name}.writing")
    writer = GGUFWriter(beside, "llama")
    try:
        _describe(writer, folder, config, kind, vocabulary)
        tensors = list(_tensors(folder, config, scales or {}))
        for name, shape, _, _ in tensors:
            stored = _stored(name, shape, kind)
            size = math.prod(quants.quant_shape_to_byte_shape(shape, stored))
            dtype: Any = np.dtype(np.float16 if stored == GGMLQuantizationType.F16 else np.float32)
            writer.add_tensor_info(name, shape, dtype, size, raw_dtype=stored)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, shape, load, scale in tensors:
            writer.write_tensor_data(quantized(load(), _stored(name, shape, kind), scale))
        writer.close()
        committed(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def llama_config(folder: Path) -> dict[str, Any]:
    """config.json of a Llama that can be written. Raises InputError for every other model."""
    config = model_config(folder)
    if config.get("model_type") != "llama":
        raise InputError(f"{folder} is a {config.get('model_type')}; a GGUF file is written of a Llama only.")
    if config.get("hidden_act", "silu") not in _ACTIVATIONS:
        raise InputError(f"{folder} has the activation {config['hidden_act']}; llama.cpp computes a Llama with silu.")
    _rotation(config)
    return config


def model_config(folder: Path) -> dict[str, Any]:
    """config.json of a model that is not quantized. Raises InputError when it is, or there is none."""
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} has no config.json: it holds no whole model (an adapter is merged first).")
    config: dict[str, Any] = read_json(path)
    if "quantization_config" in config:
        raise InputError(f"{folder} is quantized already; give the model that it was made from.")
    return config


def quantized(weights: Weights, kind: GGMLQuantizationType, scales: Weights | None = None) -> NDArray[Any]:
    """A tensor as it is stored. `scales` (rows × blocks) are those of q4_0, which else come from the largest values."""
    if kind != GGMLQuantizationType.Q4_0 or scales is None:
        return quants.quantize(weights, kind)
    rows, columns = weights.shape
    kept = scales.astype(np.float16)
    wide = kept.astype(np.float32)[..., None]
    blocks = weights.reshape(rows, columns // BLOCK, BLOCK)
    steps = np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide != 0)
    nibbles = (np.clip(np.rint(steps), -8, 7) + 8).astype(np.uint8)
    low, high = np.split(nibbles, 2, axis=-1)
    return np.concatenate([kept[..., None].view(np.uint8), low | high << 4], axis=-1).reshape(rows, -1)


def _describe(writer: GGUFWriter, folder: Path, config: Mapping[str, Any], kind: Kind, vocabulary: Vocabulary) -> None:
    heads = config["num_attention_heads"]
    head = _head_size(config)
    writer.add_name(folder.resolve().name)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(_rotation(config)["rope_theta"])
    writer.add_file_type(LlamaFileType[_FILE_TYPES[kind]])
    writer.add_quantization_version(2)
    vocabulary.write(writer)


_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}


def _tensors(
    folder: Path, config: Mapping[str, Any], given: Mapping[str, Weights]
) -> Iterator[tuple[str, tuple[int, ...], Callable[[], Weights], Weights | None]]:
    """Every tensor of the file: name, shape, what loads it, and its scales, if they are given."""
    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    rotating = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    tied = bool(config.get("tie_word_embeddings"))
    for name, (shape, load) in safetensors_in(folder).items():
        if (tied and name == "lm_head.weight") or name.endswith("rotary_emb.inv_freq"):
            continue
        there = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if there is None:
            raise InputError(f"The model has weights that no Llama has: {name}.")
        scales = given.get(name)
        if (count := rotating.get(name.split(".")[-2])) is not None:
            load = _side_by_side(load, count)
            scales = None if scales is None else side_by_side(scales, count)
        yield there, shape, load, scales
    if (factors := _rotation_factors(config)) is not None:
        yield "rope_freqs.weight", factors.shape, lambda: factors, None


def _side_by_side(load: Callable[[], Weights], heads: int) -> Callable[[], Weights]:
    return lambda: side_by_side(load(), heads)


def safetensors_in(folder: Path) -> Tensors:
    """The weights of a model folder. Raises InputError when they are not there as safetensors."""
    from safetensors import safe_open

    index = folder / "model.safetensors.index.json"
    files = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    found: dict[str, tuple[tuple[int, ...], Callable[[], Weights]]] = {}
    for file in files:
        if not (folder / file).is_file():
            raise InputError(f"{folder} has no {file}; save the model as safetensors first.")
        opened: Any = safe_open(folder / file, "pt")  # NumPy has no bfloat16
        for name in opened.keys():  # noqa: SIM118 - no mapping
            found[name] = tuple(opened.get_slice(name).get_shape()), partial(_from_safetensors, opened, name)
    return found


def _from_safetensors(opened: Any, name: str) -> Weights:
    weights: Weights = opened.get_tensor(name).float().numpy()
    return weights


def side_by_side(weights: Weights, heads: int) -> Weights:
    """Rows of a projection with those that rotate together beside each other: of each head, the first of its first
    half, the first of its second half, and so on."""
    halves = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weights.shape)


def _stored(name: str, shape: tuple[int, ...], kind: Kind) -> GGMLQuantizationType:
    if len(shape) < 2 or kind == "f32":
        return GGMLQuantizationType.F32
    if kind == "f16" or shape[-1] % BLOCK:
        return GGMLQuantizationType.F16
    if kind == "q8_0" or name in ("token_embd.weight", "output.weight"):
        return GGMLQuantizationType.Q8_0
    return GGMLQuantizationType.Q4_0


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _rotation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Base and stretching of the rotary embedding, as transformers 5 writes them or as it did before."""
    said = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = said.get("rope_type", said.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise InputError(f"The model's rotary embedding is stretched by {kind!r}, which this does not write.")
    theta = said.get("rope_theta", config.get("rope_theta", 10_000.0))
    return {**said, "rope_type": kind, "rope_theta": float(theta)}


def _rotation_factors(config: Mapping[str, Any]) -> Weights | None:
    """What each frequency is divided by in Llama 3's stretched context; None where nothing is stretched.

    As transformers' `llama3` rope: wavelengths within the original context stay, those beyond are stretched by the
    factor, with a linear passage between.
    """
    said = _rotation(config)
    if said["rope_type"] == "default":
        return None
    size = _head_size(config)
    frequencies = said["rope_theta"] ** (-np.arange(0, size, 2) / size)
    turns = said["original_max_position_embeddings"] * frequencies / (2 * np.pi)
    low, high, factor = (float(said[key]) for key in ("low_freq_factor", "high_freq_factor", "factor"))
    stays = np.clip((turns - low) / (high - low), 0, 1)
    return np.asarray(1 / (stays + (1 - stays) / factor), np.float32)
