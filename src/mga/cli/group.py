"""What all commands have in common: how they are listed in the help, how a signal leaves them, and what none of their
arguments may be."""

import os
import stat
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mga.errors import InputError, InterruptedRunError
from mga.interrupts import STOPPED

LOGS = "log_file"
"""The one argument that may name a pipe or a device: a log goes wherever lines go."""
PATHS = {"--out", "--config", "--against", "--originals", "--docs", "--data", "--own", "--calibration", "--history"}
PATHS |= {"--real-samples", "--synt-samples", "--measured", "--metrics-file", "--log-file"}
"""Options that name files or folders: an empty one is no value."""
_NO_FILE = (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR, stat.S_ISBLK)


class Group(TyperGroup):
    """Commands with the whole first sentence of their help, where the library cuts it off to fit one line."""

    def format_commands(self, ctx: typer.Context, formatter: Any) -> None:  # type: ignore[override]
        """Write the section of commands; long sentences go on in the next line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(limit=1_000)) for name, one in commands if one and not one.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """An interrupt leaves as an error of ours: the library would end the process without a word."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedRunError(STOPPED) from None


class Command(TyperCommand):
    """A command whose arguments are looked at before it begins."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the arguments. Raises InputError for an empty one that names a file or folder: it would stand for the
        current folder."""
        for before, given in zip(["", *args], args, strict=False):
            if not given or (given.startswith("--") and given.find("=") == len(given) - 1):
                name = given[:-1] or (before if before.startswith("-") else "An argument")
                if not name.startswith("-") or name in PATHS:
                    raise InputError(f"{name} is empty; give it a value, or leave it out.")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command. Raises InputError for an argument that names a pipe, a socket or a device: to read from one
        would wait for ever."""
        for parameter in self.params:
            given = ctx.params.get(parameter.name or "")
            for value in given if isinstance(given, list | tuple) else [given]:
                if isinstance(value, str | os.PathLike) and parameter.name != LOGS:
                    _refuse_pipes(str(value), parameter)
        return super().invoke(ctx)


def _refuse_pipes(value: str, parameter: Any) -> None:
    path = value.partition("=")[2] or value if "=" in (parameter.metavar or "") else value
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return
    if any(is_kind(mode) for is_kind in _NO_FILE):
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar or parameter.name
        raise InputError(f"{name}: {path} is a pipe, socket or device; name an ordinary file or folder.")
