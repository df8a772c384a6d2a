"""Show a verdict: the picture, where the model looks, its regions, and the verdict in words."""

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from twonines.models.image import MAX_PIXELS, decode
from twonines.models.inspector import Inspector, Prepared
from twonines.types import FloatArray, Image, Inspection, Verdict

_COLOURS = {
    Verdict.OK: (27, 110, 53),
    Verdict.NG: (176, 0, 32),
    Verdict.REVIEW: (138, 90, 0),
    Verdict.ERROR: (68, 68, 68),
}
_SIGNS = {Verdict.OK: "OK", Verdict.NG: "NG  not good", Verdict.REVIEW: "REVIEW  a person decides"}
_HEAT = (255, 64, 0)
_REGION = (255, 0, 200)
SMALLEST = 480
"""Smaller pictures are enlarged so that text and boxes can be read."""
_LARGEST = 4 * SMALLEST


def explain(
    inspector: Inspector,
    data: bytes,
    reference: Image | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
) -> tuple[Inspection, Image]:
    """Inspect one picture and draw the answer.

    Args:
        inspector: of the loaded model.
        data: the encoded picture.
        reference: (H', W', 3) uint8 RGB, where the model compares with one.
        max_pixels: of the picture.

    Returns:
        The inspection and the overlay, (h, w, 3) uint8 RGB.

    Raises:
        ImageError: the picture cannot be decoded, or it or its reference does not suit the model.
    """
    picture, image = open_picture(inspector, data, reference, max_pixels=max_pixels)
    outputs = inspector.outputs(picture)
    inspection = inspector.decide(outputs, [picture])[0]
    return inspection, draw(image, outputs.defect_map[0], inspection)


def open_picture(
    inspector: Inspector, data: bytes, reference: Image | None, *, max_pixels: int
) -> tuple[Prepared, Image]:
    """A picture as the model looks at it, and whole to draw on; raises as :func:`explain`."""
    found = inspector.decode(data, max_pixels=max_pixels)
    whole = found.image
    if whole.shape[:2] != found.size:
        whole = decode(data, max_pixels=max_pixels)
    return inspector.prepare(found.image, reference, found.size), whole


def draw(image: Image, defect_map: FloatArray, inspection: Inspection) -> Image:
    """The picture with the map as warm colour, regions as boxes, and a head line.

    Args:
        image: (H, W, 3) uint8 RGB.
        defect_map: (h, w) float32 in [0, 1]; a value that is not finite is drawn as 0.
        inspection: regions in pixels of ``image``.

    Returns:
        (H', W', 3) uint8 RGB, its shorter side at least ``SMALLEST`` but for long strips.
    """
    height, width = image.shape[:2]
    # A strip of one pixel would become a picture that does not fit into memory.
    scale = max(1.0, min(SMALLEST / min(height, width), _LARGEST / max(height, width)))
    size = (round(width * scale), round(height * scale))
    picture = PILImage.fromarray(image).resize(size, PILImage.Resampling.BILINEAR)
    level = np.clip(np.nan_to_num(defect_map, nan=0.0, posinf=0.0, neginf=0.0), 0, 1)
    heat = PILImage.fromarray((level * 150).astype(np.uint8)).resize(
        size, PILImage.Resampling.BILINEAR
    )
    picture.paste(PILImage.new("RGB", size, _HEAT), (0, 0), heat)
    _draw_regions(ImageDraw.Draw(picture), inspection, scale)
    return np.asarray(_with_head(picture, inspection))


def _draw_regions(pen: ImageDraw.ImageDraw, inspection: Inspection, scale: float) -> None:
    font = ImageFont.load_default(16)
    for region in inspection.regions:
        x_min, y_min, x_max, y_max = (round(value * scale) for value in region.box)
        corners = (x_min, y_min, max(x_max - 1, x_min), max(y_max - 1, y_min))
        pen.rectangle(corners, outline=(255, 255, 255), width=4)
        pen.rectangle(corners, outline=_REGION, width=2)
        label = f"{region.defect_class} {region.score:.2f}"
        place = (x_min + 4, y_min + 4)
        pen.rectangle(pen.textbbox(place, label, font), fill=(0, 0, 0))
        pen.text(place, label, (255, 255, 255), font)


def _with_head(picture: PILImage.Image, inspection: Inspection) -> PILImage.Image:
    """Put the verdict above the picture, in colour and in words."""
    facts = [
        f"score {inspection.score:.3f}" if inspection.score is not None else "",
        f"class {inspection.defect_class}" if inspection.defect_class else "",
        f"novelty {inspection.novelty:.2f}" if inspection.novelty is not None else "",
        *inspection.reasons,
        inspection.error or "",
    ]
    head = 64
    sheet = PILImage.new("RGB", (picture.width, picture.height + head), (255, 255, 255))
    sheet.paste(picture, (0, head))
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((0, 0, picture.width, 36), fill=_COLOURS[inspection.verdict])
    text = _SIGNS.get(inspection.verdict, "ERROR  could not be inspected")
    pen.text((8, 4), text, (255, 255, 255), ImageFont.load_default(24))
    line = "   ".join(fact for fact in facts if fact)
    pen.text((8, 41), line, (0, 0, 0), ImageFont.load_default(15))
    return sheet
