"""The page in a real browser, by the keyboard alone."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from tests.benchmarks.study.conftest import small_plan, write_parts
from tests.browser import open_browser
from twonines.benchmarks.study.analysis import analyse
from twonines.benchmarks.study.looks import read_looks
from twonines.benchmarks.study.plan import Plan, read_plan, write_plan
from twonines.benchmarks.throughput import free_port
from twonines.datasets.registry import load_dataset


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as made:
        yield made


@contextmanager
def serving(folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """The real command; gives the process once it listens."""
    command = [sys.executable, "-m", "twonines", "study", "serve", str(folder), "--port", str(port)]
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert service.stderr is not None
        line = service.stderr.readline()
        assert f":{port}" in line, line
        yield service
    finally:
        service.terminate()
        service.communicate(timeout=30)


def start(page: Page, port: int, name: str) -> None:
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("#who:focus")
    page.keyboard.type(name)
    page.keyboard.press("Enter")


def ready(page: Page, done: int, total: int) -> None:
    """Wait until a picture is on screen and answers are taken."""
    page.wait_for_selector("#ok:enabled")
    assert page.inner_text("#count") == f"{done} of {total}"


def inspect(
    page: Page, plan: Plan, name: str, d: float, c: float, median_s: float, seed: int
) -> np.ndarray:
    """Judge every picture as one with d' and criterion c does; the seconds waited at each."""
    truth = {p.id: p.is_defective for p in plan.pictures}
    generator = np.random.default_rng(seed)
    waited = generator.lognormal(np.log(median_s), 0.3, plan.looks)
    for done, (picture, _) in enumerate(plan.order(name)):
        ready(page, done, plan.looks)
        evidence = generator.normal(d if truth[picture] else 0.0)
        time.sleep(waited[done])
        page.keyboard.press("j" if evidence > d / 2 + c else "f")
        if (done + 1) % plan.break_every == 0 and done + 1 < plan.looks:
            page.wait_for_selector("#rest.shown #on:enabled")
            page.keyboard.press("Space")
    page.wait_for_selector("#end.shown")
    return waited


SCRIPTS = {"Ann": (2.5, 0.0, 0.01), "Bo": (1.5, 0.5, 0.02), "Cy": (2.0, -0.4, 0.03)}
"""d', criterion and median seconds of three inspectors."""


def test_three_scripted_inspectors_are_recovered(browser: Browser, tmp_path: Path) -> None:
    dataset = load_dataset("folder", write_parts(tmp_path / "parts", 30))
    plan = small_plan(dataset, pictures=60, prevalence=0.5, repeats=1, break_every=20)
    folder, port = tmp_path / "study", free_port()
    write_plan(plan, folder)
    waited = {}
    with serving(folder, port):
        for seed, (name, (d, c, median_s)) in enumerate(SCRIPTS.items()):
            page = browser.new_page()
            start(page, port, name)
            waited[name] = inspect(page, plan, name, d, c, median_s, seed)
            page.close()
    looks = read_looks(folder, plan)
    assert len(looks) == 180 and all(look.timed for look in looks)
    result = analyse(folder)
    for row in result["inspectors"]:
        d, c, _ = SCRIPTS[row["inspector"]]
        assert row["sensitivity"]["low"] <= d <= row["sensitivity"]["high"], row
        assert row["criterion"]["low"] <= c <= row["criterion"]["high"], row
        # The page cannot have measured less than was waited, look by look.
        mine = [look.seconds for look in looks if look.inspector == row["inspector"]]
        assert (np.array(mine) >= waited[row["inspector"]] - 0.001).all()
        assert row["seconds"]["n"] == 60
    pooled = result["pooled"]
    for name, mean in (("sensitivity", 2.0), ("criterion", 0.1 / 3)):
        assert pooled[name]["low"] <= mean <= pooled[name]["high"]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    dataset = load_dataset("folder", write_parts(tmp_path / "parts", 4))
    write_plan(small_plan(dataset, pictures=6, prevalence=0.5, repeats=1), tmp_path / "study")
    return tmp_path / "study"


def test_resume_after_a_kill_reload_and_back(browser: Browser, small: Path) -> None:
    port, page = free_port(), browser.new_page()
    with serving(small, port) as service:
        start(page, port, "Ann")
        for done in range(2):
            ready(page, done, 6)
            page.keyboard.press("f")
        ready(page, 2, 6)
        page.goto("about:blank")  # the page is closed, or the back button pressed
        page.go_back()
        page.wait_for_selector("#start.shown #who:focus")
        page.keyboard.type("ann")
        page.keyboard.press("Enter")
        ready(page, 2, 6)
        page.keyboard.press("j")
        ready(page, 3, 6)
        service.send_signal(signal.SIGKILL)
        service.wait(30)
        page.keyboard.press("j")  # nobody takes it; the page tries again
        page.wait_for_selector("#notice:visible")
    with serving(small, port):
        # A service that begins anew has shown nothing yet, so the picture comes once more.
        ready(page, 3, 6)
        for done in range(3, 6):
            ready(page, done, 6)
            page.keyboard.press("ArrowRight")
        page.wait_for_selector("#end.shown")
    page.close()
    plan = read_plan(small)
    looks = read_looks(small, plan)
    assert [(look.picture, look.repeat) for look in looks] == plan.order("Ann")
    assert [look.answer for look in looks] == ["OK", "OK", "NG", "NG", "NG", "NG"]
    assert [look.remark for look in looks[:3]] == ["", "", "interrupted"]


def test_a_key_held_or_struck_twice_is_one_answer(browser: Browser, tmp_path: Path) -> None:
    dataset = load_dataset("folder", write_parts(tmp_path / "parts", 4))
    plan = small_plan(dataset, pictures=6, prevalence=0.5, repeats=1, deaf_s=0.5)
    write_plan(plan, tmp_path / "study")
    port, page = free_port(), browser.new_page()
    with serving(tmp_path / "study", port):
        start(page, port, "Ann")
        ready(page, 0, 6)
        page.keyboard.press("f")  # within half a second nothing is taken
        page.wait_for_timeout(600)
        page.keyboard.down("j")
        ready(page, 1, 6)
        page.wait_for_timeout(600)
        page.keyboard.down("j")  # the key is still held: a repetition
        page.wait_for_timeout(100)
        ready(page, 1, 6)
        page.keyboard.up("j")
    page.close()
    looks = read_looks(tmp_path / "study", plan)
    assert [look.answer for look in looks] == ["NG"]


def test_mark_zoom_and_pause(browser: Browser, small: Path) -> None:
    port, page = free_port(), browser.new_page(viewport={"width": 1280, "height": 800})
    with serving(small, port):
        start(page, port, "Ann")
        ready(page, 0, 6)
        box = page.locator("#picture").bounding_box()
        stage = page.locator("#stage").bounding_box()
        assert box and stage and box["height"] == pytest.approx(stage["height"], abs=1)
        page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
        page.keyboard.press("j")
        ready(page, 1, 6)
        page.keyboard.press("1")
        full = page.locator("#picture").bounding_box()
        assert full and full["width"] == pytest.approx(24, abs=1)
        page.keyboard.press("+")
        page.mouse.click(640, 365)
        page.keyboard.press("Escape")
        page.keyboard.press("p")
        page.wait_for_selector("#rest.shown")
        page.keyboard.press("j")  # no answers while paused
        page.keyboard.press("Space")
        ready(page, 1, 6)
        page.keyboard.press("f")
        ready(page, 2, 6)
    page.close()
    first, second = read_looks(small, read_plan(small))
    assert first.x == pytest.approx(6, abs=0.2)
    assert first.y == pytest.approx(12, abs=0.2)
    assert (second.x, second.answer, second.remark) == (None, "OK", "interrupted")
