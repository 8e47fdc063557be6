"""The short URI that names an engine: what of it may be shown, and what of it decides the answers."""

import re

FORMS = (
    "llamacpp:smollm2-135m, llamacpp:/path/model.gguf, http://host:8000/v1#model, "
    "http://a:8000/v1,http://b:8000/v1#model, scripted:"
)

_ANOTHER_ADDRESS = re.compile(r",(?=https?://)")


def public_uri(uri: str) -> str:
    """The URI without user names, passwords and web queries (keys, signatures), fit for files and messages."""
    return ",".join(map(_public, _ANOTHER_ADDRESS.split(uri)))


def addresses(uri: str) -> tuple[list[str], str]:
    """The addresses of an endpoint's replicas, separated by commas, and the model's name after the `#`."""
    urls, _, model = uri.partition("#")
    return _ANOTHER_ADDRESS.split(urls), model


def _public(uri: str) -> str:
    scheme, slashes, rest = uri.partition("://")
    ends = [at for at in map(rest.find, "/?#") if at >= 0]
    end = min(ends, default=len(rest))
    path = rest[end:]
    if scheme.endswith(("http", "https")):
        address, mark, fragment = path.partition("#")
        path = address.partition("?")[0] + mark + fragment
    return f"{scheme}{slashes}{rest[:end].rpartition('@')[2]}{path}" if slashes else uri


def engine_identity(uri: str) -> str:
    """What of an engine decides its answers: the kind and the model, not the address."""
    if uri.startswith(("http:", "https:")):
        return f"endpoint#{uri.partition('#')[2]}"
    return uri.partition("?")[0]
