"""What every request's pictures go through, by whatever protocol they came."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fastapi import Request

from twonines.errors import TwoninesError
from twonines.serving.answers import compute_seconds
from twonines.serving.batcher import Answer
from twonines.serving.intake import Upload
from twonines.serving.loaded import LoadedModel
from twonines.serving.people.roles import Person
from twonines.serving.recording import Noted, note
from twonines.serving.service import Service, while_connected


@dataclass(frozen=True, slots=True)
class Asker:
    """Whose request it is; with a ``client``, work ends when it has gone."""

    person: Person
    request_id: str
    client: Request | None = None

    @classmethod
    def of(cls, request: Request) -> Self:
        """Of a request over HTTP."""
        return cls(request.state.person, request.state.request_id, request)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a request's pictures, and the seconds that recording took."""

    outcomes: list[Answer | TwoninesError]
    noted: Noted
    record_s: float


async def inspect_and_note(
    service: Service,
    asker: Asker,
    loaded: LoadedModel,
    upload: Upload,
    reference: bytes | list[bytes] | None,
    deadline: float,
    wanted: Sequence[str] = (),
) -> Done:
    """The way of every request's pictures: charged, inspected, recorded.

    Args:
        service: whose.
        asker: whose request it is.
        loaded: the version that answers.
        upload: what came.
        reference: as :meth:`Service.inspect`.
        deadline: in seconds of ``time.perf_counter``.
        wanted: as :meth:`Service.inspect`.

    Raises:
        TwoninesError: as :meth:`Service.inspect`, :meth:`Service.charge` and :func:`note`.
    """
    sound = sum(picture.error is None for picture in upload.pictures)
    with service.charge(asker.person, sound) as charge:
        job = service.inspect(loaded, upload.pictures, reference, deadline, wanted)
        outcomes = await (while_connected(asker.client, job) if asker.client else job)
        charge.compute_s = compute_seconds(outcomes)
    answered = time.perf_counter()
    noted = await note(service, loaded, upload, reference, outcomes, asker.request_id, deadline)
    return Done(outcomes, noted, time.perf_counter() - answered)
