"""JSON out of models' replies, read leniently and made fit to be stored and sent."""

import json_repair


def read_json(text: str) -> object:
    """The JSON value in a reply, mended where it is broken; an empty string where there is none."""
    try:
        return json_repair.loads(text)
    except (RecursionError, ValueError):  # a model that only opens brackets
        return ""


def whole(text: str) -> str:
    """The text with half surrogate pairs, which cannot be stored or sent, as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
