"""The service's parts for builds on a real Docker, without its pages: in a test, or in a process to kill."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tljh_plugin.build.queue import Queue
from tljh_plugin.cache.build_cache import BuildCache
from tljh_plugin.cache.candidates import Candidates
from tljh_plugin.cache.filesystems import Usage, usage_of
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.layers import Layers
from tljh_plugin.cache.leases import Leases
from tljh_plugin.cache.plan import Mode, Plan
from tljh_plugin.cache.retention import Retention
from tljh_plugin.cache.run import Run
from tljh_plugin.cache.sweep import Sweep
from tljh_plugin.engine import Engine
from tljh_plugin.errors import ImageNotFound
from tljh_plugin.installation import ensure_state, instance_id
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.source.checkout import Checkouts
from tljh_plugin.source.resolve import Resolver
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store import Store
from tljh_plugin.wire import BuildView, LogLine, Person

ANN, BOB, ROOT = Person(name="ann"), Person(name="bob"), Person(name="root", admin=True)


@dataclass
class Parts:
    """One installation on one state folder."""

    settings: Settings
    store: Store
    engine: Engine
    resolver: Resolver
    inventory: Inventory
    leases: Leases
    layers: Layers
    build_cache: BuildCache
    candidates: Candidates
    sweep: Sweep
    retention: Retention
    queue: Queue

    async def request(self, spec: str, person: Person = ANN, **how: Any) -> BuildView:
        return await self.queue.request(person, await self.resolver.resolve(parse_link(spec)), **how)

    async def build(self, spec: str, person: Person = ANN, **how: Any) -> BuildView:
        return await self.queue.finished((await self.request(spec, person, **how)).id)

    async def log(self, build_id: str) -> list[LogLine]:
        return [line async for line in self.queue.follow(build_id)]

    async def said(self, build_id: str, text: str) -> LogLine:
        """Wait until the log says it."""
        async for line in self.queue.follow(build_id):
            if text in line.text:
                return line
        raise AssertionError(f"{build_id} ended without saying {text!r}")

    async def delete(self, *image_ids: str, mode: Mode = "evict", person: Person = ROOT) -> Run:
        """Plan it and carry it out."""
        return await self.sweep.carry_out(await self.plan(*image_ids, mode=mode, person=person), person)

    async def plan(self, *image_ids: str, mode: Mode = "evict", person: Person = ROOT) -> Plan:
        """By what Docker holds now."""
        await self.inventory.refresh()
        return await self.sweep.plan(image_ids, mode, person)

    async def remove_images(self) -> None:
        """All that this installation recorded and nobody uses."""
        for image in await self.store.images():
            with suppress(ImageNotFound):
                # Of an adopted one, such as our base image, the other names are not this installation's.
                await self.engine.remove_image(image.image_id, names=[image.name] if image.adopted else None)


def settings_for(state: Path, sections: dict[str, Any]) -> Settings:
    settings = from_mapping(sections, platform="desktop", state_dir=state)
    ensure_state(settings)
    return settings


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Parts]:
    """As the service opens them, and closes them in an orderly way."""
    store = await Store.open(settings.store_path)
    engine = Engine(instance_id(settings))
    inventory, resolver, leases = Inventory(store, engine), Resolver(settings), Leases(store)
    queue = Queue(settings, store, engine, resolver, Checkouts(settings), inventory)
    layers = Layers(store, engine)
    build_cache = BuildCache(store, engine, layers)
    candidates = Candidates(settings, store, engine, inventory, layers)
    sweep = Sweep(settings, store, engine, inventory, leases, candidates, build_cache)
    inventory.noticed = layers.notice
    await inventory.start()
    await layers.start()
    await build_cache.start()
    await sweep.recover()
    await queue.start()

    async def usage() -> Usage:
        return usage_of(await engine.root_dir())

    retention = Retention(settings, store, inventory, candidates, sweep, usage)
    try:
        yield Parts(
            settings,
            store,
            engine,
            resolver,
            inventory,
            leases,
            layers,
            build_cache,
            candidates,
            sweep,
            retention,
            queue,
        )
    finally:
        await retention.stop()
        await queue.stop()
        await sweep.close()
        await build_cache.stop()
        await layers.stop()
        await inventory.stop()
        await engine.close()
        await store.close()


@asynccontextmanager
async def visited(settings: Settings) -> AsyncIterator[Parts]:
    """As `opened`; the images are removed at the end, whatever happens."""
    async with opened(settings) as parts:
        try:
            yield parts
        finally:
            for view in await parts.queue.list(states=["queued", "running"]):
                await parts.queue.cancel(view.id, ROOT)
            await parts.remove_images()


async def serve(state: Path, sections: dict[str, Any], spec: str) -> None:
    """Ask for one build, print its log line by line, and go on until killed."""
    async with opened(settings_for(state, sections)) as parts:
        view = await parts.request(spec)
        async for line in parts.queue.follow(view.id):
            print(json.dumps({"build": view.id, **line.model_dump()}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]))
