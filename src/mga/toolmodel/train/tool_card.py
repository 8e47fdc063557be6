"""The model card of a trained tool model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def tool_card(record: Mapping[str, Any], data: Path) -> str:
    """README.md of a model; `record` is its tool.json."""
    base, stage, settings = record["base"], record["stage"], record["settings"]
    counts, before, after = record["counts"], record["before"], record["after"]
    what = {
        "pairs": "proposes (genre, audience) pairs",
        "reformulate": "rewrites documents for a genre and an audience",
    }
    does = what.get(stage, "proposes (genre, audience) pairs for documents, and rewrites documents for them")
    how = f"LoRA of rank {settings['lora']}, merged" if settings["lora"] else "all weights"
    rows = []
    if before["loss"] is not None:
        rows.append(f"| loss of held-out replies, nats a token | {before['loss']:.4f} | {after['loss']:.4f} |")
    for name, found in after["valid"].items():
        was = before["valid"].get(name, found)
        rows.append(f"| valid replies, {name} | {was['valid']} of {was['of']} | {found['valid']} of {found['of']} |")
    table = "\n".join(rows)
    prompts = "\n\n".join(
        f"### {path.stem}\n\n````\n{path.read_text(encoding='utf-8').strip()}\n````"
        for path in sorted((data / "prompts").glob("*.md"))
    )
    return f"""---
base_model: {base["name"]}
base_model_relation: finetune
tags: [mga, synthetic-data]
---
# A tool model of mga

It {does}. Made with mga {record["versions"]["mga"]} from {base["name"]} (fingerprint {base["fingerprint"]}): {how},
{settings["epochs"]:g} epochs over {counts["train"]:,} judged examples ({counts["reply_tokens"]:,} tokens of replies; \
the loss is of replies alone), learning rate {settings["learning_rate"] or "default"}, cosine. Its licence is that of \
the base and of the texts.

| on {counts["held_out"]:,} examples of documents it has not seen | before | after |
|---|---|---|
{table}

Use it: `mga expand … --engine transformers:FOLDER`, or `vllm:FOLDER`; `mga tool quantize` makes it smaller.
It knows these prompts ({", ".join(record["data"]["prompts"].values())}) and no others:

{prompts}
"""
