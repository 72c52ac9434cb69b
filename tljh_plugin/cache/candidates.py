"""What a plan is made from: every image of the engine with what speaks for and against it.

Comes in: what the inventory saw last, the layers, the store. Goes out: candidates. Docker is not asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from ..engine import ContainerRow, Engine, Layer
from ..engine import ImageRow as DockerImage
from ..engine.images import OUR_NAMES
from ..labels import PERSON_LABEL, SERVER_LABEL
from ..settings import Settings
from ..source.spec import RepoSpec
from ..store import ImageRow, ImageUse, Store
from .inventory import Inventory, Snapshot
from .layers import Layers
from .plan import Candidate

# What stands before the id of an evicted image where its build cache is meant.
LEFTOVER = "cache:"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class _Told:
    """What the store knows beside the inventory: leased images, when servers were last seen on images, and
    what the builds of an identity took at most."""

    leased: frozenset[str] = frozenset()
    seen: Mapping[str, str] = field(default_factory=dict)
    rebuild: Mapping[str, float] = field(default_factory=dict)


class Candidates:
    """Puts candidates together; `known` from memory alone, `all` after a look into the store."""

    def __init__(
        self, settings: Settings, store: Store, engine: Engine, inventory: Inventory, layers: Layers
    ) -> None:
        self._store = store
        self._engine = engine
        self._inventory = inventory
        self._layers = layers
        self._examples = RepoSpec("local", str(settings.examples_dir)).normal_url
        self._told = _Told()

    async def all(self) -> list[Candidate]:
        """Every image of the engine, and those of ours that Docker lost. Raises `StoreError`."""
        await self._ask()
        return self.known()

    async def one(self, row: ImageRow) -> Candidate:
        """An image of ours with its uses up to this moment; its servers are those that the inventory saw
        last. Raises `StoreError`."""
        await self._ask()
        snapshot = replace(self._inventory.snapshot, uses=await self._store.uses())
        places = _places(each for each in snapshot.recorded if each.image_id in snapshot.present)
        return self._ours(row, snapshot, self._layers.chains.get(row.image_id), places.get(row.image_id, 0))

    async def _ask(self) -> None:
        self._told = _Told(
            leased=frozenset(lease.image_id for lease in await self._store.leases()),
            seen=await self._store.seen_in_use(),
            rebuild=await self._store.rebuild_seconds(),
        )

    async def note_uses(self) -> None:
        """Keep which images servers run on: a use is recorded when it begins, and may last for weeks."""
        snapshot = self._inventory.snapshot
        used = {each.image_id for each in snapshot.containers if each.state == "running"}
        await self._store.note_in_use(sorted(used & set(snapshot.recorded_as)))

    def known(self) -> list[Candidate]:
        """The same with what the store said last."""
        snapshot = self._inventory.snapshot
        chains = self._layers.chains
        places = _places(row for row in snapshot.recorded if row.image_id in snapshot.present)
        ours = [
            self._ours(row, snapshot, chains.get(row.image_id), places.get(row.image_id, 0))
            for row in snapshot.recorded
        ]
        others = [
            _other(image, self._inventory.size_of(image), chains.get(image.id))
            for image in snapshot.present.values()
            if image.id not in snapshot.recorded_as
        ]
        # Of evicted images the build cache still holds layers, which no deletion of another one frees.
        left = [
            _left(image_id, chain) for image_id, chain in chains.items() if image_id not in snapshot.present
        ]
        return ours + others + left

    def users_of(self, containers: Iterable[ContainerRow]) -> tuple[str, ...]:
        """Who has these containers: `person/server`, or the container's name if it is no server of ours."""
        return tuple(
            sorted(
                f"{each.labels[PERSON_LABEL]}/{each.labels.get(SERVER_LABEL, '')}"
                if PERSON_LABEL in each.labels and self._engine.is_ours(each.labels)
                else f"container {each.name}"
                for each in containers
            )
        )

    def _ours(
        self, row: ImageRow, snapshot: Snapshot, chain: tuple[Layer, ...] | None, newest: int
    ) -> Candidate:
        image = snapshot.present.get(row.image_id)
        build = snapshot.builds.get(row.identity)
        use = snapshot.uses.get(row.image_id, ImageUse(0, ""))
        last = max(use.last_used, self._told.seen.get(row.image_id, ""))
        return Candidate(
            image_id=row.image_id,
            name=row.name,
            title=self._inventory.title_of(row),
            created=moment(row.created),
            chain=chain,
            size=self._inventory.size_of(image) if image else 0,
            present=image is not None,
            cached=_is_cached(row),
            other_names=_other_names(row, image) if image else (),
            adopted=row.adopted,
            imported=row.imported,
            repository=row.url,
            built_by=row.built_by,
            users=self.users_of(snapshot.containers_of.get(row.image_id, ())),
            leased=row.image_id in self._told.leased,
            building=build is not None and build.active,
            pinned=row.pin_holds(),
            pin_reason=row.pin_reason,
            retired=row.retired,
            ready=newest == 1 and row.url.startswith(f"{self._examples}/"),
            launches=use.launches,
            newest=newest,
            last_used=moment(last) if last else None,
            rebuild_s=self._told.rebuild.get(row.identity),
        )


def moment(text: str) -> datetime:
    """A time of the store; one that cannot be read is long ago."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return _LONG_AGO
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _is_cached(row: ImageRow) -> bool | None:
    """None for one that was read back from its labels: it may have come from a file."""
    if row.adopted or row.imported:
        return False
    return True if row.build_id else None


def _other_names(row: ImageRow, image: DockerImage) -> tuple[str, ...]:
    """Those that its deletion leaves: of an adopted image all but the one that we gave it."""
    return tuple(
        name for name in image.tags if not (name == row.name if row.adopted else name.startswith(OUR_NAMES))
    )


def _other(image: DockerImage, size: int, chain: tuple[Layer, ...] | None) -> Candidate:
    names = image.tags or image.digests
    return Candidate(
        image_id=image.id,
        name=", ".join(names),
        title=names[0] if names else image.id[:19],
        created=_LONG_AGO,
        chain=chain,
        size=size,
        ours=False,
        cached=False,
    )


def _left(image_id: str, chain: tuple[Layer, ...]) -> Candidate:
    name = f"build cache of {image_id.removeprefix('sha256:')[:12]}"
    return Candidate(
        image_id=f"{LEFTOVER}{image_id}",
        name=name,
        title=name,
        created=_LONG_AGO,
        chain=chain,
        size=sum(layer.bytes or 0 for layer in chain),
        ours=False,
        leftover=True,
    )


def _places(recorded: Iterable[ImageRow]) -> dict[str, int]:
    """The place of each image among those of its repository, 1 for the newest."""
    of_repository: dict[tuple[str, str], list[ImageRow]] = defaultdict(list)
    for row in recorded:
        of_repository[row.url, row.subdir].append(row)
    return {
        row.image_id: place
        for rows in of_repository.values()
        for place, row in enumerate(sorted(rows, key=lambda each: each.created, reverse=True), start=1)
    }
