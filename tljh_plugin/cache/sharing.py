"""Opening an image to others, or closing it: who may use it, and see the build and the log it came from."""

from __future__ import annotations

from collections.abc import Sequence

from ..access import is_admin, may, may_share_with
from ..errors import Forbidden, ImageNotFound, InvalidRequest
from ..store import ImageRow, Store
from ..wire import Person, Visibility
from .inventory import Inventory


class Sharing:
    """Changes who may use images, and notes it."""

    def __init__(self, store: Store, inventory: Inventory) -> None:
        self._store = store
        self._inventory = inventory

    async def share(
        self, image_id: str, person: Person, visibility: Visibility, groups: Sequence[str] = ()
    ) -> None:
        """Make an image private, for groups, or for everyone.

        Its owner may open it to everyone and to groups of theirs, an administrator to any groups, who alone
        closes it again; a server that runs on it goes on in any case. Raises what `check` does.
        """
        image = await self.check(image_id, person, visibility, groups)
        await self._store.share_image(image_id, visibility, sorted(set(groups)), decided=is_admin(person))
        await self._store.audit(
            person.name, "image.share", image.name, " ".join([visibility, *sorted(set(groups))])
        )
        await self._inventory.look_again()

    async def check(
        self, image_id: str, person: Person, visibility: Visibility, groups: Sequence[str] = ()
    ) -> ImageRow:
        """The image, if the person may share it so. Raises `ImageNotFound`, `Forbidden`, and `InvalidRequest`
        for groups where none belong or where none are given.
        """
        image = await self._store.image(image_id)
        if image is None or not may(person, "see", image):
            raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
        if not may(person, "change", image):
            raise Forbidden(
                f"{person.name} may not change who uses the image {image.name}.",
                whom_to_ask(image),
            )
        if (visibility == "group") != bool(groups):
            raise InvalidRequest(
                f"The visibility {visibility!r} was given the groups {', '.join(groups) or '(none)'}.",
                "Name groups with `group`, and only with it.",
            )
        if not may_share_with(person, groups):
            strange = ", ".join(sorted(set(groups) - set(person.groups)))
            raise Forbidden(
                f"{person.name} is not in the group {strange}.",
                "Choose groups of yours, or ask an administrator.",
            )
        return image


def whom_to_ask(image: ImageRow) -> str:
    """The next step of who may not change or delete an image."""
    if image.visibility == "everyone":
        return "Ask an administrator: everyone may use it."
    if image.decided:
        return "Ask an administrator: one has decided about it."
    return f"Ask {image.owner} or an administrator."
