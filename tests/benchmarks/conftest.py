"""What several benchmark tests need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks.fake_server import FakeServer, running_fake
from tests.images import png


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running_fake() as server:
        yield server


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three that differ in size, in pixels and in bytes."""
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for index, path in enumerate(paths):
        path.write_bytes(png(100, (40, 40 + 20 * index)))
    return paths
