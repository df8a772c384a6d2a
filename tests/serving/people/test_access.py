"""The table of access against the app's own list of routes, for every role and for nobody."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.serving.people.conftest import people_of, serve
from twonines.serving.people.roles import ACCESS, CONSOLE, Role
from twonines.serving.people.routes import find_key, keys

_VALUES = {"verb": "load", "decision": "approve", "path": "x"}


@pytest.fixture(scope="module")
def opened(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, dict[Role | None, dict[str, str]]]]:
    with serve(tiny_model, tmp_path_factory.mktemp("data")) as client:
        found: dict[Role | None, dict[str, str]] = {None: {}}
        for role in Role:
            secret, _ = people_of(client).keys.add(str(role), role, "test")
            found[role] = {"X-API-Key": secret}
        yield client, found


def path_of(key: str) -> tuple[str, str]:
    method, template = key.split(" ", 1)
    path = re.sub(r"\{(\w+)(:\w+)?\}", lambda m: _VALUES.get(m[1], "x"), template)
    return ("GET" if method == "ANY" else method), path.replace("/*", "/x")


def test_every_route_has_an_entry_and_every_entry_a_route(
    opened: tuple[TestClient, dict[Role | None, dict[str, str]]],
) -> None:
    app = opened[0].app
    assert isinstance(app, FastAPI)
    listed = set(keys(app.routes))
    assert len(listed) > 25
    assert listed - set(ACCESS) == set(), "a route without an entry is refused for everyone"
    assert set(ACCESS) - listed == set(CONSOLE), "an entry without a route"


@pytest.mark.parametrize("key", sorted(set(ACCESS) - set(CONSOLE)))
def test_each_role_and_none_at_each_route(
    opened: tuple[TestClient, dict[Role | None, dict[str, str]]], key: str
) -> None:
    client, credentials = opened
    method, path = path_of(key)
    least = ACCESS[key]
    for role, headers in credentials.items():
        if key == "DELETE /v1/keys/{prefix}" and role is Role.ADMIN:
            path = "/v1/keys/none"
        answer = client.request(method, path, headers=headers, follow_redirects=False)
        if least is None or (role is not None and role.covers(least)):
            # The route itself answered; approvals need a login, which its own text says.
            assert answer.status_code != 401 or path == "/v1/login", (role, answer.text)
            assert "may not do this" not in answer.text, (role, answer.text)
        elif role is None:
            assert answer.status_code == 401, answer.text
            assert answer.headers["www-authenticate"] == "Bearer"
        else:
            assert answer.status_code == 403, (role, answer.text)
            assert f"{role} may not do this" in answer.json()["error"]


def test_a_browser_gets_a_page_where_the_role_does_not_cover_it(
    opened: tuple[TestClient, dict[Role | None, dict[str, str]]],
) -> None:
    client, credentials = opened
    asked = {**credentials[Role.VIEWER], "Accept": "text/html,*/*;q=0.8"}
    page = client.get("/v1/usage", headers={**asked, "Accept-Language": "en-GB,en"})
    assert page.status_code == 403
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert '<html lang="en">' in page.text and "This page needs the role admin" in page.text
    assert 'href="/"' in page.text, "a service without console has one page"
    assert "console" not in page.text
    page = client.get("/v1/usage", headers={**asked, "Accept-Language": "zh-CN"})
    assert '<html lang="zh">' in page.text and "管理员" in page.text
    told = client.post("/v1/users", headers=asked, json={})
    assert told.status_code == 403 and "may not do this" in told.json()["error"]


def test_nobody_learns_which_paths_exist_and_a_page_leads_to_the_login(
    opened: tuple[TestClient, dict[Role | None, dict[str, str]]],
) -> None:
    client, credentials = opened
    for path in ("/nothing", "/v1/inspect/", "/docs/../docs", "//docs", "/v1/users/x/y"):
        assert client.get(path, follow_redirects=False).status_code == 401, path
    page = client.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/login")
    assert client.get("/nothing", headers=credentials[Role.VIEWER]).status_code == 404
    assert client.put("/metrics", headers=credentials[Role.VIEWER]).status_code == 405
    assert client.head("/metrics").status_code == 401


@pytest.mark.parametrize("path", ["/%2e%2e/v1/users", "/static-offline-docs/../v1/users",
                                  "/static-offline-docs/%2e%2e/v1/users",
                                  "/static-offline-docs/..%2f..%2fapp.py",
                                   "/v1/./users"])  # fmt: skip
def test_no_way_around_through_the_path(
    opened: tuple[TestClient, dict[Role | None, dict[str, str]]], path: str
) -> None:
    client, credentials = opened
    for role in (None, Role.VIEWER):
        answer = client.get(path, headers=credentials[role])
        assert answer.status_code in (401, 403, 404), answer.text
        assert "users" not in answer.text or answer.status_code != 200


def test_a_new_route_is_refused_until_it_has_an_entry(tiny_model: Path, tmp_path: Path) -> None:
    client = serve(tiny_model, tmp_path)
    app, inner = client.app, FastAPI()
    assert isinstance(app, FastAPI)

    @app.get("/v1/new")
    def new() -> str:
        return "new"

    @inner.get("/deep")
    def deep() -> str:
        return "deep"

    @inner.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()

    app.mount("/inner", inner)
    with client:
        # Even for the local admin of a first try.
        assert client.get("/v1/models").status_code == 200
        for path in ("/v1/new", "/inner/deep"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["error"]) == (
                403, "access: nobody may do this",
            ), path  # fmt: skip
        with pytest.raises(WebSocketDisconnect):
            with client.websocket_connect("/inner/socket"):
                pass
    assert {"GET /inner/deep", "WS /inner/socket"} <= set(keys(app.routes))


def test_the_route_is_found_as_the_router_does() -> None:
    app, inner = FastAPI(), FastAPI(openapi_url=None)

    @app.get("/a/{name}")
    def first(name: str) -> None: ...

    @app.post("/a/b")
    def second() -> None: ...

    @inner.get("/_nicegui/9.8.7/esm/{key}")
    def asset(key: str) -> None: ...

    app.mount("/c", inner)

    def find(method: str, path: str, root: str = "") -> str | None:
        scope = {"type": "http", "method": method, "path": root + path, "root_path": root}
        return find_key(app.routes, scope)

    assert find("GET", "/a/b") == "GET /a/{name}"
    assert find("HEAD", "/a/b") == "GET /a/{name}"
    assert find("POST", "/a/b") == "POST /a/b"
    assert find("POST", "/a/b", root="/behind") == "POST /a/b"
    assert find("DELETE", "/a/b") == "GET /a/{name}"  # answers 405
    assert find("GET", "/a/b/c") is None
    assert find("GET", "/c/none") is None
    assert find("GET", "/c/_nicegui/9.8.7/esm/x") is not None


def test_roles_cover_those_before_them_and_are_not_compared_as_words() -> None:
    order = [Role.VIEWER, Role.INSPECTOR, Role.ENGINEER, Role.ADMIN]
    for i, role in enumerate(order):
        assert [role.covers(other) for other in order] == [j <= i for j in range(4)]
    with pytest.raises(TypeError):
        _ = Role.VIEWER < Role.ADMIN  # type: ignore[operator]


@pytest.mark.parametrize("path", ["/v1/inspections/", "/docs/", "/login/", "/v2/", "/console"])
def test_no_redirect_leads_to_a_host_that_the_client_names(
    opened: tuple[TestClient, dict[Role | None, dict[str, str]]], path: str
) -> None:
    client, credentials = opened
    headers = {**credentials[Role.ADMIN], "Host": "evil.example"}
    answer = client.get(path, headers=headers, follow_redirects=False)
    assert answer.status_code == 404 and "location" not in answer.headers
