"""Where model files lie, and which of them are active."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from twonines.errors import ModelFileError, SettingsError, StoreError

FILE_NAME = "model.onnx"
STATE_FILE = ".twonines-state.json"
_HISTORY = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Record(BaseModel):
    """What is remembered of one model: versions by their roles, ``history`` oldest first.

    ``digest`` is the SHA-256 of the file that was put in charge; None in folders of old.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: str | None = None
    digest: str | None = None
    history: tuple[str, ...] = ()
    shadow: str | None = None

    def without_active(self) -> "Record":
        """The same with nobody in charge; a roll back finds who was."""
        history = pushed(self.history, self.active)
        return Record(history=history, shadow=self.shadow)

    @property
    def was_used(self) -> bool:
        """Whether any version was ever put in charge."""
        return bool(self.active or self.history)


def pushed(history: tuple[str, ...], version: str | None) -> tuple[str, ...]:
    """The history with one more version, where there is one; the oldest are forgotten."""
    return history if version is None else (*history, version)[-_HISTORY:]


_STATE = TypeAdapter(dict[str, Record])


class ModelFiles(Protocol):
    """What the repository needs to know of files."""

    writable: bool

    def scan(self) -> dict[str, dict[str, Path]]:
        """The files there are now: name to version, in order, to path."""

    def read_state(self) -> dict[str, Record]:
        """What was active when the service ended."""

    def write_state(self, state: Mapping[str, Record]) -> None:
        """Remember what is active."""

    def next_version(self, name: str) -> str:
        """The version that the next file of ``name`` becomes."""

    def add(self, name: str, version: str, path: Path) -> None:
        """Take a copy of a model file as a new version of ``name``."""


class SingleFile:
    """One model file under the name and version of its card; nothing can be changed."""

    writable = False

    def __init__(self, path: Path, name: str, version: str) -> None:
        """Serve ``path``."""
        self._files = {name: {version or "1": path}}

    def scan(self) -> dict[str, dict[str, Path]]:
        """The one file."""
        return self._files

    def read_state(self) -> dict[str, Record]:
        """Nothing is remembered."""
        return {}

    def write_state(self, state: Mapping[str, Record]) -> None:
        """Nothing needs to be remembered."""

    def next_version(self, name: str) -> str:
        """Never called, since nothing can be changed."""
        raise NotImplementedError

    def add(self, name: str, version: str, path: Path) -> None:
        """Never called, since nothing can be changed."""
        raise NotImplementedError


class ModelFolder:
    """A folder that holds ``<name>/<version>/model.onnx``, as Triton's repositories do.

    Names and versions are letters, digits, dots, lines and underscores, a letter or digit first.
    Versions that are numbers are ordered as numbers, before those that are not. Which version is
    active is kept in a small file in the folder.
    """

    writable = True

    def __init__(self, folder: Path) -> None:
        """Look into ``folder`` at every scan.

        Raises:
            SettingsError: it is no folder.
        """
        if not folder.is_dir():
            raise SettingsError(f"model_dir: must be a folder, got {folder}")
        self._folder = folder

    def scan(self) -> dict[str, dict[str, Path]]:
        """The files there are now."""
        found: dict[str, dict[str, Path]] = {}
        for path in self._folder.glob(f"*/*/{FILE_NAME}"):
            version, name = path.parent.name, path.parent.parent.name
            if _NAME.fullmatch(name) and _NAME.fullmatch(version):
                found.setdefault(name, {})[version] = path
        return {
            name: {version: versions[version] for version in sorted(versions, key=_order)}
            for name, versions in sorted(found.items())
        }

    def next_version(self, name: str) -> str:
        """The next whole number among the versions of ``name``.

        Raises:
            SettingsError: the name is none that a folder may have.
        """
        if not _NAME.fullmatch(name):
            raise SettingsError(
                "model: must be 1 to 100 letters, digits, dots, lines and underscores, a letter "
                f"or digit first, got {name!r}"
            )
        taken = [int(f.name) for f in self._folder.glob(f"{name}/*") if f.name.isdecimal()]
        return str(max(taken, default=0) + 1)

    def add(self, name: str, version: str, path: Path) -> None:
        """Copy a model file to a version that is not there yet.

        Raises:
            ModelFileError: the file cannot be copied.
        """
        try:
            (self._folder / name).mkdir(exist_ok=True)
            # Complete before it has its name, so that no scan finds half a file.
            part = Path(tempfile.mkdtemp(prefix=".adding-", dir=self._folder))
            try:
                shutil.copyfile(path, part / FILE_NAME)
                part.chmod(0o755)
                os.replace(part, self._folder / name / version)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
        except OSError as exc:
            raise ModelFileError(
                f"model: {path} cannot be copied into {self._folder} ({exc.strerror or exc})"
            ) from exc

    def read_state(self) -> dict[str, Record]:
        """What was active when the service ended.

        Raises:
            ModelFileError: the file is damaged. Guessing what was active could put a version
                that nobody approved in charge.
        """
        path = self._folder / STATE_FILE
        try:
            return _STATE.validate_json(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as exc:
            raise ModelFileError(
                f"model_dir: {path} must hold what is active, and cannot be read ({exc}); delete "
                "it to begin with the newest version of each model"
            ) from exc

    def write_state(self, state: Mapping[str, Record]) -> None:
        """Replace the file in one step, so that a crash leaves the old or the new one.

        Raises:
            StoreError: the folder cannot be written.
        """
        values: dict[str, Any] = {name: record.model_dump() for name, record in state.items()}
        try:
            handle, part = tempfile.mkstemp(prefix=STATE_FILE, dir=self._folder)
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(values, file, indent=1, sort_keys=True)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, self._folder / STATE_FILE)
            except BaseException:
                os.unlink(part)
                raise
        except OSError as exc:
            raise StoreError(
                f"model_dir: {self._folder} must be writable, to remember what is active "
                f"({exc.strerror})"
            ) from exc


def _order(version: str) -> tuple[bool, int, str]:
    return (not version.isdecimal(), int(version) if version.isdecimal() else 0, version)
