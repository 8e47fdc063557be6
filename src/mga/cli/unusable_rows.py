"""Rows that cannot be used, said by every command: once for each file."""

import logging
import sys

from mga.events import ROWS_NOT_USED
from mga.terminal import printable


class _Teller(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if not isinstance(record.msg, dict) or record.msg.get("event") != ROWS_NOT_USED:
            return
        told = record.msg
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(told["reasons"].items()))
        count = sum(told["reasons"].values())
        line = f"{told['file']}: {count:,} of {told['rows']:,} rows cannot be used ({reasons}). {told['first']}"
        if line not in self.told:
            self.told.add(line)
            print(printable(line), file=sys.stderr)


_TELLER = _Teller()


def tell_of_unusable_rows() -> None:
    """From now on print a line to stderr for each file that has rows that cannot be used."""
    _TELLER.told.clear()
    logging.getLogger("mga").addHandler(_TELLER)
