"""A server is looked at whatever the time of day does."""

from __future__ import annotations

import time

import pytest
from waiting import until

from tljh_plugin.launch.watch import Watch


async def test_it_goes_on_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    async def look() -> None:
        seen.append(1)

    watch = Watch(look, 0.01)
    watch.start()
    await until(lambda: seen)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() - 86400)
    before = len(seen)
    await until(lambda: len(seen) > before + 2, 5)
    watch.stop()


async def test_it_can_be_ended_from_within_a_look_and_outlives_one_that_fails() -> None:
    seen: list[int] = []
    longer: list[int] = []

    async def look() -> None:
        seen.append(1)
        if len(seen) == 2:
            watch.stop()
        raise OSError("not now")

    async def look_longer() -> None:
        longer.append(1)

    watch = Watch(look, 0.01, jitter=0.1)
    watch.start()
    await until(lambda: len(seen) == 2, 5)
    other = Watch(look_longer, 0.01)
    other.start()
    await until(lambda: len(longer) > 5, 5)
    other.stop()
    assert len(seen) == 2
