"""How large a corpus is, without reading it: rows from Parquet's metadata or from bytes a row, tokens from a sample.

Rows are looked at in places spread over the files, neighbours in one place together, and errors are computed over the
places: neighbours are alike. Compressed files and JSON arrays can be read from their beginning alone.
"""

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from random import Random
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from mga import stats
from mga.data.columns import ABSENT, array_at, field_at, resolved, value_at
from mga.data.documents import PARQUET_ENDINGS, InputFile, decompressed
from mga.data.rows import Fault, begins_array, json_rows, parsed
from mga.errors import InputError
from mga.text.words import estimate_tokens, has_words

PLACES = 64
ROWS_PER_PLACE = 64
GROUP_BYTES = 16 << 20  # text of a row group that is read whole
WHOLE_BYTES = 64 << 20  # JSON that is read whole
PIECE_BYTES = 2 << 20
FILES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and its standard error, with that error's degrees of freedom; an error of 0 means that it was counted."""

    value: float
    error: float = 0.0
    freedom: float = math.inf

    @property
    def relative(self) -> float:
        """The error as a share of the value."""
        return self.error / self.value if self.value else 0.0

    def __mul__(self, other: "Figure | float") -> "Figure":
        """The product, errors taken as independent."""
        factor = other if isinstance(other, Figure) else Figure(other)
        value = self.value * factor.value
        errors = [(self.relative, self.freedom), (factor.relative, factor.freedom)]
        error = abs(value) * math.hypot(self.relative, factor.relative)
        return Figure(value, error, stats.pooled_freedom(errors))

    def __add__(self, other: "Figure") -> "Figure":
        errors = [(self.error, self.freedom), (other.error, other.freedom)]
        return Figure(self.value + other.value, math.hypot(self.error, other.error), stats.pooled_freedom(errors))

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95% interval, at least 0."""
        half = stats.t_quantile(self.freedom) * self.error
        return max(0.0, self.value - half), self.value + half


def ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Figure:
    """Σ tops / Σ bottoms over independent pairs, with the standard error of a ratio estimate (0 for one pair)."""
    if not sum(bottoms):
        return Figure(0.0)
    found = stats.ratio(tops, bottoms)
    return Figure(found.value, found.error, found.freedom) if found.error else Figure(found.value)


@dataclass(frozen=True, slots=True)
class CorpusSize:
    """`rows` as they stand in the files; `documents` those that can be used; `tokens` by `words.estimate_tokens`.
    `spread`: standard deviation of a document's tokens, in means. `sampled` rows in so many `places` were read."""

    rows: Figure
    documents: Figure
    chunks: Figure
    tokens: Figure
    spread: float
    files: int = 0
    bytes: int = 0
    sampled: int = 0
    places: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Neighbouring rows: how many there are, and the tokens of each that is a document. `bytes` in the file, where
    rows are estimated from bytes."""

    rows: int
    tokens: tuple[int, ...]
    bytes: float = 0.0


def stated_corpus(tokens: float, documents: float, longest: int, limit: int | None = None) -> CorpusSize:
    """A corpus known by its figures alone. Documents are taken to differ by as much as they have tokens (spread 1)."""
    share = min(1.0, (limit or documents) / documents)
    rows, size = Figure(documents * share), Figure(tokens * share)
    return CorpusSize(rows, rows, Figure(max(rows.value, size.value / longest)), size, spread=1.0)


def measure_corpus(
    files: Sequence[InputFile], text_key: str, longest: int, limit: int | None = None, seed: int = 0
) -> CorpusSize:
    """Size up files. `longest`: tokens of a chunk; `limit`: the documents a run stops at.

    Raises InputError when the sample holds no document. Damaged files count as empty: a run names them and goes on.
    """
    rng = Random(seed)
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        counted = list(pool.map(partial(_parquet_rows, text_key=text_key), files))
        json_bytes = sum(file.size for file, rows in zip(files, counted, strict=True) if rows is None)
        whole = json_bytes <= WHOLE_BYTES
        look = partial(_look, text_key=text_key, whole=whole)
        numbers = _allotted(files, counted, rng)
        seeds = [rng.random() for _ in files]
        looked = list(pool.map(look, files, numbers, seeds))
    places = [place for found in looked for place in found if place.rows]
    tokens = [n for place in places for n in place.tokens]
    if not tokens:
        raise InputError(f"The sample of the input holds no document with text in {text_key!r}; see --text-key.")
    rows = Figure(float(sum(rows for rows in counted if rows is not None)))
    of_json = [place for place in places if place.bytes]
    if whole:
        rows = rows + Figure(float(sum(place.rows for place in of_json)))
    elif of_json:
        rows = rows + ratio([float(place.rows) for place in of_json], [place.bytes for place in of_json]) * json_bytes
    return _sized(rows, places, tokens, longest, limit, files)


def _allotted(files: Sequence[InputFile], counted: Sequence[int | None], rng: Random) -> list[int]:
    """Places in each file: by its rows where they are counted, by its bytes elsewhere."""
    rows = sum(n for n in counted if n)
    row_bytes = sum(file.size for file, n in zip(files, counted, strict=True) if n) / max(rows, 1)
    weights = [file.size if n is None else n * row_bytes for file, n in zip(files, counted, strict=True)]
    step = sum(weights) / PLACES
    if not step:
        return [0] * len(files)
    at = [math.floor(end / step) for end in accumulate(weights, initial=rng.random() * step)]
    return [after - before for before, after in pairwise(at)]


def _parquet_rows(file: InputFile, text_key: str) -> int | None:
    """Rows of a Parquet file from its footer, 0 where a run could use none; None for JSON."""
    if not file.name.endswith(PARQUET_ENDINGS):
        return None if file.size else 0
    try:
        with file.open() as stream:
            parquet = pq.ParquetFile(stream)
            return (
                int(parquet.metadata.num_rows)
                if field_at(parquet.schema_arrow, resolved(parquet.schema_arrow, text_key))
                else 0
            )
    except pa.ArrowInvalid:
        return 0
    except OSError as error:
        raise InputError(f"Cannot read {file.name}: {error}.") from error


def _look(file: InputFile, places: int, seed: float, *, text_key: str, whole: bool) -> list[_Place]:
    """So many places of a file; of JSON (`whole`) all of it."""
    is_parquet = file.name.endswith(PARQUET_ENDINGS)
    if not file.size or not (places or (whole and not is_parquet)):
        return []
    try:
        with file.open() as stream:
            if is_parquet:
                return _in_parquet(stream, text_key, places, Random(seed))
            return _in_json(stream, file.size, text_key, None if whole else places, Random(seed))
    except (pa.ArrowInvalid, EOFError, zlib.error, zstandard.ZstdError, gzip.BadGzipFile):
        return []
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"Cannot read {file.name}: {error}.") from error


def _sized(
    rows: Figure,
    places: Sequence[_Place],
    tokens: Sequence[int],
    longest: int,
    limit: int | None,
    files: Sequence[InputFile],
) -> CorpusSize:
    sampled = [float(place.rows) for place in places]
    counts = [float(len(place.tokens)) for place in places]
    unseen = math.sqrt(max(0.0, 1 - sum(sampled) / rows.value))  # what has been looked at is certain

    def share(tops: Sequence[float], bottoms: Sequence[float]) -> Figure:
        found = ratio(tops, bottoms)
        return replace(found, error=found.error * unseen)

    usable = share(counts, sampled)
    chunks = share([float(sum(-(-n // longest) for n in place.tokens)) for place in places], counts)
    mean = share([float(sum(place.tokens)) for place in places], counts)
    documents = rows * usable
    if limit is not None and limit < documents.value:
        rows = Figure(limit / usable.value)
        documents = Figure(float(limit))
    deviation = math.sqrt(sum((n - mean.value) ** 2 for n in tokens) / len(tokens))
    return CorpusSize(
        rows=rows,
        documents=documents,
        chunks=documents * chunks,
        tokens=documents * mean,
        spread=deviation / mean.value,
        files=len(files),
        bytes=sum(file.size for file in files),
        sampled=int(sum(sampled)),
        places=len(places),
    )


def _in_parquet(stream: Any, text_key: str, places: int, rng: Random) -> list[_Place]:
    """Of a row group rows drawn at random, or its first ones where it is too large to read."""
    parquet = pq.ParquetFile(stream, buffer_size=PIECE_BYTES)
    path = resolved(parquet.schema_arrow, text_key)
    groups = [i for i in range(parquet.num_row_groups) if parquet.metadata.row_group(i).num_rows]
    chosen = rng.sample(groups, min(places, len(groups)))
    found: list[_Place] = []
    for group in chosen:
        wanted = ROWS_PER_PLACE * places // len(chosen)
        if _text_bytes(parquet.metadata.row_group(group), path) <= GROUP_BYTES:
            (rows,) = parquet.read_row_group(group, columns=[path]).combine_chunks().to_batches()
            texts = cast(pa.Array, array_at(rows, path))
            texts = texts.take(sorted(rng.sample(range(len(texts)), min(wanted, len(texts)))))
            # Not neighbours, so every few of them are a place of their own.
            found += [_place(texts[i : i + 8]) for i in range(0, len(texts), 8)]
        else:
            rows = next(parquet.iter_batches(wanted, row_groups=[group], columns=[path]))
            found.append(_place(array_at(rows, path)))
    return found


def _text_bytes(group: Any, text_key: str) -> int:
    columns = (group.column(i) for i in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text_key)


def _place(values: Any) -> _Place:
    tokens = []
    for value in values:
        try:
            text = value.as_py()
        except UnicodeDecodeError:
            continue
        if isinstance(text, str) and has_words(text):
            tokens.append(estimate_tokens(text))
    return _Place(len(values), tuple(tokens))


def _in_json(stream: Any, size: int, text_key: str, places: int | None, rng: Random) -> list[_Place]:
    """Pieces of plain JSON Lines, the beginning of what is compressed or an array, or (None) all rows."""
    if places is None:
        return _in_places([row for _, row in json_rows(stream)], 1.0, text_key)
    is_packed = decompressed(stream) is not stream
    stream.seek(0)
    if is_packed or begins_array(stream):
        return _at_the_beginning(stream, size, places, text_key)
    found: list[_Place] = []
    for _ in range(places):
        if stream.seek(rng.randrange(max(1, size - PIECE_BYTES))):
            stream.readline()  # the rest of a row, and the draw prefers long rows
        held = stream.readlines(PIECE_BYTES // 4)
        found.append(_of_rows(held, sum(map(len, held)), text_key))
    return found


def _at_the_beginning(stream: Any, size: int, places: int, text_key: str) -> list[_Place]:
    """The first rows of a file that can be read from its beginning alone. What is read ahead is taken out by the
    difference between two points."""
    rows = (row for _, row in json_rows(stream))
    held = _some(rows, places * PIECE_BYTES // 8)
    before = stream.tell()
    later = _some(rows, places * PIECE_BYTES)
    packed = (stream.tell() - before) / max(1, sum(map(len, later)))
    last = next(rows, None)
    if last is not None and packed:
        return _in_places([*held, *later, last], packed, text_key)
    held += later if last is None else [*later, last, *rows]
    return _in_places(held, size / max(1, sum(map(len, held))), text_key)


def _some(rows: Iterator[bytes], size: int) -> list[bytes]:
    """The next rows, of at least so many bytes together where there are."""
    taken, read = [], 0
    while read < size and (row := next(rows, None)) is not None:
        taken.append(row)
        read += len(row)
    return taken


def _in_places(held: list[bytes], file_bytes: float, text_key: str) -> list[_Place]:
    """Rows as places of some neighbours each. `file_bytes`: of the file for a byte of a row."""
    neighbours = max(1, min(ROWS_PER_PLACE, len(held) // 16))
    pieces = [held[i : i + neighbours] for i in range(0, len(held), neighbours)]
    return [_of_rows(piece, file_bytes * sum(map(len, piece)), text_key) for piece in pieces]


def _of_rows(held: Iterable[bytes], size: float, text_key: str) -> _Place:
    rows, tokens = 0, []
    for row in held:
        if not row.strip():
            continue
        rows += 1
        fields = parsed(row.removeprefix(b"\xef\xbb\xbf"))
        text = ABSENT if isinstance(fields, Fault) else value_at(fields, text_key)
        if isinstance(text, str) and has_words(text):
            tokens.append(estimate_tokens(text))
    return _Place(rows, tuple(tokens), size)
