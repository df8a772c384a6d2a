"""A client of the service, with retries: ``pip install 'twonines[client]'``."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from twonines.errors import TwoninesError
from twonines.types import Verdict

Source = Path | str | bytes
"""A file, or the bytes of an encoded picture."""
RETRIED = (429, 503)
_FIRST_WAIT_S, _MAX_WAIT_S = 0.1, 10.0


class ClientError(TwoninesError):
    """The service could not be reached in time, or its answer is none of ours."""


class RefusedError(ClientError):
    """The service refused the request; ``status_code`` is its HTTP status."""

    def __init__(self, message: str, status_code: int) -> None:
        """Keep the status beside the message."""
        super().__init__(f"the service answered {status_code}: {message}")
        self.status_code = status_code


@dataclass(frozen=True, slots=True)
class Result:
    """What the service says of one picture; ``ERROR`` is never ``OK``."""

    verdict: Verdict
    score: float | None
    defect_class: str | None
    novelty: float | None
    regions: tuple[dict[str, Any], ...]
    reasons: tuple[str, ...]
    certificate: str | None
    error: str | None
    id: str | None
    model: dict[str, Any]


class _Retries:
    """How long to wait between tries, within a deadline."""

    def __init__(self, timeout_s: float) -> None:
        self._end, self._tries = time.monotonic() + timeout_s, 0

    @property
    def left_s(self) -> float:
        return max(0.001, self._end - time.monotonic())

    def wait_s(self, response: httpx.Response | None) -> float | None:
        """Seconds until the next try; None where the deadline would pass before."""
        backoff = min(_MAX_WAIT_S, _FIRST_WAIT_S * 2**self._tries)
        self._tries += 1
        wait = backoff * random.uniform(0.5, 1.0)  # clients must not come back all at once
        try:
            asked = float(response.headers["retry-after"]) if response is not None else 0.0
        except (KeyError, ValueError):
            asked = 0.0
        wait = max(wait, asked)
        return wait if time.monotonic() + wait < self._end else None


class _Base:
    def __init__(self, url: str, timeout_s: float) -> None:
        if not url.startswith(("http://", "https://")):  # else it would be tried until the timeout
            raise ValueError(f"url: must begin with http:// or https://, got {url!r}")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s: must be above 0, got {timeout_s}")
        self._timeout_s = timeout_s


class Client(_Base):
    """Keeps its connections; use it as a context manager, from one thread or many.

    A request that is refused with 429 or 503, or finds no connection, is tried again after
    ``Retry-After`` or a growing wait, as long as ``timeout_s`` allows.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect at the first request."""
        super().__init__(url, timeout_s)
        self._http = httpx.Client(base_url=url, transport=transport)

    def __enter__(self) -> Self:
        """Use the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def inspect(
        self,
        pictures: Source | Sequence[Source],
        *,
        reference: Source | None = None,
        model: str | None = None,
    ) -> list[Result]:
        """One result for each picture, in order; a picture that failed is an ``ERROR``.

        Raises:
            RefusedError: the request was refused as a whole, and trying again does not help.
            ClientError: there was no answer in time.
        """
        files, data = _form(pictures, reference, model)
        retries, count = _Retries(self._timeout_s), len(files) - (reference is not None)
        while True:
            response, fault = None, None
            try:
                response = self._http.post(
                    "/v1/inspect", files=files, data=data, timeout=retries.left_s
                )
            except httpx.TransportError as exc:
                fault = exc
            if response is not None and response.status_code not in RETRIED:
                return _results(response, count)
            wait_s = retries.wait_s(response)
            if wait_s is None:
                raise _given_up(response, fault) from fault
            time.sleep(wait_s)


class AsyncClient(_Base):
    """As :class:`Client`, for asyncio."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Connect at the first request."""
        super().__init__(url, timeout_s)
        self._http = httpx.AsyncClient(base_url=url, transport=transport)

    async def __aenter__(self) -> Self:
        """Use the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def inspect(
        self,
        pictures: Source | Sequence[Source],
        *,
        reference: Source | None = None,
        model: str | None = None,
    ) -> list[Result]:
        """As :meth:`Client.inspect`."""
        files, data = await asyncio.to_thread(_form, pictures, reference, model)
        retries, count = _Retries(self._timeout_s), len(files) - (reference is not None)
        while True:
            response, fault = None, None
            try:
                response = await self._http.post(
                    "/v1/inspect", files=files, data=data, timeout=retries.left_s
                )
            except httpx.TransportError as exc:
                fault = exc
            if response is not None and response.status_code not in RETRIED:
                return _results(response, count)
            wait_s = retries.wait_s(response)
            if wait_s is None:
                raise _given_up(response, fault) from fault
            await asyncio.sleep(wait_s)


_Files = list[tuple[str, tuple[str, bytes]]]


def _form(
    pictures: Source | Sequence[Source], reference: Source | None, model: str | None
) -> tuple[_Files, dict[str, str]]:
    many = [pictures] if isinstance(pictures, Path | str | bytes) else list(pictures)
    if not many:
        raise ValueError("pictures: must hold at least one, got none")
    files = [("files", _file(picture)) for picture in many]
    if reference is not None:
        files.append(("reference", _file(reference)))
    return files, {} if model is None else {"model": model}


def _file(source: Source) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        return "picture", source
    return Path(source).name, Path(source).read_bytes()


def _results(response: httpx.Response, count: int) -> list[Result]:
    """Also of a request whose every picture failed, which has the status of the first."""
    try:
        body = response.json()
        if "results" not in body:
            raise RefusedError(str(body["error"]), response.status_code)
        found = [_result(entry, body["model"]) for entry in body["results"]]
    except (ValueError, KeyError, TypeError) as exc:
        raise ClientError(
            f"the service answered {response.status_code} with something that is no result"
        ) from exc
    if len(found) != count:
        raise ClientError(f"the service gave {len(found)} results for {count} pictures")
    return found


def _result(entry: dict[str, Any], model: dict[str, Any]) -> Result:
    return Result(
        Verdict(entry["verdict"]),
        entry["score"],
        entry["class"],
        entry["novelty"],
        tuple(entry["regions"]),
        tuple(entry["reasons"]),
        entry["certificate"],
        entry["error"]["message"] if entry["error"] else None,
        entry["id"],
        model,
    )


def _given_up(response: httpx.Response | None, fault: Exception | None) -> ClientError:
    if response is None:
        return ClientError(f"no answer from the service in time ({fault})")
    return RefusedError("it did so until the time was over", response.status_code)
