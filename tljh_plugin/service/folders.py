"""Mounts and picked folders, for pages and API; whatever looks at the disk runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..engine import Engine
from ..engine.threads import in_thread
from ..errors import EngineError, NotFound
from ..launch import grants, picking
from ..launch.picking import Listing, Root
from ..launch.resolving import views
from ..settings import Settings, fresh
from ..time_limit import within
from ..wire import MountView, Person

# A page is shown without what Docker would have said; its usual folder is protected in any case.
_DOCKER_S = 2.0

Note = Callable[[str, str, str, str], Awaitable[None]]


class Folders:
    """Folders of this machine, as the settings say now. `note` hears who did what to which folder."""

    def __init__(self, settings: Settings, engine: Engine, note: Note) -> None:
        self._settings = settings
        self._engine = engine
        self._note = note

    @property
    def settings(self) -> Settings:
        """As the file says now."""
        return fresh(self._settings)

    async def mounts(self, person: Person) -> tuple[MountView, ...]:
        """What the person may have, each with the reason if it cannot be had now."""
        settings, root = self.settings, await self._docker_root()
        return await in_thread(lambda: views(settings, person, root))

    def may_pick(self, person: Person) -> bool:
        """Whether the person may pick folders: the one of a desktop, if there are roots."""
        settings = self.settings
        return (
            settings.platform == "desktop"
            and person.name == settings.owner
            and bool(settings.desktop.mount_roots)
        )

    async def roots(self, person: Person) -> list[Root]:
        """Where looking for a folder begins. Raises `NotFound` where nobody picks folders."""
        settings, root = self._pickers(person), await self._docker_root()
        return await in_thread(lambda: picking.beginnings(settings, root))

    async def browse(self, person: Person, path: str) -> Listing:
        """What is in a folder. Raises `NotFound`, `MountError`."""
        settings, root = self._pickers(person), await self._docker_root()
        return await in_thread(lambda: picking.browse(settings, path, root))

    async def pick(self, person: Person, path: str, access: grants.Access) -> grants.Grant:
        """Let the person have a folder from now on. Raises `NotFound`, `MountError`, `SettingsError`."""
        settings, root = self._pickers(person), await self._docker_root()
        grant = await in_thread(lambda: picking.pick(settings, path, access, root))
        await self._note(person.name, "mount.grant", grant.path, grant.access)
        return grant

    async def let_go(self, person: Person, grant: str) -> None:
        """Forget a picked folder; nothing in it changes. Raises `NotFound`."""
        settings = self._pickers(person)
        gone = await in_thread(lambda: grants.remove(settings.grants_path, grant))
        await self._note(person.name, "mount.forget", gone.path, gone.access)

    def _pickers(self, person: Person) -> Settings:
        if not self.may_pick(person):
            raise NotFound(
                "Folders are picked only on a desktop, by the person to whom it belongs.",
                "Ask the administrator to add the folder to the catalogue (`binder.mounts`).",
            )
        return self.settings

    async def _docker_root(self) -> str:
        try:
            return await within(_DOCKER_S, self._engine.root_dir())
        except (EngineError, asyncio.TimeoutError):
            return ""
