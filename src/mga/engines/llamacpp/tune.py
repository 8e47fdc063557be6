"""`mga tune-engine`: the settings with which llama.cpp does our work fastest on this machine, found by trying.

One setting after the other is varied while the rest stays at the best found so far. The work is that of an expansion,
rewriting many documents at once, on short texts. What seems faster must win again at the end against the settings
before, both measured anew, or nothing is changed.
"""

import asyncio
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from mga.config import ExpandConfig, load_config
from mga.engines.llamacpp.engine import LlamaCppEngine, model_file
from mga.engines.llamacpp.settings import (
    LlamaCppSettings,
    default_settings,
    has_gpu,
    save_settings,
    saved_settings,
)
from mga.errors import InputError, MgaError
from mga.expand.limits import measure_limits
from mga.expand.pairs import draw_seeds
from mga.expand.recipe import Recipe
from mga.expand.reformulate import rewrite_request
from mga.records import Document

LEAST_DOCUMENTS = 16
LEAST_SECONDS = 4.0  # shorter work is repeated with more documents: a short time says little
REWRITE_TOKENS = 64
WORTH = 1.05  # so much faster, or a setting stays as it is
GIVE_UP_AFTER = 1.25  # times the best: it will not win any more

Say = Callable[[str], None]


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


def tune(uri: str, say: Say) -> Tuned:
    """Find and save the settings of a `llamacpp:` engine. Takes minutes. Raises InputError for another engine."""
    scheme, _, model = uri.partition(":")
    if scheme != "llamacpp" or not model:
        raise InputError(
            f"Only llamacpp engines have settings to find, not {scheme}: (say llamacpp:smollm2-135m). For servers "
            "the number of requests in flight finds itself while they work."
        )
    path = model_file(model)
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        raise InputError("Tuning llama.cpp needs xllamacpp: pip install 'mga[llamacpp]'.") from None
    config = load_config(None, {"engine": uri})
    first = saved_settings(path) or default_settings()
    count = LEAST_DOCUMENTS
    say(f"before: {shown(first)}")
    while True:
        rate = _rate(model, first, config, count, None)
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
            found = _rate(model, tried, config, count, best_rate)
            say(f"{name} {value}: " + (f"{found:.2f} documents/s" if found else "slower"))
            if found and found > WORTH * best_rate:
                best, best_rate = tried, found
    if best == first:
        return Tuned(first, rate, rate, None)
    before, after = _rate(model, first, config, count, None), _rate(model, best, config, count, None)
    assert before is not None and after is not None
    if after <= before:
        return Tuned(first, before, before, None)
    return Tuned(best, before, after, save_settings(path, best))


def shown(settings: LlamaCppSettings) -> str:
    """All settings in one line."""
    return ", ".join(f"{name} {value}" for name, value in settings)


def _rate(model: str, settings: LlamaCppSettings, config: ExpandConfig, count: int, best: float | None) -> float | None:
    """Documents per second, or None when they will not be near the best, or the engine cannot run so."""
    documents = max(count, settings.sequences)
    limit_s = None if best is None else GIVE_UP_AFTER * documents / best
    try:
        return documents / asyncio.run(_work(model, settings, config, documents, limit_s))
    except TimeoutError:
        return None
    except MgaError:
        if best is None:
            raise
        return None


async def _work(
    model: str, settings: LlamaCppSettings, config: ExpandConfig, count: int, limit_s: float | None
) -> float:
    """Seconds for so many documents, loading not counted. Raises TimeoutError after `limit_s`."""
    engine = LlamaCppEngine(model, settings=settings)
    try:
        await engine.start()
        recipe = Recipe(config, engine.count_tokens, engine.context)
        limits = await measure_limits(recipe)
        texts = islice(cycle(_texts()), count)
        documents = [Document(f"text-{i}", f"{i}. {text}", f"{i}", n_tokens=100) for i, text in enumerate(texts)]

        async def one(document: Document) -> None:
            [pair] = draw_seeds(document, recipe, 1, 0)
            request = rewrite_request(document, pair, recipe, limits)
            await engine.ask(replace(request, max_tokens=REWRITE_TOKENS))

        await one(replace(documents[0], text="A first text, not counted."))
        places = asyncio.Semaphore(settings.sequences)

        async def in_a_place(document: Document) -> None:
            async with places:
                await one(document)

        began = time.monotonic()
        async with asyncio.timeout(limit_s):
            await asyncio.gather(*map(in_a_place, documents))
        return time.monotonic() - began
    finally:
        await engine.close()


def _texts() -> list[str]:
    texts: list[str] = tomllib.loads(Path(__file__).with_name("tuning_texts.toml").read_text(encoding="utf-8"))["texts"]
    return texts
