"""The base of the work on whole corpora: words of many texts, files of any kind, a folder that continues."""

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mga.curation.stage import Counts, Stage, reasons_of
from mga.data.corpus_files import Batch, Corpus, open_corpus, ordered
from mga.errors import InputError, StopError
from mga.text.tokens import ngrams_of, tokens_of
from mga.text.words import words

# ── tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────

SPACED = [
    "The harbour was rebuilt in 1862; its masons' work — slow, exact — took forty winters (and £3,000).",
    "Le café où l’élève naïve dîna fut fermé en été. ÇA ALORS! Über Straßen und Öfen, dreißig Jahre später.",
    "Η πόλη ξαναχτίστηκε μετά την καταιγίδα. Гавань медленно восстанавливали после бури; ещё ёлка.",
    "أعيد بناء الميناء ببطء بعد العاصفة. הנמל נבנה מחדש לאט אחרי הסערה.",
    "항구는 폭풍 뒤에 천천히 다시 지어졌다. 어부들은 매일 아침 돌을 날랐다.",
    "तूफ़ान के बाद बंदरगाह धीरे-धीरे बनाया गया। বন্দরটি ধীরে ধীরে পুনর্নির্মিত হয়েছিল।",
    "Cảng được xây dựng lại chậm rãi sau cơn bão. İstanbul'da ılık bir gün, ağaçlar çok güzel.",
]
UNSPACED = [
    "灯塔在暴风雨之后慢慢重建。",
    "灯台は嵐の後でゆっくり建て直された。カタカナー",
    "ท่าเรือถูกสร้างใหม่",
    "ສ້າງ",
    "កំពង់ផែ",
    "ဆိပ်ကမ်း",
]


def spans(text: str, unit: Any = "word") -> list[str]:
    """The words as they stand in the text."""
    tokens, data = tokens_of(pa.array([text]), unit), text.encode()
    return [data[a:b].decode() for a, b in zip(tokens.starts, tokens.ends, strict=True)]


def hashes(text: str) -> list[int]:
    return list(tokens_of(pa.array([text])).hashes.tolist())


@pytest.mark.parametrize("text", SPACED)
def test_words_are_those_of_words_py(text: str) -> None:
    assert [unicodedata.normalize("NFC", word.casefold()) for word in spans(text)] == words(text)


@pytest.mark.parametrize("text", UNSPACED)
def test_every_character_of_unspaced_scripts_is_a_word(text: str) -> None:
    assert spans(text) == [c for c in text if c not in "。"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CAFÉ", "cafe"),
        ("Cafe\u0301 ÉTÉ", "café été"),
        ("Ｔｏｋｙｏ ２０２５", "Tokyo 2025"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("inter\u00adnatio\u200bnal", "international"),
        ("Ελλάδα ΣΊΣΥΦΟΣ", "ελλαδα σισυφος"),
        ("ᾈδης", "ᾀδης"),
        ("STRAẞE", "straße"),
        ("İZMİR", "izmir"),
        ("x² ﬁ", "X2 ﬁ"),
        ("각하", "\u1100\u1161\u11a8\u1112\u1161"),
        ("각", "가\u11a8"),
        ("ガラスのパン", "カ\u3099ラスのハ\u309aン"),
        ("ガ", "ｶﾞ"),
        ("\u0958\u0932", "\u0915\u093c\u0932"),
        ("آب", "ا\u0653ب"),
        ("\u0bca", "\u0bc6\u0bbe"),
    ],
)
def test_case_width_accents_form_and_the_invisible_make_no_difference(one: str, other: str) -> None:
    assert hashes(one) == hashes(other) != []
    letters = [tokens_of(pa.array([text]), "character").hashes.tolist() for text in (one, other)]
    assert letters[0] == letters[1]


def test_letters_of_two_characters_are_one_word_and_stand_where_they_are() -> None:
    assert spans("カ\u3099ラス") == ["カ\u3099", "ラ", "ス"]
    assert spans("\u1100\u1161\u11a8 \u1112\u1161") == ["\u1100\u1161\u11a8", "\u1112\u1161"]
    assert hashes("カ\u3099") != hashes("カ")
    assert hashes("가") != hashes("각")


def test_other_words_have_other_hashes() -> None:
    alike = ["a", "b", "aa", "ab", "ba", "ж", "z", "l", "1", "о", "o", "が", "か", "ñu", "nv"]
    assert len({hashes(word)[0] for word in alike}) == len(alike)


_SECOND = {unicodedata.decomposition(chr(code)).rpartition(" ")[2] for code in range(0x33480)} - {""}
_MARKS = {chr(int(code, 16)) for code in _SECOND if int(code, 16) >= 0x300} | set(map(chr, range(0x1161, 0x11C3)))
_JOINING = [chr(c) for c in range(0x33480) if unicodedata.normalize("NFKC", chr(c)) in _MARKS]
"""What may be a part of the letter before it, which the reference does not know."""


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters=_JOINING), max_size=40), max_size=8),
    st.sampled_from(["word", "character"]),
)
def test_words_are_those_of_a_slow_reference(texts: list[str], unit: Any) -> None:
    tokens = tokens_of(pa.array(texts, pa.large_string()), unit)
    assert len(tokens) == len(texts)
    known: dict[str, int] = {}
    for i, text in enumerate(texts):
        data, own = text.encode(), slice(tokens.offsets[i], tokens.offsets[i + 1])
        found = [data[a:b].decode() for a, b in zip(tokens.starts[own], tokens.ends[own], strict=True)]
        assert [_visible(word) for word in found] == _reference(text, unit)
        for word, value in zip(found, tokens.hashes[own].tolist(), strict=True):
            assert known.setdefault(_visible(word), value) == value


def _ignored(c: str) -> bool:
    return c in "\u00ad\u034f\u200b\u200c\u200d\u2060\ufeff" or 0xFE00 <= ord(c) < 0xFE10 or 0x300 <= ord(c) < 0x370


def _visible(word: str) -> str:
    return "".join(c for c in word if not _ignored(c))


def _reference(text: str, unit: str) -> list[str]:
    """Words by the sentence in the module's docstring, character by character."""
    scripts = ("CJK UNIFIED", "CJK COMPAT", "HIRAGANA", "KATAKANA", "THAI", "LAO ", "KHMER", "MYANMAR", "IDEOGRAPHIC")
    found, word = [], ""
    for c in [*text, " "]:
        if _ignored(c):
            continue
        letter = unicodedata.category(c)[0] in "LMN" and ord(c) < 0x33480
        wide = unicodedata.normalize("NFKC", c)
        alone = unit == "character" or unicodedata.name(wide if len(wide) == 1 else c, "").startswith(scripts)
        if word and (not letter or alone):
            found.append(word)
            word = ""
        if letter and alone:
            found.append(c)
        elif letter:
            word += c
    return found


@given(st.binary(max_size=60))
def test_bytes_that_are_no_utf8_separate_words(data: bytes) -> None:
    """The decoder that takes bytes without a check against Python's, which puts U+FFFD for each that is wrong."""
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(bytes(4) + len(data).to_bytes(4, "little")), pa.py_buffer(data or b"\0")]
    )
    tokens = tokens_of(broken)
    assert tokens.hashes.tolist() == hashes(data.decode("utf-8", "replace"))
    assert all(0 <= a < b <= len(data) for a, b in zip(tokens.starts, tokens.ends, strict=True))


@pytest.mark.parametrize(
    "wrong", [b"\xe0\x81\x81", b"\xf0\x80\x81\x81", b"\xc1\x81", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]
)
def test_overlong_forms_and_surrogates_are_no_letters(wrong: bytes) -> None:
    data = b"one" + wrong + b"two"
    bounds = bytes(4) + len(data).to_bytes(4, "little")
    tokens = tokens_of(pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)]))
    assert tokens.hashes.tolist() == hashes("one two")


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_character_cut_off_at_the_end_of_a_text_is_not_read_from_the_next(cut: int) -> None:
    data = b"wort" + "𠀀".encode()[:cut] + "灯塔".encode()
    middle = 4 + cut
    bounds = b"".join(n.to_bytes(4, "little") for n in (0, middle, len(data)))
    tokens = tokens_of(pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(bounds), pa.py_buffer(data)]))
    assert tokens.offsets.tolist() == [0, 1, 3]
    assert tokens.hashes.tolist() == [*hashes("wort"), *hashes("灯塔")]


TEXTS = ["one two", None, "", "trois été", "灯塔", "one two"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array(["left out", *TEXTS, "left out too"]).slice(1, 6),
        pa.array(["left out", *TEXTS], pa.large_string()).slice(1),
        pa.chunked_array([TEXTS[:2], TEXTS[2:]]),
    ],
    ids=["string", "large", "view", "dictionary", "sliced", "sliced-large", "chunked"],
)
def test_columns_of_all_kinds_have_the_same_words(column: Any) -> None:
    tokens = tokens_of(column)
    assert tokens.offsets.tolist() == [0, 2, 2, 2, 4, 6, 8]
    assert tokens.hashes.tolist() == [value for text in TEXTS for value in hashes(text or "")]


def test_a_thread_may_begin_with_no_text_at_all() -> None:
    """As the first batch of a corpus whose text column is another one."""
    with ThreadPoolExecutor(1) as fresh:
        tokens = fresh.submit(tokens_of, pa.array([], pa.string())).result()
    assert (len(tokens), tokens.hashes.tolist()) == (0, [])


@pytest.mark.parametrize("kind", [pa.string(), pa.null(), pa.string_view()])
def test_columns_without_words(kind: pa.DataType) -> None:
    assert tokens_of(pa.array([], kind)).offsets.tolist() == [0]
    assert tokens_of(pa.array([None, None], kind)).offsets.tolist() == [0, 0, 0]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9), max_size=5), st.integers(1, 5))
def test_ngrams_are_equal_where_their_words_are(texts: list[list[str]], n: int) -> None:
    grams, offsets = ngrams_of(tokens_of(pa.array([" ".join(text) for text in texts], pa.string())), n)
    known: dict[tuple[str, ...], int] = {}
    for i, text in enumerate(texts):
        wanted = [tuple(text[k : k + n]) for k in range(max(len(text) - n + 1, min(len(text), 1)))]
        own = grams[offsets[i] : offsets[i + 1]].tolist()
        assert len(own) == len(wanted)
        for gram, value in zip(wanted, own, strict=True):
            assert known.setdefault(gram, value) == value
    assert len(set(known.values())) == len(known)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────

ROWS = [{"id": f"r{i}", "text": text, "n": i} for i, text in enumerate(["Un été", "second text", "第三", "fourth"])]


def jsonl(path: Path, rows: Sequence[Any] = ROWS) -> Path:
    data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstandard.compress}
    path.write_bytes(packers.get(path.suffix, bytes)(data))
    return path


def parquet(path: Path, rows: Sequence[dict[str, Any]] = ROWS, **how: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, **how)
    return path


def read(corpus: Corpus, *columns: str) -> list[dict[str, Any]]:
    return [row for file in corpus.files for batch in corpus.batches(file, columns) for row in batch.rows.to_pylist()]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.ndjson"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = (parquet if name.endswith(".parquet") else jsonl)(tmp_path / name)
    corpus = open_corpus([path])
    assert read(corpus, "id", "text", "n") == ROWS
    (batch,) = corpus.batches(corpus.files[0], ["text"])
    assert batch.column("text").type == pa.large_string()
    assert corpus.columns(corpus.files[0]) == ["id", "text", "n"]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    corpus = open_corpus([path])
    assert read(corpus, "id", "text", "n") == ROWS
    assert corpus.columns(corpus.files[0]) == ["id", "text", "n"]


def test_rows_that_cannot_be_used_are_nulls_with_their_faults_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [b'{"text": "good"}', b"{broken", b"[1]", b'{"text": 7}', b'{"text": "\xff"}', b"null", b'{"text": NaN}']
    lines += [b'{"text": "a", "text": "b"}', b'{"x": 1}', b'{"text": "last"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n\n".join(lines))
    corpus = open_corpus([tmp_path / "a.jsonl"])
    (batch,) = corpus.batches(corpus.files[0])
    assert batch.column("text").to_pylist() == ["good", *[None] * 8, "last"]
    assert [line.rstrip(b"\n") for line in batch.lines or ()] == lines
    kinds = ["not_json", "not_an_object", "text_not_string", "not_utf8", "not_an_object", "not_json"]
    kinds += ["repeated_field", "no_text"]
    assert [batch.faults[row].kind for row in range(1, 9)] == kinds
    (told,) = [record.msg for record in caplog.records]
    assert told == {
        "event": "rows not used",
        "file": "a.jsonl",
        "rows": 10,
        "reasons": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "first": told["first"],
    }
    assert "a.jsonl, row 3: the line is not valid JSON" in told["first"]


def test_texts_of_parquet_that_are_null_or_no_utf8_are_faults(tmp_path: Path) -> None:
    offsets = pa.array([0, 4, 7, 7, 11], pa.int32()).buffers()[1]
    valid = pa.array([True, True, False, True]).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 4, [valid, offsets, pa.py_buffer(b"good\xff\xfe\xfdalso")])
    pq.write_table(pa.table({"text": texts, "n": range(4)}), tmp_path / "a.parquet")
    corpus = open_corpus([tmp_path / "a.parquet"])
    for columns in (["text"], None):
        (batch,) = corpus.batches(corpus.files[0], columns)
        assert batch.column("text").to_pylist() == ["good", None, None, "also"]
        assert {row: fault.kind for row, fault in batch.faults.items()} == {1: "not_utf8", 2: "text_not_string"}
    (batch,) = corpus.batches(corpus.files[0], ["n"])
    assert batch.faults == {}


def test_an_array_is_a_corpus_of_its_objects(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(orjson.dumps(ROWS, option=orjson.OPT_INDENT_2))
    corpus = open_corpus([tmp_path / "a.json"])
    assert read(corpus, "id", "text", "n") == ROWS
    counts = run_verb(tmp_path / "out", tmp_path / "a.json")
    assert (counts.rows, counts.kept) == (4, 2)
    kept = [orjson.loads(line) for line in lines_in(tmp_path / "out" / "kept" / "a.jsonl")]
    assert kept == ROWS[::2]


def test_columns_of_json_are_those_of_all_rows(tmp_path: Path) -> None:
    corpus = open_corpus([jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b", "meta": {"score": 5}}])])
    assert corpus.columns(corpus.files[0]) == ["text", "meta", "meta.score"]
    assert corpus.present(corpus.files[0], ["meta.score", "none", "text"]) == ["meta.score", "text"]
    assert read(corpus, "meta.score") == [{"meta.score": None}, {"meta.score": 5}]


def test_ids_have_one_form_in_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"text": "a", "id": 7}, {"text": "b", "id": 8.0}, {"text": "c", "id": "9"}, {"text": "d"}]
    mixed = open_corpus([jsonl(tmp_path / "a.jsonl", rows)])
    numbers = open_corpus([parquet(tmp_path / "b.parquet", [{"id": 7.0}, {"id": 8.0}, {"id": 9.0}, {"id": None}])])
    for corpus in (mixed, numbers):
        (batch,) = corpus.batches(corpus.files[0], ["id"])
        assert batch.ids("id").to_pylist() == ["7", "8", "9", None]
        assert batch.ids("none").to_pylist() == [None] * 4


def test_fields_of_mixed_kinds_become_text(tmp_path: Path) -> None:
    rows = [{"text": "a", "x": 1, "big": 2**64 - 1}, {"text": "b", "x": "one", "big": -1}, {"text": "c", "x": [1]}]
    corpus = open_corpus([jsonl(tmp_path / "a.jsonl", rows)])
    assert [row["x"] for row in read(corpus, "text", "x")] == ["1", "one", "[1]"]
    assert [row["big"] for row in read(corpus, "big")] == ["18446744073709551615", "-1", None]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_texts_of_every_kind_are_large_strings(tmp_path: Path, kind: pa.DataType) -> None:
    texts = ["a b", None, "灯塔", "a b"]
    column = pa.array(texts).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(texts, kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    corpus = open_corpus([tmp_path / "a.parquet"])
    (batch,) = corpus.batches(corpus.files[0])
    assert batch.column("text").type == pa.large_string()
    assert batch.column("text").to_pylist() == texts


def test_batches_are_of_a_size_and_numbered_through(tmp_path: Path) -> None:
    rows = [{"text": f"{i} " + "x" * 40_000} for i in range(1000)]
    for corpus in (
        open_corpus([parquet(tmp_path / "a.parquet", rows)]),
        open_corpus([jsonl(tmp_path / "a.jsonl", rows)]),
    ):
        batches = list(corpus.batches(corpus.files[0], ["text"]))
        assert len(batches) > 2
        assert [batch.first for batch in batches[1:]] == [batch.first + batch.rows.num_rows for batch in batches[:-1]]
        assert [text.split()[0] for batch in batches for text in batch.column("text").to_pylist()] == [
            str(i) for i in range(1000)
        ]


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    corpus = open_corpus([parquet(tmp_path / "a.parquet", [{"body": "x", "n": 1}])])
    with pytest.raises(InputError, match=r"a\.parquet has no column 'text'; it has: body, n\. Choose with --text-key"):
        read(corpus, "text")
    with pytest.raises(InputError, match=r"no column 'score'; it has: body, n\.$"):
        read(open_corpus([tmp_path / "a.parquet"], text_key="body"), "body", "score")


@pytest.mark.parametrize("value", [1, [1, 2], {"a": "x"}, b"bytes"])
def test_a_column_that_holds_no_text_is_refused(tmp_path: Path, value: Any) -> None:
    corpus = open_corpus([parquet(tmp_path / "a.parquet", [{"text": value}])])
    with pytest.raises(InputError, match=r"Column 'text' of a\.parquet holds .*, not text\. Choose with --text-key"):
        read(corpus, "text")


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    rows = [{"text": os.urandom(400).hex()} for _ in range(200)]
    path = (parquet if name.endswith(".parquet") else jsonl)(tmp_path / name, rows)
    data = path.read_bytes()
    damages = [data[: len(data) // 2], data[:-3]]
    if not name.endswith(".parquet"):  # whose pages have no check sums
        damages.append(data[:5000] + bytes(3000) + data[8000:])
    for broken in damages:
        path.write_bytes(broken)
        with pytest.raises(InputError, match=f"{name} cannot be read to its end: .*Fetch it again"):
            read(open_corpus([path]), "text")


def test_empty_files_have_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "b.parquet")
    assert read(open_corpus([tmp_path / "a.jsonl", tmp_path / "b.parquet"]), "text") == []
    (tmp_path / "c.parquet").touch()
    with pytest.raises(InputError, match=r"c\.parquet cannot be read"):
        read(open_corpus([tmp_path / "c.parquet"]), "text")


def test_results_come_in_order_and_the_first_error_ends_it() -> None:
    def work(item: int) -> int:
        sleep(0.001 * (5 - item % 5))
        if item == 30:
            raise InputError("thirty")
        return item

    assert list(ordered(work, range(30), 4)) == list(ordered(work, range(30), 1)) == list(range(30))
    begun: list[int] = []
    with pytest.raises(InputError, match="thirty"):
        for found in ordered(work, (begun.append(i) or i for i in range(1000)), 4):  # type: ignore[func-returns-value]
            assert found < 30
    assert len(begun) < 60


# ── stage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def drop_odd(corpus: Corpus, stage: Stage, number: int) -> Counts:
    """A command that drops every second row."""

    def decided() -> Iterator[tuple[Batch, pa.Array, pa.Array]]:
        for batch in corpus.batches(corpus.files[number]):
            odd = {row: ("odd", f"row {batch.first + row}") for row in range(1, batch.rows.num_rows, 2)}
            yield batch, *reasons_of(batch.rows.num_rows, odd)

    return stage.write(number, decided())


def run_verb(out: Path, *given_: Path, only_report: bool = False, **settings: Any) -> Counts:
    corpus = open_corpus(given_)
    stage = Stage(out, "test", corpus, settings, only_report)
    with stage.work():
        for number in stage.todo():
            drop_odd(corpus, stage, number)
        return stage.finish()


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def lines_in(path: Path) -> list[str]:
    data = path.read_bytes()
    if path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data.decode().splitlines()


def test_rows_go_to_kept_or_dropped_with_all_their_columns(tmp_path: Path) -> None:
    counts = run_verb(tmp_path / "out", parquet(tmp_path / "a.parquet"))
    assert (counts.rows, counts.kept, counts.reasons) == (4, 2, {"odd": 2})
    kept = pq.read_table(tmp_path / "out" / "kept" / "a.parquet")
    assert kept.schema.equals(pq.read_schema(tmp_path / "a.parquet"))
    assert kept.to_pylist() == ROWS[::2]
    why = [{"reason": "odd", "detail": "row 1"}, {"reason": "odd", "detail": "row 3"}]
    assert pq.read_table(tmp_path / "out" / "dropped" / "a.parquet").to_pylist() == [
        row | reason for row, reason in zip(ROWS[1::2], why, strict=True)
    ]
    record = json.loads((tmp_path / "out" / "stage.json").read_bytes())
    assert record["counts"] == {"rows": 4, "kept": 2, "reasons": {"odd": 2}}


BROKEN = "the line is not valid JSON: unexpected character, expected a string key at character 2"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json"])
def test_lines_stay_as_they_are_and_dropped_ones_get_their_reason(tmp_path: Path, name: str) -> None:
    raw = ['{"text":  "kept as it is",\t"n": 1.0}', "{broken", '{"text": "第三"}', '{"text": "x", "reason": "own"}']
    raw += ['{"text": null}']
    path = jsonl(tmp_path / name, [])
    packer = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(packer("\n".join(raw).encode()))
    counts = run_verb(tmp_path / "out", path)
    assert (counts.rows, counts.kept, counts.reasons) == (5, 2, {"odd": 1, "not_json": 1, "text_not_string": 1})
    written = "a.jsonl" if name in ("a.jsonl", "a.json") else "a.jsonl.zst"
    assert lines_in(tmp_path / "out" / "kept" / written) == raw[:4:2]
    assert [orjson.loads(line) for line in lines_in(tmp_path / "out" / "dropped" / written)] == [
        {"line": "{broken", "reason": "not_json", "detail": BROKEN},
        {"text": "x", "reason": "odd", "detail": "row 3"},
        {"text": None, "reason": "text_not_string", "detail": "'text' is null, not a string"},
    ]


def test_several_files_add_up_and_twice_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    parquet(tmp_path / "in" / "a.parquet", row_group_size=1)
    jsonl(tmp_path / "in" / "b.jsonl", ROWS[:3])
    (tmp_path / "in" / "empty.jsonl").touch()
    counts = run_verb(tmp_path / "out", tmp_path / "in")
    assert (counts.rows, counts.kept, counts.reasons) == (7, 4, {"odd": 3})
    before = tree(tmp_path / "out")
    assert {name for name in before if name.startswith("kept")} == {"kept/in/a.parquet", "kept/in/b.jsonl"}
    assert run_verb(tmp_path / "out", tmp_path / "in") == counts
    assert tree(tmp_path / "out") == before


def test_only_a_report_writes_no_kept_rows(tmp_path: Path) -> None:
    counts = run_verb(tmp_path / "out", parquet(tmp_path / "a.parquet"), only_report=True)
    assert (counts.kept, counts.reasons) == (2, {"odd": 2})
    assert not (tmp_path / "out" / "kept").exists()
    assert (tmp_path / "out" / "dropped" / "a.parquet").exists()


def test_a_stage_is_the_corpus_of_the_next(tmp_path: Path) -> None:
    """Names do not grow from one to the next."""
    given_: Path = parquet(tmp_path / "a.parquet", ROWS * 4)
    for out, rows in (("one", 8), ("two", 4)):
        assert run_verb(tmp_path / out, given_).kept == rows
        given_ = tmp_path / out
        assert [str(p.relative_to(given_ / "kept")) for p in (given_ / "kept").rglob("*.*")] == ["a.parquet"]


def test_stages_side_by_side_keep_their_files_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"in-{name}").mkdir()
        run_verb(tmp_path / name, parquet(tmp_path / f"in-{name}" / "a.parquet"))
    assert run_verb(tmp_path / "both", tmp_path / "one", tmp_path / "two").rows == 4
    found = {str(p.relative_to(tmp_path / "both" / "kept")) for p in (tmp_path / "both" / "kept").rglob("*.parquet")}
    assert found == {"one/a.parquet", "two/a.parquet"}


def test_files_that_would_be_written_as_one_are_refused(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl")
    jsonl(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"a\.json and a\.jsonl would both be written as a\.jsonl"):
        run_verb(tmp_path / "out", tmp_path / "a.json", tmp_path / "a.jsonl")
    assert not (tmp_path / "out").exists()


def test_other_settings_or_another_corpus_are_refused_with_the_difference(tmp_path: Path) -> None:
    first, second = parquet(tmp_path / "a.parquet"), parquet(tmp_path / "b.parquet", ROWS[:2])
    run_verb(tmp_path / "out", first, threshold=0.8, rules={"n": 5})
    before = tree(tmp_path / "out")
    with pytest.raises(InputError, match=r"settings\.threshold \(0\.8 → 0\.7\)"):
        run_verb(tmp_path / "out", first, threshold=0.7, rules={"n": 5})
    with pytest.raises(InputError, match=r"settings\.rules\.n \(5 → 6\)"):
        run_verb(tmp_path / "out", first, threshold=0.8, rules={"n": 6})
    with pytest.raises(InputError, match=r"corpus \("):
        run_verb(tmp_path / "out", second, threshold=0.8, rules={"n": 5})
    with pytest.raises(InputError, match=r"settings\.only_report"):
        run_verb(tmp_path / "out", first, only_report=True, threshold=0.8, rules={"n": 5})
    assert tree(tmp_path / "out") == before


def test_folders_that_hold_something_else_are_left_alone(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"full is not empty \(notes\.txt, …\)"):
        run_verb(tmp_path / "full", path)
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "stage.json").write_text("{broken")
    with pytest.raises(InputError, match=r"stage\.json is damaged"):
        run_verb(tmp_path / "json", path)


def test_writing_into_the_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = parquet(tmp_path / "in" / "a.parquet")
    for out, given_ in ((tmp_path / "in", path), (tmp_path, path), (tmp_path / "in" / "out", tmp_path / "in")):
        with pytest.raises(InputError, match="corpus itself; choose another --out"):
            run_verb(out, given_)
    assert set(tree(tmp_path)) == {"in/a.parquet"}


def test_secrets_of_an_address_are_not_written_down(tmp_path: Path) -> None:
    corpus = open_corpus([parquet(tmp_path / "a.parquet")])
    corpus = Corpus(("https://user:hunter2@host/a.parquet?sig=hunter2",), corpus.files)
    with Stage(tmp_path / "out", "test", corpus, {}).work():
        assert b"hunter2" not in (tmp_path / "out" / "stage.json").read_bytes()


def test_two_processes_at_once_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    with Stage(tmp_path / "out", "test", open_corpus([path]), {}).work():
        done = subprocess.run([*VERB, str(tmp_path / "out"), str(path)], capture_output=True, text=True, timeout=60)
        assert "Another mga process is working in" in done.stderr


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"Cannot write in .*: .*directory.*; choose another --out"):
        run_verb(tmp_path / "file" / "out", parquet(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.zst"])
def test_a_full_disk_stops_it_with_a_sentence_and_no_half_file(tmp_path: Path, name: str) -> None:
    rows = [{"text": os.urandom(300).hex()} for _ in range(400)]
    path = (parquet if name.endswith(".parquet") else jsonl)(tmp_path / name, rows)

    def small_files_alone() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [*VERB, str(tmp_path / "out"), str(path)]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}  # it would be cut off, and stay beside the sources
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=environment, preexec_fn=small_files_alone
    )
    assert done.returncode == 1
    assert "StopError: Cannot write" in done.stderr.splitlines()[-1]
    assert "File too large. Make room or rights, then run again." in done.stderr.splitlines()[-1]
    left = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert left <= {"stage.json", ".lock"}
    assert run_verb(tmp_path / "out", path).rows == 400


def test_counts_that_do_not_add_up_stop_it(tmp_path: Path) -> None:
    corpus = open_corpus([parquet(tmp_path / "a.parquet")])
    stage = Stage(tmp_path / "out", "test", corpus, {})
    with stage.work():
        drop_odd(corpus, stage, 0)
        part = tmp_path / "out" / "parts" / "00000.json"
        part.write_bytes(orjson.dumps(json.loads(part.read_bytes()) | {"kept": 3}))
        with pytest.raises(StopError, match="do not add up"):
            stage.finish()


VERB = [
    sys.executable,
    "-c",
    f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_corpus_files as here
slow = here.Stage.write
def write(stage, number, decided):
    def slowly():
        for batch in decided:
            yield batch
            time.sleep(0.03 * ("--slow" in sys.argv))
    return slow(stage, number, slowly())
here.Stage.write = write
here.run_verb(Path(sys.argv[1]), Path(sys.argv[2]))
""",
]


def test_a_killed_one_continues_and_writes_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(12):
        parquet(tmp_path / "in" / f"{i:02}.parquet", [{"text": "x" * 300_000, "n": n} for n in range(150)])
    run_verb(tmp_path / "whole", tmp_path / "in")
    out = tmp_path / "out"
    command = [*VERB, str(out), str(tmp_path / "in")]
    for parts in (2, 5):
        process = subprocess.Popen([*command, "--slow"], stderr=subprocess.PIPE)
        deadline = monotonic() + 30
        while len(list((out / "parts").glob("*.json"))) < parts:
            assert process.poll() is None, process.communicate()
            assert monotonic() < deadline
            sleep(0.005)
        process.kill()
        process.communicate()
    done = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.json")}
    assert 5 <= len(done) < 12
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    assert {name: (out / "parts" / name).stat().st_mtime_ns for name in done} == done
    whole, continued = tree(tmp_path / "whole"), tree(out)
    assert continued.keys() == whole.keys()
    assert all(continued[name] == data for name, data in whole.items() if name != "stage.json")


def test_scratch_left_by_a_kill_at_the_very_end_is_removed(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    run_verb(tmp_path / "out", path)
    (tmp_path / "out" / ".scratch" / "deep").mkdir(parents=True)
    corpus = open_corpus([path])
    with Stage(tmp_path / "out", "test", corpus, {}).work():
        assert not (tmp_path / "out" / ".scratch").exists()
