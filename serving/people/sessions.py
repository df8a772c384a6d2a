"""Sessions of the browser: a random cookie, of which only the digest is stored."""

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from twonines.serving.people.clock import SECOND_US, Clock, now_us
from twonines.serving.people.roles import Person, Role
from twonines.serving.people.tables import LOGINS, USERS
from twonines.serving.store.database import Database

COOKIE = "twonines_session"
_MAX_SESSIONS = 20
"""Of one user; a further login ends the oldest."""
_SEEN_EVERY_US = 30 * SECOND_US


def digest_of(secret: str) -> str:
    """SHA-256; enough for 256 random bits, which no dictionary holds."""
    return hashlib.sha256(secret.encode("utf-8", "backslashreplace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Login:
    """A session: who, the token that unsafe requests must show, and when it ends."""

    person: Person
    csrf: str
    ends_us: int


class Sessions:
    """Safe from any thread and process."""

    def __init__(
        self, database: Database, *, idle_s: float, max_s: float, clock: Clock = now_us
    ) -> None:
        """End a session after ``idle_s`` without a request, and after ``max_s`` in any case."""
        self._database, self._clock = database, clock
        self._idle_us, self._max_us = int(idle_s * SECOND_US), int(max_s * SECOND_US)

    def open(self, person: Person, old: str | None = None) -> tuple[str, Login]:
        """A new session with an id that nobody has known before; ends the ``old`` one.

        An id that the client brings is never taken over, so none can be planted.
        """
        token, csrf, now = secrets.token_urlsafe(32), secrets.token_urlsafe(32), self._clock()
        over = (LOGINS.c.seen_us < now - self._idle_us) | (LOGINS.c.created_us < now - self._max_us)
        with self._database.writing() as connection:
            connection.execute(delete(LOGINS).where(over))
            if old is not None:
                connection.execute(delete(LOGINS).where(LOGINS.c.digest == digest_of(old)))
            newest = (
                select(LOGINS.c.digest)
                .where(LOGINS.c.name == person.name)
                .order_by(LOGINS.c.seen_us.desc())
                .limit(_MAX_SESSIONS - 1)
            )
            connection.execute(
                delete(LOGINS).where(LOGINS.c.name == person.name, LOGINS.c.digest.not_in(newest))
            )
            connection.execute(
                insert(LOGINS).values(
                    digest=digest_of(token), name=person.name, csrf=csrf, created_us=now,
                    seen_us=now,
                )
            )  # fmt: skip
        return token, Login(person, csrf, now + self._max_us)

    def find(self, token: str, *, touch: bool = True) -> Login | None:
        """The session of a cookie with the user's role of now; None where it has ended.

        ``touch`` counts it as used now.
        """
        now, digest = self._clock(), digest_of(token)
        # Looked up by its digest: how long that takes tells nothing of the token.
        wanted = (
            select(LOGINS, USERS.c.role, USERS.c.tenant)
            .join(USERS, USERS.c.name == LOGINS.c.name)
            .where(LOGINS.c.digest == digest, USERS.c.disabled.is_(False))
        )
        with self._database.reading() as connection:
            row = connection.execute(wanted).one_or_none()
        if row is None or not (
            now - row.seen_us <= self._idle_us and now - row.created_us <= self._max_us
        ):
            return None
        # Not at every request: a write is a wait for the disk.
        if touch and now - row.seen_us > min(_SEEN_EVERY_US, self._idle_us // 4):
            with self._database.writing() as connection:
                seen = update(LOGINS).where(LOGINS.c.digest == digest).values(seen_us=now)
                connection.execute(seen)
        person = Person(row.name, Role.parse(row.role), row.tenant)
        return Login(person, row.csrf, row.created_us + self._max_us)

    def close(self, token: str) -> None:
        """End the session of a cookie."""
        with self._database.writing() as connection:
            connection.execute(delete(LOGINS).where(LOGINS.c.digest == digest_of(token)))
