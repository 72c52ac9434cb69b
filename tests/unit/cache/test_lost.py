"""Promises about images that Docker lost: their records stay for weeks, and those of pinned ones for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from small_cache import House, small_house

from tljh_plugin.cache.lost import Lost
from tljh_plugin.store import ImageRow

LONG_AGO = "2026-01-01T00:00:00.000+00:00"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with small_house(tmp_path) as found:
        yield found


def lost(house: House) -> Lost:
    return Lost(house.store, house.inventory._engine, house.inventory)


async def weeks_ago(house: House, image: ImageRow) -> None:
    """Docker lost it, and that was noted then."""
    house.docker.names.pop(image.image_id, None)
    await house.look()
    await lost(house).tidy()
    assert await house.store.image(image.image_id) is not None
    note = f"lost {image.image_id}"
    assert note in await house.store.notes()
    await house.store.set_note(note, LONG_AGO)


async def test_the_record_goes_after_some_weeks(house: House) -> None:
    image, other = await house.built(1), await house.built(2)
    await weeks_ago(house, image)
    await lost(house).tidy()
    assert await house.store.images() == [other]
    [entry] = await house.store.audit_entries(limit=1)
    assert (entry.who, entry.what, entry.thing) == ("system", "image.lost", image.name)
    await house.look()
    await lost(house).tidy()
    assert not [name for name in await house.store.notes() if name.startswith("lost ")]


@pytest.mark.parametrize("happens", ["pinned", "pinned now", "it came back", "Docker does not answer"])
async def test_the_record_stays_where_something_speaks_for_it(house: House, happens: str) -> None:
    image = await house.built(1)
    if happens == "pinned":
        await house.store.update_image(image.image_id, pinned=True)
    await weeks_ago(house, image)
    if happens == "pinned now":
        await house.store.update_image(image.image_id, pinned=True)
    if happens == "it came back":  # and the list was not made anew since
        house.docker.add(image.image_id, image.name)
    if happens == "Docker does not answer":
        house.docker.down = True
        assert not await house.inventory.look_again()
    await lost(house).tidy()
    assert await house.store.image(image.image_id) is not None
