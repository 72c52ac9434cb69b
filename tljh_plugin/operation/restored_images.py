"""Images after a restore: those in the backup are loaded, others are built anew when somebody needs them.

A record without its image is no hit, so that a start builds it at its commit; `queue` has that done by the
next start of the service, and what was decided about the image goes to the new one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from ..build.queue import new_build_id
from ..cache.inventory import Inventory
from ..cache.leases import Leases
from ..cache.moves import Moves, Wanted
from ..engine import Engine
from ..errors import BinderError
from ..settings import Settings
from ..store import BuildRow, ImageRow, Store, utc_now
from ..wire import Person
from .backup import Progress
from .backup_file import IMAGES, members

_SYSTEM = Person(name="system", admin=True)
_ANY = 1_000_000  # builds that one may have in the queue: these are the administrator's wish


@dataclass(frozen=True)
class Loaded:
    """An image of the backup; `problem` says why it was not loaded."""

    image_id: str
    title: str
    problem: str = ""


async def load(
    settings: Settings, engine: Engine, file: Path, wanted: dict[str, str], progress: Progress
) -> list[Loaded]:
    """Load the images `wanted` (titles by id), each checked as an import is; one that fails stops no other.

    The service must not run. Raises `StoreError`.
    """
    if not wanted:
        return []
    store = await Store.open(settings.store_path)
    try:
        inventory = Inventory(store, engine)
        moves = Moves(settings, store, engine, inventory, Leases(store))
        await moves.recover()
        return [each async for each in _load_all(moves, file, wanted, progress)]
    finally:
        await store.close()


async def _load_all(
    moves: Moves, file: Path, wanted: dict[str, str], progress: Progress
) -> AsyncGenerator[Loaded, None]:
    reader = _Pieces(file)
    while (image_id := await reader.next_image()) is not None:
        if image_id not in wanted:
            await reader.skip()
            continue
        progress.say(f"the image {wanted[image_id]}")
        problem = ""
        try:
            async with aclosing(reader.of_image(progress)) as pieces:
                await moves.receive(_SYSTEM, pieces, Wanted())
        except BinderError as error:
            problem = str(error)
        await reader.skip()
        yield Loaded(image_id, wanted[image_id], problem)


class _Pieces:
    """The pieces of images of a backup, one image after the other."""

    def __init__(self, file: Path) -> None:
        self._found = _pieces(file)
        self._waiting: tuple[str, bytes] | None = None
        self._now = ""

    async def _look(self) -> tuple[str, bytes] | None:
        if self._waiting is None:
            self._waiting = await asyncio.to_thread(next, self._found, None)
        return self._waiting

    async def next_image(self) -> str | None:
        found = await self._look()
        self._now = found[0] if found else ""
        return f"sha256:{found[0]}" if found else None

    async def of_image(self, progress: Progress) -> AsyncGenerator[bytes, None]:
        while (found := await self._look()) is not None and found[0] == self._now:
            self._waiting = None
            progress.passed(len(found[1]))
            yield found[1]

    async def skip(self) -> None:
        while (found := await self._look()) is not None and found[0] == self._now:
            self._waiting = None


def _pieces(file: Path) -> Iterator[tuple[str, bytes]]:
    for member in members(file):
        if member.name.startswith(IMAGES):
            for piece in member.pieces():
                yield member.name.split("/")[1], piece


async def queue(settings: Settings, platform: str, image_ids: list[str]) -> list[str]:
    """Have images built by the next start of the service; those for which nothing can be queued.

    The service must not run. Raises `StoreError`.
    """
    store = await Store.open(settings.store_path)
    try:
        left = []
        for image_id in image_ids:
            image = await store.image(image_id)
            if image is None or image.visibility != "everyone" or image.platform != platform:
                left.append(image_id)
                continue
            known = {each.image_id for each in await store.images_of(image.identity)}
            wish = _wish(image)
            found = await store.enqueue(wish, per_person=_ANY, considered=known)
            if found.build is not None:
                await store.add_successor(found.build.id, image_id)
        return left
    finally:
        await store.close()


def _wish(image: ImageRow) -> BuildRow:
    return BuildRow(
        id=new_build_id(),
        identity=image.identity,
        url=image.url,
        commit=image.commit,
        subdir=image.subdir,
        platform=image.platform,
        spec=image.spec,
        asked_ref=image.asked_ref,
        requested_by=image.built_by or _SYSTEM.name,
        created=utc_now(),
    )
