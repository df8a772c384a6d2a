"""What every command shows with."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from twonines.errors import SettingsError

err = Console(stderr=True)
out_console = Console()


def needs(extra: str, exc: ImportError) -> SettingsError:
    """The error of a command whose extra is not installed."""
    return SettingsError(
        f"this command needs more packages ({exc}): pip install 'twonines[{extra}]'"
    )


class Stages:
    """A bar a stage on a terminal, one plain line a stage elsewhere."""

    def __init__(self) -> None:
        """Open the display on stderr."""
        self._bars = Progress(
            TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=err,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> "Stages":
        """Start drawing where there is a terminal."""
        if err.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        if err.is_terminal:  # elsewhere stopping prints an empty line
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``stage`` are done."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
            if not err.is_terminal:
                err.print(f"{stage} ...", markup=False, highlight=False, soft_wrap=True)
        self._bars.update(self._tasks[stage], completed=done, total=total)
