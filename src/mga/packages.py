"""Optional packages: a command that lacks one says so in a sentence, before it does anything else.

The core install has none of them; each comes with an extra of mga (`pip install 'mga[corpus]'`).
"""

from importlib.util import find_spec

from mga.errors import InputError

UPGRADE = "pip install --upgrade --upgrade-strategy eager 'mga[…]'"
STORES = {
    **dict.fromkeys(("s3", "s3a"), ("s3", "s3fs")),
    **dict.fromkeys(("gs", "gcs"), ("gcs", "gcsfs")),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), ("azure", "adlfs")),
    "hf": ("hub", "huggingface_hub"),
}
"""By the protocol of a URL: the extra that opens it, and the module that does."""


def missing(*modules: str) -> list[str]:
    """Those of the top-level modules that are not installed. Imports none of them.

    A folder of that name without code, such as `datasets/` where `python -m mga` is called, is no package.
    """
    specs = {name: find_spec(name) for name in modules}
    return [name for name, spec in specs.items() if spec is None or spec.origin is None]


def require(what: str, extra: str, *modules: str) -> None:
    """Raise InputError, one sentence, when one of the top-level modules that `what` imports is not installed.

    `extra` names what brings them: an extra of mga, or several with commas.
    """
    if lacking := missing(*modules):
        named = " and ".join(", ".join(lacking).rsplit(", ", 1))
        raise InputError(f"{what} needs {named}: pip install 'mga[{extra}]'.")


def wrong_packages(error: ImportError) -> str:
    """What to tell of a package that is installed and cannot be imported: its version and another's do not fit."""
    said = " ".join(str(error).split())
    return f"An installed package cannot be imported ({said}); install mga again, with the extras you use: {UPGRADE}."


def require_store(url: str) -> None:
    """Raise InputError when the package that opens such a URL (`s3://…`) is not installed."""
    for part in url.split("::"):
        protocol, marked, _ = part.partition("://")
        if marked and protocol in STORES:
            extra, module = STORES[protocol]
            require(f"{protocol}://", extra, module)
