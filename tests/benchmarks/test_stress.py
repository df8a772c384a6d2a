import random
from collections import Counter
from pathlib import Path

import pytest

from twonines.benchmarks.fuzzing import GOOD_LEVELS, Said, Upload, draw, judge, malformed, picture
from twonines.benchmarks.stress import fuzz, swaps
from twonines.errors import ImageError
from twonines.models.image import decode
from twonines.models.inspector import Inspector
from twonines.models.session import InspectionSession


def test_every_malformed_file_is_refused_and_every_good_one_decodes() -> None:
    rng = random.Random(3)
    kinds: Counter[str] = Counter()
    for _ in range(80):
        kind, data = malformed(rng)
        kinds[kind] += 1
        with pytest.raises(ImageError):
            decode(data)
    assert len(kinds) == 12
    assert all(decode(picture(level, 16)).shape == (16, 16, 3) for level in GOOD_LEVELS)
    drawn = [draw(rng) for _ in range(400)]
    assert len({one.kind for one in drawn if one.is_good}) == 11
    assert all(decode(one.data).ndim == 3 for one in drawn if one.is_good)
    assert any(one.kind == "flipped" for one in drawn)


def test_the_judge_tells_right_from_wrong(tiny_model: Path) -> None:
    inspector = Inspector(InspectionSession.load(tiny_model, execution_provider="cpu"))
    good, bad = Upload("jpeg", picture(0, 32), True), Upload("empty", b"", False)
    found = next(inspector.inspect([inspector.prepare(decode(good.data))], 1))
    right = Said(200, found.verdict.value, found.score)
    assert judge(inspector, good, right) == ""
    assert "status 422" in judge(inspector, good, Said(422, "ERROR", None))
    assert "NG for OK" in judge(inspector, good, Said(200, "NG", found.score))
    assert "off" in judge(inspector, good, Said(200, "OK", 0.4))
    assert judge(inspector, bad, Said(422, "ERROR", None)) == ""
    assert judge(inspector, bad, Said(413, "", None)) == ""
    assert "status 500" in judge(inspector, bad, Said(500, "", None))
    assert "malformed file is OK" in judge(inspector, bad, Said(200, "OK", 0.0))
    assert "other kind" in judge(inspector, Upload("x", b"", True), right)


def test_fuzz_and_swaps_hold_on_a_tiny_model(tiny_model: Path) -> None:
    held, shown = fuzz(tiny_model, 0, 120)
    assert held, shown
    held, shown = swaps(tiny_model, 0, 6)
    assert set(shown["statuses"]) == {200} and not shown["failed_swaps"], shown
