"""datatrove's InferenceRunner, with the client it has for servers on this machine: a new connection per request.

The output is its usual gzipped JSON lines. With checkpoints, each reply also goes into its SQLite cache and each
finished document into a chunk file.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceResult, InferenceRunner
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from peers.prompts import PAIRS, chat, pairs_prompt, rewrite_prompt, verdict_prompt


def run(url: str, path: Path, in_flight: int, folder: Path, checkpoints: Path | None = None) -> int:
    """Do the job on the documents of `path`; the number of requests that were answered."""
    answered = 0

    async def rollout(document: Document, generate: Callable[[dict], Awaitable[InferenceResult]]) -> dict:
        async def ask(prompt: str) -> str:
            nonlocal answered
            result = await generate(chat(prompt))
            answered += 1
            return result.text

        text = document.text
        pairs = await ask(pairs_prompt(text))
        rewrites = await asyncio.gather(*(ask(rewrite_prompt(text, i)) for i in range(PAIRS)))
        verdicts = await asyncio.gather(*(ask(verdict_prompt(text, i)) for i in range(PAIRS)))
        return {"pairs": pairs, "rewrites": rewrites, "verdicts": verdicts}

    config = InferenceConfig(
        server_type="endpoint",
        model_name_or_path="bench",
        endpoint_url=url.removesuffix("/v1"),
        max_concurrent_generations=in_flight,
    )
    runner = InferenceRunner(
        rollout_fn=rollout,
        config=config,
        output_writer=JsonlWriter(str(folder / "output"), output_filename="${rank}_chunk_${chunk_index}.jsonl"),
        checkpoints_local_dir=str(checkpoints) if checkpoints else None,
    )
    pipeline = [JsonlReader(str(path.parent), glob_pattern=path.name), runner]
    LocalPipelineExecutor(pipeline, tasks=1, logging_dir=str(folder / "logs")).run()
    return answered


def run_with_checkpoints(url: str, path: Path, in_flight: int, folder: Path) -> int:
    return run(url, path, in_flight, folder, folder / "checkpoints")
