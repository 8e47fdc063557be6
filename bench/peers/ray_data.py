"""Ray Data: batches of documents through one actor whose call is a coroutine with an aiohttp session, into Parquet.

Ray runs up to four such batches of an actor at once, so a batch is a quarter of the requests in flight.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pyarrow.compute
import pyarrow.parquet
import ray

from peers.prompts import PAIRS, chat, pairs_prompt, rewrite_prompt, verdict_prompt

BATCHES_AT_ONCE = 4


class Ask:
    def __init__(self, url: str, in_flight: int) -> None:
        self._url = f"{url}/chat/completions"
        self._places = asyncio.Semaphore(in_flight)
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        replies = await asyncio.gather(*map(self._document, batch["text"]))
        answered = [sum(map(len, kinds.values())) for kinds in replies]
        return {"id": batch["id"], "replies": [orjson.dumps(kinds) for kinds in replies], "answered": answered}

    async def _document(self, text: str) -> dict[str, list[str]]:
        pairs = await self._ask(pairs_prompt(text))
        rewrites = await asyncio.gather(*(self._ask(rewrite_prompt(text, i)) for i in range(PAIRS)))
        verdicts = await asyncio.gather(*(self._ask(verdict_prompt(text, i)) for i in range(PAIRS)))
        return {"pairs": [pairs], "rewrites": rewrites, "verdicts": verdicts}

    async def _ask(self, prompt: str) -> str:
        assert self._session
        async with self._places, self._session.post(self._url, json={"model": "bench", **chat(prompt)}) as response:
            return (await response.json())["choices"][0]["message"]["content"]


def run(url: str, path: Path, in_flight: int, folder: Path) -> int:
    """Do the job on the documents of `path`; the number of requests that were answered."""
    os.environ |= {"RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init(include_dashboard=False)
    documents = ray.data.read_json(str(path))
    replies = documents.map_batches(
        Ask,
        batch_size=max(1, in_flight // BATCHES_AT_ONCE),
        compute=ray.data.ActorPoolStrategy(size=1),
        fn_constructor_args=(url, in_flight),
    )
    replies.write_parquet(str(folder / "output"))
    ray.shutdown()
    return pyarrow.compute.sum(pyarrow.parquet.read_table(folder / "output", columns=["answered"])["answered"]).as_py()
