"""People in an empty database, with cheap hashes and a clock that a test sets."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from twonines.serving.app import create_app
from twonines.serving.people import people as people_module
from twonines.serving.people.passwords import Passwords
from twonines.serving.people.people import People
from twonines.serving.people.roles import Role
from twonines.serving.store.database import Database
from twonines.settings import ServeSettings

PASSWORD = "correct horse battery"


def cheap() -> Passwords:
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@dataclass
class Clock:
    now: int = 1_700_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += round(seconds * 1e6)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.in_folder(tmp_path)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def people(database: Database, clock: Clock) -> People:
    return People(database, idle_s=600, max_s=3600, passwords=cheap(), clock=clock)


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people_module, "Passwords", cheap)


def serve(model: Path, folder: Path, **changes: object) -> TestClient:
    values = {
        "model": model, "data_dir": folder, "execution_provider": "cpu", "decode_workers": 1,
        **changes,
    }  # fmt: skip
    if "model_dir" in values:
        del values["model"]
    app = create_app(ServeSettings.model_validate(values))
    return TestClient(app, base_url="http://localhost")


def people_of(client: TestClient) -> People:
    found: People = client.app.state.service.people  # type: ignore[attr-defined]
    return found


def add_user(client: TestClient, name: str, role: Role) -> None:
    people_of(client).accounts.add(name, role, PASSWORD, "test")


def log_in(client: TestClient, name: str, password: str = PASSWORD) -> str:
    """Logs the client in, and gives the token for X-CSRF."""
    client.cookies.clear()
    answer = client.post("/v1/login", json={"name": name, "password": password})
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["csrf"]
    return token
