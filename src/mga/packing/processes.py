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
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeVar

from mga.errors import StopError
from mga.packing.tokenizer import Tokenizer, from_definition

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
    source = iter(items)
    if workers <= 1:
        _begin(tokenizer.definition, tokenizer.name, tokenizer.separator_token)
        yield from map(work, source)
        return
    with (
        # By a file: what is handed to a process that dies before it has read it all would be waited for without end.
        NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as definition,
        ProcessPoolExecutor(
            workers,
            multiprocessing.get_context("spawn"),
            _begin_process,
            (definition.name, tokenizer.name, tokenizer.separator_token),
        ) as pool,
    ):
        definition.write(tokenizer.definition)
        definition.flush()
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


def _begin(definition: str, name: str, separator: str) -> None:
    global _here
    # The processes are the cores. The library is half as fast again in a single thread of its own as without threads
    # (docs/decisions/0001-libraries.md).
    os.environ |= {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "1"}
    _here = from_definition(definition, name, [separator])


def _begin_process(definition: str, name: str, separator: str) -> None:
    """End at once at Ctrl-C, and with the process that began this one: an unfinished part is done again."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _begin(Path(definition).read_text(encoding="utf-8"), name, separator)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        wait([parent.sentinel])
        os._exit(1)
