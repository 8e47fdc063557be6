"""What may be printed: text from documents, models, servers and file names, made harmless for a terminal."""

import regex

# Control characters, direction overrides and lone surrogates would move the reader's cursor or break the output.
_UNPRINTABLE = regex.compile(r"[\p{Cc}\p{Cs}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069--[\n\t]]", regex.V1)


def printable(text: str) -> str:
    """The text with everything that a terminal would obey as U+FFFD, and tabs as spaces."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text).expandtabs(4)
