"""Features of pictures by the ONNX backbone session, kept on disk by content."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from twonines.datasets.record import Record
from twonines.errors import ImageError
from twonines.models.image import Decoded, Size, decode_for, decode_to, load, naming, resize
from twonines.models.providers import available_threads, make_runtime
from twonines.types import FloatArray, Image

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
_NAMED = 20
VIEWS = 8
"""The dihedral group: view k % 4 quarter turns, mirrored first where k >= 4."""


def default_cache() -> Path:
    """``$TWONINES_CACHE``, else the user's cache folder."""
    named = os.environ.get("TWONINES_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "twonines"


def view_of(image: Image, view: int) -> Image:
    """One of the eight flips and quarter turns of (H, W, 3)."""
    mirrored = image[:, ::-1] if view >= 4 else image
    return np.ascontiguousarray(np.rot90(mirrored, view % 4))


def image_batches(
    paths: Sequence[Path], size: tuple[int, int], batch_size: int, *, view: int = 0
) -> Iterator[Image]:
    """Decoded and resized pictures (n, height, width, 3) in order, read by threads.

    Raises:
        ImageError: a picture cannot be read; the message names the file.
    """
    with ThreadPoolExecutor(available_threads()) as pool:
        for start in range(0, len(paths), batch_size):
            chunk = paths[start : start + batch_size]
            yield np.stack(list(pool.map(lambda path: view_of(load(path, size), view), chunk)))


def read_image(path: Path, size: Size) -> Decoded:
    """A picture resized to ``size``, and the size it is stored with.

    Raises:
        ImageError: it cannot be read; the message names the file.
    """
    with naming(path):
        found = decode_for(path.read_bytes(), lambda _: size)
        return Decoded(resize(found.image, size), found.size)


@dataclass(frozen=True, slots=True)
class Cached:
    """Features (D,) float32 that were found on disk."""

    row: FloatArray


class FeatureExtractor:
    """The backbone's ONNX session with a cache: one small file per picture and view.

    A run that was killed goes on where it stopped, since every file is written whole or not.
    """

    def __init__(
        self, backbone: Path, size: tuple[int, int], cache: Path, *, batch_size: int = 32
    ) -> None:
        """Load the backbone and open the cache folder of its digest and ``size``."""
        data = backbone.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self.runtime: ort.InferenceSession = make_runtime(data, "cpu", available_threads())
        self.size, self.batch_size = size, batch_size
        blank = np.zeros((1, *size, 3), np.uint8)
        self._width = int(self.runtime.run(["features"], {"images": blank})[0].shape[1])
        self._full = False
        self.folder = cache / "features" / f"{digest[:16]}-{size[0]}x{size[1]}"

    def __call__(
        self, records: Sequence[Record], *, view: int = 0, progress: Progress | None = None
    ) -> FloatArray:
        """Features (N, D) float32 of the records, in order.

        Raises:
            ImageError: pictures cannot be read; the message names the files, once all are tried.
        """
        rows: list[FloatArray | None] = [None] * len(records)
        pending: list[tuple[int, Path, Image]] = []
        unreadable: list[ImageError] = []
        done = 0
        for index, (target, found) in enumerate(self._inputs(records, view)):
            if isinstance(found, ImageError):
                unreadable.append(found)
            elif isinstance(found, Cached):
                rows[index] = found.row
                done += 1
            else:
                pending.append((index, target, found))
            if len(pending) == self.batch_size:
                done += self._flush(pending, rows)
            if progress:
                progress(done, len(records))
        self._flush(pending, rows)
        if unreadable:
            raise _joined(unreadable)
        if progress:
            progress(len(records), len(records))
        return np.stack([row for row in rows if row is not None])

    def places(self, records: Sequence[Record]) -> FloatArray:
        """Places (N, C, h, w) float32 of the records; large, so they are not kept on disk."""
        parts = []
        with ThreadPoolExecutor(available_threads()) as pool:
            for start in range(0, len(records), self.batch_size):
                chunk = records[start : start + self.batch_size]
                images = np.stack(list(pool.map(lambda r: load(r.path, self.size), chunk)))
                parts.append(self.runtime.run(["places"], {"images": images})[0])
        return np.concatenate(parts)

    def _inputs(self, records: Sequence[Record], view: int) -> Iterator[tuple[Path, "Found"]]:
        """Cached features, decoded pictures or errors, read ahead by threads."""
        ahead = 2 * self.batch_size
        with ThreadPoolExecutor(available_threads()) as pool:
            queue: list[Future[tuple[Path, Found]]] = []
            for record in records:
                queue.append(pool.submit(self._read, record.path, view))
                if len(queue) > ahead:
                    yield queue.pop(0).result()
            for future in queue:
                yield future.result()

    def _read(self, path: Path, view: int) -> tuple[Path, "Found"]:
        try:
            data = path.read_bytes()
        except OSError as exc:
            return path, ImageError(f"image: {path} cannot be read ({exc.strerror or exc})")
        key = hashlib.sha256(data).hexdigest()
        target = self.folder / key[:2] / f"{key}-{view}.npy"
        kept = self._kept(target)
        if kept is not None:
            return target, Cached(kept)
        try:
            return target, view_of(decode_to(data, self.size), view)
        except ImageError as exc:
            return target, ImageError(f"{path}: {exc}")

    def _kept(self, target: Path) -> FloatArray | None:
        """Features that this class has written there; anything else is computed again."""
        try:
            with target.open("rb") as file:
                row = np.lib.format.read_array(file, allow_pickle=False)
        except Exception:  # not there, torn by a full disk, or no such file at all
            return None
        sound = row.dtype == np.float32 and row.shape == (self._width,)
        return row if sound and bool(np.isfinite(row).all()) else None

    def _flush(self, pending: list[tuple[int, Path, Image]], rows: list[FloatArray | None]) -> int:
        """Run the waiting pictures through the session and keep their features."""
        if not pending:
            return 0
        batch = np.stack([image for _, _, image in pending])
        features = self.runtime.run(["features"], {"images": batch})[0]
        for (index, target, _), row in zip(pending, features, strict=True):
            rows[index] = row
            self._keep(target, row)
        count = len(pending)
        pending.clear()
        return count

    def _keep(self, target: Path, row: FloatArray) -> None:
        """Write the features whole or not at all; without room the run goes on uncached."""
        if self._full:
            return
        partial = target.with_suffix(f".{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.save(file, row)
            os.replace(partial, target)
        except OSError as exc:
            self._full = True
            log.warning("features are not kept: %s (%s)", target.parent, exc.strerror or exc)
            with suppress(OSError):
                partial.unlink(missing_ok=True)


Found = Cached | Image | ImageError


def _joined(errors: Sequence[ImageError]) -> ImageError:
    """One error that names every file, the first ones with their reasons."""
    if len(errors) == 1:
        return errors[0]
    named = "\n".join(f"  {error}" for error in errors[:_NAMED])
    rest = len(errors) - _NAMED
    more = f"\n  and {rest} more; `twonines datasets check` lists all" if rest > 0 else ""
    return ImageError(f"images: {len(errors)} pictures cannot be read:\n{named}{more}")
