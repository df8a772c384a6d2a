"""API keys, for an admin."""

from dataclasses import asdict, fields
from functools import partial

from nicegui import events, ui

from twonines.errors import InputError
from twonines.serving.console.acting import Acting, role_choice
from twonines.serving.console.drawing import Part
from twonines.serving.console.parts import confirmed, dialog, notice, panel
from twonines.serving.console.recorded import moment
from twonines.serving.people.keys import Key
from twonines.serving.people.roles import DEFAULT_TENANT, Quota, Role

_LIMITS = tuple(field.name for field in fields(Quota))


class KeysPart:
    """The keys; a new one is shown once."""

    def __init__(self, acting: Acting) -> None:
        """Nothing is shown before :meth:`place`."""
        self.acting, self.view, self.t = acting, acting.view, acting.view.t
        self.show = Part(self._read, self._draw)

    async def place(self) -> None:
        """Show it here."""
        with panel(self.t("keys")) as box:
            box.props("data-mark=keys")
            await self.show.place()
            self._form()

    async def _read(self) -> list[Key]:
        return await self.acting.ask(lambda acts: acts.list_keys())

    def _draw(self, keys: list[Key]) -> None:
        if not keys:
            ui.label(self.t("no_keys")).classes("muted")
        for key in sorted(keys, key=lambda one: one.revoked_us is not None):
            self._key(key)

    def _key(self, key: Key) -> None:
        t = self.t
        with ui.row().classes("w-full items-center entry").props(f"data-key={key.prefix}"):
            ui.icon("key_off" if key.revoked_us else "key", size="28px")
            with ui.column().classes("col gap-0").style("min-width: 14rem"):
                ui.label(f"{key.label} · {key.prefix}").style(
                    "font-weight: 700; overflow-wrap: anywhere"
                )
                state = (
                    t("is_revoked", when=moment(key.revoked_us)) if key.revoked_us
                    else t("is_valid")
                )  # fmt: skip
                told = [t(f"role_{key.role}"), key.tenant, state, self._limits(key.quota)]
                ui.label(" · ".join(told)).classes("muted")
            if key.revoked_us is None:
                ui.button(t("revoke"), icon="key_off", on_click=partial(self._revoke, key)).props(
                    "outline data-mark=revoke"
                )

    def _limits(self, quota: Quota) -> str:
        given = {name: value for name, value in asdict(quota).items() if value is not None}
        shown = [f"{self.t(name)}: {value}" for name, value in given.items()]
        return ", ".join(shown) or self.t("unlimited")

    async def _revoke(self, key: Key) -> None:
        with ui.context.client:
            sure = self.t("revoke_sure", label=key.label, prefix=key.prefix)
            if await confirmed(self.view, sure):
                await self.acting.do(lambda acts: acts.revoke_key(key.prefix))
                self.show.refresh()

    def _form(self) -> None:
        t = self.t
        ui.label(t("make_key")).style("font-weight: 700").classes("q-mt-md")
        with ui.row().classes("w-full items-center"):
            label = ui.input(t("label")).props("maxlength=64 data-mark=key-label")
            role = role_choice(self.view, list(Role), Role.INSPECTOR, "key-role")
            tenant = ui.input(t("tenant"), value=DEFAULT_TENANT).props("maxlength=64")
            limits = {
                name: ui.number(t(name), min=0, step=1)
                .style("min-width: 13rem")
                .props(f"data-mark={name}")
                for name in _LIMITS
            }

            async def make() -> None:
                made: list[tuple[str, Key]] = []
                given = {name: field.value for name, field in limits.items()}
                if await self.acting.do(
                    lambda acts: made.append(
                        acts.add_key(
                            str(label.value or ""), Role.parse(str(role.value)),
                            str(tenant.value or ""),
                            Quota(**{name: _whole(name, v) for name, v in given.items()}),
                        )
                    ),
                    "",
                ):  # fmt: skip
                    label.value = ""
                    self.show.refresh()
                    await self._tell(*made[0])

            ui.button(t("make_key"), icon="add", on_click=make).props("data-mark=make-key")
        ui.label(t("no_limit_if_empty")).classes("muted")

    async def _tell(self, secret: str, key: Key) -> None:
        t = self.t

        def said(event: events.GenericEventArguments) -> None:
            if event.args:
                ui.notify(t("copied"), type="positive")

        with dialog() as opened, ui.card().style("min-width: min(44rem, 90vw)"):
            opened.props("persistent")
            ui.label(t("key_made", prefix=key.prefix)).classes("title")
            notice(t("shown_once"))
            ui.input(value=secret).classes("w-full").props(
                f'readonly data-mark=new-key aria-label="{t("keys")}"'
            )
            with ui.row().classes("w-full justify-end"):
                ui.button(t("copy"), icon="content_copy").props("data-mark=copy-key").on(
                    "click", said, js_handler="() => emit(twonines.copy('[data-mark=new-key]'))"
                )
                ui.button(t("close"), icon="close", on_click=lambda: opened.submit(None)).props(
                    "outline data-mark=close-key"
                )
        await opened
        opened.delete()  # with the key in it


def _whole(name: str, value: float | None) -> int | None:
    if value is None:
        return None
    if value != int(value):
        raise InputError(f"{name}: must be a whole number, got {value}")
    return int(value)
