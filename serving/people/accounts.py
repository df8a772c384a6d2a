"""Users: made by an admin, never deleted, so that a name stays one person's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from twonines.errors import ConflictError, InputError, LoginError, OverloadedError, UnknownError
from twonines.serving.people.approvals import only_by_shell
from twonines.serving.people.audit import Audit
from twonines.serving.people.clock import Clock, now_us
from twonines.serving.people.limits import LoginLimit
from twonines.serving.people.names import checked_name
from twonines.serving.people.passwords import Passwords
from twonines.serving.people.roles import DEFAULT_TENANT, Person, Role
from twonines.serving.people.tables import KEYS, LOGINS, USERS
from twonines.serving.store.database import Database


@dataclass(frozen=True, slots=True)
class User:
    """A user as an admin sees them."""

    name: str
    role: Role
    tenant: str
    disabled: bool
    created_us: int


class Accounts:
    """Every change is in the audit log, in the same transaction; safe from any thread."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        passwords: Passwords,
        limit: LoginLimit,
        clock: Clock = now_us,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Use the database, whose tables must be there; ``on_change`` is told of every change."""
        self._database, self._audit, self._passwords = database, audit, passwords
        self._limit, self._clock, self._on_change = limit, clock, on_change

    def exist(self) -> bool:
        """Whether there is any user or key, also a disabled one: then nobody enters unnamed."""
        with self._database.reading() as connection:
            return any(
                connection.execute(select(column).limit(1)).first() is not None
                for column in (USERS.c.name, KEYS.c.prefix)
            )

    def list(self) -> list[User]:
        """All users by name."""
        with self._database.reading() as connection:
            rows = connection.execute(select(USERS).order_by(USERS.c.name)).mappings()
            return [_user(row) for row in rows]

    def add(
        self, name: str, role: Role, password: str, by: str, tenant: str = DEFAULT_TENANT
    ) -> User:
        """Make a user.

        Raises:
            InputError: the name, tenant or password is not as it must be.
            ConflictError: there is such a user.
        """
        name, tenant = checked_name("name", name), checked_name("tenant", tenant)
        user = User(name, role, tenant, False, self._clock())
        row = {
            "name": name,
            "role": str(role),
            "tenant": tenant,
            "disabled": False,
            "created_us": user.created_us,
            "password": self._passwords.hash(password),
        }
        try:
            with self._database.writing() as connection:
                connection.execute(insert(USERS).values(**row))
                told = {"role": str(role), "tenant": tenant}
                self._audit.append_in(connection, by, "user.add", name, told)
        except IntegrityError as exc:
            raise ConflictError(f"name: must be new, got {name!r}, which is a user") from exc
        self._on_change()
        return user

    def change(
        self,
        name: str,
        by: str,
        *,
        role: Role | None = None,
        disabled: bool | None = None,
        password: str | None = None,
        only_less: bool = False,
    ) -> None:
        """Change all that is given, or nothing where one of it cannot be.

        Sessions go on with another role at once; with the rest they end. ``only_less`` is for who
        must not be able to act as the user: they may take rights away, and no more.

        Raises:
            ForbiddenError: it is more, though ``only_less``.
            InputError: the password is too short or too long.
            UnknownError: there is no such user.
            ConflictError: it is the last admin, who would be one no more.
        """
        name = checked_name("name", name)
        hashed = None if password is None else self._passwords.hash(password)
        user = USERS.c.name == name
        with self._database.writing() as connection:
            # Held from here, so that two changes at once cannot take out the last two admins.
            self._audit.hold(connection)
            row = connection.execute(select(USERS).where(user)).mappings().one_or_none()
            if row is None:
                raise UnknownError(f"name: must be a user, got {name!r}")
            before, had_admin = _user(row), _has_admin(connection)
            if only_less:
                _check_less(before, role, disabled, password)
            # What is so already is no change: it ends no session, and nothing is written of it.
            changes: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
            if hashed is not None:
                changes.append(("user.password", {"password": hashed}, {}))
            if role not in (None, before.role):
                changes.append(("user.role", {"role": str(role)}, {"role": str(role)}))
            if disabled not in (None, before.disabled):
                action = "user.disable" if disabled else "user.enable"
                changes.append((action, {"disabled": disabled}, {}))
            for action, values, told in changes:
                self._audit.append_in(connection, by, action, name, told)
                connection.execute(update(USERS).where(user).values(**values))
            if had_admin and not _has_admin(connection):
                raise ConflictError(f"name: {name!r} is the last admin; make another one first")
            if any(action != "user.role" for action, _, _ in changes):
                connection.execute(delete(LOGINS).where(LOGINS.c.name == name))
        self._on_change()

    def check(self, name: str, password: str, address: str) -> Person:
        """Who it is, where name and password are right.

        Raises:
            LoginError: they are not, or the user is disabled; it is not said which.
            OverloadedError: too many tries of this name or from this address.
        """
        try:
            known = checked_name("name", name)
        except InputError:
            known = ""
        try:
            self._limit.take(known, address)
        except OverloadedError:
            if self._limit.is_news(address):  # a flood must not fill the log
                self._audit.append(
                    "nobody", "login.limit", "(too many tries)", {"address": address}
                )
            raise
        with self._database.reading() as connection:
            row = connection.execute(
                select(USERS).where(USERS.c.name == known)
            ).mappings().one_or_none()  # fmt: skip
        right = self._passwords.matches(row["password"] if row else None, password)
        if row is None or not right or row["disabled"]:
            # A name that is no user's is not kept: it may be a password in the wrong field.
            subject = row["name"] if row else "(no such user)"
            told = {"address": address, "disabled": bool(row and right)}
            self._audit.append("nobody", "login.fail", subject, told)
            raise LoginError("login: name or password is wrong")
        self._limit.forgive(known, address)
        if self._passwords.is_outdated(row["password"]):
            fresh = self._passwords.hash(password)
            with self._database.writing() as connection:
                # Only where it has not been changed meanwhile.
                unchanged = (USERS.c.name == known) & (USERS.c.password == row["password"])
                connection.execute(update(USERS).where(unchanged).values(password=fresh))
        return Person(row["name"], Role.parse(row["role"]), row["tenant"])


def can_enter(database: Database) -> bool:
    """Whether there is a user or key that may log in now."""
    with database.reading() as connection:
        user = select(USERS.c.name).where(USERS.c.disabled.is_(False)).limit(1)
        key = select(KEYS.c.prefix).where(KEYS.c.revoked_us.is_(None)).limit(1)
        return any(connection.execute(one).first() is not None for one in (user, key))


def _check_less(user: User, role: Role | None, disabled: bool | None, password: str | None) -> None:
    if password is not None:
        raise only_by_shell(f"passwd '{user.name}'")
    if role is not None and not user.role.covers(role):
        raise only_by_shell(f"role '{user.name}' {role}")
    if disabled is False and user.disabled:
        raise only_by_shell(f"disable --undo '{user.name}'")


def _has_admin(connection: Connection) -> bool:
    admins = select(USERS.c.name).where(
        USERS.c.role == str(Role.ADMIN), USERS.c.disabled.is_(False)
    )
    return connection.execute(admins.limit(1)).first() is not None


def _user(row: Any) -> User:
    return User(
        row["name"], Role.parse(row["role"]), row["tenant"], row["disabled"], row["created_us"]
    )
