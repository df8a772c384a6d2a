"""Acts of the person before a page on accounts and keys, and the fields for them."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from nicegui import ui

from twonines.errors import LoginError
from twonines.serving.console.parts import dialog, told
from twonines.serving.console.view import View
from twonines.serving.people.administration import Administration, people_of
from twonines.serving.people.passwords import MAX_PASSWORD, MIN_PASSWORD
from twonines.serving.people.roles import Person, Role
from twonines.serving.people.sessions import COOKIE

T = TypeVar("T")
TO_LOGIN = "location.replace('/login')"


class Acting:
    """Asks at each act anew who it is: a page may stay open longer than a login or a role."""

    def __init__(self, view: View) -> None:
        """Act for whoever opened the page."""
        self.view = view

    @property
    def needs_no_login(self) -> bool:
        """Whether whoever reaches the service may use it without login, whoever is known."""
        return self.view.desk.service.settings.insecure_no_login

    @property
    def two_person(self) -> bool:
        """Whether changes take two persons, of whom one admin must not become the second."""
        return self.view.desk.service.settings.two_person

    async def ask(self, act: Callable[[Administration], T]) -> T:
        """What came of it.

        Raises:
            TwoninesError: as the act says, or the person may not enter any more.
        """
        return await asyncio.to_thread(lambda: act(self._administration()))

    async def do(self, act: Callable[[Administration], Any], done: str = "done") -> bool:
        """Do it, and show what came of it."""
        return await told(self.view, self.ask(act), done)

    def _administration(self) -> Administration:
        people = people_of(self.view.desk.service)
        person: Person | None = self.view.person
        if self.view.person.kind == "user":
            login = people.find_login(self.view.request.cookies.get(COOKIE, ""))
            person = login.person if login else None
        elif self.view.is_local and people.needs_login() and not self.needs_no_login:
            person = None
        if person is None:
            raise LoginError("login: it has ended; log in again")
        return Administration(people, person)


def password_field(label: str, mark: str, kind: str = "new-password") -> ui.input:
    """Shows dots; ``kind`` is what a browser may fill in."""
    field = ui.input(label, password=True).style("min-width: 16rem")
    return field.props(f"maxlength={MAX_PASSWORD} autocomplete={kind} data-mark={mark}")


class NewPassword:
    """A password that nobody sees, typed twice."""

    def __init__(self, view: View, mark: str) -> None:
        """Place the fields here."""
        self._t = view.t
        label = view.t("new_password", least=MIN_PASSWORD)
        self._first = password_field(label, mark)
        self._second = password_field(view.t("password_again"), f"{mark}-again")

    def take(self) -> str | None:
        """The password; None where the two differ, which is said."""
        first, second = str(self._first.value or ""), str(self._second.value or "")
        if first != second:
            ui.notify(self._t("passwords_differ"), type="negative")
            return None
        return first

    def clear(self) -> None:
        """Keep it nowhere."""
        self._first.value = self._second.value = ""


def role_choice(view: View, roles: list[Role], chosen: Role, mark: str) -> ui.select:
    """One of some roles, in words."""
    words = {str(role): view.t(f"role_{role}") for role in roles}
    field = ui.select(words, value=str(chosen), label=view.t("role")).style("min-width: 11rem")
    return field.props(f"data-mark={mark}")


async def ask_role(view: View, name: str, roles: list[Role], now: Role) -> Role | None:
    """Which role a user shall have."""
    with dialog() as asked, ui.card().style("min-width: 24rem"):
        ui.label(view.t("give_role", name=name)).classes("title")
        field = role_choice(view, roles, now, "role")
        _answer(view, asked, lambda: field.value)
    given = await asked
    return Role.parse(str(given)) if given else None


async def ask_password(view: View, name: str) -> str | None:
    """Which password a user shall have."""
    with dialog() as asked, ui.card().style("min-width: 24rem"):
        ui.label(view.t("reset_of", name=name)).classes("title")
        field = NewPassword(view, "reset")
        ui.label(view.t("password_ends_logins", name=name)).classes("muted")
        _answer(view, asked, field.take)
    given = await asked
    field.clear()
    return str(given) if given else None


def _answer(view: View, asked: ui.dialog, value: Callable[[], object]) -> None:
    def go_on() -> None:
        if given := value():
            asked.submit(given)

    with ui.row().classes("w-full justify-end"):
        ui.button(view.t("cancel"), on_click=lambda: asked.submit(None)).props("outline")
        ui.button(view.t("go_on"), icon="check", on_click=go_on).props("data-mark=confirm")
