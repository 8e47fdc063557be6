"""The short URI that names an engine: what of it may be shown, and what of it decides the answers."""

import re

FORMS = (
    "llamacpp:smollm2-135m, llamacpp:/path/model.gguf, http://host:8000/v1#model, "
    "http://a:8000/v1,http://b:8000/v1#model, vllm:MODEL, sglang:MODEL, server:COMMAND --port {port}#MODEL, "
    "transformers:/path/folder, scripted:"
)

_MANAGED = ("vllm:", "sglang:")
_ARGS = re.compile(r"([?&])args=[^&]*")
_HARMLESS = re.compile(r"api-version=[\w.-]+")  # Azure's
_ANOTHER_ADDRESS = re.compile(r",(?=https?://)")


def public_uri(uri: str) -> str:
    """The URI without user names, passwords, web queries (keys, signatures) and commands' arguments, fit for files
    and messages."""
    if uri.startswith("server:"):
        command, _, model = uri.rpartition("#")
        return f"{command.partition(' ')[0]} …#{model}"
    if uri.startswith(_MANAGED):
        return _ARGS.sub(r"\1args=…", uri)
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
        root, question, query = address.partition("?")
        path = root + (question + query if _HARMLESS.fullmatch(query) else "") + mark + fragment
    return f"{scheme}{slashes}{rest[:end].rpartition('@')[2]}{path}" if slashes else uri


def engine_identity(uri: str) -> str:
    """What of an engine decides its answers: the kind and the model, not the address."""
    if uri.startswith(("http:", "https:")):
        return f"endpoint#{uri.partition('#')[2]}"
    if uri.startswith("server:"):
        return f"endpoint#{uri.rpartition('#')[2]}"
    if uri.startswith(_MANAGED):  # the same model, whoever starts its server; quantized it is another one
        model, _, options = uri.partition(":")[2].partition("?")
        quantization = "".join(option for option in options.split("&") if option.startswith("quantization="))
        return f"endpoint#{model}" + (f"?{quantization}" if quantization else "")
    return uri.partition("?")[0]
