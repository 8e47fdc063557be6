"""A tool model made from end to end: a teacher that can be learned from, examples, training, before and after.

    python bench/tool_model.py train [--out FOLDER] [--notes 7] [--lora 16] [--rate 1e-3] [--batch 4]
    python bench/tool_model.py speed [--base smollm2-135m] [--examples 12] [--rounds 2]

train   notes go through `mga expand` with the teacher of tests/teacher.py as generator and judge (a loopback server);
        `mga tool examples` and `mga tool train` make the model. Printed: the base's perplexity on real text (what an
        HF folder made of a GGUF file is worth), loss of held-out replies and valid replies before and after, seconds.
speed   tokens a second of the trainer, beside a bare PyTorch loop over the same examples in the same batches: forward,
        loss of the replies, backward, AdamW. In turn, the ratio of each round.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("TQDM_DISABLE", "1")
for switch in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ.setdefault(switch, "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"


def examples_of(folder: Path, count: int) -> Path:
    """Examples of so many notes and a third as many held out."""
    from rich.console import Console
    from teacher import Serving, notes

    from mga.config import load_config
    from mga.packing.tokenizer import load_tokenizer
    from mga.runs.executors.local import expand
    from mga.runs.monitoring.progress import Progress
    from mga.runs.run import Run
    from mga.toolmodel.train.examples import ExampleSettings, collect

    lines = [json.dumps({"id": f"note-{i}", "text": note.text}) for i, note in enumerate(notes(count))]
    (folder / "notes.jsonl").write_text("\n".join(lines))
    (folder / "expand.toml").write_text("[cleaning]\nmin_words = 8\nmax_copied = 1.0\n")
    with Serving() as teacher:
        flags = {"input": [str(folder / "notes.jsonl")], "engine": teacher, "judge": "all"}
        config = load_config(folder / "expand.toml", flags)
        asyncio.run(expand(config, Run(folder / "run"), Progress(Console(stderr=True), quiet=True)))
    settings = ExampleSettings(held_out=0.25)
    collect([folder / "run"], load_tokenizer("smollm2-135m"), folder / "data", settings, print)
    return folder / "data"


def train(given: argparse.Namespace, folder: Path) -> None:
    """The whole way, with its figures."""
    from mga.toolmodel.train.base import base_folder, perplexity
    from mga.toolmodel.train.finetune import TrainSettings, finetune

    data = folder / "data" if (folder / "data" / "examples.json").exists() else examples_of(folder, given.notes)
    base = base_folder(given.base, folder / "base")
    texts = [json.loads(line)["text"] for line in given.texts.read_text().splitlines()]
    value, tokens = perplexity(base, texts)
    print(f"base: perplexity {value:.2f} on {len(texts)} texts ({tokens:,} tokens)")
    began = time.monotonic()
    settings = TrainSettings(
        batch=given.batch, micro_batch=1, lora=given.lora, learning_rate=given.rate, valid=given.valid
    )
    record = finetune(data, str(base), "both", folder / "tool", settings, print)
    seconds = time.monotonic() - began
    print(f"trained on {record['counts']['train']} examples in {seconds:.0f} s, measuring before and after included")


def speed(given: argparse.Namespace, folder: Path) -> None:
    """Tokens a second beside the bare loop."""
    import torch
    import transformers

    from mga.toolmodel.train.base import base_folder
    from mga.toolmodel.train.finetune import TrainSettings, _trainer
    from mga.toolmodel.train.training_data import read_examples

    base = base_folder(given.base, folder / "base")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    data = examples_of(folder, given.examples)
    examples = read_examples(data, ["reformulate"], tokenizer, 8192)
    some = examples.train[: given.examples]
    tokens = sum(len(one.ids) for one in some)
    settings = TrainSettings(epochs=1, batch=4, micro_batch=1, tensorboard=False, checkpoint_every=10**6)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def ours() -> float:
        chosen = type(examples)(some, (), (), "")
        trainer = _trainer(base, tokenizer, chosen, folder / "speed", settings)
        began = time.monotonic()
        trainer.train()
        return tokens / (time.monotonic() - began)

    def bare() -> float:
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
        began = time.monotonic()
        for i, one in enumerate(some, 1):
            ids = torch.tensor([one.ids], device=device)
            logits = model(ids, use_cache=False).logits[0, one.prompt - 1 : -1]
            (torch.nn.functional.cross_entropy(logits.float(), ids[0, one.prompt :]) / 4).backward()
            if i % 4 == 0 or i == len(some):
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return tokens / (time.monotonic() - began)

    ratios = []
    for _ in range(given.rounds):
        reached = ours(), bare()
        ratios.append(reached[0] / reached[1])
        print(f"trainer {reached[0]:.0f} tokens/s, bare loop {reached[1]:.0f}: {ratios[-1]:.2f}", flush=True)
    print(f"{tokens:,} tokens, median ratio {statistics.median(ratios):.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "speed"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--notes", type=int, default=7)
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--lora", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--validation-prompts", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--texts", type=Path, default=SAMPLE)
    given = parser.parse_args()
    work = {"train": train, "speed": speed}[given.what]
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        work(given, given.out)
        return
    with tempfile.TemporaryDirectory() as place:
        work(given, Path(place))


if __name__ == "__main__":
    main()
