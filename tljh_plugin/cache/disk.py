"""The disk: who occupies it, measured in the background and read from memory.

Where we may look into Docker's folder (the classic store with overlay2, as root) layers, containers and the
build cache are measured there: allocated bytes, each layer once for ever, since it never changes. Elsewhere
Docker's own figures are taken, which leave out what its files occupy besides their contents, and figures that
it has not are missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Protocol

from ..engine import CacheRecord, ContainerRow, Engine, Layer
from ..engine.threads import in_thread
from ..errors import BinderError, DiskUnread
from ..labels import PERSON_LABEL, SERVER_LABEL
from ..settings import Settings, fresh
from ..store import SizeRow, Store, utc_now
from ..time_limit import within
from ..wire import DiskSample, DiskView, ErrorView, FilesystemView
from . import growth
from .docker_folder import Layout, read_layout
from .filesystems import Filesystem, Usage, filesystems, usage_of
from .inventory import Inventory
from .listing import Listed
from .measuring import Measured, measure_folders
from .shares import Figures, HeldImage, Thing, largest, parts

log = logging.getLogger("littlest_binder.disk")

_LIMIT_S = 900.0  # for one piece of measuring
_AT_ONCE = 200  # folders whose figures are kept together
_TIMES_AS_LONG = 20
_LONGEST_REST_S = 3600.0
_TREND = timedelta(days=1)


class Chains(Protocol):
    """Which layers images have."""

    @property
    def chains(self) -> Mapping[str, tuple[Layer, ...]]: ...


class Cached(Protocol):
    """What the build cache holds besides images."""

    @property
    def bytes(self) -> int | None: ...
    @property
    def records(self) -> tuple[CacheRecord, ...]: ...


class _Unknown:
    """Where nobody was asked."""

    chains: Mapping[str, tuple[Layer, ...]] = {}
    bytes: int | None = None
    records: tuple[CacheRecord, ...] = ()


class Disk:
    """`start()` … `await stop()`; without them, `await measure()` by hand. `view()` waits for nothing."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engine: Engine,
        inventory: Inventory,
        layers: Chains | None = None,
        build_cache: Cached | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._inventory = inventory
        self._layers: Chains = layers or _Unknown()
        self._build_cache: Cached = build_cache or _Unknown()
        self._view = DiskView()
        self._learning = False
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="who occupies the disk")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def wake(self) -> None:
        """Something large came or went: look again now."""
        self._woken.set()

    def rest(self, took_s: float) -> float:
        """Seconds until the next round after one that took so long; soon while layers are being asked for."""
        long = 0.0 if self._learning else min(_TIMES_AS_LONG * took_s, _LONGEST_REST_S)
        return max(self._settings.disk.every_s, long)

    def view(self) -> DiskView:
        """What was measured last."""
        return self._view

    async def history(self, since: datetime, path: str = "") -> list[DiskSample]:
        """What filesystems held since then, oldest first."""
        return await self._store.disk_samples(path, since.isoformat(timespec="milliseconds"))

    async def docker_usage(self) -> Usage:
        """How full the filesystem of Docker's folder is now. Raises `EngineError`, `DiskUnread`."""
        root = await self._engine.root_dir()
        try:
            return await in_thread(lambda: usage_of(root))
        except OSError as error:
            raise _unread(error) from error

    async def measure(self) -> DiskView:
        """Measure now. Raises `EngineError`, `DiskUnread` and `StoreError`; what was known stays."""
        root = Path(await self._engine.root_dir())
        if not self._view.measured:
            # The first round may take minutes: how full it is can be said at once.
            self._view = DiskView(filesystems=tuple(_bare(each) for each in await self._filesystems(root)))
        containers = await self._engine.containers()
        # An engine that went over to containerd's store leaves the folders of the other one where they were.
        other_store = (await self._engine.info()).containerd_store
        layout = None if other_store else await in_thread(lambda: read_layout(root))
        figures = (
            await self._by_docker(containers)
            if layout is None
            else await self._by_folders(layout, containers)
        )
        images = [self._held(each) for each in self._inventory.listed()]
        self._learning = any(each.layers is None for each in images)
        figures = Figures(
            figures.layers,
            (*figures.things, *await self._mirrors(), *_projects((await self._store.sizes()).values())),
            figures.unknown,
            _records(self._build_cache.records),
        )
        views = [
            _bare(each).model_copy(update={"parts": parts(each, images, figures)})
            for each in await self._filesystems(root)
        ]
        now = utc_now()
        await self._store.add_disk_samples(_sample(each, now) for each in views)
        views = [await self._with_growth(each) for each in views]
        self._view = DiskView(
            measured=now,
            filesystems=tuple(views),
            largest=largest(images, figures),
            warning=growth.warning(views, fresh(self._settings).disk),
        )
        return self._view

    # -- within ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._woken.clear()
            began = clock()
            try:
                await self.measure()
            except (BinderError, OSError) as error:
                problem = error if isinstance(error, BinderError) else _unread(error)
                self._view = self._view.model_copy(update={"problem": ErrorView(**problem.to_dict())})
                log.warning("The disk was not measured: %s", problem)
            with suppress(asyncio.TimeoutError, TimeoutError):
                await within(self.rest(clock() - began), self._woken.wait())

    async def _filesystems(self, root: Path) -> tuple[Filesystem, ...]:
        settings = self._settings

        def look() -> tuple[Filesystem, ...]:
            root.stat()  # the others may still have to be made, but Docker's folder is here or elsewhere
            return filesystems(
                {"docker": root, "state": settings.state_dir, "projects": settings.storage_root}
            )

        try:
            return await in_thread(look)
        except OSError as error:
            raise _unread(error) from error

    async def _by_folders(self, layout: Layout, containers: Sequence[ContainerRow]) -> Figures:
        """Measured in Docker's folder."""
        # What was measured for an image is taken from there, so that pages say the same of the same layer.
        told = _told(self._layers.chains.values())
        kept = await self._store.layer_folders()
        unknown = {chain: held for chain, held in layout.layers.items() if chain not in told}
        there = {folder.name for folder, _ in unknown.values()}
        new = [held for held in unknown.values() if held[0].name not in kept]
        for start in range(0, len(new), _AT_ONCE):
            some = new[start : start + _AT_ONCE]
            found = await measure_folders([folder for held in some for folder in held], _LIMIT_S)
            sums = {held[0].name: _sum(held, found) for held in some}
            sizes = {name: each.bytes for name, each in sums.items() if each.whole}
            await self._store.set_layer_folders(sizes, there)
            kept |= sizes
        if kept.keys() - there:
            await self._store.set_layer_folders({}, there)
        changing = [
            *(each for held in layout.containers.values() for each in held),
            *layout.snapshots,
            *layout.rest,
        ]
        sizes_now = await measure_folders(changing, _LIMIT_S)
        names = {each.id: each for each in containers}
        return Figures(
            {
                **{chain: told[chain] for chain in layout.layers if chain in told},
                **{chain: kept[held[0].name] for chain, held in unknown.items() if held[0].name in kept},
            },
            (
                *(
                    self._container(names.get(key), key, _sum(held, sizes_now))
                    for key, held in layout.containers.items()
                ),
                Thing("build-cache", "", "", _sum(layout.snapshots, sizes_now)),
                *(Thing("other-docker", str(each), each.name, sizes_now.get(each)) for each in layout.rest),
            ),
        )

    async def _by_docker(self, containers: Sequence[ContainerRow]) -> Figures:
        """What Docker says, which knows no volumes, logs and notes of its own without looking for minutes."""
        sizes = await self._engine.container_sizes(_LIMIT_S)
        # Chains of images that are gone are the build cache's, which has a figure of its own.
        chains = self._layers.chains
        layers = _told(chains.get(image.id, ()) for image in self._inventory.listed())
        things = [
            self._container(each, each.id, Measured(sizes[each.id]))
            for each in containers
            if each.id in sizes
        ]
        cached = self._build_cache.bytes
        if cached is not None:
            things.append(Thing("build-cache", "", "", Measured(cached)))
        missing = {"other-docker"} if cached is not None else {"other-docker", "build-cache"}
        # Without an own figure for it, what is not ours goes to the rest with everything else of Docker.
        return Figures(layers, tuple(things), frozenset(missing))  # type: ignore[arg-type]

    async def _mirrors(self) -> list[Thing]:
        folder = self._settings.mirror_dir
        found = await in_thread(lambda: _folders_in(folder))
        sizes = await measure_folders(found, _LIMIT_S)
        return [Thing("mirrors", str(each), each.name, sizes.get(each)) for each in found]

    async def _with_growth(self, view: FilesystemView) -> FilesystemView:
        samples = await self.history(datetime.now(timezone.utc) - _TREND, view.path)
        rate = growth.growth([(datetime.fromisoformat(each.time), each.used) for each in samples])
        return view.model_copy(update={"growth": rate, "full_in_s": growth.full_in_s(view.free, rate)})

    def _held(self, image: Listed) -> HeldImage:
        chain = self._layers.chains.get(image.id)
        layers = None if chain is None else tuple(layer.chain_id for layer in chain)
        stays = bool(image.containers or image.pinned or image.building or image.keep)
        if image.ours:
            return HeldImage(
                image.id,
                image.title,
                "kept-images" if stays else "evictable-images",
                layers,
                image.built_by,
            )
        return HeldImage(image.id, image.title, "other-docker", layers)

    def _container(self, row: ContainerRow | None, identifier: str, size: Measured | None) -> Thing:
        if row is None:
            return Thing("other-docker", identifier, identifier[:12], size)
        if not self._engine.is_ours(row.labels):
            return Thing("other-docker", row.id, row.name, size)
        person = row.labels.get(PERSON_LABEL, "")
        server = f"{person}/{row.labels.get(SERVER_LABEL, '')}" if person else row.name
        return Thing("servers", row.id, server, size, person)


def _told(chains: Iterable[tuple[Layer, ...]]) -> dict[str, int]:
    """Bytes by chain id, as far as they are known."""
    return {layer.chain_id: layer.bytes for chain in chains for layer in chain if layer.bytes is not None}


def _sum(folders: Collection[Path], sizes: Mapping[Path, Measured]) -> Measured:
    """Together; one that was not measured makes it a lower bound, unless it is gone."""
    found = [sizes.get(each) or Measured(0, not each.exists()) for each in folders]
    return Measured(sum(each.bytes for each in found), all(each.whole for each in found))


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir() and not each.is_symlink())
    except OSError:
        return []


def _projects(rows: Collection[SizeRow]) -> list[Thing]:
    """What each person keeps, as it was measured last."""
    of: defaultdict[str, list[SizeRow]] = defaultdict(list)
    for row in rows:
        of[row.owner].append(row)
    return [
        Thing(
            "projects",
            owner,
            owner,
            Measured(sum(row.bytes for row in kept), all(row.whole for row in kept)),
            owner,
        )
        for owner, kept in of.items()
    ]


def _records(records: Sequence[CacheRecord]) -> tuple[Thing, ...]:
    return tuple(
        Thing("build-cache", each.id, each.description or each.kind, Measured(each.bytes))
        for each in records
        if each.bytes is not None and not each.shared
    )


def _bare(filesystem: Filesystem) -> FilesystemView:
    usage = filesystem.usage
    return FilesystemView(
        path=filesystem.path, holds=filesystem.holds, total=usage.total, used=usage.used, free=usage.free
    )


def _sample(view: FilesystemView, now: str) -> DiskSample:
    known = {each.id: each.bytes for each in view.parts if each.bytes is not None}
    return DiskSample(time=now, path=view.path, total=view.total, used=view.used, parts={**known})


def _unread(error: OSError) -> DiskUnread:
    return DiskUnread(
        f"{error.filename or 'The disk'} cannot be looked at: {error.strerror}.",
        "Docker must run on this machine's own kernel, and its disks must be mounted.",
    )
