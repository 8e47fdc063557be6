"""Three families of errors; the class alone decides what happens next, nobody reads messages.

A text that is dropped is no error: it is a value with a reason (`mga.records.Drop`).
"""


class MgaError(Exception):
    """Base of the three families. The message is one sentence for a person: what, where, what to do."""


class InputError(MgaError):
    """What was given is wrong and stays wrong: an option, a file, or one request (which fails alone)."""


class TryAgainError(MgaError):
    """It may pass: busy, reset, timed out, garbled. `retry_after` is the wait in seconds the server asked for;
    `busy` says that it has more to do than it can."""

    def __init__(self, message: str, retry_after: float | None = None, *, busy: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.busy = busy


class UnreachableError(TryAgainError):
    """No answer came at all: refused, reset, timed out. Another server may well answer."""


class StopError(MgaError):
    """Nothing further can succeed (wrong key, wrong model name, disk full): the run stops, resumable."""


class InterruptedRunError(MgaError):
    """Stopped by the user. Everything received is kept."""
