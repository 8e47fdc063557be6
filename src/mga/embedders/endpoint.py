"""Embeddings by any server that speaks the OpenAI protocol."""

import asyncio
from collections.abc import Sequence

import numpy as np
import tenacity
from numpy.typing import NDArray

from mga import interrupts
from mga.embedders.bert import unit
from mga.engine_uri import addresses, public_uri
from mga.engines.servers.endpoint import Endpoint
from mga.errors import InputError, StopError, TryAgainError

BATCH = 32
PATIENCE_S = 120.0
IN_FLIGHT = 4


class EndpointEmbedder:
    """Unit vectors by an address such as `http://host:8000/v1#model`. Texts must fit the model."""

    def __init__(self, uri: str) -> None:
        urls, self._model = addresses(uri)
        if len(urls) != 1 or not self._model:
            raise InputError(
                f"{public_uri(uri)} is no embedder: give one address with its model, http://host:8000/v1#model."
            )
        self._url = urls[0]
        self.name = self._model

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return interrupts.run(self._embed(texts))

    async def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        endpoint = Endpoint(self._url, self._model)
        places = asyncio.Semaphore(IN_FLIGHT)

        async def batch(start: int) -> list[list[float]]:
            async with places:
                try:
                    return await _patiently(endpoint.embed, texts[start : start + BATCH])
                except TryAgainError as error:
                    raise StopError(f"{endpoint.url} gives no embeddings: {error}.") from error

        try:
            found = await asyncio.gather(*(batch(start) for start in range(0, len(texts), BATCH)))
        finally:
            await endpoint.close()
        return unit(np.array([vector for vectors in found for vector in vectors], np.float32))


_patiently = tenacity.AsyncRetrying(
    retry=tenacity.retry_if_exception_type(TryAgainError),
    stop=tenacity.stop_after_delay(PATIENCE_S),
    wait=tenacity.wait_exponential_jitter(multiplier=0.5, max=20),
    reraise=True,
)
