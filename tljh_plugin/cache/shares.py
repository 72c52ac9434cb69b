"""Who occupies a filesystem: measured folders and Docker's figures put into parts. Pure.

A layer that several images share is counted once, where it would stay longest: with an image that is kept,
then with one that is not ours, then with those that could go. A layer that no image holds is the builder's,
once the layers of all images are known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from ..wire import DiskItem, DiskPart, DiskPartId
from .filesystems import Filesystem
from .measuring import Measured

ImagePart = Literal["kept-images", "evictable-images", "other-docker"]

_STAYS_LONGEST: tuple[ImagePart, ...] = ("kept-images", "other-docker", "evictable-images")
_OF: Mapping[str, tuple[DiskPartId, ...]] = {
    "docker": ("servers", "kept-images", "evictable-images", "build-cache", "other-docker"),
    "state": ("mirrors",),
    "projects": ("projects",),
}
ORDER: tuple[DiskPartId, ...] = (
    "servers",
    "kept-images",
    "evictable-images",
    "build-cache",
    "mirrors",
    "projects",
    "other-docker",
    "else",
)
MOST_ITEMS = 5


@dataclass(frozen=True, slots=True)
class HeldImage:
    """An image, the part it belongs to, and the chain ids of its layers; `None`: not known yet."""

    id: str
    title: str
    part: ImagePart
    layers: tuple[str, ...] | None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """A container, a person's files, a mirror, a folder: what it occupies as far as that is known."""

    part: DiskPartId
    id: str
    title: str
    size: Measured | None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. `layers`: bytes by chain id. `unknown`: parts of which no figure can be had.

    `notable` are details of what is in `things` already: they are listed, not added up.
    """

    layers: Mapping[str, int] = field(default_factory=dict)
    things: tuple[Thing, ...] = ()
    unknown: frozenset[DiskPartId] = frozenset()
    notable: tuple[Thing, ...] = ()


def layer_parts(images: Iterable[HeldImage]) -> dict[str, ImagePart]:
    """To which part each layer of these images belongs."""
    found: dict[str, ImagePart] = {}
    for part in reversed(_STAYS_LONGEST):
        for image in images:
            if image.part == part:
                found.update(dict.fromkeys(image.layers or (), part))
    return found


def parts(filesystem: Filesystem, images: Collection[HeldImage], figures: Figures) -> tuple[DiskPart, ...]:
    """The parts of a filesystem. What is known of them and `else` add up to its used bytes."""
    where = layer_parts(images)
    sums: Counter[DiskPartId] = Counter()
    incomplete: set[DiskPartId] = {image.part for image in images if image.layers is None}
    for chain, size in figures.layers.items():
        if chain in where:
            sums[where[chain]] += size
        elif incomplete:  # an image whose layers are not known may hold it
            incomplete.add("build-cache")
        else:
            sums["build-cache"] += size
    incomplete.update(part for chain, part in where.items() if chain not in figures.layers)
    for thing in figures.things:
        sums[thing.part] += thing.size.bytes if thing.size else 0
        if thing.size is None or not thing.size.whole:
            incomplete.add(thing.part)
    here = {part for place in filesystem.holds for part in _OF[place]}
    known = here - figures.unknown
    rest = max(0, filesystem.usage.used - sum(sums[part] for part in known))
    return (
        *(
            DiskPart(id=part, bytes=sums[part], whole=part not in incomplete)
            if part in known
            else DiskPart(id=part)
            for part in ORDER
            if part in here
        ),
        DiskPart(id="else", bytes=rest, whole=True),
    )


def largest(images: Collection[HeldImage], figures: Figures, most: int = MOST_ITEMS) -> tuple[DiskItem, ...]:
    """The largest of each part, in the order of the parts. Of an image counts what no other image holds."""
    holders = Counter(chain for image in images for chain in dict.fromkeys(image.layers or ()))
    items = [
        DiskItem(part=each.part, id=each.id, title=each.title, bytes=each.size.bytes,
                 whole=each.size.whole, owner=each.owner)
        for each in (*figures.things, *figures.notable)
        if each.size is not None and each.id
    ]  # fmt: skip
    for image in images:
        alone = [chain for chain in dict.fromkeys(image.layers or ()) if holders[chain] == 1]
        known = [figures.layers[chain] for chain in alone if chain in figures.layers]
        whole = image.layers is not None and len(known) == len(alone)
        items.append(
            DiskItem(part=image.part, id=image.id, title=image.title, bytes=sum(known), whole=whole,
                     owner=image.owner)
        )  # fmt: skip
    return tuple(item for part in _by_part(items) for item in part[:most] if item.bytes)


def _by_part(items: Sequence[DiskItem]) -> list[list[DiskItem]]:
    ordered = sorted(items, key=lambda item: (ORDER.index(item.part), -item.bytes, item.title, item.id))
    return [list(group) for _, group in groupby(ordered, key=lambda item: item.part)]
