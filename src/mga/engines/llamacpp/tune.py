"""`mga tune-engine`: the settings with which llama.cpp does our work fastest on this machine, found by trying.

One setting after the other is varied while the rest stays at the best found so far. The work is that of an expansion,
rewriting many documents at once, on short texts. What seems faster must win again at the end against the settings
before, both measured anew, or nothing is changed.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mga import interrupts
from mga.engines.engine import Request
from mga.engines.llamacpp.engine import LlamaCppEngine, model_file
from mga.engines.llamacpp.settings import (
    LlamaCppSettings,
    default_settings,
    has_gpu,
    save_settings,
    saved_settings,
)
from mga.errors import InputError, MgaError
from mga.packages import require

LEAST_DOCUMENTS = 16
LEAST_SECONDS = 4.0  # shorter work is repeated with more documents: a short time says little
REWRITE_TOKENS = 64
WORTH = 1.05  # so much faster, or a setting stays as it is
GIVE_UP_AFTER = 1.25  # times the best: it will not win any more

Say = Callable[[str], None]
Work = Callable[[LlamaCppEngine, int], Awaitable[list[Request]]]
"""Gives so many requests, of the kind that is to be fast, for an engine that runs."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found: documents per second before and with it, both measured at the end, and where it is saved."""

    settings: LlamaCppSettings
    before: float
    after: float
    file: Path | None


def candidates() -> Iterator[tuple[str, list[Any]]]:
    """The settings to vary, those that matter most first, with the values to try."""
    cores = os.cpu_count() or 1
    yield "speculation", ["none", "ngram-simple", "ngram-mod"]
    yield "sequences", [4, 8, 16] if not has_gpu() else [8, 16, 32, 64]
    yield "batch", [64, 128, 256, 512] if not has_gpu() else [256, 512, 1024, 2048]
    yield "flash_attention", ["auto", "off"]
    yield "cache", ["f16", "q8_0"]
    yield "threads", [cores, max(1, cores // 2)]


def tune(uri: str, work: Work, say: Say) -> Tuned:
    """Find and save the settings of a `llamacpp:` engine for this work. Takes minutes.

    Raises InputError for another engine.
    """
    scheme, _, model = uri.partition(":")
    if scheme != "llamacpp" or not model:
        raise InputError(
            f"Only llamacpp engines have settings to find, not {scheme}: (say llamacpp:smollm2-135m). For servers "
            "the number of requests in flight finds itself while they work."
        )
    require("Tuning llama.cpp", "llamacpp", "xllamacpp")
    path = model_file(model)

    first = saved_settings(path) or default_settings()
    count = LEAST_DOCUMENTS
    say(f"before: {shown(first)}")
    while True:
        rate = _rate(model, first, work, count, None)
        assert rate is not None
        if count / rate >= LEAST_SECONDS:
            break
        count *= 2
    say(f"  {rate:.2f} documents/s")
    best, best_rate = first, rate
    for name, values in candidates():
        for value in values:
            if value == getattr(best, name):
                continue
            tried = best.model_copy(update={name: value})
            found = _rate(model, tried, work, count, best_rate)
            say(f"{name} {value}: " + (f"{found:.2f} documents/s" if found else "slower"))
            if found and found > WORTH * best_rate:
                best, best_rate = tried, found
    if best == first:
        return Tuned(first, rate, rate, None)
    before, after = _rate(model, first, work, count, None), _rate(model, best, work, count, None)
    assert before is not None and after is not None
    if after <= before:
        return Tuned(first, before, before, None)
    return Tuned(best, before, after, save_settings(path, best))


def shown(settings: LlamaCppSettings) -> str:
    """All settings in one line."""
    return ", ".join(f"{name} {value}" for name, value in settings)


def _rate(model: str, settings: LlamaCppSettings, work: Work, count: int, best: float | None) -> float | None:
    """Documents per second, or None when they will not be near the best, or the engine cannot run so."""
    documents = max(count, settings.sequences)
    limit_s = None if best is None else GIVE_UP_AFTER * documents / best
    try:
        return documents / interrupts.run(_seconds(model, settings, work, documents, limit_s))
    except TimeoutError:
        return None
    except MgaError:
        if best is None:
            raise
        return None


async def _seconds(model: str, settings: LlamaCppSettings, work: Work, count: int, limit_s: float | None) -> float:
    """Seconds for so many documents, loading not counted. Raises TimeoutError after `limit_s`."""
    engine = LlamaCppEngine(model, settings=settings)
    try:
        await engine.start()
        first, *requests = [replace(one, max_tokens=REWRITE_TOKENS) for one in await work(engine, count + 1)]
        await engine.ask(first)  # not counted
        slots = asyncio.Semaphore(settings.sequences)

        async def ask(request: Request) -> None:
            async with slots:
                await engine.ask(request)

        began = time.monotonic()
        async with asyncio.timeout(limit_s):
            await asyncio.gather(*map(ask, requests))
        return time.monotonic() - began
    finally:
        await engine.close()
