"""Reading: what real corpora throw at a reader. Each bad row or file gives one Problem, all others are read."""

import gzip
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mga.data.documents import find_files, fingerprint
from mga.data.reading import Reader, count_rows, read
from mga.errors import InputError, StopError
from mga.records import Document, Problem, content_id

FIRST = b'{"id": "first", "text": "The first good row."}\n'
LAST = b'{"id": "last", "text": "The last good row."}\n'
ROWS = b"".join(b'{"id": "r%d", "text": "Row %d says %s."}\n' % (i, i, content_id(i).encode()) for i in range(400))

Write = Callable[[str, bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return to_file


def rows_of(*inputs: object, limit: int | None = None) -> tuple[list[Document], list[Problem]]:
    rows = list(read(find_files([str(given) for given in inputs]), limit=limit))
    return [r for r in rows if isinstance(r, Document)], [r for r in rows if isinstance(r, Problem)]


BAD_ROWS = {
    "empty": (b'{"text": ""}', "empty_text"),
    "white space and zero-width characters": ('{"text": " \u200b\u2060\ufeff\\n"}'.encode(), "empty_text"),
    "only dots": (b'{"text": "... --- ..."}', "empty_text"),
    "only emoji": ('{"text": "👩‍👩‍👧 👍🏽"}'.encode(), "empty_text"),
    "no text": (b'{"id": "x"}', "no_text"),
    "text under another name": (b'{"id": "x", "body_text": "words"}', "no_text"),
    "empty object": (b"{}", "no_text"),
    "null": (b'{"text": null}', "text_not_string"),
    "integer": (b'{"text": 5}', "text_not_string"),
    "float": (b'{"text": 0.5}', "text_not_string"),
    "boolean": (b'{"text": true}', "text_not_string"),
    "list": (b'{"text": ["a"]}', "text_not_string"),
    "object": (b'{"text": {"a": "b"}}', "text_not_string"),
    "lone surrogate": (b'{"text": "half \\ud83d of it"}', "not_unicode"),
    "swapped surrogates": (b'{"text": "turned \\ude00\\ud83d round"}', "not_unicode"),
    "lone surrogate in the id": (b'{"id": "\\udfff", "text": "words"}', "not_unicode"),
    "latin-1": ('{"text": "café"}'.encode("latin-1"), "not_utf8"),
    "broken utf-8": (b'{"text": "half of \xe2\x82 it"}', "not_utf8"),
    "string": (b'"just a string"', "not_an_object"),
    "array": (b'["text"]', "not_an_object"),
    "null alone": (b"null", "not_an_object"),
    "number alone": (b"12", "not_an_object"),
    "prose": (b"not JSON", "not_json"),
    "not a number": (b'{"text": NaN}', "not_json"),
    "infinite quality": (b'{"text": "words", "quality": -Infinity}', "not_json"),
    "a field twice": (b'{"text": "one", "id": 1, "text": "other"}', "repeated_field"),
    "two objects": (b'{"text": "a"} {"text": "b"}', "not_json"),
    "raw control character": (b'{"text": "a\x01b"}', "not_json"),
    "nested too deep": (b"[" * 5000, "not_json"),
}


@pytest.mark.parametrize(("row", "kind"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_one_problem_and_its_neighbours_are_read(write: Write, row: bytes, kind: str) -> None:
    path = write("some.jsonl", FIRST + row + b"\n" + LAST)
    documents, problems = rows_of(path)
    assert [d.source_id for d in documents] == ["first", "last"]
    assert [(p.file, p.row, p.kind) for p in problems] == [("some.jsonl", 1, kind)]
    assert str(problems[0]).startswith("some.jsonl, row 2: ")
    assert count_rows(find_files([str(path)])) == [3]


GOOD_TEXTS = {
    "control characters": "null \x00 bell \x07 escape \x1b[31m",
    "line separators": "one\u2028two\u2029three\u0085four\x0bfive",
    "noncharacters": "odd \ufffe\uffff",
    "one long line": "word " * 40_000,
    "one long word": "x" * 50_000,
    "right to left": "السلام عليكم \u202eabc\u202c",
    "unspaced": "蜜蜂住在蜂箱里。",
    "joined emoji in prose": "a family 👩‍👩‍👧 walks",
    "markup": "<p>broken <b>nesting</p></b>&nbsp;<script>",
    "slots": "fill {audience} and {{text}}",
    "chat tokens": "<|im_start|>system",
}


@pytest.mark.parametrize("text", GOOD_TEXTS.values(), ids=GOOD_TEXTS)
def test_an_odd_text_is_read_exactly_as_it_is(write: Write, text: str) -> None:
    documents, problems = rows_of(write("odd.jsonl", json.dumps({"text": text}).encode() + b"\n" + LAST))
    assert not problems
    assert [d.text for d in documents] == [text, "The last good row."]


def test_ids_are_the_rows_own_or_a_hash_of_the_text(write: Write) -> None:
    given = ['"a"', "7", '"7"', "null", '""', "true", "1.5", "[1]", '"../up"']
    path = write("ids.jsonl", "".join(f'{{"id": {i}, "text": "words"}}\n' for i in given).encode())
    documents, _ = rows_of(path)
    hashed = content_id("words")
    assert [d.source_id for d in documents] == ["a", "7", "7", hashed, hashed, hashed, "1.5", hashed, "../up"]


def test_ids_of_any_numeric_type_are_the_same_strings(tmp_path: Path) -> None:
    texts = ["one text", "another text"]
    for number, kind in enumerate([pa.int64(), pa.uint64(), pa.float64(), pa.decimal128(19, 0), pa.decimal128(21, 2)]):
        table(tmp_path / f"{number}.parquet", id=pa.array([7, 123456789]).cast(kind), text=texts)
    documents, problems = rows_of(tmp_path)
    assert problems == []
    assert [d.source_id for d in documents] == ["7", "123456789"] * 5


def test_nested_texts_and_ids_are_read_by_their_path(write: Write, tmp_path: Path) -> None:
    rows = [{"meta": {"docid": 5.0}, "data": {"text": "good words"}}, {"meta": None, "data": None}]
    lines = write("a.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    for path in (lines, tmp_path / "b.parquet"):
        good, bad = read(find_files([str(path)]), text_key="data.text", id_key="meta.docid")
        assert isinstance(good, Document)
        assert (good.source_id, good.text) == ("5", "good words")
        assert isinstance(bad, Problem)
        assert bad.kind in ("no_text", "text_not_string")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_an_array_is_read_as_its_objects(write: Write, indent: int | None, pack: Callable[[bytes], bytes]) -> None:
    rows = [{"id": i, "text": f"row {i}"} for i in range(3)]
    path = write("a.json", pack(json.dumps([*rows, 5, {"text": None}], indent=indent).encode()))
    documents, problems = rows_of(path)
    assert [d.source_id for d in documents] == ["0", "1", "2"]
    assert [(p.row, p.kind) for p in problems] == [(3, "not_an_object"), (4, "text_not_string")]
    assert count_rows(find_files([str(path)])) == [5]


def test_a_column_that_holds_no_text_is_one_problem_and_not_one_a_row(tmp_path: Path) -> None:
    path = table(tmp_path / "lists.parquet", text=[["a"], ["b"]])
    documents, problems = rows_of(path)
    assert documents == []
    assert [(p.row, p.kind) for p in problems] == [(None, "no_text_column")]
    assert "list" in problems[0].what
    assert count_rows(find_files([str(path)])) == [1]


def test_rows_with_one_id_or_one_text_are_all_read_and_have_keys_of_their_own(write: Write) -> None:
    same = b'{"id": "same", "text": "the same words"}\n'
    documents, problems = rows_of(write("twice.jsonl", same * 3 + b'{"text": "the same words"}\n' * 2))
    assert not problems
    assert len({d.key for d in documents}) == 5


def test_a_byte_order_mark_crlf_and_blank_lines_are_read_over(write: Write) -> None:
    data = b"\xef\xbb\xbf" + FIRST.replace(b"\n", b"\r\n") + b"\r\n  \r\n\n" + LAST.replace(b"\n", b"\r\n")
    path = write("windows.jsonl", data)
    documents, problems = rows_of(path)
    assert not problems
    assert [(d.source_id, d.position) for d in documents] == [("first", "0:0"), ("last", "0:4")]
    assert count_rows(find_files([str(path)])) == [2]


def test_the_last_row_needs_no_newline(write: Write) -> None:
    documents, problems = rows_of(write("open.jsonl", FIRST + LAST.rstrip()))
    assert (len(documents), len(problems)) == (2, 0)


def test_a_last_line_cut_in_its_text_is_one_problem(write: Write) -> None:
    documents, problems = rows_of(write("cut.jsonl", FIRST + LAST[:30]))
    assert [d.source_id for d in documents] == ["first"]
    assert [(p.row, p.kind) for p in problems] == [(1, "not_json")]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, bytes], ids=["gzip", "zstd", "plain"])
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "ndjson", "json"])
def test_packing_is_told_by_the_bytes_and_not_by_the_name(
    write: Write, pack: Callable[[bytes], bytes], ending: str
) -> None:
    path = write(f"some.{ending}", pack(FIRST) + (pack(LAST)))
    documents, problems = rows_of(path)
    assert [d.source_id for d in documents] == ["first", "last"]
    assert not problems
    assert count_rows(find_files([str(path)])) == [2]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_packed_file_that_breaks_off_is_one_problem_after_its_readable_rows(
    write: Write, pack: Callable[[bytes], bytes], share: float
) -> None:
    packed = b"".join(pack(ROWS[i : i + 4000]) for i in range(0, len(ROWS), 4000))
    path = write("cut.jsonl.packed.json", packed[: int(len(packed) * share)])
    documents, problems = rows_of(path)
    assert [d.source_id for d in documents] == [f"r{i}" for i in range(len(documents))]
    assert abs(len(documents) - 400 * share) < 60
    assert [(p.row, p.kind) for p in problems] == [(None, "damaged_file")]
    assert f"after {len(documents)} rows" in problems[0].what
    assert count_rows(find_files([str(path)])) == [len(documents) + 1]


def table(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_columns_of_any_string_type_are_read(tmp_path: Path) -> None:
    texts = ["one text", "another text"]
    table(tmp_path / "a.parquet", id=["a", "b"], text=texts)
    table(tmp_path / "b.parquet", text=pa.array(texts, pa.large_string()))
    table(tmp_path / "c.parquet", id=[1, 2], text=pa.array(texts).dictionary_encode())
    documents, problems = rows_of(tmp_path)
    assert not problems
    assert [d.text for d in documents] == texts * 3
    assert [d.source_id for d in documents] == ["a", "b", *map(content_id, texts), "1", "2"]


def test_null_and_empty_texts_in_parquet_are_one_problem_each(tmp_path: Path) -> None:
    path = table(tmp_path / "null.parquet", id=["a", "b", "c"], text=["good words", None, ""])
    documents, problems = rows_of(path)
    assert [d.source_id for d in documents] == ["a"]
    assert [(p.row, p.kind) for p in problems] == [(1, "text_not_string"), (2, "empty_text")]
    assert count_rows(find_files([str(path)])) == [3]


def test_parquet_without_the_text_column_is_one_problem_that_lists_its_columns(tmp_path: Path) -> None:
    path = table(tmp_path / "other.parquet", doc_key=["a"], content=["words"], raw_text=["x"])
    documents, problems = rows_of(path, table(tmp_path / "good.parquet", text=["good words"]))
    assert len(documents) == 1
    assert [(p.file, p.row, p.kind) for p in problems] == [("other.parquet", None, "no_text_column")]
    assert "the columns are: raw_text, doc_key, content" in problems[0].what
    assert "--text-key" in problems[0].advice


def test_other_names_are_read_when_they_are_given(tmp_path: Path) -> None:
    path = table(tmp_path / "other.parquet", doc_key=["a"], content=["words"])
    (document,) = read(find_files([str(path)]), text_key="content", id_key="doc_key")
    assert isinstance(document, Document)
    assert (document.source_id, document.text) == ("a", "words")


def test_parquet_text_that_is_not_utf8_is_one_problem_and_its_neighbours_are_read(tmp_path: Path) -> None:
    offsets = pa.array([0, 4, 7, 11], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"good\xff\xfe\xfdalso")])
    documents, problems = rows_of(table(tmp_path / "latin.parquet", text=texts))
    assert [d.text for d in documents] == ["good", "also"]
    assert [(p.row, p.kind) for p in problems] == [(1, "not_utf8")]


def test_parquet_without_rows_is_no_problem_and_no_document(tmp_path: Path) -> None:
    path = table(tmp_path / "none.parquet", id=pa.array([], pa.string()), text=pa.array([], pa.string()))
    assert rows_of(path) == ([], [])
    assert count_rows(find_files([str(path)])) == [0]


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.parquet", "empty.jsonl.gz"])
def test_a_file_of_no_bytes_is_one_problem(write: Write, name: str) -> None:
    documents, problems = rows_of(write(name, b""), write("good.jsonl", FIRST))
    assert len(documents) == 1
    assert [(p.file, p.row, p.kind) for p in problems] == [(name, None, "empty_file")]


def test_a_parquet_file_cut_in_half_is_one_problem(tmp_path: Path) -> None:
    path = table(tmp_path / "cut.parquet", text=["some words"] * 100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    documents, problems = rows_of(path, table(tmp_path / "good.parquet", text=["good words"]))
    assert len(documents) == 1
    assert [(p.file, p.row, p.kind) for p in problems] == [("cut.parquet", None, "damaged_file")]
    assert "no complete Parquet file" in problems[0].what


def test_parquet_with_damaged_pages_is_one_problem(tmp_path: Path) -> None:
    path = table(tmp_path / "torn.parquet", text=[content_id(i) for i in range(2000)])
    data = bytearray(path.read_bytes())
    data[1000:1400] = bytes(400)
    path.write_bytes(data)
    _, problems = rows_of(path)
    assert [(p.row, p.kind) for p in problems] == [(None, "damaged_file")]


def test_a_folder_is_read_in_the_order_of_its_paths_and_other_files_are_left(write: Write, tmp_path: Path) -> None:
    write("in/b.jsonl", LAST)
    write("in/a/z.jsonl", FIRST)
    write("in/notes.txt", b"hello")
    files = find_files([f"{tmp_path}/in"])
    assert [file.name for file in files] == ["in/a/z.jsonl", "in/b.jsonl"]
    assert [row.source_id for row in read(files) if isinstance(row, Document)] == ["first", "last"]


HIDDEN = [".cache/huggingface/a.jsonl", ".git/a.jsonl", ".ipynb_checkpoints/a-checkpoint.jsonl", "._a.jsonl"]
HIDDEN += ["_temporary/0/a.parquet", "_delta_log/0.json", "__MACOSX/a.jsonl", "deep/.huggingface/a.json", "_SUCCESS"]


def test_hidden_files_are_left_out_of_folders_and_patterns(write: Write, tmp_path: Path) -> None:
    for name in ("a.jsonl", "deep/b.jsonl", "_c.jsonl"):
        write(f"in/{name}", FIRST)
    for name in HIDDEN:
        write(f"in/{name}", LAST)
    names = ["in/_c.jsonl", "in/a.jsonl", "in/deep/b.jsonl"]
    assert [file.name for file in find_files([f"{tmp_path}/in"])] == names
    assert [f"in/{file.name}" for file in find_files([f"{tmp_path}/in/**/*.jsonl"])] == names
    assert len(find_files([f"{tmp_path}/in/.git"])) == 1
    assert len(find_files([f"{tmp_path}/in/.git/*.jsonl"])) == 1
    assert len(find_files([f"{tmp_path}/in/.*/a.jsonl"])) == 1


def test_files_that_describe_a_clone_of_a_hub_are_left_out(write: Write, tmp_path: Path) -> None:
    table(tmp_path / "train.parquet", text=["good words"])
    write("dataset_infos.json", b'{"default": {\n "features": {}}}')
    write("stats.json", b'{"n": 3}')
    write("README.md", b"# A dataset")
    write("rows.json", b'[{"text": "good words too"}]')
    write("lines.json", FIRST + LAST)
    assert [file.name.rpartition("/")[2] for file in find_files([str(tmp_path)])] == [
        "lines.json",
        "rows.json",
        "train.parquet",
    ]


def test_one_object_alone_is_a_row_where_there_is_no_other_kind_of_file(write: Write, tmp_path: Path) -> None:
    write("in/a.json", FIRST)
    assert [d.source_id for d in rows_of(tmp_path / "in")[0]] == ["first"]


def test_a_pointer_of_git_lfs_is_named(write: Write, tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    write("in/train.parquet", pointer)
    with pytest.raises(InputError, match=r"train\.parquet is a pointer of Git LFS .*git lfs pull"):
        find_files([f"{tmp_path}/in"])


@pytest.mark.parametrize("pattern", ["*/some.jsonl", "**/some.jsonl", "[ab]/*.jsonl", "?/some.jsonl"])
def test_a_pattern_is_read_in_order_and_names_do_not_tell_where_the_corpus_lies(
    write: Write, tmp_path: Path, pattern: str
) -> None:
    write("a/some.jsonl", FIRST)
    write("b/some.jsonl", LAST)
    assert [file.name for file in find_files([f"{tmp_path}/{pattern}"])] == ["a/some.jsonl", "b/some.jsonl"]


def test_a_file_whose_name_looks_like_a_pattern_is_read(write: Write) -> None:
    assert len(rows_of(write("part [1].jsonl", FIRST))[0]) == 1


def test_urls_of_any_file_system_are_read() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/a.jsonl", FIRST)
    memory.pipe("/corpus/b.jsonl.gz", gzip.compress(LAST))
    for url in ("memory://corpus", "memory://corpus/*"):
        assert [d.source_id for d in rows_of(url)[0]] == ["first", "last"]
    assert [d.source_id for d in rows_of("memory://corpus/b.jsonl.gz")[0]] == ["last"]


def test_several_inputs_are_read_in_the_order_given(write: Write) -> None:
    last, first = write("a.jsonl", LAST), write("b.jsonl", FIRST)
    assert [(d.source_id, d.position) for d in rows_of(first, last)[0]] == [("first", "0:0"), ("last", "1:0")]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "No input"),
        (["none.jsonl"], "There is no file, folder or match for .*none.jsonl"),
        (["*.parquet"], "The pattern .* matches no file"),
        (["in", "in/a.jsonl"], "a.jsonl is named twice"),
        (["empty"], "holds no Parquet or JSONL file"),
        (["in/notes.txt"], "is neither Parquet"),
    ],
)
def test_input_that_cannot_be_meant_is_refused(write: Write, tmp_path: Path, inputs: list[str], message: str) -> None:
    write("in/a.jsonl", FIRST)
    write("in/notes.txt", b"hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        find_files([f"{tmp_path}/{given}" for given in inputs])


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(InputError, match="nowhere"):
        find_files(["nowhere://bucket/a.jsonl"])


def test_a_password_in_an_address_is_in_no_message() -> None:
    with pytest.raises(InputError) as refused:
        find_files(["nowhere://alice:s3cret@host/a.jsonl"])
    assert "s3cret" not in str(refused.value)


def test_a_limit_counts_documents_and_not_problems(write: Write) -> None:
    path = write("some.jsonl", b'{"text": ""}\n' + FIRST + b'{"text": ""}\n' + LAST)
    documents, problems = rows_of(path, limit=1)
    assert [d.source_id for d in documents] == ["first"]
    assert len(problems) <= 2


def test_the_fingerprint_tells_content_and_order_and_not_the_place(write: Write, tmp_path: Path) -> None:
    here, there = write("here/a.jsonl", ROWS), write("there/a.jsonl", ROWS)
    other = write("other/a.jsonl", ROWS[:-3] + b"!}\n")
    great, changed = write("great/a.jsonl", ROWS * 9), write("changed/a.jsonl", b" " + (ROWS * 9)[1:])
    assert fingerprint(find_files([str(great)])) != fingerprint(find_files([str(changed)]))
    prints = [fingerprint(find_files([str(path)])) for path in (here, there, other)]
    assert prints[0] == prints[1] != prints[2]
    swapped = [find_files([str(here), str(other)]), find_files([str(other), str(here)])]
    assert fingerprint(swapped[0]) != fingerprint(swapped[1])


@pytest.mark.parametrize(
    "fault", [TimeoutError("read timed out"), ConnectionResetError("reset"), OSError(5, "I/O error")]
)
def test_a_read_error_that_may_pass_stops_and_is_never_taken_for_damage(
    write: Write, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    lines = b"".join(json.dumps({"id": i, "text": f"row {i} of the ledger"}).encode() + b"\n" for i in range(20))
    files = find_files([str(write("in.jsonl", lines))])

    class Failing:
        def __init__(self) -> None:
            self.lines = iter(lines.splitlines(keepends=True)[:10])

        def read(self, n: int) -> bytes:
            return lines[:n]

        def seek(self, _place: int) -> None: ...

        def close(self) -> None: ...

        def __iter__(self) -> "Failing":
            return self

        def __next__(self) -> bytes:
            line = next(self.lines, None)
            if line is None:
                raise fault
            return line

    monkeypatch.setattr(type(files[0]), "open", lambda _file: Failing())
    rows = read(files)
    assert [next(rows).source_id for _ in range(10)] == [str(i) for i in range(10)]
    with pytest.raises(StopError, match="after 10 rows"):
        next(rows)


def test_an_id_column_that_cannot_hold_ids_is_not_read(tmp_path: Path) -> None:
    times = pa.array([1, 2], pa.timestamp("ns"))
    file = table(tmp_path / "in.parquet", id=times, text=["first text", "second text"])
    documents, problems = rows_of(file)
    assert [d.source_id for d in documents] == [content_id("first text"), content_id("second text")]
    assert problems == []


def several(tmp_path: Path, write: Write) -> list[Path]:
    """Files of all kinds: Parquet in small row groups, one of them damaged, packed lines that break off, blanks."""
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path in paths:
        texts = [content_id(path.name, i) for i in range(1500)]
        pq.write_table(pa.table({"text": texts}), path, row_group_size=700, use_dictionary=False)
    data = bytearray(paths[1].read_bytes())
    start = pq.ParquetFile(paths[1]).metadata.row_group(1).column(0).data_page_offset
    data[start + 200 : start + 600] = bytes(400)
    paths[1].write_bytes(data)
    packed = gzip.compress(ROWS)
    paths += [
        write("c.jsonl.gz", packed[: len(packed) // 2]),
        write("d.jsonl", b"\xef\xbb\xbf\n" + FIRST + b"\n" + LAST),
    ]
    paths += [write("e.parquet", b"PAR1 and no more"), write("f.jsonl", b"")]
    return paths


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(data=st.data())
def test_ranges_in_any_order_are_the_rows_of_the_whole(tmp_path: Path, write: Write, data: st.DataObject) -> None:
    files = find_files([str(path) for path in several(tmp_path, write)])
    counts = count_rows(files)
    whole = list(read(files))
    total = sum(counts)
    cuts = sorted(data.draw(st.sets(st.integers(0, total), max_size=12)) | {0, total})
    ranges = list(pairwise(cuts))
    reader = Reader(files, counts)
    found = {start: list(reader.rows(start, stop)) for start, stop in data.draw(st.permutations(ranges))}
    assert [row for start, _ in ranges for row in found[start]] == whole
    reader.close()


def test_damage_in_a_row_group_costs_the_rest_of_that_group_alone(tmp_path: Path, write: Write) -> None:
    documents, problems = rows_of(several(tmp_path, write)[1])
    lost = set(range(1500)) - {int(d.position.partition(":")[2]) for d in documents}
    assert lost
    assert min(lost) >= 700
    assert max(lost) == 1399
    assert [p.kind for p in problems] == ["damaged_file"]


def test_rows_up_to_a_limit_are_counted_without_reading_on(write: Write) -> None:
    files = find_files([str(write("a.jsonl", b'{"text": ""}\n' + FIRST)), str(write("b.jsonl", ROWS))])
    assert count_rows(files, limit=1) == [2, 0]
    assert count_rows(files, limit=3) == [2, 2]
    assert count_rows(files, limit=1000) == [2, 400]
