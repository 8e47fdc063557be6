"""The short URI that names an engine: what of it may be shown, and what of it decides the answers."""

from urllib.parse import urldefrag, urlsplit, urlunsplit

FORMS = "llamacpp:smollm2-135m, llamacpp:/path/model.gguf, http://host:8000/v1#model, scripted:"


def public_uri(uri: str) -> str:
    """The URI without user name and password, fit for files and messages."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def engine_identity(uri: str) -> str:
    """What of an engine decides its answers: the kind and the model, not the address."""
    if uri.startswith(("http:", "https:")):
        return f"endpoint#{urldefrag(uri).fragment}"
    return uri.partition("?")[0]
