"""The main way through each page, in a real browser against the real service."""

import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.images import png
from tests.serving.console.conftest import Open, Site, choose, drop, picture

EVIL = "<img src=x onerror=window.evil=1>"
PAGES = ("", "live", "review", "history", "models", "data", "teach", "study", "reports", "people")


def ask(site: Site, path: str) -> Any:
    with urllib.request.urlopen(site.url + path, timeout=60) as answer:
        return json.load(answer)


def post(site: Site, value: int, part: str, lot: str = "L1") -> dict[str, Any]:
    """Inspect one picture over HTTP, as a line does."""
    lines = [b"--x", b'Content-Disposition: form-data; name="file"; filename="a.png"', b"",
             png(value)]  # fmt: skip
    for name, text in (("part_id", part), ("lot", lot)):
        head = f'Content-Disposition: form-data; name="{name}"'.encode()
        lines += [b"--x", head, b"", text.encode()]
    body = b"\r\n".join([*lines, b"--x--", b""])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{site.url}/v1/inspect", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        result: dict[str, Any] = json.load(answer)["results"][0]
    return result


def wait_for_figure(page: Page, mark: str, text: str) -> None:
    page.wait_for_function(
        "([mark, text]) => document.querySelector(`[data-mark=${mark}]`)?.innerText === text",
        arg=[mark, text],
    )


def test_the_service_opens_at_its_root(site: Site, open_page: Open) -> None:
    page = open_page()
    page.goto(site.url)
    page.wait_for_selector("[data-mark=drop]")
    assert page.url == f"{site.url}/console/"
    assert ask(site, "/readyz") == {"status": "ready"}


def test_inspect(site: Site, open_page: Open) -> None:
    page = open_page()
    page.locator("[data-mark=part_id]").fill(EVIL)
    drop(page, "drop", picture("good.png", 0), picture(f"{EVIL}.png", 250), picture("dim.png", 125))
    wait_for_figure(page, "count-OK", "1")
    wait_for_figure(page, "count-NG", "1")
    wait_for_figure(page, "count-REVIEW", "1")
    page.locator(".thumb").nth(2).wait_for()
    page.locator("[data-mark=result] img").nth(1).wait_for()
    shown = set()
    for _ in range(3):  # newest first; the arrow goes back in time
        shown.add(page.locator("[data-mark=result] dd").first.inner_text())
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(300)
    assert shown == {"good.png", f"{EVIL}.png", "dim.png"}
    drop(page, "drop", {"name": "bad.png", "mimeType": "image/png", "buffer": b"no picture"})
    wait_for_figure(page, "count-ERROR", "1")
    found = ask(site, "/v1/inspections?limit=4")["inspections"]
    assert [item["verdict"] for item in found].count("ERROR") == 1
    assert {item["part_id"] for item in found} == {EVIL}
    assert page.evaluate("window.evil") is None


def test_live(site: Site, open_page: Open) -> None:
    post(site, 250, EVIL)
    page = open_page("live")
    page.locator("[data-mark=stream] .verdict.NG").first.wait_for()
    before = int(page.locator("[data-mark=live-OK]").inner_text())
    post(site, 0, "P-live")
    wait_for_figure(page, "live-OK", str(before + 1))
    page.get_by_text("P-live").wait_for()
    assert page.locator("[data-mark=health] .notice.good").count() == 2
    assert page.evaluate("window.evil") is None


def test_review_by_the_keyboard_alone(site: Site, open_page: Open) -> None:
    first, second = post(site, 124, "P-first"), post(site, 125, "P-second")
    assert first["verdict"] == second["verdict"] == "REVIEW"
    page = open_page("review")
    while page.locator("[data-review]").get_attribute("data-review") != first["id"]:
        key = page.locator("[data-review]").get_attribute("data-review")
        page.keyboard.press("s")
        page.wait_for_selector(f"[data-review]:not([data-review='{key}'])")
    page.keyboard.press("1")  # the first kind of defect
    page.wait_for_selector("[data-kind='1']:not(.q-btn--outline)")
    page.keyboard.press("n")
    page.wait_for_selector(f"[data-review]:not([data-review='{first['id']}'])")
    decided = ask(site, f"/v1/inspections/{first['id']}")
    assert (decided["decision"], decided["decision_class"]) == ("NG", "scratch")
    assert decided["reviews"][0]["reviewer"] == "local"
    while page.locator("[data-review]").get_attribute("data-review") != second["id"]:
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(300)
    page.keyboard.press("o")
    wait_for_figure(page, "done", "2")
    assert ask(site, f"/v1/inspections/{second['id']}")["decision"] == "OK"


def test_history_finds_a_part_and_takes_an_escape(site: Site, open_page: Open) -> None:
    found = post(site, 0, "P-77", "L-77")
    for value in (0, 250):
        post(site, value, "P-78", "L-77")
    page = open_page("history")
    page.locator("[data-mark=find-lot]").fill("L-77")
    page.locator("[data-mark=search]").click()
    wait_for_figure(page, "group-OK", "2")
    wait_for_figure(page, "group-NG", "1")
    page.locator("[data-mark=find-part_id]").fill("P-77")
    page.keyboard.press("Enter")
    wait_for_figure(page, "group-OK", "1")
    page.locator(f"[data-row='{found['id']}']").click()
    page.locator("[data-mark=detail] img").nth(1).wait_for()
    page.locator("[data-mark=finding]").click()
    page.locator("[data-mark=note]").fill(EVIL)
    page.locator("[data-mark=report]").click()
    page.locator("[data-mark=detail]").get_by_text("onerror").wait_for()
    kept = ask(site, "/v1/findings?part_id=P-77")["findings"]
    assert [(one["kind"], one["note"], one["inspection_id"]) for one in kept] == [
        ("escape", EVIL, found["id"])
    ]
    assert page.evaluate("window.evil") is None


def test_models_are_compared_activated_shadowed_and_rolled_back(
    site: Site, open_page: Open
) -> None:
    def active() -> Any:
        return ask(site, "/v1/models")["models"][0]["version"]

    page = open_page("models")
    assert active() == "2"
    page.locator("[data-mark=compare] td", has_text="0.6").wait_for()
    page.locator("[data-mark=activate-1]").click()
    page.get_by_role("button", name="Cancel").click()
    page.locator("[data-mark=activate-1]").click()
    page.locator("[data-mark=confirm]").last.click()
    page.locator("[data-version='1']", has_text="active: answers").wait_for()
    assert active() == "1"
    page.locator("[data-mark=shadow-2]").click()
    page.locator("[data-version='2']", has_text="shadow: compares").wait_for()
    page.locator("[data-mark=unload-2]").click()
    page.locator("[data-mark=shadow-2]").wait_for()  # only what is no shadow can become one
    page.locator("[data-mark=rollback]").first.click()
    page.locator("[data-mark=confirm]").last.click()
    page.locator("[data-version='2']", has_text="active: answers").wait_for()
    assert active() == "2"


def test_data_is_checked_and_mended(site: Site, open_page: Open) -> None:
    for index in range(6):
        for name, value in (("good", 10), ("scratch", 200)):
            folder = site.data / "sets" / "faulty" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.png").write_bytes(png(value + index))
    wrong = site.data / "sets" / "faulty" / "good" / "wrong.png"
    wrong.write_bytes(png(203))
    page = open_page("data")
    page.locator("[data-mark=check]").click()
    page.locator("[data-mark=conflicts]").get_by_text("good/wrong.png").wait_for()
    assert page.locator("[data-mark=browse] img").count() == 7
    page.wait_for_function(  # each comes when it has been decoded
        "() => [...document.querySelectorAll('[data-mark=browse] img')].every(i => i.naturalWidth)"
    )
    page.locator("[data-mark=browse] img[alt='wrong.png']").click()
    page.get_by_role("button", name="Move to scratch").click()
    page.wait_for_function("document.querySelectorAll('[data-mark=browse] img').length === 6")
    assert not wrong.exists() and (wrong.parent.parent / "scratch" / "wrong.png").is_file()


def test_teach_takes_pictures_by_class(site: Site, open_page: Open) -> None:
    page = open_page("teach")
    page.locator("[data-mark=new-set]").fill("../up")
    page.locator("[data-mark=make-set]").click()
    page.get_by_text("set: must be 1 to 80").wait_for()
    page.locator("[data-mark=new-set]").fill("gears")
    page.locator("[data-mark=make-set]").click()
    page.get_by_text("gears: 0 pictures").wait_for()
    assert page.locator("[data-mark=teach]").is_disabled()
    page.locator("[data-mark=new-class]").fill("scratch")
    chooser = choose(page, "class-good")
    page.locator("[data-mark=add-class]").click()
    drop(page, "class-scratch", *[picture(f"{i}.png", 200 + i) for i in range(3)])
    page.get_by_text("scratch: 3 pictures").wait_for()
    assert page.locator("[data-mark=new-class]").input_value() == ""  # ready for the next one
    # What comes to one class takes no file from who is choosing for another.
    chooser.set_files([picture(f"{i}.png", 10 + i) for i in range(3)])
    page.get_by_text("good: 3 pictures").wait_for()
    page.get_by_text("gears: 6 pictures").wait_for()
    page.locator("[data-mark=teach]:enabled").wait_for()
    assert len(list((site.data / "sets" / "gears").glob("*/*.png"))) == 6


def test_a_study_is_planned_served_and_linked(site: Site, open_page: Open) -> None:
    for left in (site.data / "sets").glob("*"):  # of other tests
        shutil.rmtree(left)
    for index in range(20):
        for name, value in (("good", 10), ("scratch", 200)):
            folder = site.data / "sets" / "looks" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.png").write_bytes(png(value + index, (40 + index, 60)))
    page = open_page("study")
    page.locator("[data-mark=study-name]").fill("first")
    page.locator("[data-mark=study-pictures]").fill("4")
    page.locator("[data-mark=plan]").click()
    page.locator("[data-mark=start-study]").click()
    link = page.locator("[data-mark=study-link]")
    link.wait_for()
    with page.expect_popup() as opened:
        link.click()
    opened.value.wait_for_selector("#who")
    opened.value.close()
    page.get_by_role("button", name="Stop").click()
    page.locator("[data-mark=from-outside]").click()
    page.locator("[data-mark=start-study]").click()
    link.wait_for()
    page.get_by_role("button", name="Stop").click()
    page.locator("[data-mark=start-study]").wait_for()


def test_reports_are_listed_and_run_no_script(site: Site, open_page: Open) -> None:
    folder = site.data / "reports" / "made"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<h1>Report</h1><script>window.evil = 1</script>")
    page = open_page("reports")
    with page.expect_popup() as opened:
        page.locator("[data-report=made]").get_by_role("button", name="Open").click()
    opened.value.get_by_text("Report").wait_for()
    assert opened.value.evaluate("window.evil") is None
    answer = page.request.get(f"{site.url}/console/reports/%2e%2e/report.html")
    assert answer.status == 404


def test_the_language_is_switched_and_kept(open_page: Open) -> None:
    page = open_page("models")
    page.get_by_text("中文").click()
    page.get_by_text("比较两个版本").wait_for()
    page.goto(page.url.replace("models", "reports"))
    page.get_by_text("报告").first.wait_for()


@pytest.mark.parametrize("path", PAGES)
def test_whatever_can_be_pressed_is_large_and_named(open_page: Open, path: str) -> None:
    page = open_page(path)
    page.wait_for_timeout(500)
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, a, [role=button], .q-field__control')]
        .filter(e => e.checkVisibility())
        .map(e => [e.getBoundingClientRect(), e.innerText || e.ariaLabel || ''])
        .filter(([box, name]) => box.height < 47.5 || box.width < 47.5)
        .map(([box, name]) => `${name} ${box.width} x ${box.height}`)"""
    )
    assert small == []
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, a, img')].filter(e => e.checkVisibility())
        .filter(e => !(e.innerText || e.ariaLabel || e.alt || e.querySelector('img[alt]')))
        .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert unnamed == []
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert over <= 0, "nothing may stand beyond the screen's side"


def test_nothing_of_it_is_left_in_the_working_folder() -> None:
    assert not Path(".nicegui").exists()
