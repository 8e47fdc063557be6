"""In which language a text is written, where that is certain. Needs the extra `languages` (py3langid)."""

from functools import cache, lru_cache
from importlib import metadata
from importlib.util import find_spec

LEAST_LETTERS = 240
PARTS = 3

# py3langid confuses these: their texts are taken as one language.
_ALIKE = (
    {"no", "nb", "nn", "da", "sv"},
    {"hr", "bs", "sr", "sl"},
    {"id", "ms", "jv"},
    {"es", "gl", "pt", "an", "ca"},
    {"cs", "sk"},
    {"af", "nl"},
    {"ru", "uk", "be", "bg", "mk"},
    {"hi", "mr", "ne"},
    {"it", "la"},
    {"zu", "xh"},
)
_NAMES = {
    "ar": "Arabic", "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi",
    "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese", "ko": "Korean",
    "lt": "Lithuanian", "lv": "Latvian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sv": "Swedish", "ta": "Tamil", "th": "Thai", "tr": "Turkish",
    "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip


def detector() -> str | None:
    """The detector that is installed, by name and version; None: no language is ever certain here."""
    return f"py3langid {metadata.version('py3langid')}" if find_spec("py3langid") else None


@lru_cache(512)
def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's language; None where it is short, mixed, or nobody can tell here.

    Each third of a text is looked at by itself: only where all agree, and hold letters enough, is it certain.
    """
    letters = sum(map(str.isalpha, text))
    wide = sum(ord(character) >= 0x2E80 for character in text)  # a character of these scripts is worth several letters
    if letters + 2 * wide < LEAST_LETTERS or detector() is None:
        return None
    third = -(-len(text) // PARTS)
    found = {_classify()(text[at : at + third])[0] for at in range(0, len(text), third)}
    return found.pop() if len(found) == 1 else None


def differ(one: str | None, other: str | None) -> bool:
    """Whether two languages are certain and certainly not the same."""
    if one is None or other is None or one == other:
        return False
    return not any({one, other} <= group for group in _ALIKE)


def name_of(code: str | None) -> str | None:
    """The English name of a language, or its code where it has none here."""
    return _NAMES.get(code, code) if code else None


@cache
def _classify():  # type: ignore[no-untyped-def]
    import py3langid

    return py3langid.classify
