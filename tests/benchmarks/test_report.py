import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import tiny_card
from tests.images import png
from twonines.benchmarks.manual import Inspector
from twonines.benchmarks.report import (
    CELL,
    _figure,
    _number,
    _percent,
    plain,
    render,
    thumbnail,
    write_report,
)

EVIL = "<script>alert('$x$')</script>"


def synthetic(*, decides: bool = True, throughput: bool = True) -> dict[str, Any]:
    rate = {"value": 0.95, "k": 19, "n": 20, "low": 0.75, "high": 0.999}
    estimate = {"value": 0.9, "n": 20, "low": 0.8, "high": float("nan")}
    row = {
        "per_second": 1234.0, "low": 1200.0, "high": 1300.0, "seconds_per_part": 0.001,
        "rounds": [1200.0, 1234.0, 1300.0], "ratio_to_session": 0.8,
        "ratio_to_decode_resize_session": 1.0, "unreliable": False,
    }  # fmt: skip
    claim = {
        "name": "accuracy", "sentence": "More often right", "value": 0.95, "low": 0.75,
        "high": 0.999, "target": 0.9, "n": 20, "answer": "not shown by this much data",
    }  # fmt: skip
    metrics = {
        "accuracy": rate, "balanced_accuracy": estimate, "escape_rate": rate,
        "overkill_rate": rate, "auroc": estimate, "average_precision": estimate,
        "calibration_error": np.float64(0.03), "prevalence": 0.5, "review": rate, "errors": 0,
        "weighted_accuracy": [{"prevalence": 0.001, **estimate}],
    }  # fmt: skip
    speed = {
        "rows": {n: row for n in ("session", "decode_resize_session", "http", "batch")},
        "http": {
            "latency_s": {"p50": 0.01, "p95": 0.02, "p99": 0.03}, "mean_batch_size": None,
            "load_generator_cpu_seconds": 1.0, "wall_seconds": 3.0,
        },
        "pictures": 20, "per_round": 512, "rounds": 3, "clients": 64, "threads": 2,
        "execution_provider": "cpu", "choice": "cpu",
    }  # fmt: skip
    cell = {name: {"value": 3.0, "n": 20, "low": 2.0, "high": 4.0} for name in CELL} | {
        "bottleneck": "people"
    }
    review = {
        "target": 0.99, "people": {"escape_rate": 0.1, "overkill_rate": 0.1, "source": "modelled"},
        "calibration_pictures": 10, "automatic": {"band": 0.9, "share": rate, "accuracy": rate},
        "with_people": {"accuracy": estimate, "escape_rate": estimate, "overkill_rate": estimate,
                        "review": rate},
        "curve": [
            {"review": share, "automatic_accuracy": rate, "automatic_escapes": rate,
             "with_people": estimate} for share in (0.0, 0.5)
        ],
    }  # fmt: skip
    return {
        "schema": 1,
        "meta": {
            "date": "2026-01-01", "commit": None, "seed": 0, "versions": {"numpy": "2"},
            "cpu": "a cpu", "threads": 2, "system": "linux",
        },
        "model": {
            "digest": "d" * 64, "card": tiny_card(classes=("good", EVIL)).public(),
            "execution_provider": "cpu", "choice": "cpu",
        },
        "data": {
            "name": "folder", "title": "Parts & more", "licence": "CC0", "source": "made",
            "traps": "none", "digest": "e" * 64, "counts": {"good": 10, EVIL: 10},
            "split": {
                "kind": "random", "basis": "nothing", "seed": 0,
                "train": 1, "calibration": 1, "test": 20,
                "dropped": 0, "leaks": True,
            },
        },
        "decides": decides,
        "metrics": metrics if decides else None,
        "typing": rate,
        "typing_alone": {"band": 0.9, "share": rate, "accuracy": rate},
        "study": None,
        "review": review if decides else None,
        "cell": cell if decides else None,
        "headline": {"claim": "From 90 % to 99 %", "answer": "not met"} if decides else None,
        "confusion": {
            "rows": ["good", EVIL], "columns": ["good", EVIL],
            "counts": np.array([[9, 1], [0, 10]]),
        },
        "manual": Inspector().summary(0.5),
        "sensitivity": [
            {"manual_accuracy": 0.8, "gain": 0.15, "low": -0.05, "high": 0.199, "answer": "met"}
        ] if decides else [],
        "rows": [
            {"path": f"{i}.png", "defect_class": "good" if i % 2 else EVIL, "score": i / 20}
            for i in range(20)
        ],
        "throughput": speed if throughput else None,
        "seconds_per_part": [0.01, 0.011],
        "handling_limit_s": 3.99,
        "claims": [
            claim,
            {**claim, "name": "speed", "value": 4000.0, "low": 3000.0, "high": 5000.0,
             "answer": "met"},
        ],
    }  # fmt: skip


def example(path: Path) -> dict[str, Any]:
    return {
        "kind": "escape", "path": path, "label": "a/b.png", "defect_class": EVIL,
        "verdict": "OK", "said": "good", "score": 0.1,
    }  # fmt: skip


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(png(200))
    return path


def test_page_stands_alone_and_escapes(picture: Path) -> None:
    page = render(synthetic(), [example(picture)])
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for value in re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", page):
        assert value.startswith(("data:image/", "#")), value
    assert "@import" not in page and "<link" not in page
    assert "Parts &amp; more" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<svg") == 5


def test_page_says_what_matters(picture: Path) -> None:
    page = render(synthetic(), [example(picture)])
    assert "95.0 %" in page and "19 of 20" in page
    assert "? not shown by this much data" in page and "✓ met" in page
    assert "These figures are too good" in page
    assert "4,000 times" in page
    assert "Worst escapes" in page


def test_page_and_json_flag_speeds_that_cannot_be(picture: Path, tmp_path: Path) -> None:
    result = synthetic()
    assert "These speeds are unreliable" not in render(result, [])
    rows = result["throughput"]["rows"]
    rows["http"] = {**rows["http"], "ratio_to_session": 1.3, "unreliable": True}
    page = render(result, [])
    assert "<strong>These speeds are unreliable.</strong> HTTP service: more than" in page
    _, data = write_report(result, [], tmp_path)
    found = json.loads(data.read_text())["throughput"]["rows"]
    assert [name for name, row in found.items() if row["unreliable"]] == ["http"]


def test_typing_page(picture: Path) -> None:
    page = render(synthetic(decides=False, throughput=False), [])
    assert "Accept or reject is not tested" in page
    assert "Escape rate" not in page
    assert page.count("<svg") == 1


def test_files(picture: Path, tmp_path: Path) -> None:
    page, data = write_report(synthetic(), [example(picture)], tmp_path / "new" / "report")
    assert page.name == "report.html" and page.stat().st_size > 10_000
    read = json.loads(data.read_text())
    assert read["metrics"]["auroc"]["high"] is None
    assert read["confusion"]["counts"] == [[9, 1], [0, 10]]


def test_plain() -> None:
    value = {1: (np.float32(0.5), np.int64(3), np.bool_(True)), "p": Path("a/b"), "n": np.nan}
    assert plain(value) == {"1": [0.5, 3, True], "p": "a/b", "n": None}


def test_words_for_figures() -> None:
    assert _percent(0.99964) == "> 99.9 %" and _percent(1.0) == "100.0 %"
    assert _percent(0.0001) == "< 0.1 %" and _percent(0.0) == "0.0 %"
    assert _percent(0.001) == "0.1 %" and _percent(None) == "–"
    assert _number(4321.4) == "4,321" and _number(0.012345) == "0.0123"
    assert _figure({"value": 0.5, "k": 1, "n": 2, "low": 0.01, "high": 0.99}) == (
        "50.0 % (1 of 2; 95 % interval 1.0 % to 99.0 %)"
    )


def test_thumbnail_of_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no")
    assert thumbnail(tmp_path / "x.png") == ""
    assert thumbnail(tmp_path / "missing.png") == ""
