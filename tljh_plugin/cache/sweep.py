"""Deleting an image: first whether it may go, then that it goes.

The image goes, Docker's build cache stays, so that it usually comes back in seconds. The row and the log of
its build, who used it and the audit log stay too.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ..access import may
from ..engine import Engine
from ..errors import BinderError, Forbidden, ImageInUse, ImageNotFound, NotOurs
from ..store import ImageRow, Store
from ..wire import Person
from .inventory import PERSON_LABEL, SERVER_LABEL, Inventory
from .leases import Leases


@dataclass(frozen=True)
class Plan:
    """What a deletion would take. `size` in bytes as Docker says it, shared layers counted; `refusal` tells
    why it would not be done."""

    image_id: str
    name: str
    title: str
    size: int
    refusal: BinderError | None = None


@dataclass(frozen=True)
class Deleted:
    """What a deletion took; `gained_bytes` is what became free on Docker's disk meanwhile, measured."""

    image_id: str
    name: str
    gained_bytes: int


class Sweep:
    """Deletes images of ours, one at a time."""

    def __init__(self, store: Store, engine: Engine, inventory: Inventory, leases: Leases) -> None:
        self._store = store
        self._engine = engine
        self._inventory = inventory
        self._leases = leases

    async def plan(self, image_id: str, person: Person) -> Plan:
        """The dry run. Raises `ImageNotFound` and `NotOurs`; other reasons against it are in the plan."""
        image = await self._recorded(image_id, person)
        facts = await self._engine.image(image_id)
        refusal: BinderError | None = None
        try:
            await self._refuse(image, person)
            if await self._leases.held(image_id):
                raise ImageInUse(f"A server is being started with the image {image.name}.", "Wait for it.")
        except BinderError as error:
            refusal = error
        return Plan(image_id, image.name, image.title, facts.size if facts else 0, refusal)

    async def delete(self, image_id: str, person: Person) -> Deleted:
        """Raises `ImageNotFound`, `NotOurs`, `Forbidden`, and `ImageInUse` naming who uses it."""
        image = await self._recorded(image_id, person)
        try:
            async with self._leases.none_on(image_id):
                await self._refuse(image, person)
                gained = await self._remove(image)
        except BinderError as error:
            await self._store.audit(person.name, "image.delete", image.name, error.code)
            raise
        await self._store.audit(person.name, "image.delete", image.name, "deleted")
        await self._inventory.look_again()
        return Deleted(image_id, image.name, gained)

    async def _recorded(self, image_id: str, person: Person) -> ImageRow:
        image = await self._store.image(image_id)
        if image is not None and may(person, "see", image):
            return image
        if image is None and await self._engine.image(image_id) is not None:
            raise NotOurs(
                f"The image {image_id} was not built here.",
                "Remove it with `docker image rm` if you want to.",
            )
        raise ImageNotFound(f"There is no image {image_id}.", "Look at the list of images.")

    async def _refuse(self, image: ImageRow, person: Person) -> None:
        """Raises what speaks against the deletion, if anything does."""
        if not may(person, "delete", image):
            raise Forbidden(
                f"{person.name} may not delete the image {image.name}.",
                "Ask an administrator: everyone may use it.",
            )
        if image.pin_holds():
            raise ImageInUse(f"The image {image.name} is pinned.", "Unpin it first.")
        active = await self._store.active_build(image.identity, image.built_by)
        if active is not None:
            raise ImageInUse(
                f"The image {image.name} is being built again ({active.id}).",
                "Wait for the build or cancel it.",
            )
        users = [
            f"{each.labels[PERSON_LABEL]}/{each.labels.get(SERVER_LABEL, '')}"
            if PERSON_LABEL in each.labels and self._engine.is_ours(each.labels)
            else f"container {each.name}"
            for each in await self._engine.containers()
            if each.image_id == image.image_id
        ]
        if users:
            raise ImageInUse(
                f"The image {image.name} is in use by {', '.join(sorted(users))}.",
                "Stop these servers first; a stopped one must be removed, too.",
            )

    async def _remove(self, image: ImageRow) -> int:
        before = await self._engine.free_bytes()
        with suppress(ImageNotFound):  # somebody removed it behind our back: the record goes as well
            await self._engine.remove_image(image.image_id)
        await self._store.forget_image(image.image_id)
        return max(0, await self._engine.free_bytes() - before)
