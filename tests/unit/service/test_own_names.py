"""What belongs to nobody is booked under names that no ordinary person may come with."""

from __future__ import annotations

import pytest
from house import House

from tljh_plugin.access import OWN_NAMES
from tljh_plugin.cache import rescan, retention
from tljh_plugin.errors import Forbidden
from tljh_plugin.service import newer, offers


def test_the_names_are_all_known() -> None:
    ours = (offers.SYSTEM, newer.SYSTEM, rescan._SYSTEM, retention.RETENTION)
    assert {each.name for each in ours} == OWN_NAMES


@pytest.mark.parametrize("name", sorted(OWN_NAMES))
async def test_a_person_of_such_a_name_is_refused_at_both_doors(house: House, name: str) -> None:
    house.hub.add(name)
    async with house.browser(name) as browser:
        assert (await browser.visit("")).status_code == 403
    async with house.client(name) as client:
        with pytest.raises(Forbidden, match=f"The name '{name}' is the service's own"):
            await client.images()
    async with house.own_client(name) as client:
        with pytest.raises(Forbidden, match=f"The name '{name}' is the service's own"):
            await client.images()


async def test_an_administrator_may_be_called_so(house: House) -> None:
    """They own everything as it is, and may be the only person of a desktop."""
    house.hub.add("system", admin=True)
    async with house.browser("system") as browser:
        assert (await browser.visit("")).status_code == 200
    async with house.own_client("system", admin=True) as client:
        await client.images()
