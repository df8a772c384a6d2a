"""Whose name stands under a review or a finding."""

from dataclasses import dataclass
from typing import Self

from twonines.errors import SettingsError
from twonines.serving.people.roles import Person
from twonines.serving.store.desk import KEY, check_person

_KNOWN = ("user:", KEY)


@dataclass(frozen=True, slots=True)
class Signature:
    """The name, and in ``told`` what the audit log says of it.

    Who has logged in signs as in the audit log. Without logins people must still be told apart, so
    a name may be given; the audit log then says ``local``, and the name only as a claim.
    """

    name: str
    told: dict[str, str]

    @classmethod
    def of(cls, person: Person, field: str, given: str | None) -> Self:
        """Of the one who asks, where ``given`` is what they say of themselves, if anything.

        Raises:
            SettingsError: it names somebody else, or is no name.
        """
        if person.kind != "local":
            if given not in (None, person.name, person.actor):
                raise SettingsError(
                    f"{field}: must be the person who asks, {person.actor}, got {given!r}"
                )
            return cls(person.actor, {})
        if given is None:
            return cls(person.actor, {})
        name = check_person(field, given)
        if name.startswith(_KNOWN):
            raise SettingsError(
                f"{field}: must not begin with {' or '.join(_KNOWN)}, which only a login gives, "
                f"got {given!r}"
            )
        return cls(name, {"claimed": name})
