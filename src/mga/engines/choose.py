"""From one short URI to an engine."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import platformdirs

from mga.engine_uri import FORMS, addresses, public_uri
from mga.engines.engine import Engine
from mga.errors import InputError
from mga.terminal import printable


def say_on_stderr(line: str) -> None:
    """The default way to tell what an engine is doing while it starts."""
    print(printable(line), file=sys.stderr, flush=True)


def choose_engine(
    uri: str,
    concurrency: int | None = None,
    logs: Path | None = None,
    say: Callable[[str], None] = say_on_stderr,
    headers: Mapping[str, str] | None = None,
) -> Engine:
    """The engine a URI names, not yet started. Raises InputError for an unknown one.

    `concurrency` is the number of requests in flight (parallel sequences for llamacpp); None: the engine's own.
    Servers that the engine starts itself write their logs into `logs` and are reported on through `say`. `headers` go
    with every request to an address.
    """
    scheme, _, rest = uri.partition(":")
    if scheme in ("vllm", "sglang", "server"):
        from mga.engines.servers.managed import managed

        return managed(scheme, rest, concurrency, logs or Path(platformdirs.user_log_dir("mga")), say)
    if scheme in ("http", "https"):
        return _endpoint(uri, concurrency, say, headers)
    open_engine = _ENGINES.get(scheme)
    if open_engine is None:
        raise InputError(f"Unknown engine {public_uri(uri)!r}. Engines are written: {FORMS}.")
    return open_engine(uri, rest, concurrency)


def _scripted(_uri: str, rest: str, concurrency: int | None) -> Engine:
    from mga.engines.scripted import ScriptedEngine

    return ScriptedEngine(rest.removeprefix("?"), concurrency)


def _llamacpp(_uri: str, rest: str, concurrency: int | None) -> Engine:
    from mga.engines.llamacpp.engine import LlamaCppEngine

    if not rest:
        raise InputError(f"llamacpp: needs a model. Engines are written: {FORMS}.")
    return LlamaCppEngine(rest, concurrency)


def _transformers(_uri: str, rest: str, concurrency: int | None) -> Engine:
    from mga.engines.transformers.engine import TransformersEngine

    if not rest:
        raise InputError(f"transformers: needs a folder. Engines are written: {FORMS}.")
    return TransformersEngine(rest, concurrency)


def _endpoint(
    uri: str, concurrency: int | None, say: Callable[[str], None], headers: Mapping[str, str] | None
) -> Engine:
    from mga.engines.servers.endpoint import Endpoint
    from mga.engines.servers.replicas import Replicas

    urls, model = addresses(uri)
    if len(urls) == 1:
        return Endpoint(urls[0], model, concurrency, headers=headers, say=say)
    return Replicas([Endpoint(url, model, headers=headers, say=say) for url in urls], concurrency)


_ENGINES: dict[str, Callable[[str, str, int | None], Engine]] = {
    "scripted": _scripted,
    "llamacpp": _llamacpp,
    "transformers": _transformers,
}
