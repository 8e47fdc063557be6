"""Tokens a second of `mga pretrain`, beside a bare PyTorch loop of the same model over the same sequences, in one run.

    python bench/pretrain.py [--size tiny|134M|377M] [--steps 20] [--rounds 3] [--batch 8] [--sequence 512]

tiny is a Llama of 1.3 million parameters for a CPU; on a GPU take 134M or 377M with --sequence 8192, and MFU is told.
The bare loop has the batches in memory: forward, cross entropy in float32, backward, clipping, fused AdamW. Both take
the same steps in turn; the first step of each is not counted. Sequences are random tokens, packed by `mga budget pack`.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")

TINY = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 4}
VOCABULARY = {"tiny": 2048, "134M": 49_152, "377M": 49_152}


def packed(folder: Path, vocabulary: int, sequence: int, sequences: int) -> Path:
    """Random words, a token each, packed by the command's own function."""
    import random

    import orjson
    from tokenizers import Tokenizer, models, pre_tokenizers

    from mga.mixture.recipe import load_recipe
    from mga.packing.pack import pack
    from mga.packing.tokenizer import load_tokenizer

    words = {"<|endoftext|>": 0, **{f"w{i}": i for i in range(1, vocabulary)}}
    made = Tokenizer(models.WordLevel(words, unk_token="<|endoftext|>"))  # noqa: S106 - no password
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(folder / "tokenizer.json"))
    drawn = random.Random(0)
    with (folder / "texts.jsonl").open("wb") as file:
        for i in range(-(-sequences * sequence // 900) + 8):
            text = " ".join(f"w{drawn.randrange(1, vocabulary)}" for _ in range(900))
            file.write(orjson.dumps({"id": str(i), "text": text}) + b"\n")
    changes = {
        "budget": sequences * sequence,
        "source": [{"name": "words", "paths": [str(folder / "texts.jsonl")]}],
        "pack": {"sequence": sequence, "packing": "concatenate"},
    }
    recipe = load_recipe("paper-styles", changes)
    pack(recipe, load_tokenizer(str(folder / "tokenizer.json")), folder / "data", 1, lambda line: None)
    return folder / "data"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(VOCABULARY), default="tiny")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sequence", type=int, default=512)
    given = parser.parse_args()

    import orjson
    import torch

    from mga.packing.packed import open_packed
    from mga.pretrain.config import load_config
    from mga.pretrain.model import llama_config
    from mga.pretrain.train import pretrain

    gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = packed(folder, VOCABULARY[given.size], given.sequence, given.steps * given.batch)
        config = load_config(
            {
                "model": TINY if given.size == "tiny" else {"size": given.size},
                "data": {"packed": str(data)},
                "training": {
                    "steps": given.steps,
                    "batch_sequences": given.batch,
                    "learning_rate": 1e-3,
                    "compile": gpu,
                },
                "checkpoints": {"every": 10**6},
                "log": {"every": 1},
            }
        )

        def ours(name: str) -> tuple[float, float | None]:
            pretrain(config, folder / name, lambda line: None)
            lines = [orjson.loads(line) for line in (folder / name / "log.jsonl").read_bytes().splitlines()][1:]
            tokens = given.batch * given.sequence
            seconds = sum(tokens / line["tokens_per_second"] for line in lines if "loss" in line)
            return tokens * (given.steps - 1) / seconds, lines[-1].get("mfu")

        def bare() -> float:
            import transformers

            sequences = open_packed(data)
            llama = llama_config(config.model, VOCABULARY[given.size], given.sequence)
            model: Any = transformers.LlamaForCausalLM(llama).to(device)
            for layer in model.model.layers if gpu else ():
                layer.compile()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
            batches = [
                torch.stack([torch.from_numpy(sequences[i].astype("int64")) for i in range(at, at + given.batch)])
                for at in range(0, given.steps * given.batch, given.batch)
            ]
            for number, batch in enumerate(batches):
                if number == 1:
                    began = time.monotonic()
                ids = batch.to(device)
                with torch.autocast(device, dtype, enabled=gpu):
                    logits = model(ids, use_cache=False).logits
                scores, labels = logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()
                loss = torch.nn.functional.cross_entropy(scores, labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                loss.item()
            return given.batch * given.sequence * (given.steps - 1) / (time.monotonic() - began)

        ratios = []
        for i in range(given.rounds):
            (mine, mfu), theirs = ours(f"run-{i}"), bare()
            ratios.append(mine / theirs)
            used = f", MFU {mfu:.1%}" if mfu else ""
            print(f"mga pretrain {mine:,.0f} tokens/s{used}, bare loop {theirs:,.0f}: {ratios[-1]:.2f}", flush=True)
    name = torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} threads"
    print(f"{given.size}, {name}, median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
