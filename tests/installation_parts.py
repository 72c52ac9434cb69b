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
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.leases import Leases
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
    sweep: Sweep
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

    async def remove_images(self) -> None:
        """All that this installation recorded and nobody uses."""
        for image in await self.store.images():
            with suppress(ImageNotFound):
                await self.engine.remove_image(image.image_id)


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
    await inventory.start()
    await queue.start()
    try:
        sweep = Sweep(store, engine, inventory, leases)
        yield Parts(settings, store, engine, resolver, inventory, leases, sweep, queue)
    finally:
        await queue.stop()
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
