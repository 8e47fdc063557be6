"""How commands are listed in the help, and how a signal leaves them."""

from typing import Any

import typer
from typer.core import TyperGroup

from mga.errors import InterruptedRunError
from mga.interrupts import STOPPED


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
