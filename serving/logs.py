"""Log lines as text or JSON, each with the id of the request that it belongs to."""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
LogFormat = Literal["text", "json"]


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, ids, and the record's ``fields``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(record),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _escaped(json.dumps(line, ensure_ascii=False, default=str))


class TextFormatter(logging.Formatter):
    """One plain line, with the ids at its end; the lines of an exception are indented.

    Whatever a client has put into it, no line can be taken for another one of the log.
    """

    def __init__(self) -> None:
        """Time, level and message."""
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line without an exception."""
        extra = {**_ids(record), **getattr(record, "fields", {})}
        fields = (f"{name}={_value(str(value))}" for name, value in extra.items())
        return " ".join([_escaped(super().formatMessage(record)), *fields])

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The lines of an exception."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {_escaped(line)}" for line in lines)


def _escaped(text: str) -> str:
    r"""The text with ``\n``, ``\u001b`` and so on for what ends a line or steers a terminal."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def _value(text: str) -> str:
    """In quotes where it would else seem to end before its end."""
    if " " in text or '"' in text:
        text = json.dumps(text, ensure_ascii=False)
    return _escaped(text)


def current_ids() -> dict[str, str]:
    """The ids of the request that is being answered, for what its threads log."""
    return {"request_id": REQUEST_ID.get(), "trace_id": TRACE_ID.get()}


def _ids(record: logging.LogRecord) -> dict[str, str]:
    found = {
        "request_id": getattr(record, "request_id", "") or REQUEST_ID.get(),
        "trace_id": getattr(record, "trace_id", "") or TRACE_ID.get(),
    }
    return {name: value for name, value in found.items() if value}


def configure_logs(log_format: LogFormat) -> None:
    """Send every log line to standard error in this format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
