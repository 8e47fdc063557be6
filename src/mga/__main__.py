"""`python -m mga`: the same as the command `mga`."""

from mga.cli.main import main

if __name__ == "__main__":
    main()
