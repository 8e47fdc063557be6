"""Ctrl-C and SIGTERM, heard at any moment. They become an exception, which the command line turns into one sentence.

Python raises KeyboardInterrupt wherever the main thread happens to be: inside a finalizer, a callback or somebody's
`except BaseException` it is swallowed, and the program goes on. Here the signal is remembered: an exception that is
gone before the command line has seen it is raised again, and a process that does not come to its end is ended, which
costs no more than `kill -9`. While the commands are imported nothing is open yet: then the process ends at once.

This module imports next to nothing, so that signals are answered from the first moment.
"""

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType
    from typing import Any, TypeVar

    Result = TypeVar("Result")

STOPPED = "Stopped; what is finished is kept, and the same command goes on from there."
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOOK_EVERY_S = 0.05
CANCELLED_WITHIN_S = 1.0  # by an event loop; one that is blocked for longer is left by the exception
PATIENCE_S = 8.0


class Interrupt(KeyboardInterrupt):
    """A signal asked for the end."""


class _State:
    """What has been asked of this process, and what has come of it."""

    number = 0
    working = False  # a command has begun
    heard = False  # by the command line
    interrupt: "Callable[[], Interrupt | None]"
    cancel: "Callable[[], object] | None" = None  # the work in the event loop that runs
    cancelled = False


_state = _State()


def listen() -> None:
    """Answer SIGINT and SIGTERM from now on, unless this process has been told to ignore them: end at once."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            try:
                signal.signal(number, _hear)
            except ValueError:  # not the main thread
                return
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


class raising_interrupts:  # noqa: N801 - reads as a statement
    """A command works, which leaves what it has opened in order: a signal raises Interrupt while the block runs."""

    def __enter__(self) -> None:
        listen()
        _state.working = True

    def __exit__(self, *_: object) -> None:
        _state.working = False


def heard() -> int:
    """The command line has seen the interrupt: signals change nothing any more. Returns the exit code, as shells count:
    130 after Ctrl-C, 143 after SIGTERM."""
    _state.heard = True
    if asked():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    return 128 + (_state.number or signal.SIGINT)


def asked() -> bool:
    """Whether a signal has asked for the end."""
    return bool(_state.number)


def run(work: "Coroutine[Any, Any, Result]") -> "Result":
    """`asyncio.run` for work that a signal cancels, so that it closes what it has opened. Raises Interrupt then."""
    import asyncio
    from functools import partial

    async def cancellable() -> "Result":
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def cancel() -> None:
            _state.cancelled = True
            task.cancel()

        _state.cancel = partial(loop.call_soon_threadsafe, cancel)
        try:
            return await work
        finally:
            _state.cancel = None

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        if not asked():
            raise
        raise _new() from None


def _hear(number: int, frame: "FrameType | None") -> None:
    first = not asked()
    if first:
        _state.number = number
    if not _state.working:
        _end()
    if first:
        from threading import Thread

        _state.interrupt = lambda: None
        Thread(target=_see_to_it, name="interrupt", daemon=True).start()
        if _state.cancel is not None:
            _state.cancel()
            return
    raise _new()


def _new() -> Interrupt:
    from weakref import ref

    interrupt = Interrupt()
    _state.interrupt = ref(interrupt)
    return interrupt


def _see_to_it() -> None:
    """Raise what was swallowed again, until the command line has it; end a process that goes on for too long."""
    import threading
    import time

    main = threading.main_thread().ident
    began = time.monotonic()
    while (waited := time.monotonic() - began) < PATIENCE_S:
        time.sleep(LOOK_EVERY_S)
        in_the_loop = _state.cancel is not None and (_state.cancelled or waited < CANCELLED_WITHIN_S)
        if main is not None and not _state.heard and not in_the_loop and _state.interrupt() is None:
            signal.pthread_kill(main, _state.number)
    _end()


def _end() -> None:
    """Now, and without a further word when one has been said."""
    from contextlib import suppress

    if not _state.heard:
        with suppress(OSError):
            os.write(2, f"mga: {STOPPED}\n".encode())
    os._exit(128 + _state.number)


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """No traceback for an interrupt that came where nothing can be raised: it is raised again."""
    if not isinstance(what.exc_value, Interrupt):
        sys.__unraisablehook__(what)
