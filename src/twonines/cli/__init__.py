"""The command line: thin shells over functions with typed arguments."""

from twonines.cli.app import main

__all__ = ["main"]
