"""Waiting with a limit: what comes in time, what does not, and a cancellation in the worst moment."""

from __future__ import annotations

import asyncio

import pytest

from tljh_plugin.time_limit import within


async def test_what_comes_in_time_is_the_result() -> None:
    assert await within(60, asyncio.sleep(0, "there")) == "there"


async def test_no_limit_waits_as_long_as_it_takes() -> None:
    assert await within(None, asyncio.sleep(0, "there")) == "there"


async def test_what_comes_too_late_is_cancelled() -> None:
    work = asyncio.ensure_future(asyncio.sleep(60))
    with pytest.raises(asyncio.TimeoutError):
        await within(0.01, work)
    assert work.cancelled()


async def test_a_cancellation_in_the_moment_of_the_result_is_not_lost() -> None:
    """With `asyncio.wait_for` of Python 3.11 such a loop goes on, and its end is waited for for ever."""
    told = asyncio.Event()
    rounds = 0

    async def look_for_ever() -> None:
        nonlocal rounds
        while True:
            await within(60, told.wait())
            told.clear()
            rounds += 1

    task = asyncio.create_task(look_for_ever())
    await asyncio.sleep(0)
    told.set()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=60)
    assert done, "the task goes on"
    assert task.cancelled()
    assert rounds == 0


async def test_a_cancellation_from_outside_is_no_time_out() -> None:
    task = asyncio.create_task(within(60, asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
