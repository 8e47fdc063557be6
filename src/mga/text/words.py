"""What counts as a word in any script, and the measures built on it.

Scripts written without spaces (Han, kana, Thai, …) are cut into overlapping pairs of characters, the
usual stand-in for words in language-independent retrieval; all others into runs of letters, marks and digits.
"""

import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from functools import lru_cache
from unicodedata import normalize

import regex

from mga.text.stopwords import CHINESE_FUNCTION, STOPWORDS

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_RUN = regex.compile(rf"[{_UNSPACED}\p{{M}}]*[{_UNSPACED}][{_UNSPACED}\p{{M}}]*|[\w--[{_UNSPACED}]]+", regex.V1)
_ASCII_RUN = re.compile(r"\w+", re.ASCII)
_UNSPACED_START = regex.compile(rf"\p{{M}}*[{_UNSPACED}]")
_UNSPACED_ALPHABET = regex.compile(r"\p{M}*[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_HANGUL = regex.compile(r"\p{Hangul}")
_HIRAGANA_ALONE = regex.compile(r"[\p{Hiragana}\u30fc]+")
_SEMITIC = regex.compile(r"[\p{Hebrew}\p{Arabic}]")
_PROCLITICS = regex.compile("[ושכ]?[הבלמכ]ה?|ו|[وف]?(?:[بك]?ال|لل)|و")
_LETTER = regex.compile(r"\p{L}|\p{N}")
_SENTENCE_END = regex.compile(r"[.!?…][\"'”’)\]]{0,2}\s+|[。！？।॥؟]\s*")
# Every rule of cleaning looks at the same few texts, the document's once for each of its rewrites.
_TEXTS_REMEMBERED = 512
_WORDS_REMEMBERED = 1 << 16
KEYWORDS = 40


def words(text: str) -> list[str]:
    """The words of a text, case-folded and composed (NFC): runs of letters and digits, or character pairs in
    unspaced scripts."""
    return list(_words(text))


@lru_cache(_TEXTS_REMEMBERED)
def _words(text: str) -> tuple[str, ...]:
    if text.isascii():
        runs = _ASCII_RUN.findall(text.lower())
        return tuple(run for run in runs if "_" not in run or has_words(run)) if "_" in text else tuple(runs)
    found: list[str] = []
    for run in _RUN.findall(normalize("NFC", text.casefold())):
        if run.isalnum() and run.isascii():
            found.append(run)
        elif len(run) > 1 and _UNSPACED_START.match(run):
            found.extend(run[i : i + 2] for i in range(len(run) - 1))
        elif has_words(run):
            found.append(run)
    return tuple(found)


def whole(text: str) -> str:
    """The text with half surrogate pairs, which cannot be stored or sent, as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def has_words(text: str) -> bool:
    """Whether there is any letter or digit at all: dots, emoji and white space alone are not a text."""
    return _LETTER.search(text) is not None


def sentences(text: str) -> list[str]:
    """Pieces that end where sentences end. Joined, they are the text again, white space included."""
    pieces, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if match.end() > start:
            pieces.append(text[start : match.end()])
            start = match.end()
    if start < len(text):
        pieces.append(text[start:])
    return pieces


@lru_cache(_TEXTS_REMEMBERED)
def keywords(text: str, limit: int = KEYWORDS) -> tuple[str, ...]:
    """The words that carry a text, best first, each in the first form that it has there.

    A word counts the occurrences of its stem × (length − 3): frequent function words are short in every language
    (Zipf's law of abbreviation), so length stands in for inverse document frequency; longer ones are left out by
    lists (`stopwords`). Scripts in which length says little count 2: Hangul, and pieces of scripts without spaces.
    Ties fall to the earlier word.
    """
    first: dict[str, str] = {}
    weights: Counter[str] = Counter()
    for word, count in Counter(_terms(text)).items():
        if weight := _weight(word):
            key = stem(word)
            first.setdefault(key, word)
            weights[key] += count * weight
    ranked = sorted(first, key=lambda key: -weights[key])
    return tuple(first[key] for key in ranked[:limit])


def keyword_coverage(original: str, rewrite: str, limit: int = KEYWORDS) -> float:
    """Share of the original's keywords that the rewrite uses, 0–1; 1.0 when the original has none.

    A keyword is found by its stem, so that inflected forms count ("harvest", "harvested").
    """
    wanted = keywords(original, limit)
    if not wanted:
        return 1.0
    stems = _stems(rewrite)
    return sum(stem(word) in stems for word in wanted) / len(wanted)


@lru_cache(_TEXTS_REMEMBERED)
def _stems(text: str) -> frozenset[str]:
    return frozenset(map(stem, set(_terms(text))))


@lru_cache(_WORDS_REMEMBERED)
def stem(word: str) -> str:
    """What is compared of a word, so that its forms meet: of Hangul the first two syllables (particles and endings
    follow), of Hebrew and Arabic three letters without the article and the prepositions written together with it, of
    other alphabets the first five letters of words of six and more."""
    if len(word) < 3 or word.isascii():
        return word[:5] if len(word) >= 6 else word
    if _HANGUL.match(word):
        return word[:2]
    if _UNSPACED_START.match(word):
        return word
    if _SEMITIC.match(word):
        return _without_proclitics(word)[:3]
    return word[:5] if len(word) >= 6 else word


def _without_proclitics(word: str) -> str:
    """A Hebrew or Arabic word without what is written together before it. Three letters stay, and four behind a
    letter that may as well be the word's own."""
    match = _PROCLITICS.match(word)
    stays = 4 if match and match.group()[-1] in "ובלמכو" else 3
    return word[match.end() :] if match and len(word) - match.end() >= stays else word


@lru_cache(_WORDS_REMEMBERED)
def _weight(word: str) -> int:
    """What an occurrence counts as a keyword; 0 for numbers, function words and what is too short."""
    if word.isdigit() or word in STOPWORDS:
        return 0
    if not word.isascii():
        if _HANGUL.match(word):
            return 0 if len(word) < 2 or word[:2] in STOPWORDS else 2
        if _UNSPACED_START.match(word):
            return 0 if _HIRAGANA_ALONE.fullmatch(word) or not CHINESE_FUNCTION.isdisjoint(word) else 2
        if _SEMITIC.match(word):
            word = _without_proclitics(word)
            return 0 if word in STOPWORDS else max(0, len(word) - 2)
    return max(0, len(word) - 3)


def _terms(text: str) -> list[str]:
    """The forms of `_pieces` in order, without their places."""
    if text.isascii():
        return _ASCII_RUN.findall(text.lower())
    found: list[str] = []
    for run in _RUN.findall(normalize("NFC", normalize("NFC", text).casefold())):
        if len(run) < 2 or run.isascii() or not _UNSPACED_START.match(run):
            found.append(run)
            continue
        length = 4 if _UNSPACED_ALPHABET.match(run) else 2
        found += (run[i : i + length] for i in range(max(len(run) - length, 0) + 1))
    return found


def _pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and case-folded form of what can be a keyword. Of scripts without spaces all runs of two characters,
    and of those that are alphabets (Thai, Lao, Khmer, Burmese), where two say nothing, of four."""
    for run in _RUN.finditer(text):
        start, end = run.span()
        if end - start < 2 or not _UNSPACED_START.match(run.group()):
            yield start, end, normalize("NFC", run.group().casefold())
            continue
        length = 4 if _UNSPACED_ALPHABET.match(run.group()) else 2
        for at in range(start, max(end - length, start) + 1):
            stop = min(at + length, end)
            yield at, stop, normalize("NFC", text[at:stop].casefold())


def spans(text: str, wanted: Container[str]) -> list[tuple[int, int, str]]:
    """Where words whose stem is wanted stand in a text: start, end and stem, in order and without overlaps."""
    found: list[tuple[int, int, str]] = []
    for start, end, word in _pieces(text):
        if (not found or start >= found[-1][1]) and (key := stem(word)) in wanted:
            found.append((start, end, key))
    return found


def ngrams(items: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n neighbouring items."""
    return list(zip(*(items[i:] for i in range(n)), strict=False))


@lru_cache(_TEXTS_REMEMBERED)
def repeated_share(text: str, n: int = 6) -> float:
    """Share of word n-grams that have occurred before in the text: 0 none, towards 1 in a loop."""
    grams = ngrams(_words(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def copied_share(original: str, rewrite: str, n: int = 8) -> float:
    """Share of the rewrite's word n-grams that stand in the original, 0–1 (texts under n words: 1 when all of their
    words stand there in a row, else 0)."""
    grams = ngrams(_words(rewrite), n)
    if not grams:
        own, all_ = (f" {' '.join(_words(text))} " for text in (rewrite, original))
        return float(own in all_)
    known = _ngram_set(original, n)
    return sum(gram in known for gram in grams) / len(grams)


@lru_cache(_TEXTS_REMEMBERED // 4)
def _ngram_set(text: str, n: int) -> frozenset[tuple[str, ...]]:
    return frozenset(ngrams(_words(text), n))


def similarity(a: str, b: str) -> float:
    """Jaccard similarity of the two texts' word sets, 0–1; two texts without words are equal."""
    left, right = set(_words(a)), set(_words(b))
    return len(left & right) / len(left | right) if left | right else 1.0


def estimate_tokens(text: str) -> int:
    """Tokens without a tokenizer: a quarter token per ASCII character, 0.7 per other character.

    Within about 20% for English under a 49k vocabulary; a rough guide elsewhere. Used for dry runs and
    for servers that offer no tokenizer.
    """
    ascii_count = len(text.encode("ascii", "ignore"))
    return round(ascii_count * 0.25 + (len(text) - ascii_count) * 0.7) + 1
