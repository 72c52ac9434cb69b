"""Who occupies what: computed from the layers of all images, since Docker's sizes count shared ones again.

Pure. A layer becomes free with the last image that has it, so every question is asked over *all* images of
the engine, also strangers' and unnamed ones. `None` is said where an image's layers, or a layer's size, are
not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from ..engine import Layer

Chain = tuple[Layer, ...]
"""The layers of an image, lowest first. Each id stands for all layers below too, so none is in it twice."""


def freed_by(selection: Collection[str], chains: Mapping[str, Chain]) -> int | None:
    """Bytes that become free when all of `selection` are erased together."""
    chosen = set(selection)
    if not chosen <= chains.keys():
        return None
    stay = {layer.chain_id for image, chain in chains.items() if image not in chosen for layer in chain}
    return _sum(layer for image in chosen for layer in chains[image] if layer.chain_id not in stay)


def own_bytes(image_id: str, chains: Mapping[str, Chain]) -> int | None:
    """Bytes that become free when this image alone is erased."""
    return freed_by([image_id], chains)


def all_own_bytes(chains: Mapping[str, Chain]) -> dict[str, int | None]:
    """`own_bytes` of every image, in one pass."""
    holders = Counter(layer.chain_id for chain in chains.values() for layer in chain)
    return {
        image: _sum(layer for layer in chain if holders[layer.chain_id] == 1)
        for image, chain in chains.items()
    }


def all_sizes(chains: Mapping[str, Chain]) -> dict[str, int | None]:
    """What each image occupies with all of its layers, also those that others share."""
    return {image: _sum(chain) for image, chain in chains.items()}


def occupied_by(selection: Collection[str], chains: Mapping[str, Chain]) -> int | None:
    """Bytes that some images occupy together, each layer once."""
    if not set(selection) <= chains.keys():
        return None
    return _sum(layer for image in selection for layer in chains[image])


def shared_with(image_id: str, chains: Mapping[str, Chain]) -> dict[str, tuple[str, ...]]:
    """For each layer of an image, lowest first, the other images that have it, sorted; empty if not known."""
    layers = [layer.chain_id for layer in chains.get(image_id, ())]
    found: dict[str, list[str]] = {layer: [] for layer in layers}
    for other in sorted(chains.keys() - {image_id}):
        for layer in chains[other]:
            if layer.chain_id in found:
                found[layer.chain_id].append(other)
    return {layer: tuple(others) for layer, others in found.items()}


def _sum(layers: Iterable[Layer]) -> int | None:
    """Of each layer once."""
    sizes = {layer.chain_id: layer.bytes for layer in layers}
    known = [size for size in sizes.values() if size is not None]
    return sum(known) if len(known) == len(sizes) else None
