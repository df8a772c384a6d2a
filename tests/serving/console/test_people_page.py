"""The page People: one's own account, and what an admin does with the others'."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.serving.console.conftest import PASSWORD, Guarded, Site, log_in, serve_guarded
from tests.serving.console.test_access import status
from twonines.serving.people.roles import Role

OTHER = PASSWORD + " staple"


def ask(site: Site, path: str, secret: str) -> Any:
    request = urllib.request.Request(site.url + path, headers={"X-API-Key": secret})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def user(site: Site, secrets: dict[Role, str], name: str) -> dict[str, Any]:
    found = ask(site, "/v1/users", secrets[Role.ADMIN])["users"]
    return next(one for one in found if one["name"] == name)


def choose(page: Page, mark: str, word: str) -> None:
    page.locator(f".q-field:has([data-mark={mark}]), .q-field[data-mark={mark}]").last.click()
    page.get_by_role("option", name=word, exact=True).click()


def fill(page: Page, mark: str, text: str) -> None:
    page.locator(f"[data-mark={mark}]").fill(text)
    page.locator(f"[data-mark={mark}-again]").fill(text)


def test_an_admin_makes_changes_and_disables_a_user(guarded: Guarded, browser: Browser) -> None:
    site, secrets = guarded
    context = browser.new_context(locale="en-GB")
    page = log_in(context, site, "admin")
    page.goto(f"{site.url}/console/people")
    page.locator("[data-mark=user-name]").fill("Anna")
    choose(page, "user-role", "viewer")
    page.locator("[data-mark=user-password]").fill(PASSWORD)
    page.locator("[data-mark=add-user]").click()
    page.get_by_text("The two new passwords differ.").wait_for()
    fill(page, "user-password", PASSWORD)
    page.locator("[data-mark=add-user]").click()
    row = page.locator("[data-user=anna]")
    row.get_by_text("viewer · default · may log in").wait_for()
    assert page.locator("[data-mark=user-password]").input_value() == ""
    row.locator("[data-mark=give-role]").click()
    choose(page, "role", "engineer")
    page.locator("[data-mark=confirm]").last.click()
    row.get_by_text("engineer · default").wait_for()
    row.locator("[data-mark=reset-user]").click()
    fill(page, "reset", OTHER)
    page.locator("[data-mark=confirm]").last.click()
    page.get_by_text("The password of anna is new.").wait_for()
    other = browser.new_context()
    log_in(other, site, "anna", OTHER)
    other.close()
    row.locator("[data-mark=disable]").click()
    page.locator("[data-mark=confirm]").last.click()
    row.get_by_text("disabled").wait_for()
    assert user(site, secrets, "anna")["disabled"] is True
    row.locator("[data-mark=enable]").click()
    row.get_by_text("may log in").wait_for()
    page.locator("[data-user=admin] [data-mark=disable]").click()
    page.locator("[data-mark=confirm]").last.click()
    page.get_by_text("is the last admin").wait_for()
    told = ask(site, "/v1/audit?limit=20", secrets[Role.ADMIN])["audit"]
    acts = {(one["action"], one["actor"]) for one in told if one["subject"] == "anna"}
    assert {("user.add", "user:admin"), ("user.role", "user:admin")} <= acts
    context.close()


def test_a_key_is_shown_once_and_revoked(guarded: Guarded, browser: Browser) -> None:
    site, _ = guarded
    context = browser.new_context(locale="en-GB")
    page = log_in(context, site, "admin")
    page.goto(f"{site.url}/console/people")
    page.locator("[data-mark=key-label]").fill("line-3")
    page.locator("[data-mark=images_per_day]").fill("500")
    page.locator("[data-mark=make-key]").click()
    secret = page.locator("[data-mark=new-key]").input_value()
    assert status(site, "/v1/models", secret) == 200
    page.locator("[data-mark=copy-key]").click()
    page.get_by_text("Copied").wait_for()
    page.locator("[data-mark=close-key]").click()
    page.locator("[data-mark=new-key]").wait_for(state="detached")
    row = page.locator(f"[data-key={secret[:12]}]")
    row.get_by_text("inspector · default · valid · Pictures a day: 500").wait_for()
    assert secret not in page.content()
    row.locator("[data-mark=revoke]").click()
    page.locator("[data-mark=confirm]").last.click()
    row.get_by_text("revoked").wait_for()
    assert status(site, "/v1/models", secret) == 401
    href = page.locator("[data-mark=usage-csv]").get_attribute("href")
    sheet = page.request.get(f"{site.url}{href}")
    assert sheet.status == 200 and sheet.text().startswith("day,tenant,actor,requests")
    context.close()


def test_who_is_no_admin_has_an_account_and_changes_the_password(
    guarded: Guarded, browser: Browser
) -> None:
    site, _ = guarded
    context = browser.new_context(locale="en-GB")
    page = log_in(context, site, "viewer")
    page.goto(f"{site.url}/console/people")
    account = page.locator("[data-mark=account]")
    account.get_by_text("default").wait_for()
    expect(page.locator("[data-mark=users], [data-mark=keys], [data-mark=usage]")).to_have_count(0)
    page.locator("[data-mark=old]").fill(OTHER)
    fill(page, "own", OTHER)
    page.locator("[data-mark=change-own]").click()
    page.get_by_text("name or password is wrong").wait_for()
    page.locator("[data-mark=old]").fill(PASSWORD)
    page.locator("[data-mark=change-own]").click()
    page.wait_for_url("**/login")
    page.close()
    page = log_in(context, site, "viewer", OTHER)
    page.goto(f"{site.url}/console/people")
    page.locator("[data-mark=account]").get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    context.close()


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_two_persons_leave_on_the_page_what_takes_rights_away(
    tmp_path: Path, browser: Browser, locale: str
) -> None:
    with serve_guarded(tmp_path, TWONINES_TWO_PERSON="true") as (site, _):
        context = browser.new_context(locale=locale)
        page = log_in(context, site, "admin")
        page.goto(f"{site.url}/console/people")
        users = page.locator("[data-mark=users]")
        users.get_by_text("twonines users add").wait_for()
        expect(page.locator("[data-mark=add-user], [data-mark=reset-user]")).to_have_count(0)
        expect(page.locator("[data-user=viewer] [data-mark=give-role]")).to_have_count(0)
        page.locator("[data-user=engineer] [data-mark=disable]").click()
        page.locator("[data-mark=confirm]").last.click()
        page.locator("[data-user=engineer] [data-mark=disable]").wait_for(state="detached")
        expect(page.locator("[data-mark=enable]")).to_have_count(0)
        context.close()
