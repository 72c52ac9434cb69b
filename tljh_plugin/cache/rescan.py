"""The list of images read back from Docker, after the store was lost.

Our labels are signed, so an image that carries them was made by this installation, and its name was given
after its start check. What was decided about it (title, pin, groups) is lost with the store. All other
images are proposed to the administrator, to be adopted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from ..build.identity import audience_mark, platform_of, verify
from ..engine import Engine
from ..engine import ImageRow as DockerImage
from ..errors import BinderError
from ..installation import secret
from ..settings import Settings
from ..store import ImageRow, Store
from ..wire import Person, ProposalView, RefusedImageView, RescanView
from .claims import Claim, Refused, blank_row, has_labels, is_tool, moment, own_name, read_claim
from .inventory import Inventory

_log = logging.getLogger("littlest_binder.rescan")

_SYSTEM = Person(name="system", admin=True)
_AGAIN_S = 10.0
_NOTE, _DUE, _DONE = "rescan", "due", "done"
_WHOSE = "it is one person's, and JupyterHub does not tell now who there is; look again later"

People = Callable[[], Awaitable[Iterable[str]]]


class Rescan:
    """`await start()` … `await stop()`; `people` gives the names of all, to find whose a private image is."""

    def __init__(
        self, settings: Settings, store: Store, engine: Engine, inventory: Inventory, people: People
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._inventory = inventory
        self._people = people
        self._task: asyncio.Task[None] | None = None
        self._waits_for_people = False  # all that can be told without them was read back

    async def start(self) -> None:
        """If the store is new, read the list back now, or as soon as Docker answers."""
        if (await self._store.notes()).get(_NOTE) == _DUE and not await self._run_once():
            self._task = asyncio.create_task(self._run_later(), name="rescan")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run(self, person: Person) -> RescanView:
        """Record the images of ours that are not in the list. Raises `EngineError` and `StoreError`.

        While nobody can tell who there is, one person's image is left out: it would lose its owner for good.
        """
        return await self._restore(person, await self._names())

    async def _restore(self, person: Person, people: Sequence[str] | None) -> RescanView:
        known = {image.image_id for image in await self._store.images()}
        platform = platform_of((await self._engine.info()).architecture)
        restored, refused, proposals = [], [], []
        for image in await self._engine.images():
            if image.id in known or is_tool(image.tags):
                continue
            if not verify(image.labels, secret(self._settings)):
                if image.tags:
                    proposals.append(proposal(image))
                continue
            try:
                row = await self._row(image, platform, [*(people or ()), person.name])
                if row.visibility == "private" and not row.built_by and people is None:
                    raise Refused(_WHOSE)
            except Refused as problem:
                refused.append(RefusedImageView(id=image.id, names=image.tags, reason=str(problem)))
                continue
            if await self._store.record_image(row, person.name, "image.restore"):
                restored.append(row.image_id)
        await self._inventory.look_again()
        await self._store.audit(
            person.name,
            "image.rescan",
            "images",
            f"{len(restored)} restored, {len(known)} known, {len(refused)} refused",
        )
        views = [view for each in restored if (view := self._inventory.image(each)) is not None]
        return RescanView(
            restored=tuple(views), known=len(known), refused=tuple(refused), proposals=tuple(proposals)
        )

    def proposals(self) -> list[ProposalView]:
        """From memory: the images of Docker that are not in the list and could be adopted."""
        return [
            proposal(image) for image in self._inventory.others() if image.tags and not is_tool(image.tags)
        ]

    async def _row(self, image: DockerImage, platform: str, people: Iterable[str]) -> ImageRow:
        claim = read_claim(image.labels)
        name = own_name(image.tags, claim)
        if not name:
            raise Refused(
                "it has no name of ours: it was made by hand from one of our images, or never checked"
            )
        if claim.identity.platform != platform:
            raise Refused(f"it is for {claim.identity.platform}, and Docker runs on {platform}")
        facts = await self._engine.image(image.id)
        if facts is None:
            raise Refused("it went while it was looked at")
        if platform_of(facts.architecture) != platform:
            raise Refused(f"Docker says that it is for {facts.architecture}")
        return replace(
            blank_row(claim.identity, claim.spec, ref=claim.ref, recipe=claim.recipe),
            image_id=image.id,
            name=name,
            size=facts.size,
            created=moment(facts.created),
            home=facts.home,
            workdir=facts.start_folder,
            built_by=self._owner(claim, people),
            visibility="private" if claim.audience else "everyone",
        )

    def _owner(self, claim: Claim, people: Iterable[str]) -> str:
        """Whose credential was needed; nobody's name if they are unknown now, so that only administrators
        see it."""
        key = secret(self._settings)
        return next((name for name in people if audience_mark(name, key) == claim.audience), "")

    async def _names(self) -> list[str] | None:
        try:
            return sorted(await self._people())
        except BinderError as error:
            _log.warning("Whose private images are is not known: %s", error)
            return None

    async def _run_once(self) -> bool:
        try:
            people = await self._names()
            if people is None and self._waits_for_people:
                return False
            found = await self._restore(_SYSTEM, people)
            self._waits_for_people = any(each.reason == _WHOSE for each in found.refused)
            if not self._waits_for_people:
                await self._store.set_note(_NOTE, _DONE)
        except BinderError as error:
            _log.warning("The store is new, and the images were not looked through yet: %s", error)
            return False
        if found.restored:
            _log.warning("The store is new: %d images were found again.", len(found.restored))
        return not self._waits_for_people

    async def _run_later(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN_S)
            if await self._run_once():
                return


def proposal(image: DockerImage) -> ProposalView:
    """An image that an administrator may adopt."""
    reason = "built by another installation" if has_labels(image.labels) else "not built here"
    return ProposalView(id=image.id, names=image.tags, size=image.size, created=image.created, reason=reason)
