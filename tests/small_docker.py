"""A Docker that fits into a dictionary, with what the cache and the queue ask of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

from tljh_plugin.cache.filesystems import Usage
from tljh_plugin.engine import (
    CacheRecord,
    ContainerRow,
    EngineEvent,
    EngineInfo,
    ImageFacts,
    ImageRow,
    Layer,
)
from tljh_plugin.errors import EngineUnavailable, ImageNotFound
from tljh_plugin.labels import INSTANCE_LABEL


async def _at_once(image_id: str) -> None:
    """What happens before an image goes, or gets a name: nothing."""


class SmallDocker:
    instance = "0123456789abcdef"

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.used_by: list[ContainerRow] = []
        self.down = False
        self.asked: list[str] = []
        self.happening: asyncio.Queue[EngineEvent] = asyncio.Queue()
        self.disk = 10**12
        self.broken: dict[str, Exception] = {}  # what removing an image fails with
        self.before_removal: Callable[[str], Awaitable[None]] = _at_once
        self.before_naming: Callable[[str], Awaitable[None]] = _at_once

    def add(self, image_id: str, *names: str) -> None:
        self.names[image_id] = list(names)

    def run(self, image_id: str, name: str, **labels: str) -> None:
        ours = {INSTANCE_LABEL: self.instance} if labels else {}
        prefixed = {f"org.littlest-binder.{key}": value for key, value in labels.items()}
        self.used_by.append(ContainerRow(name, name, image_id, {**ours, **prefixed}, "running"))

    def is_ours(self, labels: Mapping[str, str]) -> bool:
        return labels.get(INSTANCE_LABEL) == self.instance

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise EngineUnavailable("Docker does not answer.", "Start it.")

    async def images(self) -> list[ImageRow]:
        self._answer("images")
        return [ImageRow(key, tuple(names), {}, 1000, "") for key, names in self.names.items()]

    async def image(self, ref: str) -> ImageFacts | None:
        self._answer("image")
        for key, names in self.names.items():
            if ref == key or ref in names:
                return ImageFacts(key, tuple(names), {}, 1000, "", {}, "", "", (), (), (), "amd64")
        return None

    async def containers(self) -> list[ContainerRow]:
        self._answer("containers")
        return list(self.used_by)

    async def info(self) -> EngineInfo:
        self._answer("info")
        return EngineInfo("20.10.24", "1.41", "overlay2", "/var/lib/docker", "x86_64")

    async def remove_strays(self, kind: str) -> list[str]:
        self._answer("remove_strays")
        return []

    async def cache_records(self) -> list[CacheRecord]:
        self._answer("cache_records")
        return []

    async def layers(self, image_id: str, known: Mapping[str, int] | None = None) -> tuple[Layer, ...]:
        self._answer("layers")
        if image_id not in self.names:
            raise ImageNotFound(f"no {image_id}", "")
        return (Layer("base", 500), Layer(f"own of {image_id}", 500))

    async def free_bytes(self) -> int:
        self._answer("free_bytes")
        return self.disk - 1000 * len(self.names)

    async def usage(self) -> Usage:
        """Of its disk, of which the images are all that is on it."""
        free = await self.free_bytes()
        return Usage(self.disk, self.disk - free, free)

    async def remove_image(self, image_id: str, names: Iterable[str] | None = None) -> None:
        self._answer("remove_image")
        if image_id in self.broken:
            raise self.broken[image_id]
        await self.before_removal(image_id)
        if image_id not in self.names:
            raise ImageNotFound(f"no {image_id}", "")
        wanted = None if names is None else set(names)
        strangers = [
            name
            for name in self.names[image_id]
            if (not name.startswith("littlest-binder/") if wanted is None else name not in wanted)
        ]
        if strangers:
            self.names[image_id] = strangers
        else:
            del self.names[image_id]

    async def tag(self, image_id: str, name: str) -> None:
        """An image that loses a name to another one stays, if need be without any."""
        self._answer("tag")
        await self.before_naming(image_id)
        found = await self.image(image_id)
        if found is None:
            raise ImageNotFound(f"no {image_id}", "")
        for names in self.names.values():
            names[:] = [each for each in names if each != name]
        self.names[found.id].append(name)

    async def untag(self, name: str) -> None:
        """An image goes with its last name."""
        self._answer("untag")
        for image_id, names in list(self.names.items()):
            if name in names:
                names.remove(name)
                if not names:
                    del self.names[image_id]

    async def events(
        self, types: tuple[str, ...] = (), *, from_memory: bool = False
    ) -> AsyncIterator[EngineEvent]:
        self._answer("events")
        while True:
            yield await self.happening.get()
