"""API keys: 256 random bits behind a prefix that may be shown; only their SHA-256 is stored."""

import hmac
import re
import secrets
import string
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import Row, insert, select, update

from twonines.errors import UnknownError
from twonines.serving.people.audit import Audit
from twonines.serving.people.clock import Clock, now_us
from twonines.serving.people.names import checked_name
from twonines.serving.people.roles import DEFAULT_TENANT, NO_QUOTA, Person, Quota, Role
from twonines.serving.people.sessions import digest_of
from twonines.serving.people.tables import KEYS
from twonines.serving.store.database import Database

_LETTERS = string.ascii_lowercase + string.digits
_PREFIX = 12
_FORM = re.compile(r"tn_[a-z0-9]{9}")
MAX_KEY = 128
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class Key:
    """A key as an admin sees it; the key itself is shown once, when it is made."""

    prefix: str
    label: str
    role: Role
    tenant: str
    created_us: int
    revoked_us: int | None = None
    quota: Quota = NO_QUOTA

    @property
    def person(self) -> Person:
        """Who comes with this key."""
        return Person(self.prefix, self.role, self.tenant, "key", self.quota)


class Keys:
    """Safe from any thread and process; every change is in the audit log."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        clock: Clock = now_us,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Use the database, whose tables must be there; ``on_change`` is told of every change."""
        self._database, self._audit, self._clock = database, audit, clock
        self._on_change = on_change

    def add(
        self,
        label: str,
        role: Role,
        by: str,
        tenant: str = DEFAULT_TENANT,
        quota: Quota = NO_QUOTA,
    ) -> tuple[str, Key]:
        """A new key and what is kept of it.

        Raises:
            InputError: the label, tenant or quota is not as it must be.
        """
        label, tenant = checked_name("label", label), checked_name("tenant", tenant)
        quota.check()
        prefix = "tn_" + "".join(secrets.choice(_LETTERS) for _ in range(_PREFIX - 3))
        secret = f"{prefix}_{secrets.token_urlsafe(32)}"
        key = Key(prefix, label, role, tenant, self._clock(), quota=quota)
        told = {"label": label, "role": str(role), "tenant": tenant, **asdict(quota)}
        row = {**told, "prefix": prefix, "digest": digest_of(secret), "created_us": key.created_us}
        with self._database.writing() as connection:
            connection.execute(insert(KEYS).values(**row))
            self._audit.append_in(connection, by, "key.add", prefix, told)
        self._on_change()
        return secret, key

    def revoke(self, prefix: str, by: str) -> None:
        """Let a key in no more.

        Raises:
            UnknownError: there is no such key, or it is revoked.
        """
        if not _FORM.fullmatch(prefix):
            raise UnknownError(f"prefix: must be tn_ and 9 letters or digits, got {prefix[:64]!r}")
        valid = (KEYS.c.prefix == prefix) & KEYS.c.revoked_us.is_(None)
        with self._database.writing() as connection:
            done = connection.execute(update(KEYS).where(valid).values(revoked_us=self._clock()))
            if not done.rowcount:
                raise UnknownError(f"prefix: must be a key that is valid, got {prefix[:64]!r}")
            self._audit.append_in(connection, by, "key.revoke", prefix)
        self._on_change()

    def list(self) -> list[Key]:
        """All keys, the newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(KEYS).order_by(KEYS.c.created_us.desc()))
            return [_key(row) for row in rows]

    def find(self, secret: str) -> Key | None:
        """The key, where it is one and valid."""
        prefix = secret[:_PREFIX]
        if not _FORM.fullmatch(prefix):  # what a database may choke on is no key either
            return None
        with self._database.reading() as connection:
            row = connection.execute(select(KEYS).where(KEYS.c.prefix == prefix)).one_or_none()
        stored = row.digest if row else _NO_DIGEST
        right = hmac.compare_digest(stored, digest_of(secret))
        if row is None or not right or row.revoked_us is not None:
            return None
        return _key(row)


def _key(row: Row[Any]) -> Key:
    quota = Quota(*(getattr(row, limit.name) for limit in fields(Quota)))
    return Key(
        row.prefix,
        row.label,
        Role.parse(row.role),
        row.tenant,
        row.created_us,
        row.revoked_us,
        quota,
    )
