"""What is recorded of an inspection, and what is read again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from twonines.types import Inspection, Region, Verdict


@dataclass(frozen=True, slots=True)
class Place:
    """Where and what was inspected, as far as it was said."""

    line: str | None = None
    station: str | None = None
    part_id: str | None = None
    lot: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """The model that inspected."""

    name: str
    version: str
    digest: str
    execution_provider: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One inspection that is to be recorded, with its encoded picture and reference.

    ``picture`` is None where the upload was refused unread, ``file`` its name there.
    ``reviewers`` persons must look at it; ``keeps`` says that its picture is to be stored.
    """

    id: str
    file: str
    inspection: Inspection
    picture: bytes | None
    reference: bytes | None
    model: Made
    place: Place
    request_id: str
    timings_ms: Mapping[str, float]
    reviewers: int = 0
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """An inspection as the store has it; times are microseconds since 1970 (UTC).

    ``due`` is how many persons must still look at it; ``decision`` is what they have decided, OK
    or NG. ``picture_digest`` names its picture, whether that is kept or not.
    """

    id: str
    time_us: int
    request_id: str | None
    line: str | None
    station: str | None
    part_id: str | None
    lot: str | None
    file: str | None
    picture_digest: str | None
    reference_digest: str | None
    verdict: str
    score: float | None
    defect_class: str | None
    class_scores: dict[str, float]
    novelty: float | None
    regions: list[dict[str, Any]]
    reasons: list[str]
    error: str | None
    model_name: str
    model_version: str
    model_digest: str
    certificate: str | None
    execution_provider: str
    timings_ms: dict[str, float]
    due: int
    decision: str | None
    decision_class: str | None

    @property
    def inspection(self) -> Inspection:
        """The verdict as it was given."""
        regions = (Region(**{**one, "box": tuple(one["box"])}) for one in self.regions)
        return Inspection(
            Verdict(self.verdict),
            self.score,
            self.defect_class,
            self.class_scores,
            self.novelty,
            tuple(regions),
            self.error,
            tuple(self.reasons),
            self.certificate,
        )

    def public(self) -> dict[str, Any]:
        """As the API shows it, with the names that ``/v1/inspect`` uses."""
        return _public(asdict(self))


@dataclass(frozen=True, slots=True)
class Review:
    """What one person said of an inspection; ``verdict`` is OK or NG."""

    id: str
    inspection_id: str
    time_us: int
    reviewer: str
    verdict: str
    defect_class: str | None
    note: str
    seconds: float | None

    def public(self) -> dict[str, Any]:
        """As the API shows it."""
        return _public(asdict(self))


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out downstream: an ``escape`` or an ``overkill``.

    ``pictures`` is how many pictures of it are in the regression set.
    """

    id: str
    time_us: int
    reporter: str
    kind: str
    part_id: str | None
    lot: str | None
    inspection_id: str | None
    picture_digest: str | None
    defect_class: str | None
    note: str
    pictures: int = 0

    def public(self) -> dict[str, Any]:
        """As the API shows it."""
        return _public(asdict(self))


def _public(told: dict[str, Any]) -> dict[str, Any]:
    told["class"] = told.pop("defect_class")
    return {"id": told.pop("id"), "time": shown_time(told.pop("time_us")), **told}


def shown_time(time_us: int) -> str:
    """ISO 8601 in UTC, to the microsecond."""
    seconds, rest = divmod(time_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
