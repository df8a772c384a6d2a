"""Tables of people, their sessions and keys, what they used, and what they did.

Times are microseconds since 1970 (UTC).
"""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, ForeignKey, Table, Text

from twonines.serving.store.database import METADATA

USERS = Table(
    "users",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("password", Text, nullable=False),  # argon2 hash
    Column("disabled", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)
"""Never deleted, so that a name in the audit log is always the same person's."""

LOGINS = Table(
    "logins",
    METADATA,
    Column("digest", Text, primary_key=True),  # sha256 of the cookie, which is kept nowhere
    Column("name", Text, ForeignKey("users.name"), nullable=False, index=True),
    Column("csrf", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
)

KEYS = Table(
    "api_keys",
    METADATA,
    Column("prefix", Text, primary_key=True),
    Column("label", Text, nullable=False),
    Column("digest", Text, nullable=False),  # sha256 of the whole key
    Column("role", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("images_per_minute", BigInteger),
    Column("images_per_day", BigInteger),
    Column("compute_s_per_day", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("day_us", BigInteger, primary_key=True),  # when the day began
    Column("actor", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("compute_us", BigInteger, nullable=False),
)

APPROVALS = Table(
    "approvals",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("verb", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of the model file that was proposed
    Column("proposer", Text, nullable=False),
    Column("proposed_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("decider", Text),
    Column("decided_us", BigInteger),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("time_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", Text, nullable=False),  # canonical JSON, hashed as it stands
    Column("previous", Text, nullable=False),
    Column("digest", Text, nullable=False),
)

AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("id", BigInteger, CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
)
"""One row, the last record's number and digest; its lock makes the writer a single one."""
