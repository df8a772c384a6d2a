from pathlib import Path

import numpy as np
import pytest

from twonines.benchmarks import good_only
from twonines.datasets.record import Dataset, DatasetCard, Record
from twonines.models.image import encode_png


def test_mahalanobis_equals_the_inverse() -> None:
    rng = np.random.default_rng(0)
    train, others = (rng.normal(size=(n, 8)).astype(np.float32) for n in (6, 5))
    mean, scale = train.mean(0), train.std(0) + 1e-3
    z, other = (train - mean) / scale, (others - mean) / scale
    inverse = np.linalg.inv(z.T @ z / len(z) + 0.05 * np.eye(8))
    expected = np.einsum("nd,de,ne->n", other, inverse, other)
    assert np.allclose(good_only.mahalanobis(train, others), expected, rtol=1e-3)


def test_one_class_plays_the_good_parts(tmp_path: Path) -> None:
    card = DatasetCard("x", "x", "x", "x", "none", "none")
    records = tuple(Record(tmp_path / f"{name}.png", name) for name in ("iron", "scratch"))
    dataset = Dataset(card, tmp_path, records)
    assert good_only.as_good(dataset, "iron").classes == ("good", "scratch")
    assert good_only.as_good(dataset, "good") is dataset


def test_protocol_on_a_generated_set(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    records = []
    for index in range(140):
        name = "iron" if index < 120 else "scratch"
        path = tmp_path / f"{index}.png"
        # Textured: between pictures of one grey level all distances are rounding.
        level = 100 if name == "iron" else 200
        pixels = rng.normal(level, 15, (40 + index, 60)).clip(0, 255).astype(np.uint8)
        path.write_bytes(encode_png(np.repeat(pixels[..., None], 3, axis=2)))
        records.append(Record(path, name))
    card = DatasetCard("generated", "x", "x", "x", "none", "none")
    dataset = Dataset(card, tmp_path, tuple(records))
    monkeypatch.setattr(good_only, "load_dataset", lambda *_: dataset)
    monkeypatch.setattr(good_only, "SIZE", (64, 64))
    monkeypatch.setitem(good_only.PROTOCOLS, "own", good_only.Protocol("generated", "iron"))
    row = good_only.run_protocol("own", cache=cache, repeats=1)
    assert row["splits"][0]["memory"]["auroc"]["n"] == row["splits"][0]["test"]
    assert set(row["auroc"]) == {"memory", "gaussian", "mahalanobis"}
    assert row["time_to_backbone"] > 0 and row["parity"]["http"] <= 1e-4
    assert good_only._table([row]).row_count == 1
