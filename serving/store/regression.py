"""The loop for escapes: what was found downstream is tried on every new model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twonines.errors import ImageError, UnknownError
from twonines.models.image import MAX_PIXELS, decode
from twonines.models.inspector import Inspector, Prepared, Session
from twonines.serving.store.entries import Recorded
from twonines.serving.store.findings import Case
from twonines.serving.store.pictures import PictureStore
from twonines.types import Inspection, Verdict

_BATCH = 16


class _Plain(Inspector):
    """Judges as if the certificate held: else all would be REVIEW, and nothing seem missed."""

    @property
    def fault(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Trial:
    """A case before and after; True is right: an escape not called OK, an overkill not called NG.

    A picture that cannot be inspected is never right.
    """

    subject: str
    kind: str
    before: bool
    after: bool
    verdicts: tuple[str, ...]

    @property
    def lost(self) -> bool:
        """Right before, wrong now."""
        return self.before and not self.after

    def public(self) -> dict[str, Any]:
        """As the API and the command show it."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "before": self.before,
            "after": self.after,
            "lost": self.lost,
            "verdicts": list(self.verdicts),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a new model does with the regression set, and with what persons have decided."""

    cases: tuple[Trial, ...]
    reviewed: tuple[Trial, ...] = ()

    @property
    def lost(self) -> tuple[Trial, ...]:
        """Cases of findings that were right before."""
        return tuple(one for one in self.cases if one.lost)

    @property
    def missed(self) -> tuple[Trial, ...]:
        """Cases of findings that are wrong now."""
        return tuple(one for one in self.cases if not one.after)

    @property
    def worse(self) -> tuple[Trial, ...]:
        """Everything else that was right before and is wrong now."""
        return tuple(one for one in self.reviewed if one.lost)

    def public(self) -> dict[str, Any]:
        """As the API and the command show it."""
        return {
            "cases": [one.public() for one in self.cases],
            "right_before": sum(one.before for one in self.cases),
            "right_after": sum(one.after for one in self.cases),
            "lost": len(self.lost),
            "reviewed": len(self.reviewed),
            "reviewed_worse": [one.public() for one in self.worse],
        }


def compare(
    store: PictureStore,
    cases: Sequence[Case],
    new: Session,
    old: Session | None,
    reviewed: Sequence[Recorded] = (),
    *,
    max_pixels: int = MAX_PIXELS,
) -> Comparison:
    """Try both models on the same pictures; blocks.

    Args:
        store: holds the pictures.
        cases: the regression set.
        new: the session of the model that is to come.
        old: that of the model which answers; without one, ``before`` is what was said when the
            case was found: wrong.
        reviewed: inspections that persons have decided, to see that nothing else is worse.
        max_pixels: of one picture.

    Raises:
        StoreError: the picture store does not work.
    """
    seen = [one for one in reviewed if one.picture_digest and one.decision]
    pictures = [pair for case in cases for pair in case.pictures]
    pictures += [(one.picture_digest or "", one.reference_digest) for one in seen]
    after = _inspect(store, pictures, new, max_pixels)
    before = None if old is None else _inspect(store, pictures, old, max_pixels)
    trials, place = [], 0
    for case in cases:
        part = slice(place, place + len(case.pictures))
        place = part.stop
        found, kind = case.finding, case.finding.kind
        subject = f"finding {found.id}" + (f", part {found.part_id}" if found.part_id else "")
        was = before is not None and _right(kind, before[part])
        now = after[part]
        trials.append(Trial(subject, kind, was, _right(kind, now), _words(now)))
    others = []
    for number, one in enumerate(seen, place):
        kind = "escape" if one.decision == Verdict.NG else "overkill"
        was = _right(kind, [one.inspection] if before is None else before[number : number + 1])
        now = after[number : number + 1]
        others.append(Trial(f"inspection {one.id}", kind, was, _right(kind, now), _words(now)))
    return Comparison(tuple(trials), tuple(others))


def _right(kind: str, found: Sequence[Inspection]) -> bool:
    verdicts = {one.verdict for one in found}
    if kind == "escape":  # one picture of a part that shows the defect is enough
        return bool(verdicts & {Verdict.NG, Verdict.REVIEW})
    return not verdicts & {Verdict.NG, Verdict.ERROR}


def _words(found: Sequence[Inspection]) -> tuple[str, ...]:
    return tuple(one.verdict.value for one in found)


def _inspect(
    store: PictureStore,
    pictures: Sequence[tuple[str, str | None]],
    session: Session,
    max_pixels: int,
) -> list[Inspection]:
    inspector = _Plain(session)
    return list(inspector.inspect(_prepare(store, pictures, inspector, max_pixels), _BATCH))


def _prepare(
    store: PictureStore,
    pictures: Sequence[tuple[str, str | None]],
    inspector: Inspector,
    max_pixels: int,
) -> Iterator[Prepared | Inspection]:
    for digest, reference in pictures:
        try:
            data = store.get(digest)
            # A model that takes no reference is tried without the one that another had.
            golden = None
            if reference is not None and inspector.card.reference:
                golden = decode(store.get(reference), max_pixels=max_pixels)
            yield inspector.read(data, golden, max_pixels=max_pixels)
        except (ImageError, UnknownError) as exc:
            yield Inspection(Verdict.ERROR, error=str(exc))
