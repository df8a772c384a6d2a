"""A request that is held open, and a page that is left alone, outlive no login."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.serving.people.conftest import (
    PASSWORD,
    Clock,
    add_user,
    log_in,
    people_of,
    serve,
)  # fmt: skip
from twonines.serving.people import guard as guard_module
from twonines.serving.people import people as people_module
from twonines.serving.people.guard import Guard
from twonines.serving.people.people import People
from twonines.serving.people.roles import Role
from twonines.serving.people.sessions import COOKIE


@pytest.fixture(autouse=True)
def asked_at_once(monkeypatch: pytest.MonkeyPatch, cheap_hashes: None) -> None:
    monkeypatch.setattr(guard_module, "_FRESH_S", 0.0)


def hold(
    client: TestClient, path: str, headers: dict[str, str], body: bytes, between: Callable[[], Any]
) -> int:
    """Send all but the last byte, do what is to be done meanwhile, and send the last."""
    statuses: list[int] = []
    parts = [body[:-1], body[-1:]]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "client": ("127.0.0.1", 1), "server": ("localhost", 80),
        "headers": [(name.lower().encode(), value.encode()) for name, value in {
            "host": "localhost", "content-type": "application/json",
            "content-length": str(len(body)), **headers}.items()],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        if len(parts) == 1:
            between()
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def run() -> None:
        await client.app(scope, receive, send)

    assert client.portal is not None
    client.portal.call(run)
    return statuses[0]


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": Role.ENGINEER}, {}])
def test_a_login_must_hold_when_the_body_is_there(
    tiny_model: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    with serve(tiny_model, tmp_path) as client:
        for name in ("anna", "dora"):
            add_user(client, name, Role.ADMIN)
        csrf = log_in(client, "dora")
        headers = {"cookie": f"{COOKIE}={client.cookies[COOKIE]}", "x-csrf": csrf}
        people = people_of(client)
        body = b'{"label": "x", "role": "admin"}'

        def between() -> None:
            if change:
                people.accounts.change("dora", "test", **change)

        status = hold(client, "/v1/keys", headers, body, between)
        assert status == (401 if change else 201)
        assert len(people.keys.list()) == (0 if change else 1)


def test_a_key_must_hold_when_the_body_is_there(tiny_model: Path, tmp_path: Path) -> None:
    with serve(tiny_model, tmp_path) as client:
        people = people_of(client)
        secret, key = people.keys.add("x", Role.ADMIN, "test")
        body = f'{{"name": "eve", "password": "{PASSWORD}", "role": "admin"}}'.encode()
        headers = {"x-api-key": secret}
        status = hold(
            client, "/v1/users", headers, body, lambda: people.keys.revoke(key.prefix, "t")
        )
        assert status == 401 and people.accounts.list() == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "ends"),
    [("3", True), ('42["ack",{"client_id":"x"}]', True), ('42["event",{"id":1}]', False),
     ('42["javascript_response",{}]', True)],
)  # fmt: skip
async def test_a_page_that_is_left_alone_is_no_use_of_the_login(
    people: People, clock: Clock, monkeypatch: pytest.MonkeyPatch, text: str, ends: bool
) -> None:
    monkeypatch.setattr(people_module, "_KNOWN_S", 0.0)
    people.accounts.add("anna", Role.VIEWER, PASSWORD, "test")
    token, login = people.login("anna", PASSWORD, "10.0.0.1", None)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.receive", "text": text}

    async def nothing(*_: Any) -> None:
        return None

    guard = Guard(nothing, people=lambda: people, routes=list, stores=True, insecure=False)
    scope = {
        "type": "websocket", "headers": [(b"cookie", f"{COOKIE}={token}".encode())],
        "state": {"person": login.person},
    }  # fmt: skip
    watched = guard._watched(scope, receive)
    kinds = []
    for _ in range(4):
        clock.pass_s(250)  # a login rests for 600 s at most here
        kinds.append((await watched())["type"])
    assert ("websocket.disconnect" in kinds) == ends
