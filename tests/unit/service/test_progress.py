"""Build and start as one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest

from tljh_plugin.errors import HubUnavailable
from tljh_plugin.service.progress import merge, position
from tljh_plugin.wire import ErrorView, LaunchEvent, LogLine, Phase


def line(n: int, phase: Phase = "building", **more: Any) -> LogLine:
    return LogLine(n=n, time="2026-01-01T00:00:00.000+00:00", phase=phase, text=f"line {n}", **more)


class Log:
    """Logs of builds; `asked` tells from where each was read, `closed` whether its reader went away."""

    def __init__(self, **lines: list[LogLine]) -> None:
        self.lines = lines
        self.asked: list[tuple[str, int]] = []
        self.closed = 0
        self.read = asyncio.Event()

    async def follow(self, build: str, after: int) -> AsyncGenerator[LogLine, None]:
        self.asked.append((build, after))
        try:
            for item in self.lines[build]:
                if item.n > after:
                    yield item
            if self.lines[build][-1].phase not in ("built", "failed", "cancelled"):
                await asyncio.Event().wait()
        finally:
            self.closed += 1
            self.read.set()


async def said(*events: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
    for event in events:
        yield event
        await asyncio.sleep(0)


async def collect(hub: AsyncIterator[Mapping[str, Any]], log: Log, after: str = "") -> list[LaunchEvent]:
    return [event async for event in merge(hub, log.follow, position(after))]


async def test_a_build_and_a_start_become_one_stream_with_the_log_from_the_start() -> None:
    log = Log(b1=[line(1, "fetching"), line(2), line(3, "checking"), line(4, "built")])
    events = await collect(
        said(
            {"progress": 0, "message": "Looking", "build": "b1"},
            {"progress": 40, "message": "Building", "build": "b1"},
            {"progress": 75, "message": "Files"},
            {"progress": 80, "message": "Container"},
            {"progress": 100, "ready": True, "url": "/user/ada/x/"},
        ),
        log,
    )
    assert [e.line.n for e in events if e.line] == [1, 2, 3, 4]
    assert {e.build for e in events if e.type == "log"} == {"b1"}
    percents = [e.progress for e in events]
    assert percents == sorted(percents)
    assert (events[-1].type, events[-1].url, events[-1].progress) == ("ready", "/user/ada/x/", 100)
    assert [e.step for e in events if e.message in ("Files", "Container")] == ["prepare", "start"]
    assert log.asked == [("b1", 0)]


async def test_an_image_that_is_there_has_no_log_and_goes_straight_to_the_files() -> None:
    events = await collect(said({"progress": 75, "message": "Files"}, {"ready": True, "url": "/u/"}), Log())
    assert [(e.type, e.step) for e in events] == [("progress", "prepare"), ("ready", "start")]


async def test_a_failed_build_is_explained_by_its_log_and_the_log_is_whole() -> None:
    error = ErrorView(code="build-package-missing", message="No package `nump`.", next="Did you mean numpy?")
    log = Log(b1=[line(1), line(2), line(3, "failed", error=error)])
    events = await collect(
        said({"progress": 1, "build": "b1"}, {"progress": 100, "failed": True, "message": "Spawn failed: x"}),
        log,
    )
    assert [e.line.n for e in events if e.line] == [1, 2, 3]
    assert events[-1].type == "failed"
    assert events[-1].error == error
    assert events[-1].step == "build"


async def test_a_failure_of_which_only_the_hub_knows_is_said_in_its_words() -> None:
    events = await collect(said({"failed": True, "message": "Spawn failed: No room on the disk."}), Log())
    assert events[-1].error is not None
    assert events[-1].error.message == "No room on the disk."
    assert events[-1].error.next


async def test_the_spawners_own_error_wins_over_the_hubs_message() -> None:
    own = {"code": "project-too-large", "message": "The image holds 9 GiB.", "next": "Raise the limit."}
    events = await collect(
        said({"progress": 75, "error": own}, {"failed": True, "message": "Spawn failed: oops"}), Log()
    )
    assert events[-1].error is not None
    assert events[-1].error.code == "project-too-large"


async def test_a_reader_that_comes_back_gets_only_the_lines_that_it_has_not_seen() -> None:
    log = Log(b1=[line(1), line(2), line(3, "built")])
    hub = said({"progress": 1, "build": "b1"}, {"progress": 75}, {"failed": True, "message": "x"})
    events = await collect(hub, log, after="b1:2")
    assert [e.line.n for e in events if e.line] == [3]


async def test_a_line_of_another_build_does_not_count() -> None:
    log = Log(b2=[line(1), line(2, "built")])
    events = await collect(said({"build": "b2"}, {"failed": True, "message": "x"}), log, after="b1:2")
    assert [e.line.n for e in events if e.line] == [1, 2]


async def test_a_reader_that_leaves_ends_both_sources() -> None:
    log = Log(b1=[line(1)])
    hub_closed = asyncio.Event()

    async def hub() -> AsyncGenerator[Mapping[str, Any], None]:
        try:
            yield {"progress": 1, "build": "b1"}
            await asyncio.Event().wait()
        finally:
            hub_closed.set()

    async with aclosing(merge(hub(), log.follow)) as events:
        async for event in events:
            if event.line:
                break
    await asyncio.wait_for(hub_closed.wait(), 60)
    assert log.closed == 1


async def test_an_error_of_the_hub_reaches_the_reader_as_itself() -> None:
    async def hub() -> AsyncGenerator[Mapping[str, Any], None]:
        yield {"progress": 1}
        raise HubUnavailable("gone", "wait")

    with pytest.raises(HubUnavailable):
        await collect(hub(), Log())


async def test_ten_thousand_lines_arrive_in_order() -> None:
    log = Log(b1=[*(line(n) for n in range(1, 10_000)), line(10_000, "built")])

    async def hub() -> AsyncGenerator[Mapping[str, Any], None]:
        yield {"progress": 1, "build": "b1"}
        await log.read.wait()
        yield {"ready": True, "url": "/u/"}

    events = await collect(hub(), log)
    assert [e.line.n for e in events if e.line] == list(range(1, 10_001))


@pytest.mark.parametrize("text", ["", "b1", ":3", "b1:x", "b1:-1", "b1:²", "b1:" + "9" * 5000])
def test_a_position_that_is_none_means_the_beginning(text: str) -> None:
    assert position(text) == ("", 0)


async def test_the_last_lines_are_waited_for_when_the_hub_knows_of_the_failure_first() -> None:
    error = ErrorView(code="build-failed", message="It broke.", next="Mend it.")
    told = asyncio.Event()

    async def late(build: str, after: int) -> AsyncGenerator[LogLine, None]:
        yield line(1)
        await told.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        yield line(2, "failed", error=error)

    async def hub() -> AsyncGenerator[Mapping[str, Any], None]:
        yield {"progress": 1, "build": "b1"}
        told.set()
        yield {"failed": True, "message": "Spawn failed: x"}

    events = [event async for event in merge(hub(), late)]
    assert [event.line.n for event in events if event.line] == [1, 2]
    assert events[-1].error == error
