"""Columns by name, whatever holds them: nested ones by a path ("meta.docid"), ids of any kind as one string.

A column whose own name has dots comes before a nested one of that path.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

_FIRST_SHARED = 2.0**53
"""The least float that stands for more than one integer (IEEE 754 binary64)."""
_FIRST_SHARED_OF = {pa.float32(): 2.0**24, pa.float16(): 2.0**11}

ABSENT = object()
"""What `value_at` finds where there is no such column; null is None."""


PUBLISHED = {
    "text": "content_split",
    "source_id": "meta.docid",
    **{name: f"meta.{name}" for name in ("chunk_id", "genre", "audience", "raw_text")},
}
"""Our names for columns of the published layout (`mga export --schema mgacorpus`): a struct `meta`, and the text."""
_LAYOUT = ("meta", "content_split")


def resolved(schema: pa.Schema, name: str) -> str:
    """The path of a column: its own name, or where a file of the published layout has what we call so."""
    if name in PUBLISHED and field_at(schema, name) is None and all(field_at(schema, one) for one in _LAYOUT):
        return PUBLISHED[name]
    return name


def names_of(schema: pa.Schema) -> list[str]:
    """All names by which a schema's columns can be asked for: columns, nested ones, and what we call them."""
    names = list(dict.fromkeys(name for name, _ in paths_of(schema)))
    return names + [name for name in PUBLISHED if name not in names and field_at(schema, resolved(schema, name))]


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """The value of a column of a row, ABSENT where the row has none; of the published layout also by our name."""
    if path in row:
        return row[path]
    found = _value_in(row, path)
    if found is ABSENT and path in PUBLISHED and all(name in row for name in _LAYOUT):
        return _value_in(row, PUBLISHED[path])
    return found


def _value_in(row: Mapping[str, Any], path: str) -> Any:
    if path in row:
        return row[path]
    for name, rest in _splits(path):
        inner = row.get(name)
        if isinstance(inner, Mapping) and (found := _value_in(inner, rest)) is not ABSENT:
            return found
    return ABSENT


def field_at(fields: pa.Schema | pa.StructType, path: str) -> pa.Field | None:
    """The field of a column of a schema, None where it has none. Of two columns of one name, none is the column."""
    if (index := fields.get_field_index(path)) >= 0:
        return fields.field(index)
    for name, rest in _splits(path):
        index = fields.get_field_index(name)
        kind = fields.field(index).type if index >= 0 else None
        if kind is not None and pa.types.is_struct(kind) and (found := field_at(kind, rest)) is not None:
            return found
    return None


def array_at(rows: pa.RecordBatch | pa.StructArray, path: str) -> pa.Array | None:
    """The values of a column, None where there is no such column. Null where the structure around it is null."""
    fields = rows.schema if isinstance(rows, pa.RecordBatch) else rows.type
    if (index := fields.get_field_index(path)) >= 0:
        return rows.column(index) if isinstance(rows, pa.RecordBatch) else rows.flatten()[index]
    for name, rest in _splits(path):
        index = fields.get_field_index(name)
        if index < 0 or not pa.types.is_struct(fields.field(index).type):
            continue
        inner = rows.column(index) if isinstance(rows, pa.RecordBatch) else rows.flatten()[index]
        if (found := array_at(inner, rest)) is not None:
            return found
    return None


def paths_of(fields: pa.Schema | pa.StructType) -> Iterator[tuple[str, pa.DataType]]:
    """All columns of a schema with their types, nested ones behind the one that holds them."""
    for field in fields:
        yield field.name, field.type
        if pa.types.is_struct(field.type):
            yield from ((f"{field.name}.{inner}", kind) for inner, kind in paths_of(field.type))


def id_of(value: object) -> str | None:
    """An id as a string, the same for the same id in any type: 7, 7.0 and Decimal("7.00") are "7".

    None for what names nothing: null, "", NaN, infinity, true and false, lists and structures. And for floats from 2⁵³
    on: each of them stands for several integers, so that rows of different ids would share one.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not abs(value) < _FIRST_SHARED:  # NaN too
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8") or None
        except UnicodeDecodeError:
            return value.hex()
    return str(value) if isinstance(value, UUID) else None


def ids_of(values: pa.Array) -> pa.Array:
    """The ids of a column as large strings, each as `id_of` has it; null for what is no id. Shorter floats stand for
    several integers from 2²⁴ (float32) and 2¹¹ (float16) on."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        coded = ids_of(values.dictionary)
        return coded.take(values.indices)
    if pa.types.is_integer(kind):
        return values.cast(pa.large_string())
    if not can_hold_ids(kind):
        return pa.nulls(len(values), pa.large_string())
    given = values.to_pylist()
    if first_shared := _FIRST_SHARED_OF.get(kind):
        given = [None if value is None or abs(value) >= first_shared else value for value in given]
    return pa.array(map(id_of, given), pa.large_string())


def can_hold_ids(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold ids."""
    if pa.types.is_dictionary(kind):
        return can_hold_ids(kind.value_type)
    return (
        is_text(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or getattr(kind, "extension_name", "") == "arrow.uuid"
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def named(noun: str, name: str, present: Sequence[str]) -> str:
    """The sentence that a column is not there, with those that are, the likeliest first."""
    likely = [other for other in present if name in other]
    shown = ", ".join([*likely, *(other for other in present if other not in likely)][:12]) or "none"
    return f"there is no {noun} {name!r}; the {noun}s are: {shown}"


def _splits(path: str) -> Iterator[tuple[str, str]]:
    """The ways to take a path as the name of a column and a path within it."""
    at = path.find(".")
    while at >= 0:
        if 0 < at < len(path) - 1:
            yield path[:at], path[at + 1 :]
        at = path.find(".", at + 1)
