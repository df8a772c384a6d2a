from pathlib import Path

from fastapi.testclient import TestClient

from tests.images import png
from twonines.serving.app import create_app
from twonines.serving.recent import Recent
from twonines.settings import ServeSettings


def test_old_pictures_make_room() -> None:
    recent = Recent(10)
    recent.put("1", b"12345")
    recent.put("2", b"67890")
    assert (recent.get("1"), recent.get("2")) == ((b"12345", None, ""), (b"67890", None, ""))
    recent.put("3", b"abc")
    assert recent.get("1") is None
    assert (recent.get("2"), recent.get("3")) == ((b"67890", None, ""), (b"abc", None, ""))
    recent.put("4", b"more than ten bytes")
    assert recent.get("4") is None
    assert recent.get("3") == (b"abc", None, "")
    recent.put("5", b"ab", b"12345678")
    assert recent.get("3") is None  # the reference takes room as well
    assert recent.get("5") == (b"ab", b"12345678", "")
    recent.put("6", b"ab", b"123456789")
    assert recent.get("6") is None


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
