"""Let a taught model look at pictures in tiles."""

import os
from pathlib import Path

import onnx
from pydantic import ValidationError

from twonines.errors import SettingsError
from twonines.models.card import CARD_KEY, ModelCard, Tiling
from twonines.models.providers import read_model
from twonines.models.session import InspectionSession


def tile_model(model: Path, out: Path, *, overlap: float, scale: float) -> ModelCard:
    """Write a model file that differs in its card alone.

    Metrics, parity and certificate are left out of the new card, because they were measured
    without tiles. Calibration and policy stay, yet hold no longer: the score of a picture is now
    the highest of its tiles, so they must be measured anew on merged scores.

    Args:
        model: the model file.
        out: the file to write, whole or not at all; another than ``model``.
        overlap: share of a tile's side that neighbours have in common, [0, 0.75].
        scale: pictures are resized by it first, (0, 8].

    Returns:
        The new card.

    Raises:
        SettingsError: an argument is outside its range, or ``out`` cannot be written.
        ModelFileError: ``model`` is no twonines model.
    """
    try:
        tiling = Tiling(overlap=overlap, scale=scale)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise SettingsError(f"{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from exc
    if os.path.realpath(model) == os.path.realpath(out):
        raise SettingsError(f"out: must be another file than the model, got {out}")
    old = InspectionSession.load(model, execution_provider="cpu").card
    card = old.model_copy(
        update={"tiling": tiling, "metrics": {}, "parity": {}, "certificate": None}
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
