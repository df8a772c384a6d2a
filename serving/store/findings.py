"""What was found out downstream, and the regression set that it makes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, insert, or_, select

from twonines.errors import ConflictError, SettingsError, UnknownError
from twonines.serving.store.desk import MAX_NOTE, check_person, check_text, optional, read_one
from twonines.serving.store.entries import Finding, Recorded
from twonines.serving.store.ids import new_id, time_us_of
from twonines.serving.store.pictures import PictureStore, digest_of
from twonines.serving.store.query import Filters, read_page
from twonines.serving.store.tables import case_pictures, findings
from twonines.serving.store.writing import keep, stored
from twonines.types import Verdict

KINDS = ("escape", "overkill")
_MAX_PICTURES = 64
Lookup = Callable[[str], tuple[bytes, bytes | None] | None]
"""The picture and reference of an inspection that are only in memory yet."""


@dataclass(frozen=True, slots=True)
class Case:
    """One finding as a model sees it: the pictures of its part, with their references."""

    finding: Finding
    model_name: str
    pictures: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What is reported, and against what.

    One of ``inspection_id``, ``picture_digest`` and ``part_id`` is given; ``lot`` narrows a part
    down. ``kind`` is ``escape`` (a defective part that was called OK) or ``overkill`` (a good part
    that was called NG).
    """

    kind: str
    inspection_id: str | None = None
    picture_digest: str | None = None
    part_id: str | None = None
    lot: str | None = None
    defect_class: str | None = None
    note: str = ""

    def check(self) -> dict[str, Any]:
        """The columns of its row.

        Raises:
            SettingsError: an argument is missing, too much or outside its range.
        """
        if self.kind not in KINDS:
            raise SettingsError(f"kind: must be escape or overkill, got {self.kind!r}")
        given = [
            name
            for name in ("inspection_id", "picture_digest", "part_id")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise SettingsError(
                "finding: must name one of inspection_id, picture_digest and part_id, got "
                f"{' and '.join(given) or 'none'}"
            )
        if self.lot is not None and self.part_id is None:
            raise SettingsError("lot: must be given with part_id only")
        if self.kind == "overkill" and self.defect_class is not None:
            raise SettingsError("class: must not be given with overkill, the part is good")
        return {
            "kind": self.kind,
            "inspection_id": self.inspection_id,
            "picture_digest": self.picture_digest,
            "part_id": optional("part_id", self.part_id),
            "lot": optional("lot", self.lot),
            "defect_class": optional("class", self.defect_class),
            "note": check_text("note", self.note, MAX_NOTE),
        }


def add_finding(
    connection: Connection,
    store: PictureStore,
    report: Report,
    reporter: str,
    lookup: Lookup,
) -> Finding:
    """Write a finding; the pictures of its part that can be had join the regression set.

    Raises:
        UnknownError: no such inspection, picture or part is recorded.
        SettingsError: an argument is outside its range.
        StoreError: a picture cannot be stored.
    """
    values = report.check()
    row = {"id": new_id(), "reporter": check_person("reporter", reporter), **values}
    row["time_us"] = time_us_of(row["id"])
    touched = _touched(connection, report)
    if report.inspection_id is not None:
        row |= {"part_id": touched[0].part_id, "lot": touched[0].lot}
    connection.execute(insert(findings), row)
    touched = _blamed(touched, report.kind)
    _keep_from_memory(connection, store, touched, lookup)
    wanted = {key for one in touched for key in (one.picture_digest, one.reference_digest) if key}
    there = stored(connection, wanted)
    cases = {
        (one.model_name, one.picture_digest): {
            "finding_id": row["id"],
            "model_name": one.model_name,
            "picture_digest": one.picture_digest,
            "reference_digest": one.reference_digest,
            "inspection_id": one.id,
        }
        for one in touched
        if one.picture_digest in there and one.reference_digest in there | {None}
    }
    if cases:
        connection.execute(insert(case_pictures), list(cases.values()))
    return Finding(**row, pictures=len(cases))


def add_picture(
    connection: Connection,
    store: PictureStore,
    key: str,
    data: bytes,
    reference: bytes | None,
    model_name: str,
) -> Finding:
    """Add a picture that was not kept, or taken later, to the case of a finding.

    Raises:
        UnknownError: there is no such finding.
        ConflictError: it has the picture already, or as many as it may have.
    """
    finding = read_finding(connection, key)
    if finding.pictures >= _MAX_PICTURES:
        raise ConflictError(f"finding: must have at most {_MAX_PICTURES} pictures")
    blobs = {digest_of(one): one for one in (data, reference) if one is not None}
    row = {
        "finding_id": key,
        "model_name": model_name,
        "picture_digest": digest_of(data),
        "reference_digest": None if reference is None else digest_of(reference),
        "inspection_id": None,
    }
    same = [case_pictures.c[name] == row[name] for name in
            ("finding_id", "model_name", "picture_digest")]  # fmt: skip
    if connection.scalar(select(func.count()).select_from(case_pictures).where(*same)):
        raise ConflictError("picture: must not be one of the finding already")
    keep(connection, store, blobs)
    connection.execute(insert(case_pictures), row)
    return read_finding(connection, key)


def _touched(connection: Connection, report: Report) -> list[Recorded]:
    if report.inspection_id is not None:
        return [read_one(connection, report.inspection_id)]
    part = optional("part_id", report.part_id)
    filters = Filters(part_id=part, lot=report.lot, picture_digest=report.picture_digest)
    found = read_page(connection, filters, limit=_MAX_PICTURES).items
    # One that could not be inspected was never called good.
    touched = [one for one in found if one.verdict != Verdict.ERROR]
    if not touched:
        raise UnknownError("finding: must name a part or picture that is recorded; it is not")
    return touched


def _blamed(touched: list[Recorded], kind: str) -> list[Recorded]:
    """Those that said what turned out wrong; all of them where none did."""
    wrong = Verdict.OK if kind == "escape" else Verdict.NG
    return [one for one in touched if wrong in (one.verdict, one.decision)] or touched


def _keep_from_memory(
    connection: Connection,
    store: PictureStore,
    touched: Sequence[Recorded],
    lookup: Lookup,
) -> None:
    there = stored(connection, [one.picture_digest for one in touched if one.picture_digest])
    blobs: dict[str, bytes] = {}
    for one in touched:
        found = None if one.picture_digest in there else lookup(one.id)
        if found is not None:
            blobs |= {digest_of(data): data for data in found if data is not None}
    if blobs:
        keep(connection, store, blobs)


def _select_findings() -> Select[Any]:
    count = (
        select(func.count())
        .select_from(case_pictures)
        .where(case_pictures.c.finding_id == findings.c.id)
        .scalar_subquery()
    )
    return select(findings, count.label("pictures"))


def read_finding(connection: Connection, key: str) -> Finding:
    """The finding of this id.

    Raises:
        UnknownError: there is none.
    """
    query = _select_findings().where(findings.c.id == key)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise UnknownError("id: must be of a finding; this one is not")
    return Finding(**row)


def read_findings(connection: Connection, where: Mapping[str, Any], limit: int) -> list[Finding]:
    """Findings by columns, newest first."""
    query = _select_findings().where(*(findings.c[name] == value for name, value in where.items()))
    rows = connection.execute(query.order_by(findings.c.id.desc()).limit(limit)).mappings()
    return [Finding(**row) for row in rows]


def read_of_inspection(connection: Connection, key: str) -> list[Finding]:
    """The findings against an inspection, its picture or its part, first to last."""
    one, column = read_one(connection, key), findings.c
    by_part = and_(
        column.inspection_id.is_(None),
        column.part_id == one.part_id,
        or_(column.lot.is_(None), column.lot == one.lot),
    )
    query = _select_findings().where(
        or_(column.inspection_id == key, column.picture_digest == one.picture_digest, by_part)
    )
    return [Finding(**row) for row in connection.execute(query.order_by(column.id)).mappings()]


def read_cases(connection: Connection, model_name: str | None) -> list[Case]:
    """The regression set of a model, or of all, first finding first."""
    query = select(case_pictures).order_by(
        case_pictures.c.finding_id, case_pictures.c.model_name, case_pictures.c.picture_digest
    )
    named = select(case_pictures.c.finding_id)
    if model_name is not None:
        query = query.where(case_pictures.c.model_name == model_name)
        named = named.where(case_pictures.c.model_name == model_name)
    grouped: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
    for row in connection.execute(query).mappings():
        pair = (row["picture_digest"], row["reference_digest"])
        grouped.setdefault((row["finding_id"], row["model_name"]), []).append(pair)
    rows = connection.execute(_select_findings().where(findings.c.id.in_(named))).mappings()
    known = {row["id"]: Finding(**row) for row in rows}
    return [Case(known[key], name, tuple(pairs)) for (key, name), pairs in grouped.items()]
