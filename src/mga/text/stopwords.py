"""Words that say nothing of what a text is about, in the languages that mga is tested on (stopwords.txt).

Own short lists: a word of up to three letters is no keyword anyway, so only longer function words matter, and the
lists in packages (stopwords-iso: 57 languages, without Tamil, some with content words among them) weigh more than they
bring.
"""

from importlib.resources import files


def _read() -> tuple[frozenset[str], frozenset[str]]:
    """The words, and the characters of the line that begins with "="."""
    words: set[str] = set()
    characters: set[str] = set()
    for line in (files("mga.text") / "stopwords.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("="):
            characters |= set(line[1:])
        elif not line.startswith("#"):
            words |= set(line.split())
    return frozenset(words), frozenset(characters)


STOPWORDS, CHINESE_FUNCTION = _read()
