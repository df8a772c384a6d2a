"""Records: inspections, reviews, findings, their pictures and tallies."""

import sqlalchemy as sa
from alembic import op

revision = "0001_records"
down_revision = None
_ID = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "inspections",
        sa.Column("id", _ID, nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("line", sa.String(length=200), nullable=True),
        sa.Column("station", sa.String(length=200), nullable=True),
        sa.Column("part_id", sa.String(length=200), nullable=True),
        sa.Column("lot", sa.String(length=200), nullable=True),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("picture_digest", sa.String(length=64), nullable=True),
        sa.Column("reference_digest", sa.String(length=64), nullable=True),
        sa.Column("verdict", sa.String(length=6), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("defect_class", sa.String(length=200), nullable=True),
        sa.Column("class_scores", sa.JSON(), nullable=False),
        sa.Column("novelty", sa.Float(), nullable=True),
        sa.Column("regions", sa.JSON(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("model_version", sa.String(length=200), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("certificate", sa.String(length=64), nullable=True),
        sa.Column("execution_provider", sa.String(length=64), nullable=False),
        sa.Column("timings_ms", sa.JSON(), nullable=False),
        sa.Column("due", sa.SmallInteger(), nullable=False),
        sa.Column("decision", sa.String(length=6), nullable=True),
        sa.Column("decision_class", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inspections")),
    )
    op.create_index(
        "ix_inspections_decided",
        "inspections",
        ["id"],
        unique=False,
        sqlite_where=sa.text("decision IS NOT NULL"),
        postgresql_where=sa.text("decision IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_inspections_defect_class_id"), "inspections", ["defect_class", "id"], unique=False
    )
    op.create_index(
        "ix_inspections_due",
        "inspections",
        ["id"],
        unique=False,
        sqlite_where=sa.text("due > 0"),
        postgresql_where=sa.text("due > 0"),
    )
    op.create_index(op.f("ix_inspections_line_id"), "inspections", ["line", "id"], unique=False)
    op.create_index(op.f("ix_inspections_lot_id"), "inspections", ["lot", "id"], unique=False)
    op.create_index(
        op.f("ix_inspections_model_digest_id"), "inspections", ["model_digest", "id"], unique=False
    )
    op.create_index(
        op.f("ix_inspections_part_id_id"), "inspections", ["part_id", "id"], unique=False
    )
    op.create_index(
        op.f("ix_inspections_picture_digest"), "inspections", ["picture_digest"], unique=False
    )
    op.create_index(
        "ix_inspections_reference_digest",
        "inspections",
        ["reference_digest"],
        unique=False,
        sqlite_where=sa.text("reference_digest IS NOT NULL"),
        postgresql_where=sa.text("reference_digest IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_inspections_station_id"), "inspections", ["station", "id"], unique=False
    )
    op.create_index(
        op.f("ix_inspections_verdict_id"), "inspections", ["verdict", "id"], unique=False
    )
    op.create_table(
        "pictures",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_pictures")),
    )
    op.create_table(
        "tallies",
        sa.Column("minute_us", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.String(length=200), nullable=False),
        sa.Column("station", sa.String(length=200), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=6), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "minute_us", "line", "station", "model_digest", "verdict", name=op.f("pk_tallies")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "findings",
        sa.Column("id", _ID, nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("reporter", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("part_id", sa.String(length=200), nullable=True),
        sa.Column("lot", sa.String(length=200), nullable=True),
        sa.Column("inspection_id", _ID, nullable=True),
        sa.Column("picture_digest", sa.String(length=64), nullable=True),
        sa.Column("defect_class", sa.String(length=200), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["inspection_id"], ["inspections.id"], name=op.f("fk_findings_inspection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    op.create_index(op.f("ix_findings_inspection_id"), "findings", ["inspection_id"], unique=False)
    op.create_index(op.f("ix_findings_part_id"), "findings", ["part_id"], unique=False)
    op.create_index(
        op.f("ix_findings_picture_digest"), "findings", ["picture_digest"], unique=False
    )
    op.create_table(
        "reviews",
        sa.Column("id", _ID, nullable=False),
        sa.Column("inspection_id", _ID, nullable=False),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("reviewer", sa.String(length=200), nullable=False),
        sa.Column("verdict", sa.String(length=6), nullable=False),
        sa.Column("defect_class", sa.String(length=200), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["inspection_id"], ["inspections.id"], name=op.f("fk_reviews_inspection_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_inspection_id"), "reviews", ["inspection_id"], unique=False)
    op.create_table(
        "case_pictures",
        sa.Column("finding_id", _ID, nullable=False),
        sa.Column("model_name", sa.String(length=200), nullable=False),
        sa.Column("picture_digest", sa.String(length=64), nullable=False),
        sa.Column("reference_digest", sa.String(length=64), nullable=True),
        sa.Column("inspection_id", _ID, nullable=True),
        sa.ForeignKeyConstraint(
            ["finding_id"], ["findings.id"], name=op.f("fk_case_pictures_finding_id")
        ),
        sa.ForeignKeyConstraint(
            ["inspection_id"], ["inspections.id"], name=op.f("fk_case_pictures_inspection_id")
        ),
        sa.PrimaryKeyConstraint(
            "finding_id", "model_name", "picture_digest", name=op.f("pk_case_pictures")
        ),
    )
    op.create_index(
        op.f("ix_case_pictures_inspection_id"), "case_pictures", ["inspection_id"], unique=False
    )
    op.create_index(
        op.f("ix_case_pictures_picture_digest"), "case_pictures", ["picture_digest"], unique=False
    )
    op.create_index(
        op.f("ix_case_pictures_reference_digest"),
        "case_pictures",
        ["reference_digest"],
        unique=False,
    )


def downgrade() -> None:
    """Refuse: a step back would drop records."""
    raise NotImplementedError("records are never dropped; restore a backup instead")
