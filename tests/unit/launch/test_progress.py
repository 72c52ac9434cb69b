"""One bar for build and start."""

from __future__ import annotations

import asyncio
from typing import Any

from tljh_plugin.errors import BuildFailed
from tljh_plugin.launch.progress import BUILT, Progress
from tljh_plugin.wire import LogLine, Phase


async def all_of(progress: Progress) -> list[dict[str, Any]]:
    return [event async for event in progress.events()]


def line(n: int, phase: Phase, percent: int | None = None, text: str = "") -> LogLine:
    return LogLine(n=n, time="", phase=phase, progress=percent, text=text)


async def test_every_reader_gets_everything_however_late_it_comes() -> None:
    progress = Progress()
    early = asyncio.create_task(all_of(progress))
    progress.say(0, "one")
    await asyncio.sleep(0)
    progress.say(50, "two")
    progress.end()
    assert await early == await all_of(progress)
    assert [event["message"] for event in await early] == ["one", "two"]


async def test_the_bar_never_goes_back_nor_says_100_before_the_hub() -> None:
    progress = Progress()
    for percent in (10, 60, 20, 100, 150):
        progress.say(percent, "…")
    progress.end()
    assert [event["progress"] for event in await all_of(progress)] == [10, 60, 60, 99, 99]


async def test_a_build_fills_the_first_part_and_is_named() -> None:
    progress = Progress()
    progress.name_build("b1")
    progress.follow_build(line(1, "building", 50))
    progress.follow_build(line(2, "built", 100))
    progress.end()
    events = await all_of(progress)
    assert [event["progress"] for event in events] == [BUILT // 2, BUILT]
    assert {event["build"] for event in events} == {"b1"}


async def test_thousands_of_lines_become_few_events() -> None:
    progress = Progress()
    for n in range(5000):
        progress.follow_build(line(n, "building", 10, f"line {n}"))
    progress.end()
    assert len(await all_of(progress)) < 5


async def test_a_failure_is_text_for_people_and_a_value_for_programs() -> None:
    progress = Progress()
    progress.say(30, "building")
    progress.fail(BuildFailed("No <b>such</b> package.", "Correct line 1."))
    progress.end()
    last = (await all_of(progress))[-1]
    assert last == {
        "progress": 30,
        "message": "No <b>such</b> package. Correct line 1.",
        "error": {"code": "build-failed", "message": "No <b>such</b> package.", "next": "Correct line 1."},
    }
