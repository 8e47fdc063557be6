"""The short URI that names an engine: what of it may be shown, and what of it decides the answers."""

FORMS = "llamacpp:smollm2-135m, llamacpp:/path/model.gguf, http://host:8000/v1#model, scripted:"


def public_uri(uri: str) -> str:
    """The URI without user name and password, fit for files and messages."""
    scheme, slashes, rest = uri.partition("://")
    ends = [at for at in map(rest.find, "/?#") if at >= 0]
    end = min(ends, default=len(rest))
    return f"{scheme}{slashes}{rest[:end].rpartition('@')[2]}{rest[end:]}" if slashes else uri


def engine_identity(uri: str) -> str:
    """What of an engine decides its answers: the kind and the model, not the address."""
    if uri.startswith(("http:", "https:")):
        return f"endpoint#{uri.partition('#')[2]}"
    return uri.partition("?")[0]
