import io
import re
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.images import png
from twonines.models.outputs import Outputs
from twonines.models.session import InspectionSession
from twonines.serving.app import create_app
from twonines.settings import ServeSettings


@pytest.fixture(scope="module")
def client(tiny_model: Path) -> Iterator[TestClient]:
    settings = ServeSettings(
        model=tiny_model,
        max_bytes=200_000,
        max_body_bytes=1_000_000,
        max_files=8,
        max_pixels=10_000,
    )
    with TestClient(create_app(settings)) as opened:
        yield opened


def test_multipart_and_raw_agree(client: TestClient) -> None:
    form = client.post("/v1/inspect", files={"file": ("a.png", png(250))}).json()["results"][0]
    raw = client.post(
        "/v1/inspect", content=png(250), headers={"content-type": "image/png"}
    ).json()["results"][0]
    assert form["verdict"] == raw["verdict"] == "NG"
    assert form["score"] == raw["score"] > 0.99
    assert form["class"] == "scratch"
    assert form["regions"][0]["box"] == [0, 0, 60, 40]


def test_many_files_keep_their_order(client: TestClient) -> None:
    files = [("files", (f"{v}.png", png(v))) for v in (250, 0, 250, 10)]
    answer = client.post("/v1/inspect", files=files, data={"lot": "L7"})
    assert [r["verdict"] for r in answer.json()["results"]] == ["NG", "OK", "NG", "OK"]
    assert [r["file"] for r in answer.json()["results"]] == [
        "250.png",
        "0.png",
        "250.png",
        "10.png",
    ]
    assert answer.json()["lot"] == "L7"


def test_mixed_upload_answers_per_file(client: TestClient) -> None:
    files = [("files", ("good.png", png(0))), ("files", ("bad.png", b"nonsense"))]
    answer = client.post("/v1/inspect", files=files)
    assert answer.status_code == 200
    good, bad = answer.json()["results"]
    assert good["verdict"] == "OK"
    assert bad["verdict"] == "ERROR"
    assert bad["error"]["status"] == 415


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (png(0)[:60], 422),
        (b"", 422),
        (b"%PDF-1.4 not a picture", 415),
        (png(0, (200, 200)), 413),
        (bytes(200_001), 413),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_bad_picture_has_its_status(
    client: TestClient, data: bytes, status: int, raw: bool
) -> None:
    if raw:
        headers = {"content-type": "image/png"}
        answer = client.post("/v1/inspect", content=data, headers=headers)
    else:
        answer = client.post("/v1/inspect", files={"file": ("a.png", data)})
    assert answer.status_code == status
    assert answer.json()["error"]
    assert "OK" not in [r["verdict"] for r in answer.json().get("results", [])]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"", "", 415),
        (b"no boundary", "multipart/form-data", 400),
        (b"garbage", "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="lot"\r\n\r\n1\r\n--x--\r\n',
         "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n--x--\r\n',
         "multipart/form-data; boundary=x", 400),
    ],
)  # fmt: skip
def test_bad_request(client: TestClient, content: bytes, kind: str, status: int) -> None:
    answer = client.post("/v1/inspect", content=content, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_too_many_files_and_too_large_a_body(client: TestClient) -> None:
    many = [("files", (f"{i}.png", png(0))) for i in range(9)]
    assert client.post("/v1/inspect", files=many).status_code == 413
    large = [("files", (f"{i}.png", bytes(190_000))) for i in range(6)]
    assert client.post("/v1/inspect", files=large).status_code == 413


def corrupted(rng: np.random.Generator) -> bytes:
    noise = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, rng.choice(["PNG", "JPEG", "BMP", "GIF", "TIFF"]))
    data = bytearray(out.getvalue())
    kind = rng.integers(3)
    if kind == 0:
        return bytes(data[: rng.integers(0, len(data))])
    if kind == 1:
        return bytes(rng.integers(0, 256, rng.integers(0, 2000), dtype=np.uint8))
    for place in rng.integers(0, len(data), 30):
        data[place] = rng.integers(256)
    return bytes(data)


def decodes(data: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a damaged tag warns; only the pixels count
            with Image.open(io.BytesIO(data)) as image:
                image.load()
    except Exception:
        return False
    return True


def test_a_thousand_corrupted_uploads(client: TestClient) -> None:
    rng = np.random.default_rng(0)
    for index in range(1000):
        data = corrupted(rng)
        answer = client.post(
            "/v1/inspect", content=data, headers={"content-type": "application/octet-stream"}
        )
        assert answer.status_code < 500, (index, answer.text)
        verdict = answer.json().get("results", [{"verdict": "ERROR"}])[0]["verdict"]
        if not decodes(data):
            assert verdict == "ERROR" and answer.status_code in (413, 415, 422), index
    good = client.post("/v1/inspect", files={"file": ("a.png", png(0))})
    assert good.json()["results"][0]["verdict"] == "OK"


def test_health_models_metrics_and_page(client: TestClient) -> None:
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    model = client.get("/v1/models").json()["models"][0]
    assert model["name"] == "tiny" and model["card"]["classes"] == ["good", "scratch"]
    client.post("/v1/inspect", files={"file": ("a.png", png(0))})
    text = client.get("/metrics").text
    for name in ("twonines_batch_size_sum", 'twonines_verdict_total{verdict="OK"}',
                 "twonines_queue_duration_seconds", "twonines_model_version_info"):  # fmt: skip
        assert name in text
    assert "http" not in client.get("/").text.replace("https://", "http").split("<script")[0]
    assert client.get("/openapi.json").json()["paths"]["/v1/inspect"]


def test_page_places_boxes_on_the_picture_and_links_the_overlay(client: TestClient) -> None:
    page = client.get("/").text
    # Stretched, the picture's frame is taller than the picture, and boxes in its percents slip.
    assert re.search(r"article \{[^}]*align-items: flex-start", page)
    assert "image.onerror" in page and "cannot show this type" in page
    link = re.search(r'link\.href = "(.+?)" \+ encodeURIComponent\(result\.id\) \+ "(.+?)"', page)
    assert link
    assert 'element("dd", result.id)' in page
    answer = client.post("/v1/inspect", files={"file": ("a.tif", png(250, image_format="TIFF"))})
    shown = client.get(link[1] + answer.json()["results"][0]["id"] + link[2])
    assert shown.status_code == 200
    assert shown.headers["content-type"] == "image/png"


def test_request_id_is_kept_when_it_is_harmless(client: TestClient) -> None:
    assert client.get("/healthz", headers={"x-request-id": "a1"}).headers["x-request-id"] == "a1"
    made = client.get("/healthz", headers={"x-request-id": "x" * 129}).headers["x-request-id"]
    assert len(made) == 32


def test_clients_share_batches(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = InspectionSession.run

    def slow(self: InspectionSession, *images: Any, **how: Any) -> Outputs:
        time.sleep(0.01)
        return run(self, *images, **how)

    monkeypatch.setattr(InspectionSession, "run", slow)
    settings = ServeSettings(model=tiny_model, max_wait_ms=20)
    with TestClient(create_app(settings)) as client, ThreadPoolExecutor(64) as pool:
        values = [int(v) for v in np.random.default_rng(0).choice([0, 250], 256)]

        def ask(value: int) -> tuple[int, str]:
            answer = client.post("/v1/inspect", files={"file": ("a.png", png(value))})
            return answer.status_code, answer.json()["results"][0]["verdict"]

        answers = list(pool.map(ask, values))
        metrics = client.get("/metrics").text
    assert answers == [(200, "NG" if v else "OK") for v in values]
    runs = float(metrics.split("\ntwonines_exec_total ")[1].split()[0])
    assert runs < 200


def test_not_ready_is_503(tiny_model: Path) -> None:
    client = TestClient(create_app(ServeSettings(model=tiny_model)))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_documentation_needs_no_internet(client: TestClient, page: str) -> None:
    text = client.get(page).text
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert sources and all(source.startswith("/") for source in sources)
    assert all(client.get(source).status_code == 200 for source in sources)
