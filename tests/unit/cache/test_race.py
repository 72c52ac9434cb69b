"""Deletions against starts, many times: whichever comes first in the store or in Docker, nothing breaks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from small_cache import IDENTITY, ROOT, House, image_id, small_house

from tljh_plugin.errors import ImageNotFound
from tljh_plugin.store import utc_now


class Dice:
    """Lets others go on for a while, or not."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    async def __call__(self, *_: object) -> None:
        for _turn in range(self._chance.choice([0, 0, 1, 2, 5, 20])):
            await asyncio.sleep(0)


async def start(house: House, dice: Dice, number: int) -> str:
    """What the spawner does: a hit or a build, a lease, a look, a container, the lease back."""
    how = "hit"
    for attempt in ("first", "last"):
        await dice()
        hit = await house.inventory.hit(IDENTITY, ROOT)
        if hit is None:
            how = "rebuilt"
            hit = await house.built(number, created=utc_now())
        await dice()
        lease = await house.leases.take(hit.image_id, 60)
        await dice()
        try:
            if await house.docker.image(hit.image_id) is None:
                raise ImageNotFound(f"{hit.image_id} is gone", "")
        except ImageNotFound:
            await house.leases.release(lease)
            if attempt == "last":
                raise
            continue
        await dice()
        assert hit.image_id in house.docker.names, "its image went under a lease"
        house.docker.run(hit.image_id, f"c{number}", person="ann", server="x")
        await dice()
        await house.leases.release(lease)
        break
    return how


@pytest.mark.rounds(few=1, soak=10)
async def test_no_server_is_broken_by_a_deletion(tmp_path: Path, round_number: int) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    async with small_house(tmp_path) as house:
        for turn in range(50):
            number = 1000 * round_number + turn + 1
            dice = Dice(number)
            if not house.docker.names:
                await house.built(number)
            [present] = house.docker.names
            mode = "erase" if turn % 2 else "evict"
            plan = await house.plan(present, mode=mode)
            house.docker.before_removal = dice
            how, run = await asyncio.gather(
                start(house, dice, number + 500), house.sweep.carry_out(plan, ROOT)
            )
            [result] = run.results
            assert result.outcome in ("evicted", "erased", "kept"), result
            [running] = house.docker.used_by
            assert running.image_id in house.docker.names
            assert await house.store.image(running.image_id) is not None
            assert await house.store.leases() == []
            seen[how, result.outcome] += 1
            house.docker.used_by.clear()
            # Each round begins with an image of its own that is there and not used.
            if how == "hit" and image_id(number + 500) in house.docker.names:
                raise AssertionError("a hit built something")
    assert any(how == "rebuilt" for how, _ in seen), seen
    assert any(outcome == "kept" for _, outcome in seen), seen
