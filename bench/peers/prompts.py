"""The prompts of the job: for each document one for pairs, then five rewrites, then five verdicts.

The answering server knows them apart by `genre_1` and `<rewrite>`.
"""

from typing import Any

PAIRS = 5
REQUESTS = 1 + 2 * PAIRS
TASK = " ".join(["Rewrite it for these readers."] * 20)


def pairs_prompt(text: str) -> str:
    return f"<document>\n{text}\n</document>\ngenre_1 {TASK}"


def rewrite_prompt(text: str, number: int) -> str:
    return f"<document>\n{text}\n</document>\n{TASK} {number}"


def verdict_prompt(text: str, number: int) -> str:
    return f"<document>\n{text}\n</document>\n<rewrite>\n{text[:1500]} {number}"


def chat(prompt: str) -> dict[str, Any]:
    """What is sent, less the model."""
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": 4096}
