"""A page acts for the person it was drawn for, or not at all."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.images import png
from tests.serving.console.conftest import PASSWORD, PATIENCE_MS, Open, Site, drop, picture
from twonines.serving.people.roles import Role

Guarded = tuple[Site, dict[Role, str]]
HOOK = """() => {
  window.sent = [];
  const emit = window.socket.emit.bind(window.socket);
  window.socket.emit = (...args) => { window.sent.push(args); return emit(...args); };
}"""


@pytest.fixture
def context(guarded: Guarded, browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(locale="en-GB")
    made.set_default_timeout(PATIENCE_MS)
    yield made
    made.close()


def log_in(context: BrowserContext, site: Site, name: str) -> None:
    """Log out whoever is there, and another one in, as from another tab."""
    tab = context.new_page()
    tab.goto(f"{site.url}/login")
    done = tab.evaluate(
        """async given => {
          await fetch('/v1/logout', {method: 'POST'});
          const answer = await fetch('/v1/login', {method: 'POST', body: JSON.stringify(given),
            headers: {'Content-Type': 'application/json'}});
          return answer.status;
        }""",
        {"name": name, "password": PASSWORD},
    )
    assert done == 200
    tab.close()


def open_models(context: BrowserContext, site: Site) -> Page:
    page = context.new_page()
    page.goto(f"{site.url}/console/models")
    page.locator("[data-mark=activate-1]").wait_for()
    return page


def audit(context: BrowserContext, site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = context.request.get(f"{site.url}/v1/audit").json()["audit"]
    return found


def test_after_another_login_the_old_page_becomes_the_new_persons(
    guarded: Guarded, context: BrowserContext
) -> None:
    site, _ = guarded
    log_in(context, site, "engineer")
    old = open_models(context, site)
    old.get_by_text("engineer (engineer)").wait_for()
    log_in(context, site, "admin")
    old.locator("[data-mark=activate-1]").click()
    old.get_by_text("admin (admin)").wait_for()
    log = audit(context, site)
    assert not [line for line in log if line["actor"] == "user:engineer" and
                line["action"].startswith("model.")]  # fmt: skip


def test_no_socket_reaches_a_page_of_somebody_else(
    guarded: Guarded, context: BrowserContext, browser: Browser
) -> None:
    """Not by its address and not by its messages."""
    site, _ = guarded
    log_in(context, site, "engineer")
    theirs = open_models(context, site)
    theirs.evaluate(HOOK)
    theirs.locator("[data-mark=activate-1]").click()
    theirs.locator("[data-mark=confirm]").wait_for()
    clicks = [said for said in theirs.evaluate("window.sent") if said[0] == "event"]
    query = theirs.evaluate("window.socket.io.opts.query")
    assert clicks and query["client_id"] == clicks[-1][1]["client_id"]
    elsewhere = browser.new_context(locale="en-GB")
    log_in(elsewhere, site, "admin")
    mine = open_models(elsewhere, site)
    told = mine.evaluate(
        """async ([query, clicks]) => {
          for (const [event, message] of clicks) window.socket.emit(event, message);
          const answers = {};
          answers.again = await window.socket.emitWithAck('handshake', {...query});
          const other = io({path: '/console/_nicegui_ws/socket.io', forceNew: true,
            transports: ['websocket'], query});
          answers.connect = await new Promise(done => {
            other.on('connect', () => done('connected'));
            other.on('connect_error', error => done(error.message));
          });
          const bare = io({path: '/console/_nicegui_ws/socket.io', forceNew: true,
            transports: ['websocket']});
          await new Promise(done => bare.on('connect', done));
          answers.bare = await bare.emitWithAck('handshake', {...query});
          other.close();
          bare.close();
          return answers;
        }""",
        [query, clicks],
    )
    elsewhere.close()
    assert told == {"again": False, "connect": "Implicit handshake failed", "bare": False}
    theirs.wait_for_timeout(500)
    assert theirs.locator("[data-mark=confirm]").count() == 1


def test_only_websockets(guarded: Guarded, context: BrowserContext) -> None:
    """Long polling would be many requests with one person, the first one's."""
    site, secrets = guarded
    answer = context.request.get(
        f"{site.url}/console/_nicegui_ws/socket.io/?EIO=4&transport=polling",
        headers={"X-API-Key": secrets[Role.ADMIN]},
    )
    assert answer.status == 400 and "transport" in answer.text().lower()


def test_no_upload_reaches_a_page_of_somebody_else(
    guarded: Guarded, context: BrowserContext
) -> None:
    site, secrets = guarded
    log_in(context, site, "engineer")
    page = context.new_page()
    page.goto(f"{site.url}/console/")
    page.locator("[data-mark=drop]").wait_for()
    found = re.search(r"/_nicegui/client/[-0-9a-f]+/upload/[0-9]+", page.content())
    assert found is not None
    address = f"{site.url}/console{found[0]}"
    form: Any = {"file": {"name": "a.png", "mimeType": "image/png", "buffer": png(0)}}

    def send(secret: str | None) -> tuple[int, str]:
        headers = {"Origin": site.url, **({"X-API-Key": secret} if secret else {})}
        answer = context.request.post(address, multipart=form, headers=headers)
        return answer.status, answer.text()

    for role in (Role.ENGINEER, Role.ADMIN):
        status, text = send(secrets[role])
        assert status == 403 and "page: must be of the person" in json.loads(text)["error"]
    assert send(None)[0] == 200
    log_in(context, site, "admin")
    assert send(None)[0] == 403


def test_an_upload_is_bounded_before_it_is_kept(site: Site, open_page: Open) -> None:
    page = open_page()
    found = re.search(r"/_nicegui/client/[-0-9a-f]+/upload/[0-9]+", page.content())
    assert found is not None
    big: Any = {"name": "big.png", "mimeType": "image/png", "buffer": png(0) + bytes(2 * 2**20)}
    answer = page.request.post(f"{site.url}/console{found[0]}", multipart={"file": big})
    assert answer.status == 413
    drop(page, "drop", big, picture("good.png", 0))
    page.get_by_text("big.png", exact=False).first.wait_for()
    page.wait_for_function("document.querySelector('[data-mark=count-OK]')?.innerText === '1'")
