"""The cache's parts over a Docker that fits into a dictionary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from small_docker import SmallDocker

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache.build_cache import BuildCache
from tljh_plugin.cache.candidates import Candidates
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.layers import Layers
from tljh_plugin.cache.leases import Leases
from tljh_plugin.cache.plan import Mode, Plan
from tljh_plugin.cache.retention import Retention
from tljh_plugin.cache.run import Run
from tljh_plugin.cache.sweep import Sweep
from tljh_plugin.errors import StoreError
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import from_mapping
from tljh_plugin.store import BuildRow, ImageRow, Store, utc_now
from tljh_plugin.wire import Person

ANN, BOB, ROOT = Person(name="ann"), Person(name="bob"), Person(name="root", admin=True)
IDENTITY = ImageIdentity("https://example.org/a/b", "c" * 40, "", "linux/amd64")


def image_id(number: int) -> str:
    return f"sha256:{number:064x}"


class FullDisk:
    """Refuses what is to be written into a store, while `full`."""

    def __init__(self, store: Store, is_full: Callable[[], bool] = lambda: True) -> None:
        self.full = True
        connection: Any = store._connection
        write = connection.write

        async def refuse(work: Callable[[Any], Any]) -> Any:
            if self.full and is_full():
                raise StoreError("Cannot write the store: database or disk is full.", "Free some disk.")
            return await write(work)

        connection.write = refuse


class House:
    """A store, a small Docker, and what stands on them. `policy` are keys of `retention`; nothing is too
    young unless they say so."""

    def __init__(self, store: Store, folder: Path, **policy: Any) -> None:
        self.store = store
        self.docker = SmallDocker()
        docker: Any = self.docker
        settings = from_mapping(
            {"retention": {"enabled": True, "min_age_hours": 0, **policy}},
            platform="desktop",
            state_dir=folder,
        )
        ensure_state(settings)
        self.inventory = Inventory(store, docker, period_s=3600)
        self.leases = Leases(store)
        self.layers = Layers(store, docker)
        self.build_cache = BuildCache(store, docker, self.layers)
        self.candidates = Candidates(settings, store, docker, self.inventory, self.layers)
        self.sweep = Sweep(
            settings, store, docker, self.inventory, self.leases, self.candidates, self.build_cache
        )
        self.retention = Retention(
            settings, store, self.inventory, self.candidates, self.sweep, self.docker.usage
        )
        self.inventory.noticed = self.layers.notice

    async def built(self, number: int, **changes: object) -> ImageRow:
        row = BuildRow(
            id=f"b-{number}",
            identity=IDENTITY.key,
            url=IDENTITY.url,
            commit=IDENTITY.commit,
            subdir="",
            platform=IDENTITY.platform,
            spec="gh/a/b/main",
            asked_ref="main",
            requested_by="ann",
            created=utc_now(),
            rebuild=True,
        )
        await self.store.enqueue(row, per_person=99)
        await self.store.start_build(row.id)
        image = ImageRow(
            image_id=image_id(number),
            name=f"littlest-binder/a-b:{number}",
            identity=row.identity,
            url=row.url,
            commit=row.commit,
            subdir="",
            platform=row.platform,
            spec=row.spec,
            asked_ref="main",
            title="a/b",
            built_by="ann",
            build_id=row.id,
            created=f"2026-01-{number:02}",
            size=1,
            recipe="old",
            home="/home/jovyan",
            workdir="/home/jovyan",
        )
        image = replace(image, **changes)
        await self.store.finish_built(row.id, image)
        self.docker.add(image.image_id, image.name)
        return image

    async def look(self) -> None:
        """At Docker, and at the layers of what is there."""
        await self.inventory.refresh()
        await self.layers.learn()

    async def plan(self, *ids: str, mode: Mode = "evict", person: Person = ROOT) -> Plan:
        await self.look()
        return await self.sweep.plan(ids, mode, person)

    async def delete(self, *ids: str, mode: Mode = "evict", person: Person = ROOT) -> Run:
        return await self.sweep.carry_out(await self.plan(*ids, mode=mode, person=person), person)


@asynccontextmanager
async def small_house(folder: Path, **policy: Any) -> AsyncIterator[House]:
    store = await Store.open(folder / "store.sqlite")
    house = House(store, folder, **policy)
    try:
        yield house
    finally:
        await house.retention.stop()
        await house.sweep.close()
        await store.close()
