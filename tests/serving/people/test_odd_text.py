"""Text that a database cannot hold is an unknown name, never a fault of the service."""

import pytest

from tests.serving.people.conftest import cheap
from tests.serving.store.conftest import server as server
from tests.serving.store.conftest import url as url
from twonines.errors import InputError, LoginError, UnknownError
from twonines.serving.people.people import People
from twonines.serving.people.roles import Person, Role
from twonines.serving.people.usage import read_usage
from twonines.serving.store.database import Database


def test_odd_text_is_unknown_on_both_databases(url: str) -> None:  # noqa: F811
    database = Database(url)
    database.migrate()
    people, anna = People(database, passwords=cheap()), Person("anna", Role.ENGINEER)
    secret, key = people.keys.add("line", Role.INSPECTOR, "test")
    for odd in ("tn_\x00abcdefgh", "\x00", "\ud800", "' OR 1=1 --", ""):
        assert people.find_key(odd) is None
        assert people.find_login(odd) is None
        with pytest.raises(UnknownError, match="prefix"):
            people.keys.revoke(odd, "test")
        with pytest.raises(UnknownError, match="approval"):
            people.approvals.decide(anna, odd, True)
        with pytest.raises(InputError, match="tenant"):
            read_usage(database, tenant=odd)
        with pytest.raises(InputError, match="name"):
            people.accounts.change(odd, "test", role=Role.ADMIN)
    for odd in ("\x00", "\ud800"):
        with pytest.raises(LoginError):
            people.accounts.check(odd, odd * 12, odd)
    assert people.find_key(secret) == key.person
    assert people.audit.verify().is_sound
    database.close()
