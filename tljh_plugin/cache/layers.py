"""The layers of every image of the engine, ours or not, in memory.

An image's layers never change: Docker is asked for them once per image, in the background, and the answer is
kept in the store. Images that were evicted count as long as their build cache is left, since it holds their
layers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType

from ..engine import Engine, Layer
from ..errors import BinderError, EngineError, EngineTimedOut, EngineUnavailable, ImageNotFound
from ..store import Store
from .bytes import Chain, all_own_bytes, all_sizes

_log = logging.getLogger("littlest_binder.layers")

_RETRY_S = 60.0


class Layers:
    """`await start()` … `await stop()`; without them, `await learn()` by hand after `notice`."""

    def __init__(self, store: Store, engine: Engine, *, retry_s: float = _RETRY_S) -> None:
        self._rows = store.layers
        self._engine = engine
        self._retry_s = retry_s
        self._sizes: dict[str, int | None] = {}
        self._known: dict[str, Chain] = {}
        self._present: frozenset[str] = frozenset()
        self._left: frozenset[str] = frozenset()
        self._loaded = False
        self._learning = asyncio.Lock()
        self._told = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._refresh()

    async def start(self) -> None:
        """Read what is kept, and learn the rest in the background."""
        await self._load()
        self._task = asyncio.create_task(self._run(), name="layers")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    # -- from memory ----------------------------------------------------------------------------------

    @property
    def chains(self) -> Mapping[str, Chain]:
        """The layers of all that holds some: images in Docker, and evicted ones whose cache is left."""
        return self._chains

    @property
    def own_bytes(self) -> Mapping[str, int | None]:
        """What erasing each image alone would free; `None` where it is not known (yet)."""
        return self._own

    @property
    def sizes(self) -> Mapping[str, int | None]:
        """What each image occupies with all of its layers; `None` where one of them is not known (yet).

        Docker's own sizes add up the lengths of files, and are much too small where files are: Python's.
        """
        return self._image_sizes

    @property
    def missing(self) -> frozenset[str]:
        """Images of which Docker was not asked yet, or did not answer."""
        return self._present - self._known.keys()

    def notice(self, image_ids: Iterable[str]) -> None:
        """Docker holds these images now, and no others."""
        present = frozenset(image_ids)
        if present != self._present:
            self._present = present
            self._refresh()
            self._told.set()

    def notice_leftovers(self, image_ids: Iterable[str]) -> None:
        """The build cache holds layers of these images, which are gone."""
        left = frozenset(image_ids)
        if left != self._left:
            self._left = left
            self._refresh()

    # -- asking ---------------------------------------------------------------------------------------

    async def learn(self) -> None:
        """Ask Docker for what is missing, and forget what is gone. Raises `EngineError`, `StoreError`."""
        async with self._learning:
            await self._load()
            problem: EngineError | None = None
            for image_id in sorted(self.missing):
                try:
                    await self._learn(image_id)
                except (EngineUnavailable, EngineTimedOut):
                    raise
                except EngineError as error:
                    problem = error  # one that is damaged does not hide the others
            gone = self._known.keys() - self._present - self._left
            if gone:
                await self._rows.forget_chains(gone)
                self._known = {image: chain for image, chain in self._known.items() if image not in gone}
                kept = {layer.chain_id for chain in self._known.values() for layer in chain}
                self._sizes = {chain: size for chain, size in self._sizes.items() if chain in kept}
                self._refresh()
            if problem is not None:
                raise problem

    async def _learn(self, image_id: str) -> None:
        sizes = {chain: size for chain, size in self._sizes.items() if size is not None}
        try:
            chain = await self._engine.layers(image_id, sizes)
        except ImageNotFound:  # it went meanwhile; the next look at Docker tells
            return
        await self._rows.add_chain(image_id, {layer.chain_id: layer.bytes for layer in chain})
        self._sizes.update((layer.chain_id, layer.bytes) for layer in chain)
        self._known[image_id] = chain
        self._refresh()

    async def _load(self) -> None:
        if self._loaded:
            return
        self._sizes = await self._rows.sizes()
        self._known = {
            image: tuple(Layer(each, self._sizes.get(each)) for each in chain)
            for image, chain in (await self._rows.chains()).items()
        }
        # Before anything is forgotten: the build cache is looked at later.
        self._left |= {row.image_id for row in await self._rows.leftovers() if row.image_id}
        self._left |= {row.image_id for row in await self._rows.removals()}
        self._loaded = True
        self._refresh()

    def _refresh(self) -> None:
        held = self._present | self._left
        # An image of which nothing is known may hold the layers of any other.
        self._chains = MappingProxyType({each: self._known[each] for each in held if each in self._known})
        own = all_own_bytes(self._chains) if not self.missing else {}
        self._own = MappingProxyType({each: own.get(each) for each in self._present})
        sizes = all_sizes(self._chains)
        self._image_sizes = MappingProxyType({each: sizes.get(each) for each in self._present})

    async def _run(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            try:
                await self.learn()
            except BinderError as error:
                _log.info("The layers of some images are not known yet: %s", error)
                self._told.set()
                await asyncio.sleep(self._retry_s)
