"""What a person does with their own account, and an admin with all; for HTTP and console alike."""

from twonines.errors import ConflictError, NotReadyError, RoleError
from twonines.serving.people.accounts import User
from twonines.serving.people.approvals import only_by_shell
from twonines.serving.people.keys import Key
from twonines.serving.people.people import People
from twonines.serving.people.roles import DEFAULT_TENANT, NO_QUOTA, Person, Quota, Role
from twonines.serving.people.usage import UsageRow, read_usage
from twonines.serving.service import Service


def people_of(service: Service) -> People:
    """The people whom the service knows.

    Raises:
        ConflictError: it was started without a place to keep them.
        NotReadyError: it starts or ends.
    """
    if service.people is not None:
        return service.people
    if service.settings.data_dir is None:
        raise ConflictError("data_dir: needed for this; the service was started without one")
    raise NotReadyError("the service is not ready")


class Administration:
    """Acts of one person; safe from any thread, and blocking.

    All but :meth:`change_password` raise ``RoleError`` where the person is no admin.
    """

    def __init__(self, people: People, person: Person) -> None:
        """Act as ``person``, who has been recognised."""
        self._people, self._person = people, person

    def change_password(self, old: str, new: str, address: str) -> None:
        """Change the person's own password; every session of them ends.

        Raises:
            ConflictError: they have none.
            LoginError, OverloadedError: as :meth:`Accounts.check` of the old one.
            InputError: the new one is too short or too long.
        """
        person, accounts = self._person, self._people.accounts
        if person.kind != "user":
            raise ConflictError(f"password: only a user has one, got {person.actor}")
        accounts.check(person.name, old, address)
        accounts.change(person.name, person.actor, password=new)

    def list_users(self) -> list[User]:
        """Every user by name."""
        return self._checked().accounts.list()

    def add_user(self, name: str, role: Role, password: str, tenant: str = DEFAULT_TENANT) -> User:
        """Make a user; not where two persons are wanted, for one must not become two.

        Raises:
            ForbiddenError: two persons are wanted.
            InputError, ConflictError: as :meth:`Accounts.add`.
        """
        people = self._checked()
        if people.two_person:
            raise only_by_shell(f"add NAME --role {role}")
        return people.accounts.add(name, role, password, self._person.actor, tenant)

    def change_user(
        self,
        name: str,
        *,
        role: Role | None = None,
        disabled: bool | None = None,
        password: str | None = None,
    ) -> None:
        """Change all that is given; where two persons are wanted only to less.

        Raises:
            ForbiddenError, InputError, UnknownError, ConflictError: as :meth:`Accounts.change`.
        """
        people = self._checked()
        people.accounts.change(
            name, self._person.actor, role=role, disabled=disabled, password=password,
            only_less=people.two_person,
        )  # fmt: skip

    def list_keys(self) -> list[Key]:
        """Every key, the newest first."""
        return self._checked().keys.list()

    def add_key(
        self, label: str, role: Role, tenant: str = DEFAULT_TENANT, quota: Quota = NO_QUOTA
    ) -> tuple[str, Key]:
        """A new key, which is told only now, and what is kept of it.

        Raises:
            InputError: as :meth:`Keys.add`.
        """
        return self._checked().keys.add(label, role, self._person.actor, tenant, quota)

    def revoke_key(self, prefix: str) -> None:
        """Let a key in no more.

        Raises:
            UnknownError: as :meth:`Keys.revoke`.
        """
        self._checked().keys.revoke(prefix, self._person.actor)

    def read_usage(
        self, since: str | None = None, until: str | None = None, tenant: str | None = None
    ) -> list[UsageRow]:
        """What was used, to this second.

        Raises:
            InputError: as :func:`read_usage`.
        """
        people = self._checked()
        people.meter.flush()
        return read_usage(people.database, since, until, tenant)

    def _checked(self) -> People:
        if not self._person.role.covers(Role.ADMIN):
            raise RoleError(str(self._person.role), str(Role.ADMIN))
        return self._people
