"""Parts of a page that are read and drawn anew while it is open."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from nicegui import background_tasks, ui

from twonines.errors import TwoninesError
from twonines.serving.console.parts import notice

T = TypeVar("T")


class Part(Generic[T]):
    """What is read first, and then drawn in one step.

    A timer, a button and another person's change may all ask for a part anew while it is being
    read. Were it cleared before it is read, as ``ui.refreshable`` does, it would then stand twice.
    Here one reading follows the other, and those that a later one makes stale are left out.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        draw: Callable[[T], object],
        shown: Callable[[T], object] | None = None,
    ) -> None:
        """Nothing is shown before :meth:`place`.

        Args:
            read: gives what is to be drawn; it may await.
            draw: builds the elements; it must not await.
            shown: what a person would see of it. Nothing is drawn anew while this stays equal:
                a button that is replaced under the pointer loses its click.
        """
        self._read, self._draw, self._shown = read, draw, shown
        self._turn, self._asked = asyncio.Lock(), 0
        self._last: object = None

    async def place(self) -> None:
        """Draw it here for the first time."""
        self._box = ui.element().style("display: contents")
        await self._again()

    def refresh(self) -> None:
        """Draw it anew, soon."""
        background_tasks.create(self._again())

    async def _again(self) -> None:
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if mine != self._asked or self._box.is_deleted:
                return
            fault = None
            try:
                data = await self._read()
            except TwoninesError as exc:
                fault = str(exc)
            if self._box.is_deleted:  # the page was closed meanwhile
                return
            if self._shown is not None:
                seen = self._shown(data) if fault is None else fault
                if seen == self._last:
                    return
                self._last = seen
            self._box.clear()
            with self._box:
                if fault is None:
                    self._draw(data)
                else:
                    notice(fault, "bad")
