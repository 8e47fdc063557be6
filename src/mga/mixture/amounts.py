"""Amounts of tokens as people write them: 195B, 1.5T, 20M, 8_192."""

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def amount(given: object) -> object:
    """Tokens in 195B, 1.5T or a plain number; anything else as it is, for pydantic to refuse.

    Raises ValueError for a text that is no amount.
    """
    if not isinstance(given, str):
        return given
    found = re.fullmatch(r"(\d[\d_,]*(?:\.\d+)?)\s*([KMBT]?)", given.strip().upper())
    if not found:
        raise ValueError(f"{given!r} is no amount of tokens; write it as 195B, 1.5T, 20M or a number")
    return float(re.sub("[_,]", "", found[1])) * _UNITS[found[2]]


Amount = Annotated[float, BeforeValidator(amount)]
"""A field that takes amounts as people write them; in tokens."""


def shown(tokens: float) -> str:
    """Tokens as people write them, to four digits: 194.9B."""
    for unit in "TBMK":
        if tokens >= _UNITS[unit]:
            return f"{tokens / _UNITS[unit]:.4g}{unit}"
    return f"{tokens:.0f}"
