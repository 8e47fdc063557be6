"""What happens in a run, as events with fields, through the standard library's logging. Nobody listens by default.

Fields hold names, counts and classes of errors: never a text of a document or a model, and of addresses only what
`engine_uri.public_uri` shows.
"""

import logging

ROWS_NOT_USED = "rows not used"
"""Of rows of an input that cannot be used: `file`, `rows` it has, `reasons` (counted), `first` (a sentence)."""

_LOGGER = logging.getLogger("mga")
_LOGGER.addHandler(logging.NullHandler())


def event(name: str, level: int = logging.INFO, /, **fields: object) -> None:
    """Tell that something has happened. A listener finds the event and its fields as a dict in `LogRecord.msg`."""
    _LOGGER.log(level, {"event": name, **fields})
