"""Let a taught model look at pictures in tiles."""

import os
from pathlib import Path
from typing import Any

import onnx
from pydantic import ValidationError

from twonines.datasets.layout import pictures
from twonines.errors import SettingsError
from twonines.models.card import CARD_KEY, ModelCard, Tiling
from twonines.models.providers import read_model
from twonines.models.session import InspectionSession
from twonines.models.tiling import MAX_TILES
from twonines.training.lesson import Report
from twonines.training.merged import learn_merged


def tile_model(
    model: Path,
    out: Path,
    *,
    overlap: float,
    scale: float,
    good: Path | None = None,
    max_tiles: int = MAX_TILES,
    report: Report = lambda stage, done, total: None,
) -> ModelCard:
    """Write a model file that differs in its card alone.

    Metrics, parity, certificate and the limits of quality and novelty are left out of the new
    card, because they were measured without tiles. Calibration and threshold stay, yet hold no
    longer: the score of a picture is now the highest of its tiles. ``good`` sets threshold and
    limits on merged scores, see :func:`twonines.training.merged.learn_merged`.

    Args:
        model: the model file.
        out: the file to write, whole or not at all; another than ``model``.
        overlap: share of a tile's side that neighbours have in common, [0, 0.75].
        scale: pictures are resized by it first, (0, 8].
        good: folder of large pictures of good parts.
        max_tiles: one of more tiles is refused.
        report: of progress over ``good``.

    Returns:
        The new card.

    Raises:
        SettingsError: an argument is outside its range, ``model`` works in tiles already, or
            ``out`` cannot be written.
        ModelFileError: ``model`` is no twonines model.
        ImageError: a picture of ``good`` cannot be read or has too many tiles.
    """
    try:
        tiling = Tiling(overlap=overlap, scale=scale)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise SettingsError(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from exc
    if os.path.realpath(model) == os.path.realpath(out):
        raise SettingsError(f"out: must be another file than the model, got {out}")
    session = InspectionSession.load(model, execution_provider="cpu")
    _check_model(session.card, model, good)
    taken_off: dict[str, Any] = {"metrics": {}, "parity": {}, "certificate": None, "quality": None}
    card = session.card.model_copy(update={"tiling": tiling, **taken_off})
    if good is not None:
        session.card = card
        card = learn_merged(session, pictures(good), max_tiles, report)
    else:
        card = card.model_copy(
            update={"policy": card.policy.model_copy(update={"novelty_limit": None})}
        )
    graph = onnx.load_from_string(read_model(model))
    kept = {entry.key: entry.value for entry in graph.metadata_props}
    onnx.helper.set_model_props(graph, {**kept, CARD_KEY: card.to_json()})
    partial = out.with_name(out.name + ".tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(graph, partial)
        os.replace(partial, out)
    except OSError as exc:
        raise SettingsError(f"out: {out} must be writable ({exc.strerror or exc})") from exc
    return card


def _check_model(card: ModelCard, model: Path, good: Path | None) -> None:
    if card.tiling is not None:
        raise SettingsError(
            f"model: must not work in tiles yet, {model} does, with overlap "
            f"{card.tiling.overlap:g} and scale {card.tiling.scale:g}; take the file it was made of"
        )
    if good is None:
        return
    if card.reference:
        raise SettingsError(
            "good: must not be given for this model, which compares each picture with a reference"
        )
    if not pictures(good):
        raise SettingsError(f"good: must be a folder with pictures, got none right below {good}")
