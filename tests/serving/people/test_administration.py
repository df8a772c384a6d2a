"""Each act checks the role by itself, whoever calls it."""

from collections.abc import Callable

import pytest

from tests.serving.people.conftest import PASSWORD
from twonines.errors import ConflictError, ForbiddenError, LoginError, RoleError
from twonines.serving.people.administration import Administration
from twonines.serving.people.people import People
from twonines.serving.people.roles import LOCAL, Person, Role

OTHER = PASSWORD + " staple"
ACTS: list[Callable[[Administration], object]] = [
    lambda acts: acts.list_users(),
    lambda acts: acts.add_user("eve", Role.ADMIN, PASSWORD),
    lambda acts: acts.change_user("anna", role=Role.ADMIN),
    lambda acts: acts.change_user("anna", disabled=True),
    lambda acts: acts.change_user("anna", password=OTHER),
    lambda acts: acts.list_keys(),
    lambda acts: acts.add_key("line", Role.ADMIN),
    lambda acts: acts.revoke_key("tn_000000000"),
    lambda acts: acts.read_usage(),
]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
@pytest.mark.parametrize("act", ACTS)
def test_only_an_admin_acts_on_others(
    people: People, act: Callable[[Administration], object], role: Role
) -> None:
    people.accounts.add("anna", role, PASSWORD, "test")
    before = people.audit.head()
    with pytest.raises(RoleError, match=f"{role} may not do this; it takes admin"):
        act(Administration(people, Person("anna", role)))
    assert people.audit.head() == before


def test_an_admin_acts_in_their_own_name(people: People) -> None:
    acts = Administration(people, Person("root", Role.ADMIN))
    acts.add_user("anna", Role.VIEWER, PASSWORD, "night")
    acts.change_user("anna", role=Role.ENGINEER, disabled=True)
    secret, key = acts.add_key("line", Role.INSPECTOR, "night")
    assert people.find_key(secret) == key.person
    acts.revoke_key(key.prefix)
    assert people.find_key(secret) is None
    assert [(u.name, u.role, u.tenant, u.disabled) for u in acts.list_users()] == [
        ("anna", Role.ENGINEER, "night", True)
    ]
    assert [one.revoked_us is None for one in acts.list_keys()] == [False]
    assert acts.read_usage() == []
    assert {one["actor"] for one in people.audit.newest(10)} == {"user:root"}


def test_a_person_changes_only_their_own_password_and_shows_the_old_one(people: People) -> None:
    people.accounts.add("anna", Role.VIEWER, PASSWORD, "test")
    token, _ = people.login("anna", PASSWORD, "10.0.0.1", None)
    acts = Administration(people, Person("anna", Role.VIEWER))
    with pytest.raises(LoginError):
        acts.change_password(OTHER, OTHER, "10.0.0.1")
    assert people.find_login(token)
    acts.change_password(PASSWORD, OTHER, "10.0.0.1")
    assert people.find_login(token) is None, "every session ends"
    assert people.accounts.check("anna", OTHER, "10.0.0.1").name == "anna"
    with pytest.raises(ConflictError, match="only a user has one, got local"):
        Administration(people, LOCAL).change_password(PASSWORD, OTHER, "10.0.0.1")


def test_two_persons_leave_an_admin_only_less(people: People) -> None:
    people.accounts.add("root", Role.ADMIN, PASSWORD, "test")
    people.accounts.add("anna", Role.INSPECTOR, PASSWORD, "test")
    people.two_person = True
    acts = Administration(people, Person("root", Role.ADMIN))
    for act in (
        lambda: acts.add_user("eve", Role.VIEWER, PASSWORD),
        lambda: acts.change_user("anna", role=Role.ENGINEER),
        lambda: acts.change_user("anna", password=OTHER),
    ):
        with pytest.raises(ForbiddenError, match="twonines users"):
            act()
    acts.change_user("anna", role=Role.VIEWER)
    acts.change_user("anna", disabled=True)
    acts.change_password(PASSWORD, OTHER, "10.0.0.1")
