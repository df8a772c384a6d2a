"""Run the command line as ``python -m twonines``."""

from twonines.cli import main

if __name__ == "__main__":
    main()
