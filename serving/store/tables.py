"""The tables of the records.

Times are microseconds since 1970 (UTC); digests are SHA-256 in hexadecimal. Every table is added
to and seldom changed: only ``due``, ``decision`` and ``decision_class`` of an inspection follow
its reviews.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
)

from twonines.serving.store.database import METADATA

ID = String(36).with_variant(String(36, collation="C"), "postgresql")
"""Text that sorts by its bytes on every database."""
_PLACE = 200
"""Characters of a line, station, part or lot."""

inspections = Table(
    "inspections",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("request_id", String(128)),
    Column("line", String(_PLACE)),
    Column("station", String(_PLACE)),
    Column("part_id", String(_PLACE)),
    Column("lot", String(_PLACE)),
    Column("file", Text),
    Column("picture_digest", String(64)),
    Column("reference_digest", String(64)),
    Column("verdict", String(6), nullable=False),
    Column("score", Float),
    Column("defect_class", String(_PLACE)),
    Column("class_scores", JSON, nullable=False),
    Column("novelty", Float),
    Column("regions", JSON, nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("error", Text),
    Column("model_name", String(_PLACE), nullable=False),
    Column("model_version", String(_PLACE), nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("certificate", String(64)),
    Column("execution_provider", String(64), nullable=False),
    Column("timings_ms", JSON, nullable=False),
    # How many persons must still look at it.
    Column("due", SmallInteger, nullable=False),
    # What persons have decided: OK or NG, and the class they saw.
    Column("decision", String(6)),
    Column("decision_class", String(_PLACE)),
)
# Each filter alone finds its newest rows in order; the others are checked row by row.
for _name in ("part_id", "lot", "station", "line", "verdict", "defect_class", "model_digest"):
    Index(None, inspections.c[_name], inspections.c.id)
Index(None, inspections.c.picture_digest)
Index(
    "ix_inspections_reference_digest",
    inspections.c.reference_digest,
    sqlite_where=inspections.c.reference_digest.is_not(None),
    postgresql_where=inspections.c.reference_digest.is_not(None),
)
Index(
    "ix_inspections_due",
    inspections.c.id,
    sqlite_where=inspections.c.due > 0,
    postgresql_where=inspections.c.due > 0,
)
Index(
    "ix_inspections_decided",
    inspections.c.id,
    sqlite_where=inspections.c.decision.is_not(None),
    postgresql_where=inspections.c.decision.is_not(None),
)

reviews = Table(
    "reviews",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("inspection_id", ID, ForeignKey("inspections.id"), nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("reviewer", String(_PLACE), nullable=False),
    Column("verdict", String(6), nullable=False),
    Column("defect_class", String(_PLACE)),
    Column("note", Text, nullable=False),
    Column("seconds", Float),
)
Index(None, reviews.c.inspection_id)

findings = Table(
    "findings",
    METADATA,
    Column("id", ID, primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("reporter", String(_PLACE), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("part_id", String(_PLACE)),
    Column("lot", String(_PLACE)),
    Column("inspection_id", ID, ForeignKey("inspections.id")),
    Column("picture_digest", String(64)),
    Column("defect_class", String(_PLACE)),
    Column("note", Text, nullable=False),
)
Index(None, findings.c.part_id)
Index(None, findings.c.inspection_id)
Index(None, findings.c.picture_digest)

case_pictures = Table(
    "case_pictures",
    METADATA,
    Column("finding_id", ID, ForeignKey("findings.id"), primary_key=True),
    Column("model_name", String(_PLACE), primary_key=True),
    Column("picture_digest", String(64), primary_key=True),
    Column("reference_digest", String(64)),
    # None for a picture that was sent in with the finding.
    Column("inspection_id", ID, ForeignKey("inspections.id")),
)
"""The regression set: the pictures of each finding, for every model that had inspected them."""
Index(None, case_pictures.c.picture_digest)
Index(None, case_pictures.c.reference_digest)
Index(None, case_pictures.c.inspection_id)

pictures = Table(
    "pictures",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("time_us", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
)
"""The pictures that are in the store; a row is there only while its picture is."""

tallies = Table(
    "tallies",
    METADATA,
    Column("minute_us", BigInteger, primary_key=True),
    Column("line", String(_PLACE), primary_key=True),
    Column("station", String(_PLACE), primary_key=True),
    Column("model_digest", String(64), primary_key=True),
    Column("verdict", String(6), primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,  # whoever sums reads the key's order, and nothing else
)
"""Inspections in each minute; '' where nothing is said. They stay when records are purged."""

hour_tallies = Table(
    "hour_tallies",
    METADATA,
    Column("hour_us", BigInteger, primary_key=True),
    Column("line", String(_PLACE), primary_key=True),
    Column("station", String(_PLACE), primary_key=True),
    Column("model_digest", String(64), primary_key=True),
    Column("verdict", String(6), primary_key=True),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""The minutes' sums for each hour, so that counts of weeks read few rows."""
