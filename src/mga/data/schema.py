"""Which columns an input has, and what they hold: what can be known before anything else is done."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from mga.data.columns import ABSENT, PUBLISHED, field_at, is_text, names_of, resolved, value_at
from mga.data.documents import PARQUET_ENDINGS, InputFile, plain
from mga.data.rows import DAMAGE, Fault, ParquetRows, json_rows, kind_of, parsed
from mga.errors import InputError

Columns = dict[str, frozenset[str]]
"""Names of columns, nested ones as paths, with the kinds of value that they hold: "a string", "a number", "a boolean",
"a list", "an object", "null", or the type that Parquet gives."""


def columns(files: Sequence[InputFile], until: Collection[str] = ()) -> Columns:
    """The columns of files, from the footers of Parquet and from every row of JSON Lines, in order of appearance.

    With `until`, rows are read only until a value of each of these columns has been seen, and of the others only those
    on the way are found: cheap where the columns are there. Raises InputError for a file that cannot be read.
    """
    found: dict[str, set[str]] = {}
    for file in files:
        for name, kinds in columns_in(file, [name for name in until if not found.get(name, set()) - {"null"}]).items():
            found.setdefault(name, set()).update(kinds)
        if until and all(found.get(name, set()) - {"null"} for name in until):
            break
    return {name: frozenset(kinds) for name, kinds in found.items()}


def columns_in(file: InputFile, until: Collection[str] = ()) -> Columns:
    """The columns of one file."""
    try:
        with file.open() as stream:
            if not file.name.endswith(PARQUET_ENDINGS):
                return _of_json(json_rows(stream), until)
            schema = ParquetRows(stream, 1).schema
            fields = {name: field_at(schema, resolved(schema, name)) for name in names_of(schema)}
            return {name: frozenset([_kind(field.type)]) for name, field in fields.items() if field is not None}
    except DAMAGE as error:
        raise unreadable(file, error) from error


def unreadable(file: InputFile, error: Exception) -> InputError:
    """The error of a file that breaks off or is damaged."""
    return InputError(f"{file.name} cannot be read to its end: {plain(error)}. Fetch it again, or leave it out.")


def _of_json(rows: Iterator[tuple[int, bytes]], until: Collection[str]) -> Columns:
    found: dict[str, set[str]] = {}
    missing = set(until)
    # A row without the names that are looked for, as its bytes show, need not be parsed.
    asked = [*until, *(PUBLISHED[name] for name in until if name in PUBLISHED)]
    parts = [orjson.dumps(name.rpartition(".")[2])[1:-1] for name in asked]
    for number, row in rows:
        if until and number and not any(part in row for part in parts):
            continue
        fields = parsed(row)
        if isinstance(fields, Fault):
            continue
        paths = dict(_paths(fields))
        ours = {
            name: value for name in PUBLISHED if name not in paths and (value := value_at(fields, name)) is not ABSENT
        }
        for name, value in (paths | ours).items():
            found.setdefault(name, set()).add(kind_of(value))
            if value is not None:
                missing.discard(name)
        if until and not missing:
            break
    return {name: frozenset(kinds) for name, kinds in found.items()}


def _paths(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        yield f"{before}{name}", value
        if isinstance(value, dict):
            yield from _paths(value, f"{before}{name}.")


def _kind(kind: pa.DataType) -> str:
    if is_text(kind):
        return kind_of("")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return kind_of(0)
    if pa.types.is_boolean(kind):
        return kind_of(True)
    if pa.types.is_struct(kind):
        return kind_of({})
    if pa.types.is_null(kind):
        return kind_of(None)
    return kind_of([]) if pa.types.is_list(kind) or pa.types.is_large_list(kind) else str(kind)
