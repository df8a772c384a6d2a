"""The OpenAPI description and the service agree, whatever fits the description or does not."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.conftest import tiny_card, write_tiny_model
from twonines.serving.app import create_app
from twonines.serving.server import listen
from twonines.settings import ServeSettings

QUICK = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
SESSION = requests.Session()
CARD = tiny_card()


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    model = write_tiny_model(tmp_path_factory.mktemp("api") / "model.onnx", CARD)
    app = create_app(ServeSettings(model=model, execution_provider="cpu"))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    with listen("127.0.0.1", 0) as listener, SESSION:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        server.should_exit = True
        thread.join()


def test_inference_by_the_open_protocol_is_as_described(described: BaseSchema) -> None:
    """On the model that is there; any other name ends before the body is looked at."""
    statuses: set[int] = set()
    labels = set()
    for found in described.include(path_regex=r"^/v2/models/\{name\}").get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        labels.add(operation.label)

        @QUICK
        @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        def check(case: Case[Any]) -> None:
            names = {"name": CARD.name, "version": CARD.version}
            case.path_parameters = {key: names[key] for key in case.path_parameters}
            answer = case.call_and_validate(
                session=SESSION, excluded_checks=[positive_data_acceptance, not_a_server_error]
            )
            assert answer.status_code < 500, answer.content
            statuses.add(answer.status_code)

        check()
    assert {"POST /v2/models/{name}/infer", "GET /v2/models/{name}/stats"} <= labels
    assert len(labels) == 10
    assert 200 in statuses
    assert statuses & {400, 413, 415, 422}


@pytest.mark.parametrize("mode", GenerationMode)
def test_answers_are_as_described(described: BaseSchema, mode: GenerationMode) -> None:
    seen = 0
    failed: list[str] = []
    for found in described.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @QUICK
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Case[Any]) -> None:
            nonlocal seen
            seen += 1
            # Bytes that fit the description need not be a picture.
            answer = case.call_and_validate(
                session=SESSION, excluded_checks=[positive_data_acceptance, not_a_server_error]
            )
            # This service records nothing, and says so with 503 where records are asked for; who
            # gives it a millisecond may be told 504.
            allowed = {503, 504} if "X-Request-Timeout-Ms" in (case.headers or {}) else {503}
            assert answer.status_code < 500 or answer.status_code in allowed, answer.content

        try:
            check()
        except Unsatisfiable:  # nothing that does not fit, where everything does
            assert mode is GenerationMode.NEGATIVE
        except FailureGroup as exc:
            failed += [f"{operation.label}: {one}" for one in exc.exceptions]
    assert not failed
    assert seen > 20
