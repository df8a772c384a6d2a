"""Two persons for one change: one proposes, another one approves."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

from sqlalchemy import Connection, Row, insert, select, update

from twonines.errors import ConflictError, ForbiddenError, UnknownError
from twonines.serving.people.audit import Audit
from twonines.serving.people.clock import DAY_US, Clock, now_us
from twonines.serving.people.roles import Person
from twonines.serving.people.tables import APPROVALS
from twonines.serving.store.database import Database
from twonines.serving.store.ids import is_id, new_id

_VALID_US = 7 * DAY_US
Verb = Literal["activate", "rollback", "unload"]


@dataclass(frozen=True, slots=True)
class Approval:
    """A proposed change of which version answers, if any; ``digest`` is that of its file then."""

    id: str
    verb: str
    model: str
    version: str
    digest: str
    proposer: str
    proposed_us: int
    state: str
    decider: str | None = None
    decided_us: int | None = None

    @property
    def subject(self) -> str:
        """How the audit log names it."""
        return f"{self.model}/{self.version}"


class Approvals:
    """Safe from any thread and process. A proposal that nobody decided is void after a week."""

    def __init__(self, database: Database, audit: Audit, clock: Clock = now_us) -> None:
        """Use the database, whose tables must be there."""
        self._database, self._audit, self._clock = database, audit, clock

    def propose(
        self, person: Person, verb: Verb, model: str, version: str, digest: str
    ) -> Approval:
        """Ask for a second person; the same proposal again is the one that is pending.

        Raises:
            ForbiddenError: it is no user who proposes.
        """
        check_user(person)
        now = self._clock()
        made = Approval(new_id(), verb, model, version, digest, person.actor, now, "pending")
        same = (
            (APPROVALS.c.verb == verb)
            & (APPROVALS.c.model == model)
            & (APPROVALS.c.version == version)
            & (APPROVALS.c.digest == digest)
            & (APPROVALS.c.state == "pending")
            & (APPROVALS.c.proposed_us >= now - _VALID_US)
        )
        with self._database.writing() as connection:
            known = connection.execute(select(APPROVALS).where(same)).first()
            if known is not None:
                return _approval(known)
            connection.execute(insert(APPROVALS).values(**asdict(made)))
            told = {"approval": made.id, "digest": digest}
            self._audit.append_in(connection, person.actor, f"{verb}.propose", made.subject, told)
        return made

    def check(self, person: Person, key: str, approved: bool) -> Approval:
        """The proposal, where the person may decide on it now; nothing changes.

        Raises:
            ForbiddenError: it is no user, or the one who proposed approves.
            UnknownError: there is no such proposal.
            ConflictError: it is decided, or void.
        """
        with self._database.reading() as connection:
            return self._check(connection, person, key, approved)

    def decide(self, person: Person, key: str, approved: bool) -> Approval:
        """Approve or reject; once.

        Raises:
            ForbiddenError, UnknownError, ConflictError: as :meth:`check`.
        """
        word = "approved" if approved else "rejected"
        now = self._clock()
        with self._database.writing() as connection:
            found = self._check(connection, person, key, approved)
            pending = (APPROVALS.c.id == key) & (APPROVALS.c.state == "pending")
            done = connection.execute(
                update(APPROVALS)
                .where(pending)
                .values(state=word, decider=person.actor, decided_us=now)
            )
            if not done.rowcount:  # somebody else was faster
                raise ConflictError("approval: must be pending, got one that is decided")
            action = f"{found.verb}.{'approve' if approved else 'reject'}"
            told = {"approval": key, "digest": found.digest, "proposer": found.proposer}
            self._audit.append_in(connection, person.actor, action, found.subject, told)
        return replace(found, state=word, decider=person.actor, decided_us=now)

    def _check(self, connection: Connection, person: Person, key: str, approved: bool) -> Approval:
        check_user(person)
        wanted = select(APPROVALS).where(APPROVALS.c.id == key)
        known = connection.execute(wanted).first() if is_id(key) else None
        if known is None:
            raise UnknownError(f"approval: must be one that was proposed, got {key[:64]!r}")
        found = _approval(known)
        if approved and found.proposer == person.actor:
            raise ForbiddenError(
                f"approval: must come from another person than the proposal, got {person.name}"
            )
        if found.state != "pending":
            raise ConflictError(f"approval: must be pending, got one that is {found.state}")
        if found.proposed_us < self._clock() - _VALID_US:
            raise ConflictError("approval: must be of the last 7 days; propose it again")
        return found

    def list(self, limit: int = 100) -> list[Approval]:
        """The newest first."""
        wanted = select(APPROVALS).order_by(APPROVALS.c.proposed_us.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_approval(row) for row in connection.execute(wanted)]

    def has_been_approved(self, model: str, version: str, digest: str) -> bool:
        """Whether two persons have let this very file answer before."""
        wanted = select(APPROVALS.c.id).where(
            APPROVALS.c.model == model, APPROVALS.c.version == version,
            APPROVALS.c.digest == digest, APPROVALS.c.state == "approved",
            APPROVALS.c.verb != "unload",
        )  # fmt: skip
        with self._database.reading() as connection:
            return connection.execute(wanted.limit(1)).first() is not None


def check_user(person: Person) -> None:
    """Raise ``ForbiddenError`` where it is no user, who alone may propose and approve."""
    # A key has no face: its holder could propose with it and approve in their own name.
    if person.kind != "user":
        raise ForbiddenError(
            "two_person: proposing and approving need a login with name and password, got "
            f"{person.actor}"
        )


def only_by_shell(command: str) -> ForbiddenError:
    """The refusal of what would let one person act as a second one."""
    # Who makes a user or sets a password could log in as that user and approve their own proposal.
    return ForbiddenError(
        f"two_person: `twonines users {command}` on the service's machine must do this, also while "
        "it runs; over HTTP a user can only be disabled or get a lower role"
    )


def _approval(row: Row[tuple[object, ...]]) -> Approval:
    return Approval(**row._mapping)
