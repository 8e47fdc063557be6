"""Bespoke Curator: a pass over the rows for each kind of request, every reply kept in its cache folder.

Its rate limits are set out of reach, so that only the number in flight holds it back, and it does not call home. It
counts the tokens of every prompt; the vocabulary it would download for that ships with litellm.
"""

import importlib.util
import os
from pathlib import Path

os.environ["TIKTOKEN_CACHE_DIR"] = str(
    Path(importlib.util.find_spec("litellm").origin).with_name("litellm_core_utils") / "tokenizers"
)
os.environ |= {"TELEMETRY_ENABLED": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1"}

from bespokelabs import curator
from datasets import Dataset

from peers.prompts import PAIRS, pairs_prompt, rewrite_prompt, verdict_prompt


class Pairs(curator.LLM):
    def prompt(self, row: dict) -> str:
        return pairs_prompt(row["text"])

    def parse(self, row: dict, response: str) -> list[dict]:
        return [{"text": row["text"], "number": i, "pairs": response} for i in range(PAIRS)]


class Rewrites(curator.LLM):
    def prompt(self, row: dict) -> str:
        return rewrite_prompt(row["text"], row["number"])

    def parse(self, row: dict, response: str) -> dict:
        return {**row, "rewrite": response}


class Verdicts(curator.LLM):
    def prompt(self, row: dict) -> str:
        return verdict_prompt(row["text"], row["number"])

    def parse(self, row: dict, response: str) -> dict:
        return {**row, "verdict": response}


def run(url: str, path: Path, in_flight: int, folder: Path) -> int:
    """Do the job on the documents of `path`; the number of requests that were answered."""
    limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**10, "max_concurrent_requests": in_flight}
    backend = {"base_url": url, "api_key": "none", **limits}
    rows, answered = Dataset.from_json(str(path), cache_dir=str(folder)), 0
    for kind in Pairs, Rewrites, Verdicts:
        llm = kind("bench", backend="openai", backend_params=backend, generation_params={"max_tokens": 4096})
        response = llm(rows, working_dir=str(folder))
        rows, answered = response.dataset, answered + response.request_stats.succeeded
    return answered
