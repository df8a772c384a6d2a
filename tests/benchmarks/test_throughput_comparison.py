import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from rich.console import Console

from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from tests.service import is_suspended, wait_for
from twonines.benchmarks.throughput.aims import judge_aims, p99_of_queue
from twonines.benchmarks.throughput.comparison import compare, spread
from twonines.benchmarks.throughput.contest import COUNTS, Contestant
from twonines.benchmarks.throughput.load import poisson_times
from twonines.benchmarks.throughput.output import (
    disturbance_note,
    print_comparison,
    write_comparison,
)
from twonines.benchmarks.throughput.variants import CompareOptions
from twonines.cli.throughput import find_pictures, parse_numbers
from twonines.errors import GateError, SettingsError
from twonines.models.card import Tiling


def figure(*values: float) -> dict[str, Any]:
    found = spread(values)
    assert found is not None
    return found


def row(per_second: float, p50: float = 0.01, **given: Any) -> dict[str, Any]:
    counts = dict.fromkeys(COUNTS, 0) | {"sent": 9, "answered": 9}
    return {
        "per_second": figure(per_second, per_second + 2), "p50_s": figure(p50),
        "p95_s": figure(2 * p50), "p99_s": figure(3 * p50), "refusal_p99_s": None,
        "cpu_per_picture_s": figure(0.02), "memory_bytes": figure(2**28),
        "generator_share": figure(0.05), "others_share": figure(0.02),
        "late_p99_s": figure(0.001), **counts, **given,
    }  # fmt: skip


def entry(name: str, capacity: float, provider: str = "cpu", **given: Any) -> dict[str, Any]:
    rows = {"closed 1": row(capacity / 2), "closed 64": row(capacity),
            "open 80": row(0.8 * capacity, offered=figure(0.8 * capacity))}  # fmt: skip
    return {
        "key": f"{name}@{provider}", "name": name, "title": name.upper(), "provider": provider,
        "setup": "set up", "source": "a page", "form": "raw", "tolerance": 0.001, "label": provider,
        "versions": {"numpy": "2"},
        "error": None, "ready_s": figure(1.0), "capacity": figure(capacity), "rows": rows,
        "wrong": 0, "errors": 0, **given,
    }  # fmt: skip


def result_of(*servers: dict[str, Any], chosen: str = "cpu") -> dict[str, Any]:
    limit = {
        "session": figure(120.0), "decode_resize_session": figure(100.0),
        "session_one_s": figure(0.008), "decode_resize_session_one_s": figure(0.009),
        "others_share": figure(0.01),
    }  # fmt: skip
    result: dict[str, Any] = {
        "meta": {"cpu": "c", "system": "s", "date": "d", "commit": None, "seed": 0,
                 "versions": {"twonines": "0"}, "seconds": 9.0},
        "model": {"name": "m", "version": "1", "digest": "d", "input_size": [32, 32],
                  "choice": "cpu", "execution_provider": chosen, "label": chosen},
        "pictures": {"count": 3, "mean_bytes": 1000.0},
        "options": {"clients": [1, 64], "load": [80], "seconds": 1.0, "rounds": 2,
                    "tolerance": 0.001, "grace_s": 10.0, "overload_grace_s": 2.0},
        "cores": 2, "load_average": None, "watcher_cpu_seconds": 0.1,
        "limits": {"cpu": limit, "openvino": limit}, "servers": list(servers), "missing": [],
    }  # fmt: skip
    return result | {"aims": judge_aims(result)}


def answers(result: dict[str, Any]) -> list[tuple[float | None, str]]:
    return [(aim["value"] and round(aim["value"], 4), aim["answer"]) for aim in result["aims"]]


def test_aims_by_hand() -> None:
    result = result_of(entry("twonines", 90.0), entry("plain", 30.0), entry("ray", 50.0),
                       entry("mosec", 60.0))  # fmt: skip
    assert answers(result) == [
        (3.0, "met"),  # 90 / 30
        (1.5, "met"),  # 90 / 60, the best peer
        (1.5, "met"),
        (0.91, "met"),  # the median of 90 and 92 against 100
        (0.03, "met"),  # p99 at 80 %
        (0.002, "met"),  # 10 ms against 8 ms
    ]
    assert not any(aim["why"] for aim in result["aims"])


def test_a_missed_aim_says_what_bounds_it() -> None:
    result = result_of(entry("twonines", 80.0), entry("plain", 70.0), entry("mosec", 79.0))
    plain, peer, same, share, *_ = result["aims"]
    assert (plain["answer"], peer["answer"], same["answer"]) == ("not met",) * 3
    assert "give 1.43 times that, so that no server can reach the aim" in plain["why"]
    assert "MOSEC on cpu gives 79.0 pictures/s" in peer["why"]
    assert share["answer"] == "not met" and "takes 5 % of one" in share["why"]


def test_a_queue_that_no_server_can_shorten_is_told() -> None:
    slow = entry("twonines", 90.0)
    slow["rows"]["open 80"] |= {"p99_s": figure(0.3), "offered": figure(99.0, 98.0)}
    aim = result_of(slow)["aims"][4]
    best = [p99_of_queue(poisson_times(rate, 1.0, n), 100.0) for n, rate in enumerate((99, 98))]
    assert aim["answer"] == "not met"
    assert "at 100 a second" in aim["why"]
    assert f"has a p99 of {1000 * np.median(best):.0f} ms, so that no server" in aim["why"]
    slow["rows"]["open 80"]["offered"] = figure(20.0)
    assert "one after the other" not in result_of(slow)["aims"][4]["why"]


def test_a_queue_by_hand() -> None:
    # 10 ms each: the second waits 9 ms for the first, the third for both, the last for nobody.
    assert p99_of_queue([1.0, 1.001, 1.002, 2.0], 100.0) == pytest.approx(0.0278, abs=2e-4)
    assert p99_of_queue([5.0], 100.0) == pytest.approx(0.01)
    assert p99_of_queue([], 100.0) == 0.0


def test_providers_are_kept_apart() -> None:
    result = result_of(
        entry("twonines", 90.0, "openvino"), entry("twonines", 40.0), entry("mosec", 45.0),
        entry("mosec", 60.0, "openvino"), entry("plain", 20.0), entry("plain", 80.0, "openvino"),
        chosen="openvino",
    )  # fmt: skip
    assert [value for value, _ in answers(result)[:3]] == [4.5, 2.0, 1.5]


def test_what_was_not_measured_is_no_aim_met() -> None:
    result = result_of(entry("twonines", 90.0) | {"rows": {}})
    assert {answer for _, answer in answers(result)} == {"not measured"}
    assert all(aim["why"] for aim in result["aims"])
    failed = entry("mosec", 1.0) | {"capacity": None, "rows": {}, "error": "it broke"}
    assert answers(result_of(entry("twonines", 90.0), failed))[1] == (None, "not measured")
    assert result_of(failed)["aims"] == []


def test_spread_is_over_all_rounds_or_none() -> None:
    assert spread([3.0, 1.0, 2.0]) == {
        "median": 2.0, "low": 1.0, "high": 3.0, "rounds": [3.0, 1.0, 2.0]
    }  # fmt: skip
    assert spread([1.0, None]) is None and spread([]) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clients": (0,)}, "clients: must be at least 1, got 0"),
        ({"clients": ()}, "clients: must name"),
        ({"load": (80, -1)}, "load: must be at least 1, got -1"),
        ({"seconds": 0.0}, "seconds: must be above 0"),
        ({"rounds": 0}, "rounds: must be at least 1"),
        ({"servers": ("nope",)}, "servers: must be of twonines, plain"),
        ({"servers": ()}, "servers: must name"),
    ],
)
def test_options_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CompareOptions(**given)


def test_the_command_reads_numbers_and_pictures(tmp_path: Path) -> None:
    assert parse_numbers("load", "50, 80") == (50, 80) and parse_numbers("load", "") == ()
    with pytest.raises(SettingsError, match="load: must be whole numbers"):
        parse_numbers("load", "50,x")
    with pytest.raises(SettingsError, match="got none"):
        find_pictures(tmp_path)
    for name in ("b.png", "a.JPG", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_pictures(tmp_path)] == ["a.JPG", "b.png"]


def test_models_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "m.onnx", tiny_card(tiling=Tiling()))
    with pytest.raises(SettingsError, match="tiles"):
        compare(model, [tmp_path / "a.png"], CompareOptions())
    with pytest.raises(SettingsError, match="pictures"):
        compare(model, [], CompareOptions())


def test_the_tuned_choice_is_judged_by_its_own_limit() -> None:
    tuned = "cpu int8-mixed, tuned"
    own = entry("twonines", 130.0, label=tuned, key=f"twonines@{tuned}")
    result = result_of(own, entry("twonines", 90.0), entry("plain", 50.0), entry("mosec", 100.0))
    fast = {name: figure(2 * one["median"]) for name, one in result["limits"]["cpu"].items()}
    result["limits"][tuned] = fast | {"others_share": figure(0.0)}
    result["model"]["label"] = tuned
    values = [aim["value"] for aim in judge_aims(result)]
    assert values[:4] == pytest.approx([2.6, 1.3, 1.3, 131 / 200])


def test_page_table_and_json_say_everything(tmp_path: Path) -> None:
    bad = entry("ray", 50.0, wrong=3)
    bad["rows"]["closed 64"] |= {"wrong": 3, "refused": 7}
    result = result_of(
        entry("twonines", 90.0), bad, entry("mosec", 1.0) | {"rows": {}, "error": "<it broke>"}
    )
    result["missing"] = [{"name": "pytriton", "title": "PyTriton", "reason": "pip said no"}]
    page, data = write_comparison(result, tmp_path / "out")
    text = page.read_text()
    for word in (
        "RAY on cpu gave 3 wrong scores",
        "7 refused, 3 wrong",
        "&lt;it broke&gt;",
        "PyTriton is missing",
        "pip said no",
        "at most 5 % of one of 2",
    ):
        assert word in text, word
    assert json.loads(data.read_text())["missing"] == result["missing"]
    out = io.StringIO()
    print_comparison(result, Console(file=out, width=200))
    for word in (
        "TWONINES, cpu",
        "7 refused, 3 wrong",
        "<it broke>",
        "pip said no",
        "times the plain handler: – (aim 3.00 times), not measured",
    ):
        assert word in out.getvalue(), word


@pytest.mark.parametrize(("share", "said"), [(0.1, False), (0.11, True)])
def test_what_others_took_makes_figures_unreliable(
    tmp_path: Path, share: float, said: bool
) -> None:
    server = entry("twonines", 90.0)
    server["rows"]["open 80"]["others_share"] = figure(0.0, share, 1.0)
    result = result_of(server)
    assert ("up to 11 % of the cores" in disturbance_note(result)) is said
    judged = {aim["answer"] for aim in result["aims"]}
    assert judged == ({"not measured", "not shown"} if said else {"not measured", "met"})
    page, _ = write_comparison(result, tmp_path)
    assert ("unreliable" in page.read_text()) is said


def test_a_small_run_with_a_server_that_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx", tiny_card())
    pictures = []
    for level in (20, 200):
        pictures.append(tmp_path / f"{level}.png")
        pictures[-1].write_bytes(png(level))
    true_take = Contestant.take
    order: list[tuple[str, str]] = []
    up: dict[str, psutil.Process] = {}

    def take(self: Contestant, load: str, given: dict[str, Any]) -> None:
        order.append((load, self.variant.server.name))
        up[self.variant.server.name] = self.process
        if self.variant.server.name == "twonines":
            raise GateError("server: it broke")
        assert not up["twonines"].is_running()  # what broke takes nothing from the others
        true_take(self, load, given)

    monkeypatch.setattr(Contestant, "take", take)
    options = CompareOptions(
        clients=(2,), load=(80, 300), seconds=0.3, rounds=2,
        servers=("twonines", "plain", "pytriton"), cache=tmp_path / "none",
    )  # fmt: skip
    result = compare(model, pictures, options)
    assert not any(process.is_running() for process in up.values())
    # The one that broke is not tried again; the other has every load of both rounds.
    assert order[0] == ("closed 2", "twonines")
    assert order[1:] == 2 * [(load, "plain") for load in ("closed 2", "open 80", "open 300")]
    assert [one["name"] for one in result["missing"]] == ["pytriton"]
    broken, plain = result["servers"][0], result["servers"][-1]
    assert broken["error"] == "server: it broke" and broken["capacity"] is None
    assert list(plain["rows"]) == ["closed 2", "open 80", "open 300"]
    assert plain["wrong"] == plain["errors"] == 0
    closed, opened = plain["rows"]["closed 2"], plain["rows"]["open 80"]
    assert closed["answered"] == closed["sent"] > 4
    assert len(closed["per_second"]["rounds"]) == 2
    assert np.allclose(
        opened["offered"]["rounds"], [0.8 * value for value in plain["capacity"]["rounds"]]
    )
    assert 0 <= closed["others_share"]["low"] < 1
    assert closed["memory_bytes"]["low"] > 2**24 and closed["cpu_per_picture_s"]["low"] > 0
    assert result["aims"] == []
    write_comparison(result, tmp_path / "out")


def test_servers_take_turns_and_rest_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_tiny_model(tmp_path / "tiny.onnx", tiny_card())
    picture = tmp_path / "a.png"
    picture.write_bytes(png(20))
    true_take = Contestant.take
    order: list[tuple[str, str]] = []
    seen: dict[str, Contestant] = {}

    def take(self: Contestant, load: str, given: dict[str, Any]) -> None:
        seen[self.variant.key] = self
        order.append((load, self.variant.key))
        true_take(self, load, given)
        for other in seen.values():
            if other.process.is_running():
                wait_for(partial(is_suspended, other.process))
        if load == "open 80" and self.variant.key == "plain@cpu":
            self.process.kill()  # it ends while it waits
            self.process.wait()

    monkeypatch.setattr(Contestant, "take", take)
    options = CompareOptions(
        clients=(2,), load=(300, 80), seconds=0.3, rounds=2, servers=("twonines", "plain"),
        cache=tmp_path / "none",
    )  # fmt: skip
    told: list[str] = []
    result = compare(model, [picture], options, told.append)
    variants = [one["key"] for one in result["servers"]]
    first = [key for load, key in order if load == "closed 2"][: len(variants)]
    second = [key for load, key in order if load == "open 80"][: len(variants)]
    assert first == variants and second == variants[::-1]
    assert [load for load, key in order if key == first[0]][:3] == [
        "closed 2",
        "open 80",
        "open 300",
    ]
    ended = [one for one in result["servers"] if one["error"]]
    assert [one["key"] for one in ended] == ["plain@cpu"]
    assert "must run while others have their turn" in ended[0]["error"]
    assert any(said.startswith("round 2/2: bare session") for said in told)
