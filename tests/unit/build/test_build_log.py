"""Promises of a build's log."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tljh_plugin.build import log as log_module
from tljh_plugin.build.log import MAX_TEXT, BuildLog, clean
from tljh_plugin.errors import DiskLow
from tljh_plugin.wire import ErrorView, LogLine


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[BuildLog]:
    opened = BuildLog(tmp_path / "b-1.jsonl", limit_bytes=10**6)
    await opened.open()
    yield opened
    await opened.close()


async def read(log: BuildLog, after: int = 0) -> list[LogLine]:
    return [line async for line in log.follow(after)]


async def first(lines: AsyncIterator[LogLine], count: int) -> list[LogLine]:
    return [await lines.__anext__() for _ in range(count)]


async def test_lines_are_numbered_from_one_without_gaps(log: BuildLog) -> None:
    for number in range(5000):
        log.append("building", f"line {number}")
    log.append("built", image_id="sha256:1")
    lines = await read(log)
    assert [line.n for line in lines] == list(range(1, 5002))
    assert lines[-1].image_id == "sha256:1"


async def test_replay_and_live_are_one(log: BuildLog) -> None:
    log.append("building", "before")
    reader = log.follow()
    assert [line.text for line in await first(reader, 1)] == ["before"]
    waiting = asyncio.create_task(first(reader, 2))
    log.append("building", "during")
    log.append("failed", "end", error=ErrorView(code="x", message="y"))
    assert [line.text for line in await waiting] == ["during", "end"]
    with pytest.raises(StopAsyncIteration):
        await reader.__anext__()


async def test_a_reader_resumes_after_the_last_line_it_saw(log: BuildLog) -> None:
    for number in range(10):
        log.append("building", str(number))
    log.append("cancelled")
    assert [line.n for line in await read(log, after=7)] == [8, 9, 10, 11]
    assert await read(log, after=11) == []
    assert await read(log, after=99) == []


async def test_many_readers_see_the_same_and_a_slow_one_holds_nobody_up(log: BuildLog) -> None:
    slow = log.follow()
    log.append("building", "0")
    await first(slow, 1)
    quick = [asyncio.create_task(read(log)) for _ in range(50)]
    for number in range(1, 2000):
        log.append("building", f"{number} " + "x" * 200)
        await log.drain()
    log.append("built")
    results = await asyncio.gather(*quick)
    assert all(result == results[0] for result in results)
    assert len(results[0]) == 2001
    assert [line.n async for line in slow] == list(range(2, 2002))


async def test_nothing_comes_after_the_final_line(log: BuildLog) -> None:
    log.append("built")
    log.append("building", "late")
    assert [line.phase for line in await read(log)] == ["built"]


async def test_opening_again_loses_nothing_that_is_not_written_yet(log: BuildLog) -> None:
    log.append("queued", "one")
    await log.open()
    log.append("building", "two")
    await log.close()
    assert [line.text for line in await read(BuildLog(log.path))] == ["one", "two"]


async def test_only_the_owner_can_read_the_file(log: BuildLog) -> None:
    assert log.path.stat().st_mode & 0o777 == 0o600


async def test_readers_of_a_log_that_is_closed_without_an_end_are_let_go(log: BuildLog) -> None:
    reader = asyncio.create_task(read(log))
    log.append("building", "one")
    await log.close()
    assert [line.text for line in await reader] == ["one"]
    assert not log.complete


async def test_readers_wait_for_a_writer_that_is_still_to_come(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "b-2.jsonl", live=True)
    reader = asyncio.create_task(read(log))
    await asyncio.wait({reader}, timeout=0.05)
    assert not reader.done()
    await log.open()
    log.append("built")
    assert [line.phase for line in await reader] == ["built"]
    await log.close()


async def test_a_log_that_is_gone_is_empty(tmp_path: Path) -> None:
    assert await read(BuildLog(tmp_path / "none.jsonl")) == []


@given(
    torn=st.one_of(
        st.binary(max_size=40).filter(lambda raw: b"\n" not in raw),
        st.just(b"\0" * 4096),
        st.just(b'{"n":7,"time":"t","phase":"building"}\n'),
        st.just(b'{"version":1,"n":4,"time":"2026","phase":"buil'),
    )
)
@settings(suppress_health_check=list(HealthCheck), max_examples=50)
def test_what_a_crash_has_torn_is_cut_off_and_the_numbers_go_on(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "torn.jsonl"
    path.unlink(missing_ok=True)

    async def crash_and_go_on() -> list[LogLine]:
        log = BuildLog(path)
        await log.open()
        for number in range(3):
            log.append("building", str(number))
        await log.close()
        with path.open("ab") as file:
            file.write(torn)
        again = BuildLog(path)
        await again.open()
        assert again.last == 3
        again.append("queued", "restarted")
        again.append("built")
        await again.close()
        return await read(BuildLog(path))

    lines = asyncio.run(crash_and_go_on())
    assert [line.n for line in lines] == [1, 2, 3, 4, 5]
    assert lines[3].text == "restarted"


async def test_a_log_that_was_ended_stays_ended_after_reopening(log: BuildLog) -> None:
    log.append("failed", "one")
    await log.close()
    again = BuildLog(log.path)
    await again.open()
    again.append("failed", "two")
    await again.close()
    assert [line.text for line in await read(BuildLog(log.path))] == ["one"]


async def test_a_log_that_is_too_long_says_so_once_and_still_ends(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "long.jsonl", limit_bytes=10_000)
    await log.open()
    for number in range(1000):
        log.append("building", f"line {number}")
    log.append("checking", "phases still arrive", progress=90)
    log.append("built", "the end", image_id="sha256:1")
    await log.close()
    lines = await read(BuildLog(log.path))
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    assert [line.text for line in lines[-2:]] == ["phases still arrive", "the end"]
    assert ["longer than 10000 bytes" in line.text for line in lines].count(True) == 1
    assert log.path.stat().st_size < 11_000


async def test_a_full_disk_is_told_and_loses_no_line(log: BuildLog, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full_after_some_bytes(descriptor: int, data: bytes) -> int:
        if len(data) > 10:
            return real(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    log.append("building", "before")
    await log.drain(everything=True)
    with monkeypatch.context() as patch:
        patch.setattr(log_module.os, "write", full_after_some_bytes)
        log.append("building", "on a full disk")
        with pytest.raises(DiskLow, match="No space left"):
            await log.drain(everything=True)
    log.append("failed", "the end")
    await log.close()
    assert [line.text for line in await read(BuildLog(log.path))] == ["before", "on a full disk", "the end"]


async def test_whoever_waits_for_the_disk_can_be_cancelled_without_a_double_line(log: BuildLog) -> None:
    for number in range(5000):
        log.append("building", str(number))
    drain = asyncio.create_task(log.drain(everything=True))
    await asyncio.wait({drain}, timeout=0)
    drain.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await drain
    log.append("built")
    assert [line.n for line in await read(log)] == list(range(1, 5002))


@given(st.text())
def test_a_line_never_contains_what_a_terminal_would_obey(text: str) -> None:
    cleaned = clean(text)
    assert not any(ord(letter) < 32 and letter != "\t" for letter in cleaned)
    assert not any(0x7F <= ord(letter) <= 0x9F for letter in cleaned)
    cleaned.encode("utf-8")
    assert len(cleaned) <= MAX_TEXT + 40


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m text", "red text"),
        ("10%\r50%\r100% done", "100% done"),
        ("windows\r\n", "windows"),
        ("\x1b]0;title\x07shown", "shown"),
        ("tab\tstays, so does ünïcode ✓", "tab\tstays, so does ünïcode ✓"),
        ("half \ud800 a letter", "half  a letter"),
    ],
)
def test_cleaning(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_very_long_line_is_cut_and_says_so() -> None:
    assert clean("x" * 100_000).endswith("(100000 characters, cut)")
