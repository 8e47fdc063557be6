"""`mga` and `python -m mga`: signals are answered first, since the commands take a second to import."""

from mga.interrupts import listen


def main() -> None:
    """The command line."""
    listen()
    from mga.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    main()
