"""The way of a picture: prepared, through the session in batches, to an inspection.

Service, batch scoring, overlays and benchmarks all go this way, so that tiles and references are
handled in one place.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twonines.errors import ImageError
from twonines.models.align import check_view, lay_on
from twonines.models.card import ModelCard
from twonines.models.decision import decide
from twonines.models.image import MAX_PIXELS, Decoded, Size, decode_for, resize
from twonines.models.outputs import Outputs
from twonines.models.quality import measure
from twonines.models.tiling import MAX_TILES, Grid, Merger, cut, pad, plan
from twonines.types import Image, Inspection, Verdict

log = logging.getLogger(__name__)
FAULT = "the picture could not be inspected"


class Session(Protocol):
    """What inspecting needs of a session."""

    card: ModelCard
    certificate_fault: str | None

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the input."""

    def run(
        self, images: Image, references: Image | None = None, *, beside: bool = False
    ) -> Outputs:
        """Inspect (N, height, width, 3) uint8 RGB; ``beside`` other runs that go on."""


@dataclass(slots=True)
class Prepared:
    """One picture, ready for the session as one input or, with a grid, as its tiles.

    ``size`` is the (height, width) of the picture as it came, ``quality`` its own features,
    ``merger`` what its tiles have given so far, ``inspection`` the verdict as soon as it is there.
    """

    image: Image
    size: tuple[int, int]
    quality: dict[str, float]
    reference: Image | None = None
    grid: Grid | None = None
    merger: Merger | None = None
    inspection: Inspection | None = None

    def __len__(self) -> int:
        """Inputs of the session that it takes."""
        return 1 if self.grid is None else len(self.grid)


Part = tuple[Prepared, int]
"""One input of the session: a picture and the number of its tile."""


class Inspector:
    """Prepares pictures for one session and turns its outputs into inspections.

    Every method is a function of its arguments but for the mergers of the pictures; one picture's
    parts must not be finished by two threads at once.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_tiles: int = MAX_TILES,
        withdrawn: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Use ``session``; a picture of more than ``max_tiles`` tiles is refused.

        ``withdrawn`` says why the certificate was withdrawn since the session was loaded.
        """
        self.session, self.card, self._max_tiles = session, session.card, max_tiles
        self._withdrawn = withdrawn

    @property
    def fault(self) -> str | None:
        """Why the certificate does not hold now; None where it does, or where there is none."""
        return self.session.certificate_fault or self._withdrawn()

    def decode(self, data: bytes, *, max_pixels: int = MAX_PIXELS) -> Decoded:
        """Decode one picture at no more than the size that :meth:`prepare` needs.

        Raises:
            ImageError: it cannot be decoded, or needs too many tiles.
        """
        return decode_for(data, self._extent, max_pixels=max_pixels)

    def read(
        self, data: bytes, reference: Image | None = None, *, max_pixels: int = MAX_PIXELS
    ) -> Prepared:
        """Decode and prepare one picture; the reference is whole.

        Raises:
            ImageError: as :meth:`decode` and :meth:`prepare`.
        """
        image, size = self.decode(data, max_pixels=max_pixels)
        return self.prepare(image, reference, size)

    def _extent(self, size: Size) -> Size:
        grid = self._plan(size)
        return self.session.input_size if grid is None else grid.extent

    def _plan(self, size: Size) -> Grid | None:
        tiling, tile = self.card.tiling, self.session.input_size
        return None if tiling is None else plan(size, tile, tiling, self._max_tiles)

    def prepare(
        self, image: Image, reference: Image | None = None, size: Size | None = None
    ) -> Prepared:
        """Resize one picture, align its reference, and plan its tiles.

        A reference is resized onto the picture and then moved by at most a few per cent of the
        side where that brings it closer; the picture itself is never moved, so regions are true.

        Args:
            image: (H, W, 3) uint8 RGB, of any size.
            reference: (H', W', 3) uint8 RGB, the same part without defects, in the same view.
            size: (height, width) of the picture as it came, where it was decoded smaller.

        Raises:
            ImageError: the picture needs too many tiles, the reference is missing or not wanted,
                or its sides are in another ratio than the picture's.
        """
        size = size or (image.shape[0], image.shape[1])
        self._check_reference(size, reference)
        grid, tile = self._plan(size), self.session.input_size
        extent = tile if grid is None else grid.extent
        resized = resize(image, extent)
        quality = measure(size, resized if grid is None else resize(image, tile))
        if reference is not None:
            reference = resize(reference, extent)
            reference = lay_on(resized, reference)
        if grid is not None:
            resized = pad(resized, tile)
            reference = None if reference is None else pad(reference, tile)
        return Prepared(resized, size, quality, reference, grid)

    def _check_reference(self, size: tuple[int, int], reference: Image | None) -> None:
        if reference is None:
            if self.card.reference:
                raise ImageError(
                    "reference: must be given for this model, which compares a picture with one "
                    "of the same part without defects"
                )
            return
        if not self.card.reference:
            raise ImageError("reference: must not be given for this model, which takes none")
        check_view(size, reference.shape[:2])

    def run(self, parts: Sequence[Part], *, beside: bool = False) -> Outputs:
        """One run of the session over tiles of any pictures, ``beside`` others that go on."""
        return self.session.run(*stack(parts, self.card.reference), beside=beside)

    def finish(self, outputs: Outputs, parts: Sequence[Part]) -> list[Inspection | None]:
        """The verdicts of the pictures that are whole with these outputs.

        Args:
            outputs: what :meth:`run` gave for ``parts``.
            parts: the tiles, as they were run.

        Returns:
            One entry a part: the inspection at the part that makes a picture whole, None at the
            others. The tiles of a picture may come in any order, over whatever batches.

        Raises:
            ValueError: an output is not of these parts or of the card's classes.
        """
        if self.card.tiling is not None:
            self.merge(outputs, parts)
        return self.conclude(outputs, parts)

    def conclude(self, outputs: Outputs, parts: Sequence[Part]) -> list[Inspection | None]:
        """As :meth:`finish`, for parts that were finished before: decide again."""
        if self.card.tiling is None:
            return list(self.decide(outputs, [picture for picture, _ in parts]))
        last = {id(picture): row for row, (picture, _) in enumerate(parts)}
        return [
            self._decide_merged(picture) if last[id(picture)] == row else None
            for row, (picture, _) in enumerate(parts)
        ]

    def _decide_merged(self, picture: Prepared) -> Inspection | None:
        assert picture.merger is not None
        if not picture.merger.complete:
            return None
        return self.decide(picture.merger.result(), [picture])[0]

    def decide(self, outputs: Outputs, pictures: Sequence[Prepared]) -> list[Inspection]:
        """Verdicts of whole pictures, by their outputs and their own features."""
        return decide(
            outputs,
            self.card,
            [picture.size for picture in pictures],
            qualities=[picture.quality for picture in pictures],
            fault=self.fault,
        )

    def merge(self, outputs: Outputs, parts: Sequence[Part]) -> None:
        """Add the outputs of tiles to their pictures."""
        outputs.check(len(parts), len(self.card.classes))
        for row, (picture, tile) in enumerate(parts):
            assert picture.grid is not None
            picture.merger = picture.merger or Merger(picture.grid)
            picture.merger.add(outputs, row, tile)

    def outputs(self, picture: Prepared, batch_size: int = 32) -> Outputs:
        """What the model says of one picture, its tiles merged; one row."""
        parts = [(picture, tile) for tile in range(len(picture))]
        if picture.grid is None:
            return self.run(parts)
        for first in range(0, len(parts), batch_size):
            batch = parts[first : first + batch_size]
            self.merge(self.run(batch), batch)
        assert picture.merger is not None
        return picture.merger.result()

    def inspect(
        self, pictures: Iterable[Prepared | Inspection], batch_size: int
    ) -> Iterator[Inspection]:
        """Inspections in order, each as soon as it and those before it are there.

        Pictures are taken one by one as batches need them, so that few large ones lie in memory.
        An inspection that comes instead of a picture, which could not be read, goes through. A
        batch that fails is run again part by part, and only the culprit is an ``ERROR``.
        """
        waiting: deque[Prepared | Inspection] = deque()
        batch: list[Part] = []
        for item in pictures:
            waiting.append(item)
            for tile in range(0 if isinstance(item, Inspection) else len(item)):
                assert isinstance(item, Prepared)
                batch.append((item, tile))
                if len(batch) == batch_size:
                    self._run_batch(batch)
                    batch = []
            yield from _ready(waiting)
        self._run_batch(batch)
        yield from _ready(waiting)

    def _run_batch(self, batch: Sequence[Part]) -> None:
        # A picture that failed with one tile has its answer.
        batch = [(picture, tile) for picture, tile in batch if picture.inspection is None]
        if not batch:
            return
        found: Sequence[Inspection | None]
        try:
            found = self.finish(self.run(batch), batch)
        except Exception as exc:  # one picture must not cost the others their verdicts
            if len(batch) > 1:
                for part in batch:
                    self._run_batch([part])
                return
            log.error("the session failed on one picture", exc_info=exc)
            found = [Inspection(Verdict.ERROR, error=FAULT)]
        for (picture, _), inspection in zip(batch, found, strict=True):
            picture.inspection = inspection


def stack(parts: Sequence[Part], reference: bool) -> tuple[Image, ...]:
    """Inputs (N, height, width, 3) of the session, and their references where it takes some."""
    images = np.stack([_input(picture.image, picture.grid, tile) for picture, tile in parts])
    if not reference:
        return (images,)
    golden = [
        _input(picture.reference, picture.grid, tile)
        for picture, tile in parts
        if picture.reference is not None
    ]
    return images, np.stack(golden)


def _input(image: Image, grid: Grid | None, tile: int) -> Image:
    return image if grid is None else cut(image, grid, tile)


def _ready(waiting: deque[Prepared | Inspection]) -> Iterator[Inspection]:
    while waiting:
        first = waiting[0]
        inspection = first.inspection if isinstance(first, Prepared) else first
        if inspection is None:
            return
        waiting.popleft()
        yield inspection
