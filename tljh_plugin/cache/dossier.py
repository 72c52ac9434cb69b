"""All that is known about one image, for its own page: from memory and the store, Docker is not asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..store import ImageRow, Store
from ..store.about_images import Launch, PackagesRow, PastBuild
from .bytes import shared_with
from .inventory import Inventory
from .layers import Layers

_BUILDS, _LAUNCHES = 20, 30


@dataclass(frozen=True)
class LayerOf:
    """A layer of an image: bytes (`None`: not known), and the titles of the other images that have it."""

    chain_id: str
    bytes: int | None
    shared: tuple[str, ...]


@dataclass(frozen=True)
class Dossier:
    """An image's record with its layers (`None`: not asked yet), packages (`None`: not recorded), the builds
    of the same repository and commit, and its launches; the newest first."""

    row: ImageRow
    layers: tuple[LayerOf, ...] | None
    packages: PackagesRow | None
    builds: tuple[PastBuild, ...]
    launches: tuple[Launch, ...]


class Dossiers:
    """Puts them together."""

    def __init__(self, store: Store, inventory: Inventory, layers: Layers) -> None:
        self._store = store
        self._inventory = inventory
        self._layers = layers

    async def of(self, image_id: str) -> Dossier | None:
        """None for an image that is not ours. Raises `StoreError`."""
        row = await self._store.image(image_id)
        if row is None:
            return None
        about = self._store.about_images
        return Dossier(
            row=row,
            layers=self._layers_of(image_id),
            packages=await about.packages(image_id),
            builds=tuple(await about.builds(row.identity, _BUILDS)),
            launches=tuple(await about.launches(image_id, _LAUNCHES)),
        )

    def _layers_of(self, image_id: str) -> tuple[LayerOf, ...] | None:
        chains = self._layers.chains
        if image_id not in chains:
            return None
        titles: Mapping[str, str] = {each.id: each.title for each in self._inventory.listed()}
        others = shared_with(image_id, chains)
        return tuple(
            LayerOf(
                each.chain_id,
                each.bytes,
                tuple(titles.get(other, other[:19]) for other in others.get(each.chain_id, ())),
            )
            for each in chains[image_id]
        )
