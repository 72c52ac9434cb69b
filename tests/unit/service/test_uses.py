"""Promises of launches and last use: counted when a server came up, once, whoever was restarted meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from small_docker import SmallDocker
from waiting import until

from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.leases import Leases
from tljh_plugin.hub_api import HubServer, HubUser
from tljh_plugin.service.preparations import Preparations
from tljh_plugin.service.tidying import Tidying
from tljh_plugin.store import Store

IMAGE = f"sha256:{1:064x}"


class Hub:
    def __init__(self) -> None:
        self.servers: dict[str, HubServer] = {}

    async def users(self) -> list[HubUser]:
        return [HubUser(name="ann", servers=self.servers)]


class Place:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.docker: Any = SmallDocker()
        self.hub: Any = Hub()
        self.inventory = Inventory(store, self.docker, period_s=3600)
        nothing: Any = None
        leases = Leases(store)
        self.leases = leases
        self.preparations = Preparations(
            nothing, nothing, store, self.docker, leases, nothing, self.inventory.wake
        )
        self.tidying = Tidying(
            nothing, store, self.docker, self.hub, nothing, nothing, leases, nothing, nothing, nothing
        )

    async def launches(self) -> int:
        uses = await self.store.uses()
        return uses[IMAGE].launches if IMAGE in uses else 0


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    store = await Store.open(tmp_path / "store.sqlite")
    yield Place(store)
    await store.close()


async def test_a_launch_is_seen_at_once_not_at_the_next_look(place: Place) -> None:
    """The list used to be looked at again within a minute only: until then a running image was used never."""
    place.docker.add(IMAGE, "n:1")
    await place.inventory.start()
    try:
        assert place.inventory.use_of(IMAGE).launches == 0
        lease = await place.leases.take(IMAGE, 60, "ann/one")
        await place.preparations.release(lease, True)
        await until(lambda: place.inventory.use_of(IMAGE).launches == 1)
        assert place.inventory.use_of(IMAGE).last_used_by == "ann"
    finally:
        await place.inventory.stop()


async def test_only_what_came_up_counts_and_only_once(place: Place) -> None:
    failed = await place.leases.take(IMAGE, 60, "ann/one")
    await place.preparations.release(failed, False)
    await place.preparations.release(failed, True)
    assert await place.launches() == 0
    lease = await place.leases.take(IMAGE, 60, "ann/one")
    for _ in range(2):
        await place.preparations.release(lease, True)
    assert await place.launches() == 1


@pytest.mark.parametrize(
    ("server", "launches"),
    [
        (HubServer(name="one", ready=True), 1),
        (HubServer(name="one", stopped=True), 0),
    ],
)
async def test_a_lease_that_nobody_gave_back_counts_if_the_server_came_up(
    place: Place, server: HubServer, launches: int
) -> None:
    await place.leases.take(IMAGE, 60, "ann/one")
    place.hub.servers["one"] = HubServer(name="one", pending="spawn")
    await place.tidying._tidy_starts()
    assert len(await place.store.leases()) == 1, "it still starts"
    place.hub.servers["one"] = server
    await place.tidying._tidy_starts()
    assert await place.store.leases() == []
    assert await place.launches() == launches
