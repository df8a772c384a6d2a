"""Parts of pages that are asked for twice at once stand once, and show what is newest."""

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nicegui import ui
from nicegui.functions.refreshable import refreshable
from nicegui.testing import user_simulation

from tests.conftest import tiny_card, write_tiny_model
from twonines.errors import StoreError
from twonines.serving import console
from twonines.serving.console import models_page
from twonines.serving.console.drawing import Part
from twonines.serving.console.texts import Words
from twonines.serving.console.view import Desk, View
from twonines.serving.console.works import Works
from twonines.serving.people.roles import LOCAL
from twonines.serving.service import Service
from twonines.settings import ServeSettings


def simulate(build: Callable[[], Any], then: Callable[[Any], Any]) -> None:
    """Build a page on NiceGUI's event loop, and do something with it."""

    async def run() -> None:
        async def page() -> None:
            await build()

        async with user_simulation(page) as user:
            await user.open("/")
            await then(user)

    asyncio.run(run())


async def until(done: Callable[[], bool]) -> None:
    while not done():
        await asyncio.sleep(0.01)


def test_a_model_page_drawn_anew_twice_at_once_shows_each_version_once(tmp_path: Path) -> None:
    for version in ("1", "2"):
        place = tmp_path / "tiny" / version
        place.mkdir(parents=True)
        write_tiny_model(place / "model.onnx", tiny_card(version=version))
    service = Service(ServeSettings(model_dir=tmp_path))
    made: list[Any] = []

    async def build() -> None:
        await service.start()
        request: Any = SimpleNamespace()
        view = View(Desk(service, Works()), request, LOCAL, Words("en"))
        made.append(models_page._Models(view))
        await made[0].show.place()

    async def then(user: Any) -> None:
        def panels() -> list[Any]:
            found = user.client.elements.values()
            return sorted(e.props["data-version"] for e in found if "data-version" in e.props)

        assert panels() == ["1", "2"]
        with user:
            made[0].show.refresh()
            await asyncio.sleep(0)
            made[0].show.refresh()
        await asyncio.sleep(0.5)
        assert panels() == ["1", "2"]
        service.stop()

    simulate(build, then)


def test_readings_follow_each_other_and_stale_ones_are_left_out() -> None:
    state, read, drawn = ["first"], [], []
    gates: list[asyncio.Event] = []
    boxes: list[ui.element] = []

    async def reading() -> str:
        value = state[0]
        read.append(value)
        if gates:
            await gates[0].wait()
        return value

    def draw(value: str) -> None:
        drawn.append(value)
        boxes.append(ui.label(value))

    part = Part(reading, draw)

    async def then(user: Any) -> None:
        assert drawn == ["first"]
        gates.append(asyncio.Event())
        for value in ("second", "third", "fourth"):
            state[0] = value
            part.refresh()
            await asyncio.sleep(0)
        assert drawn == ["first"], "what stands stays until the next is read"
        assert not boxes[0].is_deleted
        gates[0].set()
        await until(lambda: drawn[-1:] == ["fourth"])
        assert (read, drawn) == (["first", "second", "fourth"],) * 2
        assert [box.is_deleted for box in boxes] == [True, True, False]

    simulate(part.place, then)


def test_what_would_look_the_same_is_not_drawn_again() -> None:
    state = [("OK", 1)]
    reads: list[tuple[str, int]] = []
    drawn: list[tuple[str, int]] = []

    async def reading() -> tuple[str, int]:
        reads.append(state[0])
        return state[0]

    part = Part(reading, drawn.append, lambda value: value[0])

    async def then(user: Any) -> None:
        for value in (("OK", 2), ("NG", 3), ("NG", 4)):
            state[0] = value
            part.refresh()
            await until(lambda value=value: reads[-1] == value)  # type: ignore[misc]
        assert drawn == [("OK", 1), ("NG", 3)]

    simulate(part.place, then)


def test_what_cannot_be_read_is_told_and_may_be_read_later() -> None:
    faults: list[StoreError] = []
    drawn: list[ui.label] = []

    async def reading() -> str:
        if faults:
            raise faults[0]
        return "fine"

    part = Part(reading, lambda value: drawn.append(ui.label(value)))

    async def then(user: Any) -> None:
        faults.append(StoreError("the disk is full"))
        part.refresh()
        await until(lambda: drawn[0].is_deleted)
        await user.should_see("the disk is full")
        faults.clear()
        part.refresh()
        await until(lambda: len(drawn) == 2)
        await user.should_not_see("the disk is full")

    simulate(part.place, then)


def test_no_part_of_a_page_awaits_between_clearing_and_drawing() -> None:
    """``ui.refreshable`` clears first, so only what does not await may be one."""
    for found in pkgutil.iter_modules(console.__path__):
        module = importlib.import_module(f"{console.__name__}.{found.name}")
        for holder in (module, *(v for v in vars(module).values() if inspect.isclass(v))):
            for name, value in vars(holder).items():
                if isinstance(value, refreshable):
                    assert not inspect.iscoroutinefunction(value.func), f"{found.name}.{name}"
