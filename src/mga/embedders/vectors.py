"""Vectors of texts, kept so that no text is embedded twice."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mga.data.store import write_atomically
from mga.embedders.choose import Embedder
from mga.errors import InputError
from mga.records import content_id

AT_ONCE = 64


class Vectors:
    """Vectors by text, where a path is given in one Parquet file of (text's hash, vector). `open_embedder` is called
    when one is missing."""

    def __init__(
        self, path: Path | None, open_embedder: Callable[[], Embedder], say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._path, self._open, self._say = path, open_embedder, say
        self._embedder: Embedder | None = None
        self._known: dict[str, NDArray[np.float32]] = {}
        if path is not None and path.is_file():
            try:
                table = pq.read_table(path)
                vectors = table["vector"].combine_chunks().values.to_numpy().reshape(table.num_rows, -1)
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                raise InputError(f"{path} cannot be read ({error}); remove it, and it is made again.") from error
            self._known = dict(zip(table["text"].to_pylist(), vectors, strict=True))

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (float32, texts × dimensions); new ones are kept."""
        keys = [content_id(text) for text in texts]
        wanted = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if wanted:
            self._embedder = self._embedder or self._open()
            missing = list(wanted.items())
            for start in range(0, len(missing), AT_ONCE):
                part = missing[start : start + AT_ONCE]
                self._say(f"embedding: {start:,} of {len(missing):,} texts")
                vectors = self._embedder.embed([text for _, text in part])
                self._known |= dict(zip((key for key, _ in part), vectors, strict=True))
                self._write()
        return np.array([self._known[key] for key in keys], np.float32)

    def _write(self) -> None:
        if self._path is None:
            return
        values = np.array(list(self._known.values()), np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        table = pa.table({"text": pa.array(list(self._known)), "vector": column})
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        write_atomically(self._path, buffer.getvalue())
