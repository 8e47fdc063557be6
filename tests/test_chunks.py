"""Cutting long documents: nothing is lost, everything fits."""

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.records import Document
from mga.text.chunks import chunk, split
from mga.text.words import estimate_tokens, has_words

PIECES = [
    "word ",
    "Ende. ",
    "\n\n",
    "\n",
    "漢字。",
    "仮名",
    "e\u0301",
    "हिन्दी।",
    "👩‍👩‍👧",
    "x" * 30,
    "\u2028",
    "\t",
    "…",
    "العَرَبِيَّة؟ ",
]
MIXED = st.lists(st.sampled_from(PIECES), min_size=1, max_size=60).map("".join) | st.text(min_size=1, max_size=200)


async def by_characters(text: str) -> int:
    return len(text)


async def by_estimate(text: str) -> int:
    return estimate_tokens(text)


async def by_words_and_seams(text: str) -> int:
    """Costs more than its paragraphs do alone, as with tokenizers that merge white space before a line's end."""
    return len(text.split()) + len(re.findall(r"\n\n(?=\S)", text))


@given(MIXED, st.integers(4, 60), st.sampled_from([by_characters, by_estimate]))
def test_joined_pieces_are_the_text_again_and_each_fits(text: str, budget: int, count) -> None:  # type: ignore[no-untyped-def]
    pieces = asyncio.run(split(text, budget, count))
    assert "".join(piece for piece, _ in pieces) == text
    for piece, tokens in pieces:
        assert tokens == asyncio.run(count(piece)) <= budget


@given(MIXED, st.integers(4, 60))
def test_chunks_lose_nothing_but_white_space_at_their_edges_and_pieces_without_a_word(text: str, budget: int) -> None:
    chunks = asyncio.run(chunk(Document("d", text, "0:0"), budget, by_characters))
    rest = text
    for part in chunks:
        between, _, rest = rest.partition(part.text)
        assert not has_words(between)
    assert not has_words(rest)
    assert [part.chunk for part in chunks] == list(range(len(chunks)))
    assert all(part.chunks == len(chunks) and part.text == part.text.strip() for part in chunks)


def test_a_document_that_fits_stays_one_chunk() -> None:
    (only,) = asyncio.run(chunk(Document("d", " short text\n", "0:0"), 100, by_characters))
    assert (only.text, only.chunk, only.chunks, only.n_tokens) == ("short text", 0, 1, 12)


def test_a_document_is_cut_at_paragraphs_first_and_into_parts_of_like_size() -> None:
    paragraphs = [f"{letter * 9}\n\n" for letter in "abcde"]
    pieces = asyncio.run(split("".join(paragraphs), 50, by_characters))
    assert [piece for piece, _ in pieces] == ["".join(paragraphs[:3]), "".join(paragraphs[3:])]


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("one line of text\n" * 6, "\n"),
        ("One sentence here. " * 6, ". "),
        ("plain words without any stop " * 6, " "),
        ("蜜蜂住在蜂箱里。" * 6, "。"),
    ],
)
def test_without_paragraphs_the_next_smaller_unit_is_cut(text: str, ends: str) -> None:
    pieces = asyncio.run(split(text, 40, by_characters))
    assert len(pieces) > 1
    assert all(piece.endswith(ends) for piece, _ in pieces)


def test_a_word_of_fifty_thousand_characters_is_cut_anywhere() -> None:
    pieces = asyncio.run(split("x" * 50_000, 4096, by_characters))
    assert "".join(piece for piece, _ in pieces) == "x" * 50_000
    assert max(tokens for _, tokens in pieces) <= 4096


def test_a_character_keeps_its_combining_marks() -> None:
    pieces = asyncio.run(split("e\u0301\u0323" * 41, 20, by_characters))
    assert len(pieces) > 1
    assert all(piece.startswith("e") for piece, _ in pieces)


def test_more_marks_than_fit_are_cut_all_the_same() -> None:
    pieces = asyncio.run(split("e" + "\u0301" * 100, 20, by_characters))
    assert max(tokens for _, tokens in pieces) <= 20


@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.integers(2, 20))
def test_cutting_ends_even_where_the_whole_costs_more_than_its_parts(sizes: list[int], budget: int) -> None:
    text = "\n\n".join("w " * (size - 1) + "w" for size in sizes)
    pieces = asyncio.run(split(text, budget, by_words_and_seams))
    assert "".join(piece for piece, _ in pieces) == text
    assert all(tokens <= budget for _, tokens in pieces)


@given(MIXED)
def test_a_document_with_words_has_a_chunk(text: str) -> None:
    chunks = asyncio.run(chunk(Document("d", text, "0:0"), 8, by_characters))
    assert bool(chunks) == has_words(text)


class Counter:
    """Counts tokens as a server does, and its calls."""

    def __init__(self) -> None:
        self.calls = self.characters = 0

    async def __call__(self, text: str) -> int:
        self.calls += 1
        self.characters += len(text)
        return len(re.findall(r"\w{1,5}|[^\w\s]", text))


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"word{i % 977}" * (1 + i % 3) for i in range(60_000)),
        "\n".join(f"line {i} of it" for i in range(20_000)),
        "A sentence of six words here. " * 10_000,
        "\n\n".join(f"{'short ' * (i % 9)}{'longer words hereabouts ' * (i % 31)}" for i in range(3000)),
        "漢" * 60_000,
    ],
    ids=["words", "lines", "sentences", "uneven paragraphs", "no spaces"],
)
def test_a_long_document_takes_a_few_counts_a_chunk(text: str) -> None:
    count, budget = Counter(), 2500
    pieces = asyncio.run(split(text, budget, count))
    assert "".join(piece for piece, _ in pieces) == text
    assert max(tokens for _, tokens in pieces) <= budget
    fewest = -(-asyncio.run(Counter()(text)) // budget)
    assert len(pieces) <= (2 if text[0] == "漢" else 1.25) * fewest + 1  # halved where nothing else can be cut
    assert count.calls <= 6 * fewest + 20
    assert count.characters <= 8 * len(text)
