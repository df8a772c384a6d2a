import asyncio
from pathlib import Path

import pytest

from tests.benchmarks.study.conftest import small_plan, write_parts
from twonines.benchmarks.study.plan import write_plan
from twonines.datasets.registry import load_dataset
from twonines.errors import ConflictError
from twonines.serving.console.study_page import serve_command
from twonines.serving.console.works import Work, Works


async def ended(work: Work) -> None:
    assert work.watcher is not None
    await asyncio.wait_for(work.watcher, 120)


def test_a_work_says_what_it_does_and_how_it_ends() -> None:
    async def check() -> None:
        works, done = Works(), list[Work]()
        work = await works.start("a", "one", "--version", done=done.append)
        with pytest.raises(ConflictError, match="one still runs"):
            await works.start("a", "two", "--version")
        await ended(work)
        assert work.code == 0 and not work.running and done == [work]
        assert works.last("a") is work and works.last("b") is None
        bad = await works.start("a", "three", "show", "no-model.onnx", "no.png")
        await ended(bad)
        assert bad.code == 2 and bad.error.startswith("error: model: no-model.onnx")
        await works.close()

    asyncio.run(check())


def test_works_end_with_the_service(tmp_path: Path) -> None:
    async def check() -> None:
        works = Works()
        dataset = load_dataset("folder", write_parts(tmp_path / "parts", 4))
        write_plan(small_plan(dataset, pictures=6, prevalence=0.5, repeats=1), tmp_path / "study")
        work = await works.start(
            "a", "one", "study", "serve", str(tmp_path / "study"), "--port", "0"
        )
        while not any("at http://" in line for line in work.lines):
            assert work.running, work.lines
            await asyncio.sleep(0.1)
        await works.close()
        assert not work.running

    asyncio.run(check())


@pytest.mark.parametrize("outside", [False, True])
def test_the_command_that_opens_a_study_is_accepted(tmp_path: Path, outside: bool) -> None:
    async def check() -> None:
        works = Works()
        dataset = load_dataset("folder", write_parts(tmp_path / "parts", 4))
        write_plan(small_plan(dataset, pictures=6, prevalence=0.5, repeats=1), tmp_path / "study")
        command = serve_command(tmp_path / "study", outside)
        work = await works.start("a", "one", *command)
        while not any("at http://" in line for line in work.lines):
            assert work.running, work.lines
            await asyncio.sleep(0.1)
        host = "0.0.0.0" if outside else "127.0.0.1"
        assert any(f"at http://{host}:" in line for line in work.lines)
        await works.close()

    asyncio.run(check())
