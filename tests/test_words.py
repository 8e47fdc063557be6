"""Words, sentences and the measures built on them, in any script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mga.text.words import (
    copied_share,
    estimate_tokens,
    has_words,
    keyword_coverage,
    keywords,
    repeated_share,
    sentences,
    similarity,
    words,
)

SOME_TEXT = st.text(max_size=200)
SOME_WORDS = ["rain", "fell", "on", "the", "old", "town", "while", "nobody", "slept"]
PROSE = st.lists(st.sampled_from(SOME_WORDS), max_size=60).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Old MILL, 1862.", ["the", "old", "mill", "1862"]),
        ("don't", ["don", "t"]),
        ("Straße", ["strasse"]),
        ("cafe\u0301 olé", ["caf\u00e9", "olé"]),
        ("漢字文", ["漢字", "字文"]),
        ("水", ["水"]),
        ("ひらカナ", ["ひら", "らカ", "カナ"]),
        ("GPU加速", ["gpu", "加速"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("العَرَبِيَّة لغة", ["العَرَبِيَّة", "لغة"]),
        ("한국어 글", ["한국어", "글"]),
        ("می‌خواهم بروم", ["می‌خواهم", "بروم"]),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_or_pairs_of_characters_where_a_script_has_no_spaces(
    text: str, expected: list[str]
) -> None:
    assert words(text) == expected


def test_a_long_vowel_mark_is_part_of_a_japanese_word() -> None:
    assert words("コーヒー") == ["コー", "ーヒ", "ヒー"]


@pytest.mark.parametrize("text", ["👩‍👩‍👧 👍🏽 🇫🇷", "… --- ***", "\u0301", "\u200b\u200d", "____", " \n\t"])
def test_emoji_dots_and_lone_marks_are_no_words(text: str) -> None:
    assert not has_words(text)
    assert words(text) == []


@given(SOME_TEXT)
def test_a_text_without_letters_and_digits_has_no_words(text: str) -> None:
    assert has_words(text) or words(text) == []
    assert not any(character.isalpha() for character in text) or words(text)


@given(SOME_TEXT | PROSE | st.text("a.!? \n。！”)…", max_size=60))
def test_joined_sentences_are_the_text_again(text: str) -> None:
    pieces = sentences(text)
    assert "".join(pieces) == text
    assert all(pieces)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It rained. It stopped! Did it? “Yes.” So be it…", 5),
        ("下雨了。雨停了！", 2),
        ("नमस्ते। फिर मिलेंगे॥", 2),
        ("هل توقف؟ نعم.", 2),
        ("Version 1.5 is out", 1),
    ],
)
def test_sentences_end_where_each_script_ends_them(text: str, count: int) -> None:
    assert len(sentences(text)) == count


def test_keywords_prefer_long_frequent_words_and_leave_out_numbers_and_function_words() -> None:
    text = "The glacier carved the valley. The glacier of 1862 is in the valley of glaciers."
    assert keywords(text, limit=2) == ("glacier", "valley")
    assert not {"the", "of", "1862"} & set(keywords(text))


def test_coverage_counts_inflected_forms_of_long_words() -> None:
    assert keyword_coverage("harvest harvest", "What they harvested, they kept.") == 1.0
    assert keyword_coverage("harvest granite", "What they harvested, they kept.") == 0.5
    assert keyword_coverage("a to of", "anything") == 1.0


def test_coverage_works_on_unspaced_scripts() -> None:
    assert keyword_coverage("蜜蜂住在蜂箱里", "蜜蜂住在蜂箱里很忙") == 1.0
    assert keyword_coverage("蜜蜂住在蜂箱里", "河水向东流去") == 0.0


def test_a_loop_repeats_and_prose_does_not() -> None:
    assert repeated_share("round and round the old mill it goes " * 20) > 0.9
    assert repeated_share("Seven different words stand here without repeating anything at all.") == 0.0
    assert repeated_share("short") == 0.0


def test_a_copy_is_copied_and_a_retelling_is_not() -> None:
    original = "The mill was built on the river in the spring of that year by two brothers."
    assert copied_share(original, original) == 1.0
    assert copied_share(original, "Two brothers built it, that spring, and the river has turned it ever since.") == 0.0
    assert copied_share(original, "two brothers") == 1.0
    assert copied_share(original, "three sisters") == 0.0


@pytest.mark.parametrize(
    ("original", "rewrite", "share"),
    [
        ("They start the cart early.", "art", 0.0),
        ("They start the cart early.", "the car", 0.0),
        ("They start the cart early.", "the cart", 1.0),
        ("They start the cart early.", "they early", 0.0),
        ("В начале было слово.", "чале было", 0.0),
        ("В начале было слово.", "начале было", 1.0),
        ("今天天气很好", "天气很好", 1.0),
        ("今天天气很好", "天气不好", 0.0),
        ("They start early.", "…", 0.0),
    ],
)
def test_a_short_copy_is_of_whole_words(original: str, rewrite: str, share: float) -> None:
    assert copied_share(original, rewrite) == share


@given(PROSE | SOME_TEXT, PROSE | SOME_TEXT)
def test_every_share_lies_between_nothing_and_all(a: str, b: str) -> None:
    for share in (similarity(a, b), copied_share(a, b), keyword_coverage(a, b), repeated_share(a)):
        assert 0.0 <= share <= 1.0


@given(PROSE, PROSE)
def test_similarity_is_symmetric_and_full_for_the_same_text(a: str, b: str) -> None:
    assert similarity(a, b) == similarity(b, a)
    assert similarity(a, a) == 1.0


@given(SOME_TEXT)
def test_the_token_estimate_is_positive_and_grows_with_the_text(text: str) -> None:
    assert 1 <= estimate_tokens(text) <= estimate_tokens(text + "词")
