"""Users, for an admin."""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from twonines.serving.console.acting import (
    TO_LOGIN,
    Acting,
    NewPassword,
    ask_password,
    ask_role,
    role_choice,
)
from twonines.serving.console.drawing import Part
from twonines.serving.console.parts import confirmed, notice, panel
from twonines.serving.people.accounts import User
from twonines.serving.people.administration import Administration
from twonines.serving.people.roles import DEFAULT_TENANT, Role


class UsersPart:
    """Who may enter; what one admin alone must not do is not offered, and would be refused."""

    def __init__(self, acting: Acting) -> None:
        """Nothing is shown before :meth:`place`."""
        self.acting, self.view, self.t = acting, acting.view, acting.view.t
        self.show = Part(self._read, self._draw)

    async def place(self) -> None:
        """Show it here."""
        with panel(self.t("users")) as box:
            box.props("data-mark=users")
            if self.acting.two_person:
                notice(self.t("only_by_shell"))
            await self.show.place()
            if not self.acting.two_person:
                self._form()

    async def _read(self) -> list[User]:
        return await self.acting.ask(lambda acts: acts.list_users())

    def _draw(self, users: list[User]) -> None:
        for user in users:
            self._user(user)

    def _user(self, user: User) -> None:
        t = self.t
        with ui.row().classes("w-full items-center entry") as row:
            row.props["data-user"] = user.name
            ui.icon("person_off" if user.disabled else "person", size="28px")
            with ui.column().classes("col gap-0").style("min-width: 14rem"):
                ui.label(user.name).style("font-weight: 700; overflow-wrap: anywhere")
                state = t("is_disabled" if user.disabled else "may_log_in")
                ui.label(f"{t(f'role_{user.role}')} · {user.tenant} · {state}").classes("muted")
            self._actions(user)

    def _actions(self, user: User) -> None:
        roles = list(Role)
        if self.acting.two_person:  # one admin may only take rights away
            roles = [role for role in roles if user.role.covers(role)]
        if len(roles) > 1:
            self._button("role", "badge", partial(self._give_role, user, roles), "give-role")
        if not self.acting.two_person:
            self._button("reset_password", "key", partial(self._reset, user), "reset-user")
        if not user.disabled:
            self._button("disable", "person_off", partial(self._disable, user), "disable")
        elif not self.acting.two_person:
            enable = partial(self._do, lambda acts: acts.change_user(user.name, disabled=False))
            self._button("enable", "person_add", enable, "enable")

    def _button(
        self, key: str, icon: str, press: Callable[[], Awaitable[object]], mark: str
    ) -> None:
        ui.button(self.t(key), icon=icon, on_click=press).props(f"outline data-mark={mark}")

    async def _give_role(self, user: User, roles: list[Role]) -> None:
        with ui.context.client:
            role = await ask_role(self.view, user.name, roles, user.role)
            if role is not None and role is not user.role:
                await self._do(lambda acts: acts.change_user(user.name, role=role))

    async def _reset(self, user: User) -> None:
        with ui.context.client:
            password = await ask_password(self.view, user.name)
            if password is not None and await self._do(
                lambda acts: acts.change_user(user.name, password=password), ""
            ):
                ui.notify(self.t("password_is_new", name=user.name), type="positive")

    async def _disable(self, user: User) -> None:
        with ui.context.client:
            if await confirmed(self.view, self.t("disable_sure", name=user.name)):
                await self._do(lambda acts: acts.change_user(user.name, disabled=True))

    async def _do(self, act: Callable[[Administration], None], done: str = "done") -> bool:
        is_done = await self.acting.do(act, done)
        self.show.refresh()
        return is_done

    def _form(self) -> None:
        t = self.t
        ui.label(t("add_user")).style("font-weight: 700").classes("q-mt-md")
        with ui.row().classes("w-full items-center"):
            name = ui.input(t("name")).props("maxlength=64 autocomplete=off data-mark=user-name")
            role = role_choice(self.view, list(Role), Role.INSPECTOR, "user-role")
            tenant = ui.input(t("tenant"), value=DEFAULT_TENANT).props("maxlength=64")
            password = NewPassword(self.view, "user-password")

            async def add() -> None:
                given, client = password.take(), ui.context.client
                if given is None:
                    return
                if not await self.acting.do(
                    lambda acts: acts.add_user(
                        str(name.value or ""), Role.parse(str(role.value)), given,
                        str(tenant.value or ""),
                    ),
                    "user_added",
                ):  # fmt: skip
                    return
                name.value = ""
                password.clear()
                if self.view.is_local and not self.acting.needs_no_login:
                    client.run_javascript(TO_LOGIN)  # from now on nobody enters unnamed
                self.show.refresh()

            ui.button(t("add"), icon="person_add", on_click=add).props("data-mark=add-user")
