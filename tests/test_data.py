"""Columns by name, ids of any type, rows of any kind of file."""

import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mga.data.columns import ABSENT, array_at, field_at, id_of, ids_of, value_at
from mga.data.documents import find_files
from mga.data.rows import Fault, ParquetRows, json_rows, parsed
from mga.data.schema import columns

# ── columns ──────────────────────────────────────────────────────────────────────────────────────────────────────

NESTED: list[dict[str, Any]] = [
    {"meta": {"docid": "a", "deep": {"n": 1}}, "x.y": 1},
    {"meta": None, "x.y": 2},
    {"meta": {"docid": None, "deep": None}, "x.y": None},
]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("meta.docid", ["a", None, None]),
        ("meta.deep.n", [1, None, None]),
        ("x.y", [1, 2, None]),
        ("meta.none", None),
        ("meta.docid.none", None),
        ("none.docid", None),
        (".", None),
        ("meta.", None),
    ],
)
def test_a_path_names_one_column_in_rows_and_in_arrow(path: str, values: list[Any] | None) -> None:
    rows = pa.RecordBatch.from_pylist(NESTED)
    found = array_at(rows, path)
    assert (None if found is None else found.to_pylist()) == values
    assert (field_at(rows.schema, path) is None) == (values is None)
    assert [None if value_at(row, path) is ABSENT else value_at(row, path) for row in NESTED] == (values or [None] * 3)
    sliced = array_at(rows.slice(1), path)
    assert (None if sliced is None else sliced.to_pylist()) == (values and values[1:])


def test_a_column_whose_name_has_dots_comes_before_a_nested_one() -> None:
    row = {"a.b": 1, "a": {"b": 2}}
    assert value_at(row, "a.b") == 1
    found = array_at(pa.RecordBatch.from_pylist([row]), "a.b")
    assert found is not None
    assert found.to_pylist() == [1]


IDS = [
    (7, "7"),
    (7.0, "7"),
    (-0.0, "0"),
    (1.5, "1.5"),
    (2.0**70, None),
    (Decimal("7.00"), "7"),
    (Decimal("700"), "700"),
    (Decimal("1E+3"), "1000"),
    (Decimal("1.50"), "1.5"),
    (2**64 - 1, "18446744073709551615"),
    (2**90, str(2**90)),
    ("7", "7"),
    ("7.0", "7.0"),
    (" a ", " a "),
    (b"key", "key"),
    (b"\xff\x00", "ff00"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (None, None),
    ("", None),
    (float("nan"), None),
    (float("inf"), None),
    (Decimal("NaN"), None),
    (2.0**53 - 1, "9007199254740991"),
    (-(2.0**53) + 1, "-9007199254740991"),
    (2.0**53, None),
    (-(2.0**53), None),
    (2**53 + 1, "9007199254740993"),
    (True, None),
    ([1], None),
    ({"a": 1}, None),
]


@pytest.mark.parametrize(("given_", "name"), IDS)
def test_an_id_is_the_same_string_whatever_its_type(given_: object, name: str | None) -> None:
    assert id_of(given_) == name


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(19, 0), pa.decimal256(40, 3), pa.string()],
)
def test_columns_of_ids_have_one_form(kind: pa.DataType) -> None:
    numbers = pa.array([1, 12, None, 1]).cast(kind)
    for column in (numbers, numbers.dictionary_encode(), pa.concat_arrays([numbers, numbers]).slice(4)):
        assert ids_of(column).to_pylist() == ["1", "12", None, "1"]
        assert ids_of(column).type == pa.large_string()


@pytest.mark.parametrize(("kind", "exact"), [(pa.float32(), 2**24 - 1), (pa.float64(), 2**53 - 1)])
def test_floats_that_stand_for_several_integers_name_none(kind: pa.DataType, exact: int) -> None:
    column = pa.array([float(exact), float(exact + 1), -float(exact + 1)]).cast(kind)
    for values in (column, column.dictionary_encode()):
        assert ids_of(values).to_pylist() == [str(exact), None, None]


@pytest.mark.parametrize("column", [pa.array([True]), pa.array([[1]]), pa.array([1], pa.timestamp("ns"))])
def test_columns_that_hold_no_ids_name_nothing(column: pa.Array) -> None:
    assert ids_of(column).to_pylist() == [None]


# ── rows of JSON ─────────────────────────────────────────────────────────────────────────────────────────────────

PACKERS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, zstandard.compress]


def rows_in(data: bytes) -> list[tuple[int, bytes]]:
    return [(number, row.rstrip()) for number, row in json_rows(io.BytesIO(data))]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text('ab"\\[]{},: \n\u00e9', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"]},', max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(values, max_size=5), st.sampled_from([None, 0, 1, 3]), st.sampled_from(PACKERS), st.booleans())
def test_an_array_is_read_as_its_elements(
    elements: list[Any], indent: int | None, pack: Callable[[bytes], bytes], marked: bool
) -> None:
    elements = [{"first": 1}, *elements]
    data = b"\xef\xbb\xbf" * marked + json.dumps(elements, indent=indent, ensure_ascii=False).encode()
    found = rows_in(pack(data))
    assert [number for number, _ in found] == list(range(len(elements)))
    assert [json.loads(row) for _, row in found] == elements


@pytest.mark.parametrize("block", [1, 2, 7])
def test_an_array_is_read_the_same_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mga.data.rows._BLOCK", block)
    elements = [{"text": 'a "quoted\\" [{word,'}, {"text": "x" * 40, "of": [{"n": [1, 2]}, "]"]}, 5, "a,b", None]
    data = json.dumps(elements, indent=1).encode() + b'\n[{"second": "array"}]\n{"a": "line"}\n'
    found = [json.loads(row) for _, row in rows_in(data)]
    assert found == [*elements, {"second": "array"}, {"a": "line"}]


def test_a_line_that_holds_an_array_is_one_row_of_lines() -> None:
    assert rows_in(b'["x"]\n{"a": 1}\n[{"b": 2}]\n') == [(0, b'["x"]'), (1, b'{"a": 1}'), (2, b'[{"b": 2}]')]
    assert rows_in(b"\n \r\n[]\n") == []


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("end", [b"", b",", b', {"text": "cut', b', {"text": {"a": 1}'])
def test_an_array_that_does_not_end_is_damage(pack: Callable[[bytes], bytes], end: bytes) -> None:
    rows = json_rows(io.BytesIO(pack(b'[{"text": "whole"}' + end)))
    assert next(rows)[1] == b'{"text": "whole"}'
    with pytest.raises(EOFError, match="array does not end"):
        list(rows)


def test_zstd_frames_with_long_windows_and_frames_to_skip_are_read() -> None:
    lines = b"".join(b'{"text": "row %d"}\n' % i for i in range(3))
    parameters = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    long = packer.compress(lines) + packer.flush()
    skipped = b"\x5a\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    assert [row for _, row in rows_in(skipped + long + skipped + long)] == lines.splitlines() * 2


FAULTS = {
    b"not json": "not_json",
    b'{"text": "a", "quality": NaN}': "not_json",
    b'{"text": "a", "quality": -Infinity}': "not_json",
    b'{"text": "\\ud83d"}': "not_unicode",
    b'{"text": "\xff"}': "not_utf8",
    b'["x"]': "not_an_object",
    b"null": "not_an_object",
    b'{"text": "a", "text": "b"}': "repeated_field",
    b'{"a": {"text": "a"}, "text": "b", "a": 1}': "repeated_field",
}


@pytest.mark.parametrize(("row", "kind"), FAULTS.items())
def test_a_row_of_no_standard_json_is_a_fault(row: bytes, kind: str) -> None:
    found = parsed(row)
    assert isinstance(found, Fault)
    assert found.kind == kind


def test_names_that_come_again_elsewhere_are_no_repeated_fields() -> None:
    row = {"text": 'the "text" of', "other": {"text": 1, "of": [{"text": 2}]}, 'q"': "text"}
    assert parsed(json.dumps(row).encode()) == row


def test_whole_numbers_of_any_length_are_exact() -> None:
    assert parsed(b'{"id": 123456789012345678901, "x": 1e300}') == {"id": 123456789012345678901, "x": 1e300}


# ── rows of Parquet ──────────────────────────────────────────────────────────────────────────────────────────────

SIZE = 1 << 20


def batches_of(path: Path, table: pa.Table, columns: list[str] | None = None, **how: Any) -> list[pa.RecordBatch]:
    pq.write_table(table, path, **how)
    with path.open("rb") as stream:
        parquet = ParquetRows(stream, SIZE)
        assert parquet.schema.equals(table.schema)
        return list(parquet.batches(columns))


VIEW = pytest.param(
    pa.string_view(), marks=pytest.mark.skipif(int(pa.__version__.split(".")[0]) < 21, reason="Arrow 21 writes views")
)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), VIEW, pa.dictionary(pa.int32(), pa.string())])
def test_a_text_that_is_stored_once_for_many_rows_is_decoded_piece_by_piece(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array([f"{i} " + "x" * 60_000 for i in range(3)])
    column = pa.DictionaryArray.from_arrays(pa.array([i % 3 for i in range(600)], pa.int32()), texts)
    column = column if pa.types.is_dictionary(kind) else column.dictionary_decode().cast(kind)
    table = pa.table({"n": range(600), "text": column})
    found = batches_of(tmp_path / "a.parquet", table, row_group_size=200)
    assert [n for batch in found for n in batch["n"].to_pylist()] == list(range(600))
    assert [text[0] for batch in found for text in batch["text"].cast(pa.large_string()).to_pylist()] == list(
        "012"
    ) * 200
    assert {batch.schema.field("text").type for batch in found} == {kind}
    assert max(batch.num_rows for batch in found) <= SIZE // 60_000


def test_nested_texts_and_shared_beginnings_are_decoded_in_small_batches(tmp_path: Path) -> None:
    long = "x" * 30_000
    nested = pa.table({"meta": pa.array([{"text": long, "n": i} for i in range(500)])})
    alike = pa.table({"text": [f"{long}{i}" for i in range(500)]})
    how: dict[str, Any] = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}
    for name, table, more in (("a", nested, dict[str, Any]()), ("b", alike, how)):
        found = batches_of(tmp_path / f"{name}.parquet", table, **more)
        assert sum(batch.num_rows for batch in found) == 500
        assert max(batch.nbytes for batch in found) < 3 * SIZE


def test_rows_larger_than_a_batch_come_alone_and_small_ones_together(tmp_path: Path) -> None:
    texts = [str(i) * (2 * SIZE if 4 <= i % 100 < 6 else 10) for i in range(2000)]
    found = batches_of(tmp_path / "a.parquet", pa.table({"text": texts, "n": range(2000)}), row_group_size=100)
    assert [text for batch in found for text in batch["text"].to_pylist()] == texts
    small = batches_of(tmp_path / "b.parquet", pa.table({"text": ["some words"] * 5000}), row_group_size=50)
    assert [batch.num_rows for batch in small] == [5000]


def test_some_columns_and_nested_ones_are_read_alone(tmp_path: Path) -> None:
    table = pa.table({"meta": [{"docid": "a", "raw": "long"}], "text": ["words"], "n": [1]})
    (batch,) = batches_of(tmp_path / "a.parquet", table, ["meta.docid", "n"])
    assert batch.to_pylist() == [{"meta": {"docid": "a"}, "n": 1}]


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_columns_of_json_come_from_all_rows_and_with_all_kinds(tmp_path: Path) -> None:
    rows = ['{"id": 1}', "broken", '{"id": "a", "meta": {"docid": null}}', '{"text": "x", "meta": {"docid": 1.5}}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    found = columns(find_files([str(tmp_path / "a.jsonl")]))
    assert found == {
        "id": {"a number", "a string"},
        "meta": {"an object"},
        "meta.docid": {"null", "a number"},
        "text": {"a string"},
    }


def test_columns_of_parquet_come_from_the_footer(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "of": [{"n": 1.0, "b": True}], "l": [["a"]], "z": pa.nulls(1), "b": [b"x"]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = columns(find_files([str(tmp_path / "a.parquet")]))
    assert {name: next(iter(kinds)) for name, kinds in found.items()} == {
        "text": "a string",
        "of": "an object",
        "of.n": "a number",
        "of.b": "a boolean",
        "l": "a list",
        "z": "null",
        "b": "binary",
    }


def test_rows_are_read_only_until_the_columns_are_seen(tmp_path: Path) -> None:
    rows = [{"text": None}, {"body": "x"}, {"text": "seen", "n": 1}, {"late": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = find_files([str(tmp_path / "a.jsonl")])
    assert columns(files, ["text"])["text"] == {"null", "a string"}
    assert "late" not in columns(files, ["text"])
    assert columns(files, ["late", "text"]).keys() >= {"text", "late"}
    assert "none" not in columns(files, ["none"])
