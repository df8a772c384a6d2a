"""Passwords, logins and sessions, and what is tried against them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.serving.people.conftest import PASSWORD, Clock, add_user, cheap, log_in, people_of, serve
from twonines.errors import ConflictError, InputError, LoginError, OverloadedError, UnknownError
from twonines.serving.people import guard as guard_module
from twonines.serving.people.limits import LoginLimit, Tries
from twonines.serving.people.names import checked_name
from twonines.serving.people.people import People
from twonines.serving.people.roles import Role
from twonines.serving.people.sessions import COOKIE

pytestmark = pytest.mark.usefixtures("cheap_hashes")


@pytest.mark.parametrize(
    "name",
    ["", "x" * 65, "a\r\nSet-Cookie: b=c", "a\nb", "a\x00b", "<script>", "a'; DROP TABLE users; --",
     'a"b', " a", "a ", "-a", "@a", "a\u202eb", "a\ud800", "=1+1"],
)  # fmt: skip
def test_names_that_a_header_page_or_sheet_would_obey_are_refused(
    people: People, name: str
) -> None:
    with pytest.raises(InputError, match="^name: "):
        people.accounts.add(name, Role.VIEWER, PASSWORD, "test")
    with pytest.raises(LoginError):
        people.accounts.check(name, PASSWORD, "10.0.0.1")
    assert people.accounts.list() == []
    assert people.audit.newest()[0]["subject"] == "(no such user)"


def test_one_spelling_of_a_name(people: People) -> None:
    assert checked_name("name", "Ａnna") == "anna"
    people.accounts.add("Anna", Role.VIEWER, PASSWORD, "test")
    people.accounts.add("王伟", Role.VIEWER, PASSWORD, "test")
    with pytest.raises(ConflictError):
        people.accounts.add("ANNA", Role.ADMIN, PASSWORD, "test")
    assert people.accounts.check("aNNa", PASSWORD, "10.0.0.1").name == "anna"


def test_passwords_are_hashed_with_argon2_and_bounded() -> None:
    passwords = cheap()
    stored = passwords.hash(PASSWORD)
    assert stored.startswith("$argon2id$") and PASSWORD not in stored
    assert stored != passwords.hash(PASSWORD)
    assert passwords.matches(stored, PASSWORD)
    for wrong in (PASSWORD[:-1], PASSWORD + " ", "", "x" * 10**6, "\ud800" * 12):
        assert not passwords.matches(stored, wrong)
        assert not passwords.matches(None, wrong)
    for bad in ("x" * 9, "x" * 1025, "\ud800" * 12):
        with pytest.raises(InputError, match="^password: ") as caught:
            passwords.hash(bad)
        assert bad not in str(caught.value)


def test_an_unknown_name_takes_as_much_work_as_a_known_one(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.accounts.add("anna", Role.VIEWER, PASSWORD, "test")
    hasher = people.accounts._passwords._hasher
    verify, asked = type(hasher).verify, []

    def noted(self: Any, known: str, given: str) -> Any:
        asked.append(known)
        return verify(self, known, given)

    monkeypatch.setattr(type(hasher), "verify", noted)
    texts = []
    for name in ("anna", "nobody"):
        with pytest.raises(LoginError) as caught:
            people.accounts.check(name, "wrong password", "10.0.0.1")
        texts.append(str(caught.value))
    assert len(asked) == 2 and texts[0] == texts[1]
    assert [h.split("$")[3] for h in asked][0] == [h.split("$")[3] for h in asked][1]


def slow(people: People) -> list[float]:
    """A user, and the seconds of the limit's clock, which a test sets."""
    ticks = [0.0]
    limit = people.accounts._limit = LoginLimit(lambda: ticks[0])
    for tries in (limit._addresses, limit._pairs, limit._names):
        tries._secret = bytes(16)  # with a random one, two keys share a bucket once in 16,384 runs
    people.accounts.add("anna", Role.VIEWER, PASSWORD, "test")
    return ticks


def test_brute_force_is_slowed_by_name_and_by_address(people: People) -> None:
    ticks = slow(people)
    for _ in range(5):
        with pytest.raises(LoginError):
            people.accounts.check("anna", "wrong password", "10.0.0.1")
    with pytest.raises(OverloadedError) as caught:
        people.accounts.check("anna", PASSWORD, "10.0.0.1")
    assert caught.value.retry_after_s == pytest.approx(60)
    ticks[0] = 60.0
    assert people.accounts.check("anna", PASSWORD, "10.0.0.1").name == "anna"
    for number in range(20):
        with pytest.raises(LoginError):
            people.accounts.check(f"n{number}", "wrong password", "2001:db8::1")
    with pytest.raises(OverloadedError):  # the same /64
        people.accounts.check("other", "wrong password", "2001:db8::ffff")
    with pytest.raises(LoginError):
        people.accounts.check("other", "wrong password", "2001:db8:0:1::1")


def test_no_other_address_keeps_a_person_out(people: People) -> None:
    ticks = slow(people)
    for _ in range(600):  # an hour, at more than any limit gives back
        with pytest.raises((LoginError, OverloadedError)):
            people.accounts.check("anna", "wrong password", "10.9.9.9")
        assert people.accounts.check("anna", PASSWORD, "10.0.0.1").name == "anna"
        ticks[0] += 6.0


def test_guesses_of_one_name_from_everywhere_are_bounded(people: People) -> None:
    ticks = slow(people)
    for number in range(100):
        with pytest.raises(LoginError):
            people.accounts.check("anna", "wrong password", f"10.0.{number}.1")
    with pytest.raises(OverloadedError) as caught:
        people.accounts.check("anna", PASSWORD, "10.1.0.1")
    assert caught.value.retry_after_s == pytest.approx(10)
    ticks[0] = 10.0
    assert people.accounts.check("anna", PASSWORD, "10.1.0.1").name == "anna"


def test_a_right_password_costs_no_try(people: People) -> None:
    people.accounts.add("anna", Role.VIEWER, PASSWORD, "test")
    for _ in range(30):
        people.accounts.check("anna", PASSWORD, "10.0.0.1")


def test_tries_are_bounded_in_memory_and_exact_at_once() -> None:
    tries = Tries(5, 60.0, lambda: 0.0)
    for number in range(50_000):
        tries.take(f"name {number}")
    assert len(tries._buckets) <= 1 << 14
    tries = Tries(5, 60.0, lambda: 0.0)
    with ThreadPoolExecutor(16) as pool:
        waits = list(pool.map(lambda _: tries.take("anna"), range(200)))
    assert sum(wait == 0 for wait in waits) == 5


def test_the_cookie_is_out_of_reach_and_never_one_that_was_planted(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serve(tiny_model, tmp_path) as client:
        add_user(client, "anna", Role.VIEWER)
        client.cookies.set(COOKIE, "planted" * 6)
        answer = client.post("/v1/login", json={"name": "anna", "password": PASSWORD})
        flags = answer.headers["set-cookie"].lower()
        assert "httponly" in flags and "samesite=strict" in flags and "path=/" in flags
        first = answer.cookies[COOKIE]
        assert first != "planted" * 6
        client.cookies.clear()
        client.cookies.set(COOKIE, first)
        token = client.post("/v1/login", json={"name": "anna", "password": PASSWORD}).cookies[
            COOKIE
        ]
        assert token != first
        for old in ("planted" * 6, first, "", "x" * 10_000):
            client.cookies.clear()
            client.cookies.set(COOKIE, old)
            assert client.get("/v1/me").status_code == 401
        client.cookies.clear()
        client.cookies.set(COOKIE, token)
        assert client.get("/v1/me").json()["name"] == "anna"
        assert client.post("/v1/logout", headers={"Origin": "http://localhost"}).status_code == 204
        client.cookies.set(COOKIE, token)
        assert client.get("/v1/me").status_code == 401
        with people_of(client).database.reading() as connection:
            dump = str(connection.exec_driver_sql("SELECT * FROM logins").all())
        assert token not in dump and first not in dump


def test_an_unsafe_request_by_cookie_needs_the_origin_or_the_token(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serve(tiny_model, tmp_path) as client:
        add_user(client, "root", Role.ADMIN)
        csrf = log_in(client, "root")
        body = {"label": "x", "role": "viewer"}
        for headers, status in (
            ({}, 403),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://localhost.evil.example"}, 403),
            ({"X-CSRF": "x" * 43}, 403),
            ({"X-CSRF": ""}, 403),
            ({"X-CSRF": csrf}, 201),
            ({"Origin": "http://localhost"}, 201),
            ({"X-CSRF": csrf, "Origin": "http://evil.example"}, 201),
        ):
            answer = client.post("/v1/keys", json=body, headers=headers)
            assert answer.status_code == status, (headers, answer.text)
        assert len(people_of(client).keys.list()) == 3
        form = client.post("/v1/keys", content=b'{"label":"x","role":"viewer"}',
                           headers={"X-CSRF": csrf, "Content-Type": "text/plain"})  # fmt: skip
        assert form.status_code == 422
        login = {"name": "root", "password": PASSWORD}
        foreign = client.post("/v1/login", json=login, headers={"Origin": "http://evil.example"})
        assert foreign.status_code == 403


def test_without_login_no_foreign_page_and_no_name_from_afar(
    tiny_model: Path, tmp_path: Path
) -> None:
    with serve(tiny_model, tmp_path) as client:
        assert client.get("/v1/me").json()["name"] == "local"
        for headers in (
            {"Origin": "http://evil.example"},
            {"Host": "evil.example"},
            {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
        ):
            assert client.post("/v1/logout", headers=headers).status_code == 403, headers
        assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
        for host in ("127.0.0.1:8000", "[::1]:8000", "localhost:1"):
            assert client.get("/v1/models", headers={"Host": host}).status_code == 200, host
        # The first user ends it at once.
        add_user(client, "root", Role.ADMIN)
        assert client.get("/v1/models").status_code == 401


def test_a_session_ends_by_rest_by_age_and_with_its_user(people: People, clock: Clock) -> None:
    people.accounts.add("root", Role.ADMIN, PASSWORD, "test")
    people.accounts.add("anna", Role.VIEWER, PASSWORD, "test")

    def enter() -> str:
        return people.login("anna", PASSWORD, "10.0.0.1", None)[0]

    def lives(token: str) -> bool:
        return people.sessions.find(token) is not None

    token = enter()
    clock.pass_s(600)
    assert lives(token)
    clock.pass_s(601)
    assert not lives(token)
    token = enter()
    for _ in range(7):
        clock.pass_s(500)
        assert lives(token)
    clock.pass_s(101)
    assert not lives(token)
    token = enter()
    clock.pass_s(590)
    assert people.sessions.find(token, touch=False) is not None
    clock.pass_s(20)
    assert not lives(token)
    changes: tuple[Callable[[], object], ...] = (
        lambda: people.accounts.change("anna", "test", password=PASSWORD),
        lambda: people.accounts.change("anna", "test", disabled=True),
    )
    for change in changes:
        token = enter()
        people.find_login(token)
        change()
        assert people.find_login(token) is None
    with pytest.raises(LoginError):
        enter()
    tokens = [people.login("root", PASSWORD, "10.0.0.1", None)[0] for _ in range(25)]
    assert sum(map(lives, tokens)) == 20


def test_a_new_role_counts_at_once_and_the_last_admin_stays(people: People) -> None:
    people.accounts.add("root", Role.ADMIN, PASSWORD, "test")
    token = people.login("root", PASSWORD, "10.0.0.1", None)[0]
    changes: tuple[Callable[[], object], ...] = (
        lambda: people.accounts.change("root", "test", role=Role.VIEWER),
        lambda: people.accounts.change("root", "test", disabled=True),
    )
    for change in changes:
        with pytest.raises(ConflictError, match="last admin"):
            change()
    people.accounts.add("second", Role.ADMIN, PASSWORD, "test")
    login = people.find_login(token)
    assert login and login.person.role is Role.ADMIN
    people.accounts.change("root", "test", role=Role.VIEWER)
    login = people.find_login(token)
    assert login and login.person.role is Role.VIEWER
    with pytest.raises(UnknownError):
        people.accounts.change("none", "test", role=Role.VIEWER)
    actions = [(r["action"], r["subject"]) for r in people.audit.newest()]
    assert actions == [("user.role", "root"), ("user.add", "second"), ("login", "root"),
                       ("user.add", "root")]  # fmt: skip


def test_large_and_many_logins_at_once(tiny_model: Path, tmp_path: Path) -> None:
    with serve(tiny_model, tmp_path) as client:
        add_user(client, "anna", Role.VIEWER)
        huge = client.post("/v1/login", json={"name": "anna", "password": "x" * 10**6})
        assert huge.status_code == 413
        chunked = client.post("/v1/login", content=iter([b"x" * 10_000] * 10))
        assert chunked.status_code in (413, 422)
        bodies: list[Any] = [{"name": "anna"}, {"name": 1, "password": []}, [], {"x": 1}]
        for body in bodies:
            answer = client.post("/v1/login", json=body)
            assert answer.status_code == 422
        wrong = client.post(
            "/v1/login", json={"name": "anna", "password": "secret of mine", "x": 1}
        )
        assert "secret of mine" not in wrong.text
        barrier = threading.Barrier(12)

        def attempt(_: int) -> int:
            barrier.wait()
            body = {"name": "anna", "password": "wrong password"}
            return client.post("/v1/login", json=body).status_code

        with ThreadPoolExecutor(12) as pool:
            statuses = sorted(pool.map(attempt, range(12)))
        assert statuses == [401] * 5 + [429] * 7
        answer = client.post("/v1/login", json={"name": "anna", "password": PASSWORD})
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        fails = [r for r in people_of(client).audit.newest() if r["action"] == "login.fail"]
        assert len(fails) == 5 and fails[0]["details"]["address"] == "testclient"
        # What a client says of where it comes from does not count.
        spoofed = client.post("/v1/login", headers={"X-Forwarded-For": "10.9.9.9"},
                              json={"name": "anna", "password": PASSWORD})  # fmt: skip
        assert spoofed.status_code == 429


def test_the_login_page_is_open_and_brings_everything_along(client_page: TestClient) -> None:
    page = client_page.get("/login")
    assert page.status_code == 200 and "frame-ancestors 'none'" in page.headers[
        "content-security-policy"]  # fmt: skip
    assert "http://" not in page.text and "https://" not in page.text


@pytest.fixture
def client_page(tiny_model: Path, tmp_path: Path) -> TestClient:
    return serve(tiny_model, tmp_path)


def test_tries_that_are_refused_are_told_once(people: People) -> None:
    def refused() -> list[str]:
        newest = people.audit.newest(1000)
        return [r["details"]["address"] for r in newest if r["action"] == "login.limit"]

    for number in range(30):
        with pytest.raises((LoginError, OverloadedError)):
            people.accounts.check("anna", f"wrong password {number}", "10.0.0.1")
    assert refused() == ["10.0.0.1"]
    for number in range(30):  # who has a whole /64 could else fill the log
        with pytest.raises((LoginError, OverloadedError)):
            people.accounts.check("anna", "wrong password", f"2001:db8::{number:x}")
    assert refused() == ["2001:db8::5", "10.0.0.1"]


def test_what_is_so_already_is_no_change(people: People) -> None:
    for name in ("root", "anna"):
        people.accounts.add(name, Role.ADMIN, PASSWORD, "test")
    token = people.login("anna", PASSWORD, "10.0.0.1", None)[0]
    before = people.audit.newest()
    people.accounts.change("anna", "test", disabled=False, role=Role.ADMIN)
    assert people.find_login(token) is not None and people.audit.newest() == before


def test_a_person_in_a_loop_is_slowed(
    tiny_model: Path, tmp_path: Path, cheap_hashes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "MOST_LOOKS", 3)
    with serve(tiny_model, tmp_path) as client:
        for name in ("anna", "ben"):
            add_user(client, name, Role.VIEWER)
        log_in(client, "anna")
        statuses = [client.get("/metrics").status_code for _ in range(8)]
        assert statuses[:3] == [200] * 3 and 429 in statuses[3:]
        assert client.get("/v1/models").status_code == 200
        log_in(client, "ben")
        assert client.get("/metrics").status_code == 200
