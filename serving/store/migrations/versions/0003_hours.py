"""Hours: the tallies of minutes, summed."""

import sqlalchemy as sa
from alembic import op

revision = "0003_hours"
down_revision = "0002_people"
_HOUR_US = 3_600_000_000
_KEY = ("line", "station", "model_digest", "verdict")


def upgrade() -> None:
    """Make the table, and fill it: the minutes have every inspection, also those purged since."""
    hours = op.create_table(
        "hour_tallies",
        sa.Column("hour_us", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.String(length=200), nullable=False),
        sa.Column("station", sa.String(length=200), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=6), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("hour_us", *_KEY, name=op.f("pk_hour_tallies")),
        sqlite_with_rowid=False,
    )
    columns: list[sa.ColumnClause[str]] = [sa.column(name) for name in _KEY]
    minute: sa.ColumnClause[int] = sa.column("minute_us")
    hour = (minute - minute % _HOUR_US).label("hour_us")
    summed = sa.cast(sa.func.sum(sa.column("count")), sa.Integer()).label("count")
    sums = (
        sa.select(hour, *columns, summed)
        .select_from(sa.table("tallies", minute, *columns, sa.column("count")))
        .group_by(hour, *columns)
    )
    op.execute(sa.insert(hours).from_select(["hour_us", *_KEY, "count"], sums))
