import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.images import png
from twonines.client import AsyncClient, Client, ClientError, RefusedError, Result
from twonines.serving.app import create_app
from twonines.settings import ServeSettings
from twonines.types import Verdict

ENTRY = {"verdict": "OK", "score": 0.1, "class": "good", "novelty": 0.0, "regions": [],
         "reasons": [], "certificate": None, "error": None, "id": "1"}  # fmt: skip
GOOD = {"results": [ENTRY], "model": {"name": "m"}}
Ask = Callable[[list[httpx.Response], float], list[Result]]
asked: list[httpx.Request] = []


def handler(answers: list[httpx.Response]) -> Callable[[httpx.Request], httpx.Response]:
    asked.clear()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answers.pop(0)

    return answer


def ask_sync(answers: list[httpx.Response], timeout_s: float) -> list[Result]:
    transport = httpx.MockTransport(handler(answers))
    with Client(timeout_s=timeout_s, transport=transport) as client:
        return client.inspect(png(0), model="m")


def ask_async(answers: list[httpx.Response], timeout_s: float) -> list[Result]:
    async def ask() -> list[Result]:
        transport = httpx.MockTransport(handler(answers))
        async with AsyncClient(timeout_s=timeout_s, transport=transport) as client:
            return await client.inspect(png(0), model="m")

    return asyncio.run(ask())


@pytest.fixture(params=[ask_sync, ask_async])
def ask(request: pytest.FixtureRequest) -> Ask:
    chosen: Ask = request.param
    return chosen


def later(status: int, wait: str = "0") -> httpx.Response:
    return httpx.Response(status, json={"error": "later"}, headers={"Retry-After": wait})


def test_refused_for_now_is_tried_again(ask: Ask) -> None:
    found = ask([later(429), later(503, "soon"), httpx.Response(200, json=GOOD)], 10)
    assert found[0].verdict is Verdict.OK and len(asked) == 3
    assert b'name="model"' in asked[-1].content  # the whole form goes out again


def test_a_wait_beyond_the_deadline_ends_at_once(ask: Ask) -> None:
    with pytest.raises(RefusedError) as caught:
        ask([later(429, "60")], 5)
    assert caught.value.status_code == 429 and len(asked) == 1


@pytest.mark.parametrize("status", [400, 404, 413, 500])
def test_what_does_not_help_is_not_tried_again(ask: Ask, status: int) -> None:
    with pytest.raises(RefusedError, match="why") as caught:
        ask([httpx.Response(status, json={"error": "why"})], 10)
    assert caught.value.status_code == status and len(asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"results": [], "model": {}},
        {"results": [ENTRY, ENTRY], "model": {}},
        {"results": [{**ENTRY, "verdict": "FINE"}], "model": {}},
        {"results": [{"verdict": "OK"}], "model": {}},
        [],
        "text",
    ],
)
def test_an_answer_that_is_none_is_an_error(ask: Ask, answer: object) -> None:
    with pytest.raises(ClientError):
        ask([httpx.Response(200, json=answer)], 10)


def test_real_service(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "bright.png"
    path.write_bytes(png(250))
    with TestClient(create_app(ServeSettings(model=tiny_model))) as service:

        def forward(request: httpx.Request) -> httpx.Response:
            kind = {"content-type": request.headers["content-type"]}
            given = service.post(request.url.path, content=request.content, headers=kind)
            return httpx.Response(given.status_code, content=given.content)

        client = Client(transport=httpx.MockTransport(forward))
        found = client.inspect([png(0), path, b"nonsense"])
        assert [r.verdict for r in found] == [Verdict.OK, Verdict.NG, Verdict.ERROR]
        assert found[2].error and found[2].score is None
        assert client.inspect(b"nonsense")[0].verdict is Verdict.ERROR  # its status is 415
        with pytest.raises(RefusedError, match="404"):
            client.inspect(png(0), model="other")
        client.close()


def test_no_service_and_bad_arguments() -> None:
    with Client("http://127.0.0.1:1", timeout_s=0.3) as client:
        with pytest.raises(ClientError, match="no answer"):
            client.inspect(png(0))
        with pytest.raises(ValueError, match="pictures: "):
            client.inspect([])
    with pytest.raises(ValueError, match="timeout_s: "):
        Client(timeout_s=0)
    with pytest.raises(ValueError, match="url: must begin with http"):
        Client("127.0.0.1:8000")
    with pytest.raises(ValueError, match="url: must begin with http"):
        AsyncClient("127.0.0.1:8000")
