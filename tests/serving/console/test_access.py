"""Who may open which page: every page and every part of one, against every role and none."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path

from playwright.sync_api import Browser

from tests.serving.console.conftest import PASSWORD, PATIENCE_MS, ROOT, Guarded, Site
from twonines.serving.people.roles import CONSOLE, Role

PAGES = sorted(
    key.removeprefix("GET ") for key in CONSOLE if re.fullmatch(r"GET /console/\w*", key)
)


def status(site: Site, path: str, secret: str | None, method: str = "GET") -> int:
    headers = {"X-API-Key": secret} if secret else {}
    request = urllib.request.Request(site.url + path, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def test_each_role_and_none_at_each_page(guarded: Guarded) -> None:
    site, secrets = guarded
    assert len(PAGES) == 10
    for path in PAGES:
        least = CONSOLE[f"GET {path}"]
        assert least is not None
        assert status(site, path, None) == 401, path
        for role, secret in secrets.items():
            assert status(site, path, secret) == (200 if role.covers(least) else 403), (path, role)


def test_no_part_of_a_page_is_open(guarded: Guarded) -> None:
    site, secrets = guarded
    for path in ("/console/reports/x/report.html", "/console/_nicegui_ws/socket.io/?EIO=4",
                 "/console/_nicegui/9.9.9/static/nicegui.js", "/console/none"):  # fmt: skip
        assert status(site, path, None) == 401, path
        assert status(site, path, secrets[Role.ADMIN]) in (200, 400, 404), path
    upload = "/console/_nicegui/client/x/upload/1"
    assert status(site, upload, None, "POST") == 401


def test_redirects_stay_at_this_service(guarded: tuple[Site, dict[Role, str]]) -> None:
    site, secrets = guarded
    headers = {"X-API-Key": secrets[Role.ADMIN], "Host": "evil.example"}
    for path, status, place in (
        ("/", 307, "/console/"), ("/console", 307, "/console/"), ("/console/live/", 404, None),
    ):  # fmt: skip
        connection = HTTPConnection("127.0.0.1", site.port, timeout=60)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("location")) == (status, place), path
        finally:
            connection.close()


def test_every_route_of_the_console_has_an_entry(tmp_path: Path) -> None:
    """In a process of its own, since NiceGUI keeps one application for each."""
    code = (
        "from pathlib import Path; import sys\n"
        "from fastapi.testclient import TestClient\n"
        "from twonines.serving.app import create_app\n"
        "from twonines.serving.people.routes import keys\n"
        "from twonines.settings import ServeSettings\n"
        "app = create_app(ServeSettings(model=Path(sys.argv[1]), console=True))\n"
        "with TestClient(app, base_url='http://localhost') as client:\n"
        "    assert client.get('/console/').status_code == 200\n"
        "    print('\\n'.join(sorted(keys(app.routes))))\n"
    )
    from tests.conftest import tiny_card, write_tiny_model

    model = write_tiny_model(tmp_path / "tiny.onnx", tiny_card())
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], env=environment, capture_output=True, text=True
    )
    listed = {line for line in done.stdout.splitlines() if " /console" in line}
    assert listed == set(CONSOLE), done.stderr


def test_a_person_logs_in_sees_what_the_role_allows_and_logs_out(
    guarded: Guarded, browser: Browser
) -> None:
    site, _ = guarded
    context = browser.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(f"{site.url}/console/models")
    page.wait_for_url("**/login")
    page.locator("#name").fill("viewer")
    page.locator("#password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/live")  # the first page that the role may open
    page.goto(f"{site.url}/console/models")
    page.get_by_text("viewer (viewer)").wait_for()
    page.locator("[data-version='2']").wait_for()
    assert page.locator("[data-mark=activate-1]").count() == 0
    assert page.locator(".rail").all_inner_texts() != []
    assert not any("Teach" in text for text in page.locator(".rail").all_inner_texts())
    answer = page.goto(f"{site.url}/console/teach")
    assert answer is not None and answer.status == 403
    page.get_by_text("This page needs the role engineer or higher.").wait_for()
    page.get_by_text("viewer (viewer)").wait_for()
    page.get_by_role("link", name="History").click()
    page.wait_for_url("**/console/history")
    context.add_cookies([{"name": "twonines_language", "value": "zh", "url": site.url}])
    page.goto(f"{site.url}/console/")
    page.get_by_text("此页面需要“检验员”或更高的角色。").wait_for()
    assert page.get_by_role("link").all_inner_texts() == ["实时", "历史", "模型", "报告", "人员"]
    page.get_by_role("button", name="退出登录").click()
    page.wait_for_url("**/login")
    page.goto(f"{site.url}/console/models")
    page.wait_for_url("**/login")
    context.close()


def test_each_role_lands_on_the_first_page_that_it_may_open(
    guarded: Guarded,
) -> None:
    site, secrets = guarded
    for role, secret in secrets.items():
        request = urllib.request.Request(site.url, headers={"X-API-Key": secret})
        with urllib.request.urlopen(request, timeout=60) as answer:
            landed = answer.url.removeprefix(site.url)
        assert landed == ("/console/live" if role is Role.VIEWER else "/console/"), role
