"""The transformers engine against one `model.generate` after another, on the same prompts in one run.

    python bench/transformers_engine.py FOLDER [--make-folder] [--requests 64] [--device cuda|cpu]

`--make-folder` only writes the embedded model into FOLDER as safetensors. Prompts are documents of the sample with a
task, four tasks a document; every reply has `--tokens` tokens at most, drawn at temperature 0.7 (an end token ends it).
The row: hardware, requests, generated tokens per second of both, and how many times faster the engine is. The engine
also is run without prefixes shared between the tasks of a document, which shows what that part is worth.
"""

import argparse
import asyncio
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mga.engines.engine import Reply, Request
from mga.engines.llamacpp.embedded_model import fetch
from mga.engines.transformers.engine import TransformersEngine

SAMPLE = Path(__file__).parent.parent / "examples" / "sample.jsonl"
TASKS = ("Retell it for children.", "Rewrite it as a letter.", "Rewrite it as a dialogue.", "Explain it to an expert.")
TEMPERATURE = 0.7


def make_folder(folder: Path) -> None:
    """The embedded model as transformers saves it: bfloat16 safetensors, tokenizer and chat template."""
    from mga.toolmodel.train.base import hf_folder

    hf_folder(fetch("smollm2-135m"), folder)


def requests(count: int, tokens: int) -> list[Request]:
    """So many requests of at most `tokens` tokens each, four tasks a document."""
    documents = [json.loads(line)["text"] for line in SAMPLE.read_text().splitlines()]
    made = []
    for i in range(count):
        at = i // len(TASKS)
        document = f"{at // len(documents)}. {documents[at % len(documents)]}"  # none comes twice
        prompt = f"{document}\n\n{TASKS[i % len(TASKS)]}"
        made.append(Request(prompt, tokens, i, "reformulate", str(at), {"temperature": TEMPERATURE}))
    return made


async def by_engine(folder: Path, device: str, asked: Sequence[Request]) -> tuple[float, list[Reply]]:
    """Seconds for all requests, and the replies."""
    engine = TransformersEngine(str(folder), None, device)
    await engine.start()
    try:
        await asyncio.gather(*(engine.ask(replace(r, prompt="Say yes.", max_tokens=8)) for r in asked[:2]))
        started = time.monotonic()
        replies = await asyncio.gather(*map(engine.ask, asked))
        return time.monotonic() - started, replies
    finally:
        await engine.close()


def by_generate(folder: Path, device: str, asked: Sequence[Request]) -> tuple[float, int]:
    """Seconds for all requests one by one, and the tokens generated."""
    import torch
    import transformers

    dtype = torch.bfloat16  # as the engine chooses, on GPUs and on CPUs that have it
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().to(device)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sampling = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "pad_token_id": 0}
    generated = 0

    def answer(request: Request, tokens: int) -> int:
        messages = [{"role": "user", "content": request.prompt}]
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        ).to(device)
        with torch.inference_mode():
            return int(model.generate(**ids, max_new_tokens=tokens, **sampling).shape[1] - ids["input_ids"].shape[1])

    answer(asked[0], 8)
    started = time.monotonic()
    for request in asked:
        generated += answer(request, request.max_tokens)
    return time.monotonic() - started, generated


def hardware(device: str) -> str:
    import torch

    if device == "cuda":
        return str(torch.cuda.get_device_name())
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return f"{cpu.partition(': ')[2].strip() or platform.machine()}, {torch.get_num_threads()} threads"


def main() -> None:
    """Read the flags and print the table, or make the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make-folder", action="store_true", help="only write the embedded model there")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128, help="longest reply")
    parser.add_argument("--one-by-one", type=int, default=8, help="how many of the requests generate answers")
    parser.add_argument("--device", choices=["cuda", "cpu"])
    arguments = parser.parse_args()
    if arguments.make_folder:
        make_folder(arguments.folder)
        return
    asked = requests(arguments.requests, arguments.tokens)
    apart = [replace(request, affinity=f"{i}") for i, request in enumerate(asked)]

    async def both(device: str) -> tuple[tuple[float, list[Reply]], tuple[float, list[Reply]]]:
        return await by_engine(arguments.folder, device, asked), await by_engine(arguments.folder, device, apart)

    device = arguments.device or _device()
    (shared_s, shared), (apart_s, apart_replies) = asyncio.run(both(device))
    generate_s, generated = by_generate(arguments.folder, device, asked[: arguments.one_by_one])
    one, all_apart = generated / generate_s, sum(r.generated_tokens for r in apart_replies) / apart_s
    together = sum(r.generated_tokens for r in shared) / shared_s
    prompt = sum(r.prompt_tokens for r in shared) / len(shared)
    print(
        "| hardware | requests (tokens of a prompt) | generate, one by one | engine, nothing shared | engine | times |"
    )
    print("|---|---|---|---|---|---|")
    print(
        f"| {hardware(device)} | {len(asked)} ({prompt:.0f}) | {one:,.0f} tokens/s | {all_apart:,.0f} tokens/s "
        f"| {together:,.0f} tokens/s | {together / one:.1f} |"
    )


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
