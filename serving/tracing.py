"""Distributed tracing: W3C ``traceparent`` in, OpenTelemetry spans out where it is installed.

Spans go wherever the process's OpenTelemetry SDK is set up to send them, for example by
``opentelemetry-instrument twonines serve``; without an SDK they cost next to nothing.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from twonines.serving.logs import TRACE_ID

try:
    from opentelemetry import propagate, trace
except ImportError:
    _HAS_OPENTELEMETRY = False
else:
    _HAS_OPENTELEMETRY = True

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def read_trace_id(traceparent: str) -> str:
    """The trace's id in a ``traceparent`` header (W3C Trace Context); empty where it is none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    return found[1] if found else ""


@contextmanager
def request_span(name: str, headers: Mapping[str, str]) -> Iterator[None]:
    """A span around one request, below the caller's; log lines inside bear the trace's id."""
    if not _has_sdk():
        token = TRACE_ID.set(read_trace_id(headers.get("traceparent", "")))
        try:
            yield
        finally:
            TRACE_ID.reset(token)
        return
    carrier = {key: headers[key] for key in ("traceparent", "tracestate") if key in headers}
    tracer = trace.get_tracer("twonines")
    with tracer.start_as_current_span(
        name, context=propagate.extract(carrier), kind=trace.SpanKind.SERVER
    ) as span:
        context = span.get_span_context()
        token = TRACE_ID.set(format(context.trace_id, "032x") if context.is_valid else "")
        try:
            yield
        finally:
            TRACE_ID.reset(token)


def _has_sdk() -> bool:
    """Whether spans go anywhere; asked anew each time, because the SDK may be set up later."""
    return _HAS_OPENTELEMETRY and not isinstance(
        trace.get_tracer_provider(), trace.ProxyTracerProvider
    )


def note_on_span(values: Mapping[str, str | int | float]) -> None:
    """Put values on the request's span, under ``twonines.`` where a name has no dot."""
    if _has_sdk():
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes(
                {key if "." in key else f"twonines.{key}": value for key, value in values.items()}
            )
