"""People: one's own account; for an admin also users, API keys and what was used."""

from nicegui import ui

from twonines.serving.console.acting import TO_LOGIN, Acting, NewPassword, password_field
from twonines.serving.console.keys_part import KeysPart
from twonines.serving.console.parts import facts, notice, panel
from twonines.serving.console.usage_part import UsagePart
from twonines.serving.console.users_part import UsersPart
from twonines.serving.console.view import View
from twonines.serving.people.administration import people_of
from twonines.serving.people.limits import address_of
from twonines.serving.people.roles import Role


async def build(view: View) -> None:
    """Show the page."""
    people_of(view.desk.service)  # without people there is nothing to show
    acting = Acting(view)
    _account(acting)
    if view.may(Role.ADMIN):  # each act checks it again
        for part in (UsersPart(acting), KeysPart(acting), UsagePart(acting)):
            await part.place()


def _account(acting: Acting) -> None:
    view, t, person = acting.view, acting.view.t, acting.view.person
    with panel(t("my_account")) as box:
        box.props("data-mark=account")
        role = t(f"role_{person.role}")
        facts({t("name"): person.name, t("role"): role, t("tenant"): person.tenant})
        if person.kind == "user":
            _password(acting)
        elif person.kind == "key":
            notice(t("came_with_key", name=person.name))
        else:
            notice(t("no_login_here", name=person.name))
            if not acting.needs_no_login:
                notice(t("first_user"))
        if not view.is_local:
            ui.button(t("log_out"), icon="logout").props("outline").on(
                "click", js_handler="() => twonines.logout()"
            )


def _password(acting: Acting) -> None:
    view, t = acting.view, acting.view.t

    async def change() -> None:
        given, client = new.take(), ui.context.client
        if given is None:
            return
        address, before = address_of(view.request), str(old.value or "")
        if await acting.do(lambda acts: acts.change_password(before, given, address)):
            client.run_javascript(TO_LOGIN)

    ui.label(t("change_password")).style("font-weight: 700").classes("q-mt-md")
    with ui.row().classes("w-full items-center"):
        old = password_field(t("old_password"), "old", "current-password")
        new = NewPassword(view, "own")
        ui.button(t("change_password"), icon="key", on_click=change).props("data-mark=change-own")
    ui.label(t("password_ends_logins", name=view.person.name)).classes("muted q-mb-md")
