"""JSON objects out of models' replies, read leniently: in prose, in lists, numbered, wrapped, mended where they are
broken."""

import json
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import json_repair

from mga.text.chat_tokens import end_of_turn

_DECODER = json.JSONDecoder(strict=False)
_DEEPEST = 50
_DEEPEST_MENDED = 200  # brackets open at once: what only opens them would take minutes
Object = dict[str, Any]


def readings(text: str) -> Iterator[list[Object]]:
    """The JSON objects in a reply, in their order, each before those inside it; in one reading after the other, the
    strictest first. A caller takes the first reading that holds what it looks for.

    First the objects that are valid JSON, whatever stands around them; then what the reply becomes when it is mended.
    """
    text = text[: end_of_turn(text)]
    yield _objects(list(_values(text)))
    start, end = text.find("{"), text.rfind("}")
    inside = text[start : end + 1] if 0 <= start < end else ""
    for broken in dict.fromkeys([text, inside, text[start:] if start > 0 else ""]):
        if broken:
            yield _objects(_mended(broken))


def _values(text: str) -> Iterator[object]:
    """The valid JSON objects of a text, one after the other."""
    at, too_deep = text.find("{"), 0
    while at >= 0 and too_deep < _DEEPEST:
        try:
            value, at = _DECODER.raw_decode(text, at)
            yield value
        except ValueError:
            at += 1
        except RecursionError:
            at, too_deep = at + 1, too_deep + 1
        at = text.find("{", at)


def _mended(text: str) -> object:
    if _depth(text) > _DEEPEST_MENDED:
        return None
    try:
        return json_repair.loads(text)
    except (RecursionError, ValueError):
        return None


def _depth(text: str) -> int:
    """How many brackets are open at once, at most."""
    return max(accumulate(1 if bracket in "{[" else -1 for bracket in re.findall(r"[{}\[\]]", text)), default=0)


def _objects(value: object, depth: int = 0) -> list[Object]:
    """All objects of a JSON value, each before those inside it."""
    if depth > _DEEPEST:
        return []
    if isinstance(value, dict):
        return [value, *_objects(list(value.values()), depth + 1)]
    return [found for item in value for found in _objects(item, depth + 1)] if isinstance(value, list) else []
