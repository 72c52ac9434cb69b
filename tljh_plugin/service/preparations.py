"""What a container needs besides its image: a lease on it, the person's project folder, its environment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..access import may
from ..build.base import PYTHON_VARIABLE, ensure_base
from ..cache.leases import Leases
from ..engine import Engine, ImageFacts
from ..errors import ImageNotFound, ImageRetired
from ..projects import Projects
from ..settings import Settings
from ..source.spec import parse_link
from ..store import ImageRow, Store
from ..wire import Person, Prepared, PrepareRequest
from .environment import HubEnvironment

log = logging.getLogger("littlest_binder.service")

# From when all is prepared until the container is there; a hub that died does not give the lease back.
_LEASE_S = 3600.0


class Preparations:
    """Prepares starts for the hub and hears how they ended; `launched` is told when one succeeded."""

    def __init__(
        self,
        settings: Settings,
        environment: HubEnvironment,
        store: Store,
        engine: Engine,
        leases: Leases,
        projects: Projects,
        launched: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._store = store
        self._engine = engine
        self._leases = leases
        self._projects = projects
        self._launched = launched
        self._begun: dict[str, float] = {}  # when what a lease is for was ready
        self.ended: Callable[[bool, float], None] = lambda ok, seconds: None

    async def prepare(self, person: Person, request: PrepareRequest) -> Prepared:
        """Take a lease and fill or find the project. On any failure, a cancelled call included, the lease is
        given back. Raises `ImageNotFound`, `ImageRetired`, `ProjectError` (`StorageFull` among them),
        `EngineError`."""
        lease = await self._leases.take(request.image_id, _LEASE_S, f"{person.name}/{request.server}")
        try:
            async with self._leases.renewed(lease, _LEASE_S):
                row, facts = await self._image(person, request.image_id)
                project, path = "", ""
                if request.storage == "project":
                    subdir = parse_link(request.spec).subdir
                    base = await ensure_base(self._settings, _say)
                    view, folder = await self._projects.prepare(
                        person, request, facts, base.id, subdir=subdir, lease=lease
                    )
                    project, path = view.id, str(folder)
                mine = str(await self._projects.my_files(person)) if request.my_files else ""
        except BaseException:
            await self._leases.release(lease)
            raise
        self._begun[lease] = asyncio.get_running_loop().time()
        return Prepared(
            image_id=row.image_id,
            image_name=row.name,
            home=row.home,
            workdir=row.workdir,
            project=project,
            project_path=path,
            my_files_path=mine,
            lease=lease,
            environment=self._variables(request),
            urlpath=row.urlpath,
            packages=_packages(facts),
        )

    async def release(self, lease: str, ok: bool) -> None:
        """Give the lease back; a server that came up counts as a launch of its image.

        The lease itself says of which: a start may be longer than the life of this process.
        """
        begun = self._begun.pop(lease, None)
        if begun is not None:
            self.ended(ok, asyncio.get_running_loop().time() - begun)
        if ok:
            await self._leases.end(lease)
            self._launched()
        else:
            await self._leases.release(lease)

    async def _image(self, person: Person, image_id: str) -> tuple[ImageRow, ImageFacts]:
        row = await self._store.image(image_id)
        facts = await self._engine.image(image_id) if row is not None and may(person, "use", row) else None
        if row is None or facts is None:
            raise ImageNotFound(
                f"The image {image_id} is not there any more.", "Start again: it is built anew."
            )
        if row.retired:
            raise ImageRetired.of(row.title or row.name)
        return row, facts

    def _variables(self, request: PrepareRequest) -> dict[str, str]:
        """The variables of a BinderHub session (binderhub/launcher.py), which notebooks may rely on."""
        spec = parse_link(request.spec)
        pinned = spec.at(request.commit)
        hub = self._environment.hub_host + self._environment.hub_prefix.removesuffix("hub/")
        return {
            "BINDER_LAUNCH_HOST": hub,
            "BINDER_PERSISTENT_REQUEST": f"v2/{pinned.path}",
            "BINDER_REF_URL": pinned.page_url,
            "BINDER_REPO_URL": request.repository,
            "BINDER_REQUEST": f"v2/{spec.path}",
        }


def _packages(image: ImageFacts) -> str:
    """Where an image that stands on our base has its Python packages; empty for another one."""
    place, version = image.env.get("VIRTUAL_ENV", ""), image.env.get(PYTHON_VARIABLE, "")
    return f"{place}/lib/python{version}/site-packages" if place and version else ""


def _say(line: str) -> None:
    log.info("base image: %s", line)
