"""Work on all cores in processes of our own: a tokenizer's Python side would hold one core back in threads."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait
from typing import Any, TypeVar

from mga.budget.tokenizer import Tokenizer, from_definition
from mga.errors import StopError

Given = TypeVar("Given")
Found = TypeVar("Found")
_here: Tokenizer | None = None


def tokenizer_here() -> Tokenizer:
    """The tokenizer that this process was begun with."""
    assert _here is not None
    return _here


def each(work: Callable[[Given], Found], items: Iterable[Given], tokenizer: Tokenizer, workers: int) -> Iterator[Found]:
    """Results of work on items, in their order; two items a process are in memory. The first error ends it.

    `work` is a function of a module and finds its tokenizer with `tokenizer_here`.
    """
    given = (tokenizer.definition, tokenizer.name, tokenizer.separator_token)
    source = iter(items)
    if workers <= 1:
        _begin(*given)
        yield from map(work, source)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_process, given) as pool:
        waiting: list[Future[Found]] = []
        try:
            waiting += [pool.submit(work, item) for item in islice(source, 2 * workers)]
            while waiting:
                found = waiting.pop(0).result()
                waiting += [pool.submit(work, item) for item in islice(source, 1)]
                yield found
        except BrokenProcessPool as error:
            raise StopError(
                "A process that tokenized was ended, perhaps for want of memory: give the same command again, "
                "with fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(*given: Any) -> None:
    global _here
    definition, name, separator = given
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the cores
    _here = from_definition(definition, name, [separator])


def _begin_process(*given: Any) -> None:
    """End at once at Ctrl-C, and with the process that began this one: an unfinished part is done again."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _begin(*given)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)
