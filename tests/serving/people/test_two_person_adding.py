"""A newly taught version, and two persons: it never answers before both, nor after a restart."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.conftest import tiny_card, write_tiny_model
from tests.images import png
from tests.serving.people.conftest import add_user, log_in, people_of, serve
from tests.serving.people.test_two_person import active, post
from tests.serving.test_repository import put
from twonines.errors import ConflictError, ForbiddenError, ModelFileError, SettingsError
from twonines.serving.changes import Changes
from twonines.serving.people.roles import LOCAL, Person, Role
from twonines.serving.service import Service

pytestmark = pytest.mark.usefixtures("cheap_hashes")
ANNA, BEN = Person("anna", Role.ENGINEER), Person("ben", Role.ENGINEER)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """One version, and nothing written down of it."""
    root = tmp_path / "models"
    root.mkdir()
    put(root, "a", "1")
    return root


@pytest.fixture
def taught(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "taught.onnx", tiny_card(name="a", version="1"))


Open = Callable[[], Any]


@pytest.fixture
def open_two(models: Path, tmp_path: Path) -> Open:
    """Starts the service of two persons on the same folders, also again."""

    @contextmanager
    def opened() -> Iterator[TestClient]:
        with serve(models, tmp_path / "data", model_dir=models, two_person=True) as client:
            if not people_of(client).accounts.exist():
                for person in (ANNA, BEN):
                    add_user(client, person.name, person.role)
            log_in(client, "anna")
            yield client

    return opened


def service_of(client: TestClient) -> Service:
    found: Service = client.app.state.service  # type: ignore[attr-defined]
    return found


def add(client: TestClient, person: Person, name: str, path: Path) -> str:
    """As the console's page does it."""
    assert client.portal is not None
    version: str = client.portal.call(Changes(service_of(client)).add, person, name, path)
    return version


def activate(client: TestClient, person: Person, name: str, version: str) -> Any:
    assert client.portal is not None
    change = Changes(service_of(client)).change
    return client.portal.call(change, person, name, version, "activate")


def approve(client: TestClient, key: str) -> None:
    status, body = post(client, f"/v1/approvals/{key}/approve", log_in(client, "ben"))
    assert status == 200, body


def versions(client: TestClient) -> dict[str, object]:
    return {m["name"]: m["version"] for m in client.get("/v1/models").json()["models"]}


def acts(client: TestClient) -> list[tuple[str, str, str]]:
    newest = people_of(client).audit.newest(limit=1000)
    return [(r["actor"], r["action"], r["subject"]) for r in newest]


def ask(client: TestClient, **fields: str) -> int:
    files = {"file": ("a.png", png(0))}
    headers = {"X-CSRF": log_in(client, "anna")}
    answer = client.post("/v1/inspect", files=files, data=fields, headers=headers)
    return int(answer.status_code)


def test_an_added_version_answers_only_after_two(open_two: Open, taught: Path) -> None:
    with open_two() as client:
        assert add(client, ANNA, "a", taught) == "2"
        outcome = activate(client, ANNA, "a", "2")
        assert outcome.approval.state == "pending" and active(client) == "1"
        assert ("user:anna", "model.add", "a/2") in acts(client)
    with open_two() as client:
        assert active(client) == "1"
        approve(client, outcome.approval.id)
        assert active(client) == "2"
    with open_two() as client:
        assert active(client) == "2"
        assert people_of(client).audit.verify().is_sound


def test_an_added_model_answers_only_after_two(open_two: Open, taught: Path) -> None:
    with open_two() as client:
        assert add(client, ANNA, "b", taught) == "1"
        outcome = activate(client, ANNA, "b", "1")
        assert versions(client) == {"a": "1", "b": None}
        assert ask(client, model="b") == 503
        assert ask(client) == 200  # whoever names no model is still answered by the one there is
    with open_two() as client:
        assert versions(client) == {"a": "1", "b": None}
        assert ask(client, model="b") == 503 and ask(client) == 200
        approve(client, outcome.approval.id)
        assert versions(client) == {"a": "1", "b": "1"}
        assert ask(client, model="b") == 200
    with open_two() as client:
        assert versions(client) == {"a": "1", "b": "1"}


def test_what_cannot_be_added_is_written_down_and_changes_nothing(
    open_two: Open, models: Path, tmp_path: Path
) -> None:
    with open_two() as client:
        for name in ("a", "b"):
            with pytest.raises(ModelFileError, match="cannot be copied"):
                add(client, ANNA, name, tmp_path / "none.onnx")
        told = acts(client)
        assert ("user:anna", "model.add.fail", "a/2") in told
        assert ("user:anna", "model.add.fail", "b/1") in told
        with pytest.raises(SettingsError, match="letters, digits"):
            add(client, ANNA, "../c", tmp_path / "none.onnx")
        assert versions(client) == {"a": "1"}
    with open_two() as client:
        assert versions(client) == {"a": "1"}
    assert not list(models.glob(".adding-*"))


def test_only_a_user_adds_where_two_are_wanted(open_two: Open, models: Path, taught: Path) -> None:
    with open_two() as client:
        for person in (LOCAL, Person("0123abcd", Role.ADMIN, kind="key")):
            with pytest.raises(ForbiddenError, match="two_person"):
                add(client, person, "a", taught)
        assert not (models / "a" / "2").exists()


def test_a_file_put_into_the_folder_waits_for_two_as_well(open_two: Open, models: Path) -> None:
    with open_two() as client:
        assert active(client) == "1"
    put(models, "a", "2")
    put(models, "b", "1")
    with open_two() as client:
        assert versions(client) == {"a": "1", "b": None} and ask(client) == 200
        key = activate(client, ANNA, "b", "1").approval.id
    with open_two() as client:
        assert versions(client) == {"a": "1", "b": None}
        approve(client, key)
        assert versions(client) == {"a": "1", "b": "1"}


def test_another_file_in_place_of_the_active_one_waits_for_two(
    open_two: Open, models: Path
) -> None:
    with open_two() as client:
        assert active(client) == "1"
    put(models, "a", "1", 0.9)
    for _ in range(2):  # also at the start after the next
        with open_two() as client:
            assert versions(client) == {"a": None} and ask(client) == 503
            assert client.get("/readyz").status_code == 503
            key = activate(client, ANNA, "a", "1").approval.id
    with open_two() as client:
        approve(client, key)
        assert active(client) == "1" and ask(client) == 200
    with open_two() as client:
        assert active(client) == "1"


def test_one_person_cannot_load_another_file_into_charge(open_two: Open, models: Path) -> None:
    path = models / "a" / "1" / "model.onnx"
    put(models, "b", "1")
    with open_two() as client:
        assert versions(client) == {"a": "1", "b": "1"}
    path.write_bytes(b"broken")
    with open_two() as client:
        assert versions(client) == {"a": None, "b": "1"}
        put(models, "a", "1", 0.9)
        assert client.portal is not None
        client.portal.call(Changes(service_of(client)).change, ANNA, "a", "1", "load")
        assert versions(client) == {"a": None, "b": "1"} and ask(client, model="a") == 503
    with open_two() as client:
        assert versions(client) == {"a": None, "b": "1"}


def test_without_two_persons_it_answers_at_once(models: Path, taught: Path, tmp_path: Path) -> None:
    with serve(models, tmp_path / "data", model_dir=models) as client:
        for name, version in (("a", "2"), ("b", "1")):
            assert add(client, LOCAL, name, taught) == version
            assert activate(client, LOCAL, name, version).approval is None
            assert versions(client)[name] == version
            assert ("local", "model.add", f"{name}/{version}") in acts(client)
        add(client, LOCAL, "a", taught)  # and was not activated, say for a lost escape
    with serve(models, tmp_path / "data", model_dir=models) as client:
        assert versions(client) == {"a": "2", "b": "1"}


def test_two_that_add_at_once_never_get_one_version(
    models: Path, taught: Path, tmp_path: Path
) -> None:
    with serve(models, tmp_path / "data", model_dir=models) as client:
        repository = service_of(client).models
        assert client.portal is not None
        version = client.portal.call(repository.next_version, "a")
        client.portal.call(repository.add, "a", version, taught)
        with pytest.raises(ConflictError, match="must be the next"):
            client.portal.call(repository.add, "a", version, taught)


def test_what_could_not_be_loaded_at_first_is_nobodys_choice(open_two: Open, models: Path) -> None:
    """No digest was written down of it, so that else any file would do."""
    put(models, "b", "1")
    (models / "a" / "1" / "model.onnx").write_bytes(b"broken")
    with open_two() as client:
        assert versions(client) == {"a": None, "b": "1"}
        put(models, "a", "1", 0.9)
        assert client.portal is not None
        client.portal.call(Changes(service_of(client)).change, ANNA, "a", "1", "load")
        assert versions(client) == {"a": None, "b": "1"}
    with open_two() as client:
        assert versions(client) == {"a": None, "b": "1"}
        key = activate(client, ANNA, "a", "1").approval.id
        approve(client, key)
        assert versions(client) == {"a": "1", "b": "1"}
