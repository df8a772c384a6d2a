"""References: pictures of parts without defects that a model compares with."""

import hashlib
import re
import string
import threading
from collections import OrderedDict
from pathlib import Path

from twonines.errors import ImageError, InputError, SettingsError
from twonines.models.card import ModelCard
from twonines.models.image import MAX_PIXELS, decode
from twonines.serving.files import read_bounded
from twonines.settings import ServeSettings
from twonines.types import PICTURE_SUFFIXES, Image

KEPT_BYTES = 128 << 20
FIELDS = ("folder", "folder_name", "stem", "head", "suffix")
"""What a template may name; see :class:`Template`."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ReferenceImages:
    """Decodes references and keeps the last ones, since most pictures share theirs."""

    def __init__(self, max_pixels: int = MAX_PIXELS, max_bytes: int = KEPT_BYTES) -> None:
        """Keep at most ``max_bytes`` of decoded pixels."""
        self._max_pixels, self._max_bytes, self._bytes = max_pixels, max_bytes, 0
        self._kept: OrderedDict[bytes, Image] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, data: bytes) -> Image:
        """The decoded reference, (H, W, 3) uint8 RGB, not to be changed.

        Raises:
            ImageError: as decode does; the message says that it is the reference.
        """
        key = hashlib.sha256(data).digest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        try:
            image = decode(data, max_pixels=self._max_pixels)
        except ImageError as exc:
            raise type(exc)(f"reference: {exc}") from exc
        with self._lock:
            if key not in self._kept:
                self._kept[key] = image
                self._bytes += image.nbytes
            while self._bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.nbytes
        return image


class StoredReferences:
    """A folder of references, each a file that bears the id and a picture's suffix."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Look into ``folder`` at every call, so that references can be added while serving.

        Raises:
            SettingsError: there is no such folder.
        """
        if not folder.is_dir():
            raise SettingsError(f"references: must be a folder, got {folder}")
        self._folder, self._max_bytes = folder, max_bytes

    def ids(self) -> list[str]:
        """Every id, sorted."""
        files = self._folder.iterdir()
        return sorted({f.stem for f in files if _is_picture(f) and _ID.fullmatch(f.stem)})

    def read(self, reference_id: str) -> bytes:
        """The file's bytes.

        Raises:
            InputError: the id is not such as a file may have, or no file or several have it.
            ImageError: the file cannot be read, or is too large.
        """
        if not _ID.fullmatch(reference_id):
            raise InputError(
                "reference_id: must be 1 to 100 letters, digits, dots, lines and underscores, "
                f"a letter or digit first, got {reference_id!r}"
            )
        files = self._folder.glob(f"{reference_id}.*")
        found = [f for f in files if f.stem == reference_id and _is_picture(f)]
        if len(found) != 1:
            raise InputError(
                f"reference_id: must name one stored reference, {reference_id!r} names {len(found)}"
            )
        try:
            return read_bounded(found[0], self._max_bytes)
        except ImageError as exc:
            raise type(exc)(f"reference: {exc}") from exc


def open_references(settings: ServeSettings, card: ModelCard) -> StoredReferences | None:
    """The stored references that the settings name, if any.

    Raises:
        SettingsError: the model takes no references, or there is no such folder.
    """
    if settings.references is None:
        return None
    if not card.reference:
        raise SettingsError(
            "references: must not be given for this model, which takes none, "
            f"got {settings.references}"
        )
    return StoredReferences(settings.references, settings.max_bytes)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES


class Template:
    """Finds each picture's reference by its path.

    ``{folder}`` stands for the picture's folder, ``{folder_name}`` for the last part of it,
    ``{stem}`` for the name without suffix, ``{head}`` for the stem up to its last underscore, and
    ``{suffix}`` for the suffix with its dot. A plain path is one reference for all pictures.

    >>> Template("{folder}/{head}_temp.jpg").path(Path("group1/0004_test.jpg")).as_posix()
    'group1/0004_temp.jpg'
    """

    def __init__(self, text: str) -> None:
        """Check the template.

        Raises:
            SettingsError: it names something else than the fields, or is malformed.
        """
        try:
            names = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(text)]
        except ValueError as exc:
            raise SettingsError(f"reference: must be a path or template, got {text!r}") from exc
        for name, spec, how in names:
            if name is not None and (name not in FIELDS or spec or how):
                fields = ", ".join(f"{{{field}}}" for field in FIELDS)
                raise SettingsError(f"reference: may name {fields}, got {text!r}")
        if not text:
            raise SettingsError("reference: must be a path or template, got ''")
        self.text = text

    def path(self, picture: Path) -> Path:
        """Where the reference of ``picture`` should lie."""
        return Path(
            self.text.format(
                folder=picture.parent,
                folder_name=picture.absolute().parent.name,
                stem=picture.stem,
                head=picture.stem.rpartition("_")[0] or picture.stem,
                suffix=picture.suffix,
            )
        )
