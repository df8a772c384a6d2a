"""Pictures of every page of the console at two sizes, with real inspections behind them.

Run with ``python -m twonines.benchmarks.screens --out DIR``. It fills a data directory in DIR from
the solar cells of elpv, teaches two versions, inspects over HTTP, and lets a headless Chromium go
through the pages. It needs the extras ``demo`` and ``dev``, and a Chromium on the path.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from twonines.benchmarks.throughput import free_port
from twonines.datasets.record import Record
from twonines.datasets.registry import load_dataset
from twonines.errors import GateError, SettingsError
from twonines.serving.people.sessions import COOKIE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = {"desktop": (1440, 900), "tablet": (1280, 800)}
_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
_PER_CLASS = 100
_PATIENCE_S = 600.0
_PASSWORD = "only for these pictures"


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder; made where missing")
    parser.add_argument("--inspections", type=int, default=160, help="parts behind the pages")
    given = parser.parse_args()
    take_screens(given.out, given.inspections)


def take_screens(out: Path, inspections: int) -> list[Path]:
    """Fill a data directory, serve it, and take every page at every size.

    Raises:
        SettingsError: there is no Chromium on the path.
        GateError: a command failed.
    """
    chromium = next((path for name in _CHROMIUMS if (path := shutil.which(name))), None)
    if chromium is None:
        raise SettingsError(f"chromium: must be on the path as one of {', '.join(_CHROMIUMS)}")
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    records = [r for r in load_dataset("elpv").records if r.certainty == 1]
    random.Random(0).shuffle(records)
    left = _fill(out, records)
    with _serve(out) as url, _open(url) as client, sync_playwright() as playwright:
        _inspect(client, left[:inspections])
        # Without its sandbox, for inside containers it runs as root.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        return list(_shoot(browser, client, out, left))


def _fill(out: Path, records: Sequence[Record]) -> list[Record]:
    """A set, two taught versions, a report and a study; gives the records that are not in it."""
    counts: Counter[str] = Counter()
    left = []
    solar = out / "data" / "sets" / "solar"
    for record in records:
        if counts[record.defect_class] == _PER_CLASS:
            left.append(record)
            continue
        counts[record.defect_class] += 1
        (solar / record.defect_class).mkdir(parents=True, exist_ok=True)
        shutil.copy(record.path, solar / record.defect_class / record.path.name)
    named = ["--dataset", "folder", "--root", str(solar)]
    for version in ("1", "2"):
        run, place = out / f"run{version}", out / "models" / "solar" / version
        if not (run / "metrics.json").is_file():
            _run("train", *named, "--out", str(run), "--seed", version)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(run / "model.onnx", place)
    report, study = out / "data" / "reports" / "solar", out / "data" / "studies" / "night-shift"
    if not report.is_dir():
        _run("bench", "--model", str(out / "run2" / "model.onnx"), *named, "--out", str(report),
             "--no-throughput")  # fmt: skip
    if not (study / "plan.json").is_file():
        _run("study", "plan", *named, "--out", str(study), "--pictures", "40")
    return left


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "twonines", *arguments], check=False)
    if done.returncode:
        raise GateError(f"{' '.join(arguments[:2])}: must succeed, got exit {done.returncode}")


@contextmanager
def _serve(out: Path) -> Iterator[str]:
    port = free_port()
    settings = {"DATA_DIR": str(out / "data"), "KEEP_PICTURES": "all", "REVIEW_OK_SHARE": "0.1"}
    environment = {**os.environ, **{f"TWONINES_{name}": text for name, text in settings.items()}}
    process = subprocess.Popen(
        [sys.executable, "-m", "twonines", "serve", "--model-dir", str(out / "models"),
         "--port", str(port)], env=environment,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        limit = time.monotonic() + _PATIENCE_S
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > limit:
                raise GateError("serve: must come up, it did not")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def _open(url: str) -> Iterator[httpx.Client]:
    """A client that has logged in as the admin; there are others, and a key."""
    with httpx.Client(base_url=url, timeout=_PATIENCE_S, trust_env=False) as client:
        admin = {"name": "admin", "password": _PASSWORD}
        # Refused where the folder was filled before, and then the others are there as well.
        is_new = client.post("/v1/users", json={**admin, "role": "admin"}).status_code == 201
        login = client.post("/v1/login", json=admin)
        client.headers["X-CSRF"] = login.raise_for_status().json()["csrf"]
        if is_new:
            for name, role in (("maria", "inspector"), ("chen wei", "engineer")):
                user = {"name": name, "role": role, "password": _PASSWORD}
                client.post("/v1/users", json=user).raise_for_status()
            key = {"label": "line-3", "role": "inspector", "images_per_day": 50_000}
            client.post("/v1/keys", json=key).raise_for_status()
        yield client


def _inspect(client: httpx.Client, records: Sequence[Record]) -> None:
    """Lots of 20 parts from two stations; some are reviewed, and one escape is found later."""
    found: list[tuple[Record, dict[str, Any]]] = []
    for index, record in enumerate(records):
        fields = {"part_id": f"C{index:04d}", "lot": f"L{index // 20 + 1}",
                  "station": f"EL-{index % 2 + 1}"}  # fmt: skip
        answer = client.post(
            "/v1/inspect", data=fields,
            files={"file": (record.path.name, record.path.read_bytes())},
        )  # fmt: skip
        found.append((record, answer.raise_for_status().json()["results"][0]))
    for record, result in [one for one in found if one[1]["verdict"] != "ERROR"][::4]:
        said = "NG" if record.is_defective else "OK"
        client.post(f"/v1/inspections/{result['id']}/reviews", json={"verdict": said})
    escape = next((r for record, r in found if record.is_defective and r["verdict"] == "OK"), None)
    if escape:
        client.post("/v1/findings", json={"kind": "escape", "inspection_id": escape["id"],
                                          "note": "found at lamination"})  # fmt: skip


def _shoot(
    browser: "Browser", client: httpx.Client, out: Path, left: Sequence[Record]
) -> Iterator[Path]:
    url = str(client.base_url).rstrip("/")
    login = client.cookies[COOKIE]
    pictures = [str(record.path) for record in left[-8:]]
    steps: dict[str, Callable[[Page], object]] = {
        "inspect": lambda page: _drop(page, pictures),
        "live": lambda page: page.wait_for_selector("[data-mark=stream] .verdict canvas, canvas"),
        "review": lambda page: page.wait_for_selector("[data-review] img"),
        "history": _look_at_one,
        "models": lambda page: page.wait_for_selector("[data-mark=compare]"),
        "data": _check,
        "teach": _teach,
        "study": lambda page: page.wait_for_selector("[data-study]"),
        "reports": lambda page: page.wait_for_selector("[data-report]"),
        "people": lambda page: page.wait_for_selector("[data-user]"),
    }
    for size, (width, height) in SIZES.items():
        context = browser.new_context(viewport={"width": width, "height": height}, locale="en-GB")
        context.set_default_timeout(_PATIENCE_S * 1000)
        context.add_cookies([{"name": COOKIE, "value": login, "url": url}])
        page = context.new_page()
        for name, prepare in steps.items():
            page.goto(f"{url}/console/{'' if name == 'inspect' else name}")
            page.wait_for_selector(".nicegui-content > *")
            prepare(page)
            page.wait_for_timeout(1500)
            yield _take(page, out / f"{name}-{size}.png")
        page.get_by_text("中文").click()
        page.get_by_text("报告").first.wait_for()
        page.goto(f"{url}/console/review")
        page.wait_for_selector("[data-review] img")
        page.wait_for_timeout(1000)
        yield _take(page, out / f"review-zh-{size}.png")
        context.close()


def _take(page: "Page", path: Path) -> Path:
    page.screenshot(path=path)
    print(path)
    return path


def _drop(page: "Page", pictures: Sequence[str]) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("[data-mark=drop] button").first.click()
    chooser.value.set_files(list(pictures))
    page.locator(".thumb").nth(len(pictures) - 1).wait_for()


def _look_at_one(page: "Page") -> None:
    page.locator("[data-mark=find-lot]").fill("L2")
    page.locator("[data-mark=search]").click()
    page.wait_for_selector("[data-mark=group-OK]")
    page.locator("[data-row]").first.click()
    page.wait_for_selector("[data-mark=detail] img")


def _check(page: "Page") -> None:
    if not page.locator("canvas").count():
        page.locator("[data-mark=check]").click()
    page.wait_for_selector("canvas")


def _teach(page: "Page") -> None:
    if not page.locator("[data-mark=compare-active]").count():
        page.locator("[data-mark=teach]").click()
    page.locator("[data-mark=compare-active]").click()
    page.locator("[data-mark=tallies]").scroll_into_view_if_needed()


if __name__ == "__main__":
    main()
