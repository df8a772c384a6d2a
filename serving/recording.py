"""From an answer to its record."""

from collections.abc import Sequence
from dataclasses import dataclass

from twonines.errors import StoreError, TwoninesError
from twonines.serving.batcher import Answer
from twonines.serving.intake import PLACE_FIELDS, Picture, Upload
from twonines.serving.loaded import LoadedModel
from twonines.serving.service import Service
from twonines.serving.store.entries import Entry, Made, Place
from twonines.serving.store.ids import new_id
from twonines.types import Inspection, Verdict

Outcomes = Sequence[Answer | TwoninesError]


@dataclass(frozen=True, slots=True)
class Noted:
    """Ids of a request's pictures, None where nothing is known of one any more.

    ``recorded`` says that all of them are on disk, ``fault`` why they are not though they should.
    """

    ids: tuple[str | None, ...]
    recorded: bool
    fault: str | None = None


async def note(
    service: Service,
    loaded: LoadedModel,
    upload: Upload,
    reference: bytes | list[bytes] | None,
    outcomes: Outcomes,
    request_id: str,
    deadline: float,
) -> Noted:
    """Record what a request brought, and keep its pictures in memory to be shown.

    Raises:
        StoreError: it cannot be recorded, and what cannot be recorded is to be refused.
    """
    ids = [new_id() for _ in outcomes]
    references = reference if isinstance(reference, list) else [reference] * len(ids)
    brought = list(zip(ids, upload.pictures, outcomes, references, strict=True))
    digest, recorded, fault = loaded.session.digest, False, None
    if service.records is not None:
        made = Made(loaded.name, loaded.version, digest, loaded.session.execution_provider)
        place = Place(**{name: upload.fields.get(name) or None for name in PLACE_FIELDS})
        entries = [
            _entry(service, key, picture, outcome, golden, made, place, request_id)
            for key, picture, outcome, golden in brought
        ]
        try:
            with service.metrics.record.time():
                await service.records.append(entries, deadline)
            recorded = True
        except StoreError as exc:
            service.metrics.unrecorded.inc(len(entries))
            if service.settings.records_failure == "refuse":
                raise StoreError(f"the inspection could not be recorded: {exc}") from exc
            fault = f"not recorded: {exc}"
    shown = []
    for key, picture, outcome, golden in brought:
        failed = isinstance(outcome, TwoninesError)
        if not failed and fault is None:
            service.recent.put(key, picture.data, golden, digest)
        shown.append(key if recorded or not (failed or fault) else None)
    return Noted(tuple(shown), recorded, fault)


def _entry(
    service: Service,
    key: str,
    picture: Picture,
    outcome: Answer | TwoninesError,
    reference: bytes | None,
    made: Made,
    place: Place,
    request_id: str,
) -> Entry:
    if isinstance(outcome, TwoninesError):
        inspection, times = Inspection(Verdict.ERROR, error=str(outcome)), dict[str, float]()
    else:
        inspection = outcome.inspection
        times = {**outcome.timings_ms, "batch_size": float(outcome.batch_size)}
    keeps, due = service.keeping.choose(inspection.verdict)
    return Entry(
        id=key,
        file=picture.name,
        inspection=inspection,
        picture=picture.data or None,
        reference=reference,
        model=made,
        place=place,
        request_id=request_id,
        timings_ms=times,
        reviewers=due,
        keeps=keeps,
    )
