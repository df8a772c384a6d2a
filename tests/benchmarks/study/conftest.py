"""A small study: 40 generated pictures, half of them defective."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twonines.benchmarks.study.plan import Plan, make_plan, write_plan
from twonines.datasets.record import Dataset
from twonines.datasets.registry import load_dataset


def write_parts(root: Path, count: int, side: int = 24) -> Path:
    generator = np.random.default_rng(0)
    for kind, level in (("good", 60), ("scratch", 200)):
        (root / kind).mkdir(parents=True)
        for index in range(count):
            image = generator.normal(level, 12, (side, side)).clip(0, 255).astype(np.uint8)
            Image.fromarray(image).save(root / kind / f"{index}.png")
    return root


@pytest.fixture(scope="package")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_dataset("folder", write_parts(tmp_path_factory.mktemp("parts"), 20))


def small_plan(dataset: Dataset, **changes: object) -> Plan:
    values: dict[str, object] = {"pictures": 10, "prevalence": 0.4, "seed": 1, "deaf_s": 0.0,
                                 "break_every": 100, "break_s": 0.0}  # fmt: skip
    return make_plan(dataset, dataset.records, "all", **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def study(parts: Dataset, tmp_path: Path) -> Path:
    write_plan(small_plan(parts), tmp_path / "study")
    return tmp_path / "study"
