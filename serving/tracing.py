"""Distributed tracing: W3C ``traceparent`` in, the trace's id to the logs, times to the span.

FastAPI opens spans for each request and its endpoint where the process's OpenTelemetry SDK is set
up, for example by ``opentelemetry-instrument twonines serve``; without an SDK there are none.
"""

import re
from collections.abc import Mapping

from opentelemetry import trace

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)


def read_trace_id(traceparent: str) -> str:
    """The trace's id in a ``traceparent`` header (W3C Trace Context); empty where it is none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    return found[1] if found else ""


def find_trace_id(traceparent: str) -> str:
    """The id of the current span's trace, else of that which the header names."""
    context = trace.get_current_span().get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else read_trace_id(traceparent)


def note_on_span(values: Mapping[str, float]) -> None:
    """Put values on the current span, that of the endpoint, under ``twonines.``."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({f"twonines.{key}": value for key, value in values.items()})
