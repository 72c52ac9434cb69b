"""Building what was built, or tried, before: a failed build once more, an image anew."""

from __future__ import annotations

from ..build.queue import Queue
from ..cache.inventory import Inventory
from ..errors import ImageNotFound, NotOurs
from ..source.spec import RepoSpec, parse_link
from ..wire import BuildView, Credential, ImageView, Person
from .lookups import Lookups


class Again:
    """Turns a build or an image back into the request that it came from."""

    def __init__(self, lookups: Lookups, queue: Queue, inventory: Inventory) -> None:
        self._lookups = lookups
        self._queue = queue
        self._inventory = inventory

    async def retry(self, person: Person, build_id: str, credential: Credential | None = None) -> BuildView:
        """A new build of the same commit; one that is queued or running, or succeeded, is told as it is.

        Raises `NotFound` for a build that the person may not see, and what a request for a build raises.
        """
        build = await self._queue.get(build_id, person)
        if build.state not in ("failed", "cancelled"):
            return build
        spec = parse_link(build.spec)
        self._lookups.hold(person, spec, credential)
        pinned = await self._lookups.pin_spec(person, spec, build.commit)
        return await self._queue.request(person, pinned, no_cache=build.no_cache, what="build.retry")

    async def rebuild(self, person: Person, image_id: str, *, no_cache: bool = False) -> BuildView:
        """The image's commit built anew; with `no_cache` every step is run again. The image stays.

        Raises `ImageNotFound` for an image that the person may not see, `NotOurs` for an adopted one, and
        what a request for a build raises.
        """
        image = self._inventory.image(image_id, person)
        if image is None:
            raise ImageNotFound(f"There is no image {image_id[:80]!r}.", "Look at the list of images.")
        pinned = await self._lookups.pin_spec(person, asked_spec(image), image.commit)
        return await self._queue.request(
            person, pinned, rebuild=True, no_cache=no_cache, what="build.rebuild"
        )


def asked_spec(image: ImageView) -> RepoSpec:
    """The repository of an image at the ref that was asked for. Raises `NotOurs` for an adopted one."""
    spec = parse_link(image.spec)
    if spec.provider == "image":
        raise NotOurs(
            f"The image {spec.display} was not built here.",
            "Build it where it was built, and adopt the new one.",
        )
    return spec.with_ref(image.asked_ref) if image.asked_ref != spec.ref else spec
