"""Many questions to one engine outside a run: asked together, remembered in a journal, answered in order."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from mga.config import ExpandConfig
from mga.engines.choose import choose_engine
from mga.engines.client import Client
from mga.engines.journal import Journal
from mga.errors import InputError, StopError
from mga.expand.recipe import Ask, Recipe
from mga.records import Usage

Question = TypeVar("Question")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Answer]):
    """Answers in the order of the questions, the engine's model, and what was spent now: replies that the journal
    had cost nothing."""

    answers: list[Answer]
    model: str
    spent: Usage
    seconds: float


async def ask_all(
    uri: str,
    config: ExpandConfig,
    questions: Sequence[Question],
    answer: Callable[[Question, Ask, Recipe], Awaitable[Answer]],
    journal_file: Path,
    logs: Path,
    say: Callable[[str], None],
) -> Asked[Answer]:
    """Answer each question by asking the engine as `config` says. The journal stays until the caller removes it, so
    that nothing answered before a stop is asked again.

    Raises InputError and StopError with everything received kept.
    """
    client = Client(choose_engine(uri, config.concurrency, logs, say, config.sent_headers()))
    journal = Journal(journal_file)
    try:
        await client.engine.start()
        recipe = Recipe(config, client.count_tokens, client.engine.context)
        ask = partial(client.ask, journal=journal)
        places = asyncio.Semaphore(client.engine.documents_in_flight)

        async def answered(question: Question) -> Answer:
            async with places:
                return await answer(question, ask, recipe)

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answered(question)) for question in questions]
        return Asked([task.result() for task in tasks], client.engine.model, client.spent, time.monotonic() - began)
    except BaseExceptionGroup as several:
        ours, _ = several.split((InputError, StopError))
        raise (ours.exceptions[0] if ours else several.exceptions[0]) from several
    finally:
        journal.close()
        await client.engine.close()
