"""Everything that knows people, in one place; the same database for all of it."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from twonines.serving.people.accounts import Accounts
from twonines.serving.people.approvals import Approvals
from twonines.serving.people.audit import Audit
from twonines.serving.people.clock import Clock, now_us
from twonines.serving.people.keys import MAX_KEY, Keys
from twonines.serving.people.limits import LoginLimit
from twonines.serving.people.meter import Meter
from twonines.serving.people.passwords import Passwords
from twonines.serving.people.roles import Person
from twonines.serving.people.sessions import Login, Sessions
from twonines.serving.store.database import Database
from twonines.settings import ServeSettings

T = TypeVar("T")
_KNOWN_S, _LOST_S = 1.0, 900.0
_MOST_KNOWN = 4096


class _Known(Generic[T]):
    """Answers of the database for a second, so that a hot path does not ask at every request.

    A change through this process counts at once, and one by another process within the second.
    """

    def __init__(self) -> None:
        self._answers: dict[str, tuple[float, T]] = {}
        self._lock = threading.Lock()
        self._changes = 0

    def get(self, key: str, ask: Callable[[str], T | None]) -> T | None:
        with self._lock:
            changes = self._changes
            known = self._answers.get(key)
        now = time.monotonic()
        if known is not None and now - known[0] < _KNOWN_S:
            return known[1]
        try:
            fresh = ask(key)
        except SQLAlchemyError:
            # A line goes on while its database is away; nobody can be shut out meanwhile anyhow.
            if known is not None and now - known[0] < _LOST_S:
                return known[1]
            raise
        with self._lock:
            # What was read before a change must not outlive it.
            if fresh is not None and self._changes == changes:
                if len(self._answers) >= _MOST_KNOWN:
                    self._answers.clear()
                self._answers[key] = (now, fresh)
            else:
                self._answers.pop(key, None)
        return fresh

    def forget(self) -> None:
        with self._lock:
            self._changes += 1
            self._answers.clear()


class People:
    """Who may enter, what they use and what they did; safe from any thread, and blocking."""

    def __init__(
        self,
        database: Database,
        *,
        idle_s: float = 3600.0,
        max_s: float = 12 * 3600.0,
        two_person: bool = False,
        passwords: Passwords | None = None,
        limit: LoginLimit | None = None,
        clock: Clock = now_us,
    ) -> None:
        """Use the database, whose tables must be there."""
        self.database, self.two_person = database, two_person
        self._keys_known: _Known[Person] = _Known()
        self._logins_known: _Known[Login] = _Known()
        self.audit = Audit(database, clock)
        self.accounts = Accounts(
            database, self.audit, passwords or Passwords(), limit or LoginLimit(), clock,
            self._forget,
        )  # fmt: skip
        self.keys = Keys(database, self.audit, clock, self._forget)
        self.sessions = Sessions(database, idle_s=idle_s, max_s=max_s, clock=clock)
        self.meter = Meter(database, clock)
        self.approvals = Approvals(database, self.audit, clock)
        self._strangers: tuple[float, bool] | None = None

    def needs_login(self) -> bool:
        """Whether there has ever been a user or key; once it is so, it stays so."""
        known, now = self._strangers, time.monotonic()
        if known is None or not (known[1] or now - known[0] < _KNOWN_S):
            try:
                known = self._strangers = (now, self.accounts.exist())
            except SQLAlchemyError:
                if known is None:
                    raise
        return known[1]

    def login(self, name: str, password: str, address: str, old: str | None) -> tuple[str, Login]:
        """A new session, and the cookie for it; the ``old`` cookie is worth nothing any more.

        Raises:
            LoginError, OverloadedError: as :meth:`Accounts.check`.
        """
        person = self.accounts.check(name, password, address)
        opened = self.sessions.open(person, old)
        self._logins_known.forget()
        self.audit.append(person.actor, "login", person.name, {"address": address})
        return opened

    def logout(self, token: str, person: Person) -> None:
        """End a session at once."""
        self.sessions.close(token)
        self._logins_known.forget()
        self.audit.append(person.actor, "logout", person.name)

    def find_login(self, token: str, *, touch: bool = True) -> Login | None:
        """The session of a cookie; ``touch`` says that its user has done something."""
        if len(token) > MAX_KEY:
            return None
        found = self._logins_known.get(token, lambda one: self.sessions.find(one, touch=touch))
        if found:
            self.meter.prepare(found.person)
        return found

    def find_key(self, secret: str) -> Person | None:
        """Who comes with an API key."""
        if len(secret) > MAX_KEY:
            return None
        found = self._keys_known.get(secret, self._ask_key)
        if found:
            self.meter.prepare(found)
        return found

    def _ask_key(self, secret: str) -> Person | None:
        key = self.keys.find(secret)
        return key.person if key else None

    def _forget(self) -> None:
        self._keys_known.forget()
        self._logins_known.forget()
        self._strangers = None


def open_people(database: Database, settings: ServeSettings) -> People:
    """As the settings want it."""
    return People(
        database,
        idle_s=settings.login_idle_s,
        max_s=settings.login_max_s,
        two_person=settings.two_person,
    )
