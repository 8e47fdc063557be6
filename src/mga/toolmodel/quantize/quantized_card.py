"""The model card of a quantized model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import regex

_HOW = {
    "w8a8": "8-bit weights and activations (SmoothQuant, then GPTQ; compressed-tensors), for vLLM and transformers",
    "q8_0": "8-bit weights in blocks of 32 (GGUF), for llama.cpp",
    "q4_0": "4-bit weights in blocks of 32, scaled by their importance, and 8-bit embeddings (GGUF), for llama.cpp",
}
_LICENCE = regex.compile(r"^license: (.+)$", regex.MULTILINE)


def change_of(found: Mapping[str, Any]) -> str:
    """The change with its interval, of a comparison's figures."""
    between = "" if found["low"] is None else f"; 95%: {found['low']:+.2%} to {found['high']:+.2%}"
    return f"{found['change']:+.2%}{between}"


def quantized_card(record: Mapping[str, Any], model: Path) -> str:
    """README.md of a model; `record` is its quantization.json with the result, `model` the original's folder."""
    name, scheme, result = record["model"]["name"], record["scheme"], record["result"]
    found, size = result["perplexity"], result["bytes"]
    licence = _licence(model)
    head = [f"license: {licence}"] if licence else []
    lines = "\n".join([*head, f"base_model: {name}", "base_model_relation: quantized", f"tags: [{scheme}]"])
    return f"""---
{lines}
---
# {name}, {scheme}

{_HOW[scheme]}. Made with mga {result["mga"]} from {name} (fingerprint {record["model"]["fingerprint"]}).

| | original | quantized |
|---|---|---|
| perplexity of {found["texts"]:,} held-out texts ({found["tokens"]:,} tokens) | {found["before"]:.3f} | \
{found["after"]:.3f} ({change_of(found)}) |
| bytes of the weights | {size["before"]:,} | {size["after"]:,} |
{_judged(result)}
Calibrated on {record["texts"]["calibration"]:,} other texts (fingerprint {record["texts"]["fingerprint"]}).

Use it: `mga expand … --engine {_engine(result)}`{_vllm(result)}
"""


def _judged(result: Mapping[str, Any]) -> str:
    if "judged" not in result:
        return ""
    shares = [f"{result['judged'][side]['acceptable']['share']:.2%}" for side in ("teacher", "student")]
    return f"| texts that the judge accepts | {shares[0]} | {shares[1]} |\n"


def _engine(result: Mapping[str, Any]) -> str:
    return f"{result['engine'].partition(':')[0]}:{result['file']}"


def _vllm(result: Mapping[str, Any]) -> str:
    return "" if result["file"].endswith(".gguf") else f", on a GPU `--engine vllm:{result['file']}`"


def _licence(model: Path) -> str | None:
    """The licence that the original's card names."""
    card = model / "README.md"
    found = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    return found.group(1) if found else None
