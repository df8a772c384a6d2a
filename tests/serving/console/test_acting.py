"""A page stays open longer than a login or a role; each act asks anew who it is."""

import asyncio
from pathlib import Path

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from tests.serving.people.conftest import PASSWORD, add_user, people_of, serve
from twonines.errors import ConflictError, LoginError, RoleError
from twonines.serving.console.acting import Acting
from twonines.serving.console.texts import Words
from twonines.serving.console.view import Desk, View
from twonines.serving.console.works import Works
from twonines.serving.people.roles import LOCAL, Person, Role
from twonines.serving.people.sessions import COOKIE


def acting(client: TestClient, person: Person, token: str = "") -> Acting:
    headers = [(b"cookie", f"{COOKIE}={token}".encode())]
    request = Request({"type": "http", "headers": headers})
    service = client.app.state.service  # type: ignore[attr-defined]
    return Acting(View(Desk(service, Works()), request, person, Words("en")))


def list_users(page: Acting) -> int:
    return len(asyncio.run(page.ask(lambda acts: acts.list_users())))


def test_a_role_that_was_taken_away_and_a_login_that_ended(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serve(tiny_model, tmp_path) as client:
        people = people_of(client)
        for name in ("root", "other"):
            add_user(client, name, Role.ADMIN)
        token, opened = people.login("root", PASSWORD, "10.0.0.1", None)
        page = acting(client, opened.person, token)
        assert list_users(page) == 2
        people.accounts.change("root", "test", role=Role.VIEWER)
        with pytest.raises(RoleError):
            list_users(page)
        people.accounts.change("root", "test", role=Role.ADMIN)
        assert list_users(page) == 2
        people.logout(token, opened.person)
        with pytest.raises(LoginError, match="it has ended"):
            list_users(page)


@pytest.mark.parametrize("insecure", [False, True])
def test_nobody_acts_unnamed_once_there_is_a_user(
    tiny_model: Path, tmp_path: Path, insecure: bool
) -> None:
    with serve(tiny_model, tmp_path, insecure_no_login=insecure) as client:
        page = acting(client, LOCAL)
        assert list_users(page) == 0
        add_user(client, "root", Role.ADMIN)
        if insecure:
            assert list_users(page) == 1
        else:
            with pytest.raises(LoginError):
                list_users(page)


def test_without_a_place_for_people_the_error_says_so(tiny_model: Path) -> None:
    with serve(tiny_model, Path(), data_dir=None) as client, pytest.raises(ConflictError):
        list_users(acting(client, LOCAL))
