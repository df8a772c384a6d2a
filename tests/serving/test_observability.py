"""Logs, traces, headers, deadlines and readiness over HTTP."""

import json
import logging
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from tests.images import png
from twonines.serving.app import create_app
from twonines.serving.logs import JsonFormatter, TextFormatter
from twonines.serving.tracing import read_trace_id
from twonines.settings import ServeSettings

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def client_of(model: Path, **changes: object) -> TestClient:
    values = {"model": model, "execution_provider": "cpu", **changes}
    return TestClient(create_app(ServeSettings.model_validate(values)))


def inspect(client: TestClient, **headers: str) -> "tuple[int, dict[str, str]]":
    answer = client.post("/v1/inspect", files={"file": ("a.png", png(0))}, headers=headers)
    return answer.status_code, dict(answer.headers)


def test_headers_tell_the_batch_and_every_stage(tiny_model: Path) -> None:
    with client_of(tiny_model) as client:
        status, headers = inspect(client)
        text = client.get("/metrics").text
    assert status == 200 and headers["x-batch-size"] == "1"
    times = dict(part.split(";dur=") for part in headers["server-timing"].split(", "))
    stages = ("decode_queue", "decode", "resize", "queue", "compute", "decision")
    assert {*stages, "total", "request"} == set(times)
    assert float(times["total"]) >= sum(float(times[name]) for name in stages) * 0.99
    for name in stages:
        assert f"twonines_{name}_duration_seconds_count 1.0" in text
    assert (
        'twonines_waiting_pictures{name="tiny",version="1"} 0.0' in text
        and "twonines_batch_input_seconds" in text
    )


def test_deadline_header_is_read_and_refused_by_name(tiny_model: Path) -> None:
    with client_of(tiny_model) as client:
        assert inspect(client, **{"X-Request-Timeout-Ms": "20000"})[0] == 200
        for wrong in ("0", "-5", "1.5", "soon", "9" * 30):
            assert inspect(client, **{"X-Request-Timeout-Ms": wrong})[0] == 400


def test_full_queue_is_told_before_the_body_is_read(tiny_model: Path) -> None:
    with client_of(tiny_model, queue_size=1) as client:
        client.app.state.service.batcher._in_flight = 1  # type: ignore[attr-defined]
        answer = client.post("/v1/inspect", content=b"no form", headers={"content-type": "x/y"})
        assert answer.status_code == 429 and "retry-after" in answer.headers
        assert "twonines_refusal_duration_seconds_count 1.0" in client.get("/metrics").text
        client.app.state.service.batcher._in_flight = 0  # type: ignore[attr-defined]


def test_draining_is_503_at_readyz_while_pictures_are_answered(tiny_model: Path) -> None:
    with client_of(tiny_model) as client:
        assert client.get("/readyz").status_code == 200
        client.app.state.service.draining = True  # type: ignore[attr-defined]
        assert client.get("/readyz").status_code == 503
        status, headers = inspect(client)
        assert status == 200 and headers["connection"] == "close"
        assert client.get("/healthz").status_code == 200


def test_json_lines_bear_the_ids_of_their_request(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("twonines.serving.middleware")
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO), client_of(tiny_model, log_requests=True) as client:
            inspect(client, **{"X-Request-Id": "r1", "traceparent": PARENT})
    finally:
        logger.removeHandler(handler)
    line = json.loads(lines[-1])
    assert (line["request_id"], line["trace_id"]) == ("r1", TRACE)
    assert (line["path"], line["status"], line["level"]) == ("/v1/inspect", 200, "INFO")
    assert line["duration_ms"] > 0


def test_formats_show_exceptions_and_fields() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "what %d", (1,), sys.exc_info())
    record.fields, record.request_id = {"path": "/x"}, "r2"
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "what 1" and "ValueError: why" in line["exception"]
    assert line["request_id"] == "r2" and line["time"].endswith("+00:00")
    text = TextFormatter().format(record)
    assert "ERROR what 1 request_id=r2 path=/x\n" in text and "ValueError: why" in text


def test_spans_lie_below_the_callers_where_an_sdk_is_set_up(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with client_of(tiny_model) as client:
        assert inspect(client, traceparent=PARENT)[0] == 200
        assert not kept.get_finished_spans()
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        assert inspect(client, traceparent=PARENT)[0] == 200
        client.app.state.service.batcher._in_flight = 10_000  # type: ignore[attr-defined]
        assert inspect(client)[0] == 429
        client.app.state.service.batcher._in_flight = 0  # type: ignore[attr-defined]
    spans = kept.get_finished_spans()
    answered, refused = (span for span in spans if span.kind is SpanKind.SERVER)
    assert answered.name == "POST /v1/inspect" and answered.parent is not None
    assert format(answered.context.trace_id, "032x") == TRACE
    assert format(answered.parent.span_id, "016x") == PARENT.split("-")[2]
    times = next(span.attributes for span in spans if span.name == "fastapi.endpoint")
    assert times and float(str(times["twonines.compute"])) > 0
    assert refused.attributes and refused.attributes["http.response.status_code"] == 429


@pytest.mark.parametrize(
    "wrong", ["", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", PARENT.replace("00-", "ff-", 1), "x"]
)
def test_traceparent_is_read_as_the_standard_says(wrong: str) -> None:
    assert read_trace_id(PARENT) == TRACE
    assert read_trace_id(wrong) == ""


def record_of(message: str, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("n", logging.INFO, "f", 1, message, (), None)
    record.fields = fields
    return record


_FORGED = "2026-01-01 00:00:00,000 INFO request path=/x status=200"
_SIGNS = ["\n", "\r", "\r\n", "\x1b[2K\x1b[1A", "\x00", "\x7f", "\x85", "\x9b2J", "\u2028",
          "\u2029", "\u202e", "\ud800", "\v", "\f"]  # fmt: skip


@pytest.mark.parametrize("sign", _SIGNS)
@pytest.mark.parametrize("kind", [TextFormatter, JsonFormatter])
def test_no_sign_in_a_field_or_message_makes_a_line_or_moves_the_cursor(
    sign: str, kind: type[logging.Formatter]
) -> None:
    given = f"/a{sign}{_FORGED}"
    line = kind().format(record_of(f"lost {given}", path=given, request_id=given))
    assert line.isprintable() and len(line.splitlines()) == 1
    if kind is JsonFormatter:
        assert json.loads(line)["path"] == given


@pytest.mark.parametrize("sign", _SIGNS)
def test_no_line_of_an_exception_looks_like_one_of_the_log(sign: str) -> None:
    try:
        raise ValueError(f"a{sign}{_FORGED}")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    first, *rest = TextFormatter().format(record).splitlines()
    assert first.endswith("ERROR failed") and "status=200" in "".join(rest)
    assert all(line.isprintable() and line.startswith("  ") for line in rest)


def test_a_field_ends_where_it_seems_to() -> None:
    record = record_of("request", path='/a" status=200', status=404, name="王伟 x", odd="/a=b\\c")
    line = TextFormatter().format(record)
    assert line.endswith(r"""path="/a\" status=200" status=404 name="王伟 x" odd=/a=b\c""")


def test_a_path_and_a_request_id_forge_no_line(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), client_of(tiny_model, log_requests=True) as client:
        answer = client.get("/a%0a2026%1b%e2%80%a8x%20status=200")
        assert answer.status_code == 404
        for wrong in (b"a\x85b", b"a\tb", b"\xc3\xa9", b"x" * 129, b""):
            answer = client.get("/healthz", headers=[(b"X-Request-Id", wrong)])
            assert len(answer.headers["x-request-id"]) == 32
    requests = [one for one in caplog.records if one.getMessage() == "request"]
    lines = [TextFormatter().format(one) for one in requests]
    assert len(lines) == 6 and all(line.isprintable() for line in lines)
    assert 'path="/a\\n2026\\u001b\\u2028x status=200" status=404' in lines[0]
