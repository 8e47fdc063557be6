"""Read the rows of a folder once: what charts count, and the rows that are shown. Memory stays flat."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mga.data.columns import ABSENT, array_at, field_at, resolved, value_at
from mga.data.documents import PARQUET_ENDINGS, decompressed
from mga.data.first_version import row_batches, todays_schema
from mga.data.store import Place
from mga.report.sample import Row, Sample
from mga.report.source import Source
from mga.runs.rows import readable, row_files

PARTS = ("kept", "dropped", "failed")
ROWS = 200_000
"""Of a folder with more rows, files spread evenly over it are read, with about so many."""

_AT_ONCE = 2048
_SHORT = ("id", "source_id", "chunk_id", "genre", "audience", "score", "n_tokens", "reason")
_LONG = (
    "text",
    "raw_text",
    "score_reason",
    "expected_score",
    "detail",
    "stripped_prefix",
    "stripped_suffix",
    "model",
    "prompt",
)


@dataclass
class Scan:
    """What was found in `rows` rows. Lengths are of kept texts: tokens by the engine's own count, and characters as a
    multiple of the original's."""

    rows: int = 0
    genres: Counter[str] = field(default_factory=Counter)
    audiences: Counter[str] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=list)
    growth: list[float] = field(default_factory=list)
    sample: Sample = field(default_factory=Sample)

    def add(self, status: str, file: str, first: int, batch: pa.RecordBatch) -> None:
        """Count a batch of rows that ended this way, and take some."""
        lengths = {f"{name}_length": _lengths(batch, name) for name in ("text", "raw_text")}
        names = [name for name in _SHORT if name in batch.schema.names]
        columns = {name: batch.column(name).to_pylist() for name in names} | lengths
        taken: dict[int, Row] = {}
        for at in range(batch.num_rows):
            row: Row = {name: values[at] for name, values in columns.items()}
            row |= {"status": status, "place": f"{file}:{first + at}"}
            self._count(row)
            if self.sample.wants(row):
                taken[at] = row
        whole = batch.take(pa.array(list(taken), pa.int64())).to_pylist()
        for short, row in zip(taken.values(), whole, strict=True):
            self.sample.add(row | short)

    def _count(self, row: Row) -> None:
        self.rows += 1
        if (score := row.get("score")) is not None:
            self.scores[score] += 1
        if row["status"] != "kept":
            return
        if row.get("genre"):
            self.genres[row["genre"]] += 1
        if row.get("audience"):
            self.audiences[row["audience"]] += 1
        if row.get("n_tokens") is not None:
            self.tokens.append(row["n_tokens"])
        if row["text_length"] and row["raw_text_length"]:
            self.growth.append(row["text_length"] / row["raw_text_length"])


def scan(source: Source) -> Scan:
    """Read the rows of a run or a stage. Raises InputError for a damaged file."""
    found = Scan()
    for part in PARTS:
        for file in _spread(source, part):
            name = _within(source.folder, file)
            first = 0
            with readable(file):
                for batch in _batches(file, source.text_key):
                    found.add(part, name, first, batch)
                    first += batch.num_rows
    return found


def _spread(source: Source, which: str) -> list[Place]:
    """Of a part, the files that are read: all, or every so many. Files of one name in all parts go together."""
    folder = source.folder / which
    parts = (source.folder / part for part in PARTS)
    names = sorted({_within(part, file) for part in parts for file in row_files(part)})
    step = -(-source.rows // ROWS)
    return [folder / name for name in names[::step] if (folder / name).is_file()]


def _within(folder: Place, file: Place) -> str:
    """The name of a file in a folder, from the folder on."""
    return str(file)[len(str(folder)) + 1 :]


def _batches(file: Place, text_key: str) -> Iterator[pa.RecordBatch]:
    """A file's rows with the columns that it has of those wanted; the text is called `text`."""
    wanted = [name for name in (*_SHORT, *_LONG) if name != "text"] + [text_key]
    if file.name.endswith(PARQUET_ENDINGS):
        with file.open("rb") as stream:
            parquet = pq.ParquetFile(stream)
            schema = todays_schema(parquet.schema_arrow)
            paths = {"text" if name == text_key else name: resolved(schema, name) for name in wanted}
            paths = {name: path for name, path in paths.items() if field_at(schema, path)}
            for batch in row_batches(parquet, _AT_ONCE, [*paths.values()]):
                yield pa.RecordBatch.from_pydict({name: array_at(batch, path) for name, path in paths.items()})
        return
    with file.open("rb") as stream:
        rows: list[Row] = []
        for line in decompressed(stream):
            row = orjson.loads(line)
            if isinstance(row, dict):
                values = {name: value_at(row, name) for name in wanted}
                fields = {"text" if name == text_key else name: value for name, value in values.items()}
                rows.append(
                    {
                        name: None if value is ABSENT else _plain(value, name in _NUMBERS)
                        for name, value in fields.items()
                    }
                )
            if len(rows) == _AT_ONCE:
                yield pa.RecordBatch.from_pylist(rows, _JSON_ROWS)
                rows = []
        yield pa.RecordBatch.from_pylist(rows, _JSON_ROWS)


_NUMBERS = {"score": pa.float64(), "n_tokens": pa.int64(), "expected_score": pa.float64()}
_JSON_ROWS = pa.schema([(name, _NUMBERS.get(name, pa.string())) for name in (*_SHORT, *_LONG)])


def _plain(value: Any, is_number: bool) -> Any:
    """A value of foreign JSON as its column can hold it."""
    if is_number:
        return value if type(value) in (int, float) else None
    return value if isinstance(value, str | None) else orjson.dumps(value).decode()


def _lengths(batch: pa.RecordBatch, name: str) -> list[int | None]:
    if name not in batch.schema.names:
        return [None] * batch.num_rows
    lengths: list[int | None] = pc.utf8_length(batch.column(name)).to_pylist()
    return lengths
