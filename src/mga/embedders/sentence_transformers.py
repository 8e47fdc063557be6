"""Any sentence-transformers folder, through the library itself."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mga.errors import InputError
from mga.packages import require


class SentenceTransformersEmbedder:
    """Unit vectors by a folder's model. What is longer than the model reads at once is cut off by the library."""

    def __init__(self, folder: Path) -> None:
        require(str(folder), "st", "sentence_transformers")
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder} is no sentence-transformers folder: {str(error).splitlines()[0]}") from error
        self.name = folder.resolve().name

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)
