"""distilabel: a pipeline of steps, each in a process of its own; a batch is as many rows as requests in flight."""

import os
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import orjson
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import StepInput, step
from distilabel.steps.tasks import TextGeneration
from distilabel.typing import StepOutput

from peers.prompts import PAIRS, pairs_prompt, rewrite_prompt, verdict_prompt


@step(inputs=["text", "pairs"], outputs=["number", "instruction"])
def AskForRewrites(inputs: StepInput) -> StepOutput:  # noqa: N802
    yield [{**row, "number": i, "instruction": rewrite_prompt(row["text"], i)} for row in inputs for i in range(PAIRS)]


@step(inputs=["text", "number", "rewrite"], outputs=["instruction"])
def AskForVerdicts(inputs: StepInput) -> StepOutput:  # noqa: N802
    yield [{**row, "instruction": verdict_prompt(row["text"], row["number"])} for row in inputs]


def run(url: str, path: Path, in_flight: int, folder: Path) -> int:
    """Do the job on the documents of `path`; the number of requests that were answered."""

    def ask(kind: str) -> TextGeneration:
        llm = OpenAILLM(model="bench", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 4096})
        mapping = {"generation": kind}
        return TextGeneration(name=f"ask_{kind}", llm=llm, input_batch_size=in_flight, output_mappings=mapping)

    with path.open("rb") as file:
        texts = [orjson.loads(line)["text"] for line in file]
    documents = [{"text": text, "instruction": pairs_prompt(text)} for text in texts]
    with Pipeline(name="bench", cache_dir=folder) as pipeline:
        rewrites, verdicts = AskForRewrites(input_batch_size=in_flight), AskForVerdicts(input_batch_size=in_flight)
        ask("pairs") >> rewrites >> ask("rewrite") >> verdicts >> ask("verdict")
    dataset = pipeline.run(dataset=documents, dataset_batch_size=in_flight, use_cache=False)["default"]["train"]
    pairs = sum(pairs is not None for pairs in dataset["pairs"]) // PAIRS
    return pairs + sum(reply is not None for kind in ("rewrite", "verdict") for reply in dataset[kind])
