from pathlib import Path

from fastapi.testclient import TestClient

from tests.images import png
from twonines.serving.app import create_app
from twonines.serving.recent import Recent
from twonines.settings import ServeSettings


def test_old_pictures_make_room() -> None:
    recent = Recent(10)
    first, second = recent.put(b"12345"), recent.put(b"67890")
    assert first < second
    assert (recent.get(first), recent.get(second)) == (b"12345", b"67890")
    third = recent.put(b"abc")
    assert recent.get(first) is None
    assert (recent.get(second), recent.get(third)) == (b"67890", b"abc")
    assert recent.get(recent.put(b"more than ten bytes")) is None
    assert recent.get(third) == b"abc"


def test_overlay_of_a_recent_inspection(tiny_model: Path) -> None:
    with TestClient(create_app(ServeSettings(model=tiny_model))) as client:
        answer = client.post("/v1/inspect", files={"file": ("a.png", png(250))}).json()
        found = client.get(f"/v1/inspections/{answer['results'][0]['id']}/overlay")
        assert found.status_code == 200
        assert found.headers["content-type"] == "image/png"
        assert found.content.startswith(b"\x89PNG")
        missing = client.get("/v1/inspections/0000/overlay")
        assert missing.status_code == 404
        assert "recent" in missing.json()["error"]
        broken = client.post("/v1/inspect", files={"file": ("a.png", b"x")}).json()
        assert broken["results"][0]["id"] is None
