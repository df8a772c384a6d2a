"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic_core import PydanticUndefined

from twonines.errors import SettingsError

DatasetName = Annotated[str, typer.Option("--dataset", help="Name; see `twonines datasets list`.")]
CardName = Annotated[str, typer.Argument(help="Name; see `twonines datasets list`.")]
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder of the archive. elpv needs none.")
]
Seed = Annotated[int, typer.Option(help="Seeds splits and every random choice.")]
InputSize = Annotated[
    str | None,
    typer.Option(
        "--input-size",
        metavar="SIDE|HEIGHTxWIDTH",
        help="The model's input in pixels, 32 to 1024 a side; default from the pictures, a strip "
        "where they are strips.",
    ),
]
DATA_DIR = Path("twonines-data")
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="TWONINES_DATA_DIR", help="Folder of the records.")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database-url", envvar="TWONINES_DATABASE_URL", help="PostgreSQL, if used."),
]
PicturesUrl = Annotated[
    str | None,
    typer.Option("--pictures-url", envvar="TWONINES_PICTURES_URL", help="As of the service."),
]
ProviderName = Literal["auto", "cpu", "openvino"]
Provider = Annotated[ProviderName, typer.Option(help="Where the model runs; auto measures.")]


def flag(text: str, name: str) -> Any:
    """A flag of the service; its help shows the default and the environment twin."""
    from twonines.settings import ServeSettings

    default = ServeSettings.model_fields[name.lower()].get_default()
    shown = "" if default in (None, False, PydanticUndefined) else f"; default: {default}"
    return typer.Option(
        "--" + name.lower().replace("_", "-"),
        help=f"{text}  [env var: TWONINES_{name}{shown}]",
        show_default=False,
    )


def read_input_size(text: str | None) -> int | tuple[int, int] | None:
    """A side, or height and width, of the model's input.

    Raises:
        SettingsError: it is neither.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise SettingsError(f"input_size: must be as 224 or 160x400 (height x width), got {text!r}")
    if len(sides) == 1:
        return int(sides[0])
    return int(sides[0]), int(sides[1])
