"""The plan of a study: which pictures, how often, in which order, and what is asked of the data.

It is written once, before anybody looks. Its digest stands in every row of the answers, so that a
margin that was changed afterwards is noticed.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twonines.datasets.content import content_digest, file_digest, relative
from twonines.datasets.record import Dataset, Record
from twonines.errors import DatasetError, InputError, SettingsError
from twonines.types import GOOD

PLAN_FILE = "plan.json"
_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)


class PlannedPicture(BaseModel):
    """A picture: ``id`` is all that the page and the inspector ever see of it."""

    model_config = _STRICT

    id: str
    path: str
    sha256: str
    defect_class: str

    @property
    def is_defective(self) -> bool:
        """True unless the part is good."""
        return self.defect_class != GOOD


class Plan(BaseModel):
    """Everything that is fixed before the study.

    ``margin`` is how much worse a model may be and still count as not inferior. ``deaf_s`` is how
    long after a picture has come up no answer is taken, so that a key struck twice does not judge
    a picture that nobody saw. An empty ``inspectors`` lets anyone take part.
    """

    model_config = _STRICT

    version: int = Field(default=1, ge=1, le=1)
    created: str
    dataset: str
    root: str
    dataset_digest: str
    basis: str
    seed: int
    pictures: list[PlannedPicture] = Field(min_length=2)
    repeats: int = Field(ge=1, le=20)
    inspectors: list[str] = Field(default_factory=list)
    break_every: int = Field(ge=1)
    break_s: float = Field(ge=0, le=3600)
    deaf_s: float = Field(ge=0, le=2)
    margin: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _is_a_study(self) -> Self:
        ids = [p.id for p in self.pictures]
        if len(set(ids)) < len(ids):
            raise ValueError("pictures: every id must stand once")
        defective = sum(p.is_defective for p in self.pictures)
        if not 0 < defective < len(ids):
            raise ValueError("pictures: good and defective ones are needed")
        if len({clean_name(name) for name in self.inspectors}) < len(self.inspectors):
            raise ValueError("inspectors: every name must stand once")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 over the whole plan, the first 16 hex digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def looks(self) -> int:
        """Looks of one inspector."""
        return len(self.pictures) * self.repeats

    def order(self, inspector: str) -> list[tuple[str, int]]:
        """An inspector's own order: (picture id, repeat from 1), one round after another.

        It follows from seed and name alone. No picture comes twice in a row.
        """
        made: list[tuple[str, int]] = []
        for turn in range(1, self.repeats + 1):
            text = f"{self.seed}|{inspector.casefold()}|{turn}"
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
            shuffled = np.random.default_rng(seed).permutation(len(self.pictures)).tolist()
            ids = [self.pictures[i].id for i in shuffled]
            if made and made[-1][0] == ids[0]:
                ids.append(ids.pop(0))
            made.extend((picture, turn) for picture in ids)
        return made


def clean_name(name: str) -> str:
    """A name as it is kept: outer and double spaces gone.

    Raises:
        InputError: it is empty, too long, or holds characters that are no text.
    """
    cleaned = " ".join(name.split())
    # A leading sign would be a formula in a spreadsheet that opens the answers.
    if not cleaned or len(cleaned) > 60 or not cleaned.isprintable() or cleaned[0] in "=+-@":
        raise InputError(
            f"inspector: must be a name of 1 to 60 printable characters that does not begin with "
            f"=, +, - or @, got {name[:80]!r}"
        )
    return cleaned


def make_plan(
    dataset: Dataset,
    pool: Sequence[Record],
    basis: str,
    *,
    pictures: int,
    prevalence: float,
    repeats: int = 2,
    inspectors: Sequence[str] = (),
    break_every: int = 50,
    break_s: float = 60.0,
    deaf_s: float = 0.2,
    margin: float = 0.02,
    seed: int = 0,
) -> Plan:
    """Draw pictures from a pool, good and defective apart.

    Args:
        dataset: the set; its digest is kept.
        pool: records to draw from, such as the test part of a model's split.
        basis: where the pool comes from, in words.
        pictures: how many.
        prevalence: share of them that is defective, in (0, 1).
        repeats: looks of each inspector at each picture; two and more show consistency.
        inspectors: names; anyone where empty.
        break_every: looks between breaks.
        break_s: least length of a break.
        deaf_s: time after a picture has come up in which no answer is taken.
        margin: of non-inferiority, a share.
        seed: draws pictures and orders.

    Raises:
        DatasetError: the pool holds too few pictures of either kind.
        SettingsError: an argument is outside its range.
    """
    if not 0 < prevalence < 1:
        raise SettingsError(f"prevalence: must lie in (0, 1), got {prevalence}")
    defective = round(pictures * prevalence)
    if not 0 < defective < pictures:
        raise SettingsError(
            f"pictures: {pictures} at a prevalence of {prevalence} must give good and defective "
            f"ones, got {pictures - defective} and {defective}"
        )
    generator = np.random.default_rng(seed)
    drawn: list[Record] = []
    for wanted, bad in ((defective, True), (pictures - defective, False)):
        there = [r for r in pool if r.is_defective == bad]
        if len(there) < wanted:
            kind = "defective" if bad else "good"
            raise DatasetError(
                f"pictures: {wanted} {kind} ones are needed, {dataset.card.name} has "
                f"{len(there)} in {basis}"
            )
        drawn.extend(there[i] for i in generator.choice(len(there), wanted, replace=False))
    # Ids follow a shuffle: they must not tell good from defective.
    shuffled = [drawn[i] for i in generator.permutation(len(drawn))]
    digits = len(str(len(shuffled)))
    return build(
        Plan,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset=dataset.card.name,
        root=str(dataset.root.resolve()),
        dataset_digest=content_digest(dataset.records, dataset.root),
        basis=basis,
        seed=seed,
        pictures=[
            PlannedPicture(
                id=f"p{number:0{digits}d}",
                path=relative(record.path, dataset.root),
                sha256=file_digest(record.path),
                defect_class=record.defect_class,
            )
            for number, record in enumerate(shuffled, 1)
        ],
        repeats=repeats,
        inspectors=[clean_name(name) for name in inspectors],
        break_every=break_every,
        break_s=float(break_s),
        deaf_s=float(deaf_s),
        margin=float(margin),
    )


def build(kind: type[Plan], **values: Any) -> Plan:
    """A plan, or our error that names the key and the value."""
    try:
        return kind(**values)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "plan"
        raise SettingsError(f"{key}: {first['msg']}, got {str(first['input'])[:80]}") from exc


def write_plan(plan: Plan, folder: Path) -> Path:
    """Write the plan into a folder; an existing plan is never replaced.

    Raises:
        SettingsError: the folder holds a plan, or cannot be written.
    """
    path = folder / PLAN_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(plan.model_dump(mode="json"), indent=1, ensure_ascii=False))
            file.write("\n")
    except FileExistsError as exc:
        raise SettingsError(f"out: {path} must not exist yet, a plan is fixed once made") from exc
    except OSError as exc:
        raise SettingsError(f"out: {folder} must be writable ({exc.strerror or exc})") from exc
    return path


def read_plan(folder: Path) -> Plan:
    """Read the plan of a folder.

    Raises:
        InputError: there is none, or it is no valid plan.
    """
    path = folder / PLAN_FILE
    try:
        return Plan.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise InputError(f"plan: {path} must be a readable file ({exc.strerror})") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"plan: {path} is not valid, {key}: {first['msg']}") from exc


def find_picture(plan: Plan, picture: PlannedPicture) -> Path:
    """Where a picture lies.

    Raises:
        DatasetError: it has gone or is another than was planned.
    """
    path = Path(plan.root) / picture.path
    if file_digest(path) != picture.sha256:
        raise DatasetError(f"picture: {path} must be the file that was planned, it has changed")
    return path
