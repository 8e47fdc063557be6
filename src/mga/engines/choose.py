"""From one short URI to an engine."""

from collections.abc import Callable

from mga.engine_uri import FORMS, addresses, public_uri
from mga.engines.engine import Engine
from mga.errors import InputError


def choose_engine(uri: str, concurrency: int | None = None) -> Engine:
    """The engine a URI names, not yet started. Raises InputError for an unknown one.

    `concurrency` is the number of requests in flight (parallel sequences for llamacpp); None: the engine's own.
    """
    scheme, _, rest = uri.partition(":")
    open_engine = _ENGINES.get(scheme)
    if open_engine is None:
        raise InputError(f"Unknown engine {public_uri(uri)!r}. Engines are written: {FORMS}.")
    return open_engine(uri, rest, concurrency)


def _scripted(_uri: str, rest: str, concurrency: int | None) -> Engine:
    from mga.engines.scripted import ScriptedEngine

    return ScriptedEngine(rest.removeprefix("?"), concurrency)


def _llamacpp(_uri: str, rest: str, concurrency: int | None) -> Engine:
    from mga.engines.llamacpp import LlamaCppEngine

    if not rest:
        raise InputError(f"llamacpp: needs a model. Engines are written: {FORMS}.")
    return LlamaCppEngine(rest, concurrency)


def _endpoint(uri: str, _rest: str, concurrency: int | None) -> Engine:
    from mga.engines.endpoint import Endpoint
    from mga.engines.replicas import Replicas

    urls, model = addresses(uri)
    if len(urls) == 1:
        return Endpoint(urls[0], model, concurrency)
    return Replicas([Endpoint(url, model) for url in urls], concurrency)


_ENGINES: dict[str, Callable[[str, str, int | None], Engine]] = {
    "scripted": _scripted,
    "llamacpp": _llamacpp,
    "http": _endpoint,
    "https": _endpoint,
}
