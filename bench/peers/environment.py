"""A virtual environment per tool, made when first needed."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".venv-peers"
INSTALL_LIMIT_S = 900


class NotInstalled(Exception):  # noqa: N818
    """The tool's environment could not be made."""


def python_of(name: str) -> Path:
    """The interpreter of the tool's environment, which holds exactly the packages in its list of requirements."""
    folder, requirements = ENVIRONMENTS / name, HERE / "requirements" / f"{name}.txt"
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if installed.exists() and installed.read_bytes() == requirements.read_bytes():
        return python
    print(f"installing {name} into {folder}", file=sys.stderr)
    # The lists are complete, so nothing beyond them is to be resolved or fetched.
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "-r", requirements]
    try:
        for command in [sys.executable, "-m", "venv", "--clear", folder], pip:
            subprocess.run(command, check=True, timeout=INSTALL_LIMIT_S, stdout=sys.stderr)  # noqa: S603
    except (subprocess.SubprocessError, OSError) as error:
        print(error, file=sys.stderr)
        raise NotInstalled("did not install") from error
    installed.write_bytes(requirements.read_bytes())
    return python
