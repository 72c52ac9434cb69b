"""What the front page offers: the images that are there, first of all a plain Jupyter and the example.

Also makes sure that the plain one is there: rule 7 of the plan, "a plain Jupyter image is there right after
installation".
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..access import is_open_to
from ..build.queue import Queue
from ..cache.inventory import Inventory
from ..errors import BinderError, EngineError
from ..settings import Settings
from ..source.spec import LaunchLink, RepoSpec
from ..store import ImageRow
from ..wire import BuildView, ImageView, Person
from .links import read_spec
from .lookups import Lookups
from .texts import _

log = logging.getLogger("littlest_binder.service")

# Whose name stands at builds that nobody asked for.
SYSTEM = Person(name="system", admin=True)

PLAIN, EXAMPLE = "plain", "example"
_AGAIN_S = 10.0

State = Literal["ready", "building", "failed", "missing"]


@dataclass(frozen=True)
class Offer:
    """Something to launch. `link` is the path of its confirmation, relative to our prefix."""

    title: str
    about: str
    link: str
    state: State
    commit: str = ""
    build: BuildView | None = None
    icon: str = ""

    @property
    def build_id(self) -> str:
        """The build to watch, if there is one."""
        return self.build.id if self.build else ""


class Offers:
    """`start()` … `await stop()`."""

    def __init__(self, settings: Settings, inventory: Inventory, queue: Queue, lookups: Lookups) -> None:
        self._settings = settings
        self._inventory = inventory
        self._queue = queue
        self._lookups = lookups
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Build the plain image in the background, unless it is there."""
        self._task = asyncio.create_task(self._ensure_plain())

    async def stop(self) -> None:
        """End the wish; a build that it began is the queue's."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def title(self, spec: RepoSpec) -> str:
        """What a repository is called on pages: its address, the bundled ones by their names."""
        if spec.provider == "local" and not spec.subdir:
            for name, title, _about, _path in _bundled():
                if spec.repository == str(self._settings.examples_dir / name):
                    return title
        return spec.display

    def title_of(self, path: str) -> str:
        """The same for the stored path of a link."""
        spec = read_spec(path)
        return self.title(spec) if spec else path

    def title_of_image(self, image: ImageRow) -> str:
        """What an image is called: as an administrator named it, the bundled ones by their names."""
        spec = read_spec(image.spec) if image.spec.startswith("local/") else None
        return self.title(spec) if spec and image.title == spec.display else image.title

    async def for_person(self, person: Person) -> list[Offer]:
        """Plain Jupyter, the example, then of each repository the newest image that the person may see: those
        that an administrator said something of are first, and stand before newer ones of their repository."""
        there = {_key(each) for each in self._open_to(person)}
        bundled = {(_spec(self._settings.examples_dir / name).normal_url, "") for name, *_rest in _bundled()}
        # The images after the builds: what has ended meanwhile is told as ready, and not as never begun.
        builds = [] if bundled <= there else await self._queue.list(person)
        images = self._open_to(person)
        retired = {_key(each) for each in images if each.retired}
        images = [each for each in images if not each.retired]
        images.sort(key=lambda each: not _is_described(each))
        offers: list[Offer] = []
        known: set[tuple[str, str]] = set()
        for name, title, about, path in _bundled():
            folder = self._settings.examples_dir / name
            if not await asyncio.to_thread(folder.is_dir):
                continue
            spec = _spec(folder)
            known.add((spec.normal_url, ""))
            image = next((each for each in images if _key(each) == (spec.normal_url, "")), None)
            build = None
            if image is None and (spec.normal_url, "") in retired:
                continue
            if image is None:
                build = next((each for each in builds if each.repository == spec.normal_url), None)
            named = image is not None and image.title != spec.display
            offers.append(
                Offer(
                    image.title if image and named else title,
                    (image.description if image else "") or about,
                    LaunchLink(spec, "" if image and image.urlpath else path).to_url("").lstrip("/"),
                    _state(image, build),
                    build=build,
                    icon=image.icon if image else "",
                )
            )
        for image in images:
            found = read_spec(image.spec)
            if found is None or _key(image) in known:
                continue
            known.add(_key(image))
            link = LaunchLink(found).to_url("").lstrip("/")
            title = image.title if image.title != found.display else self.title(found)
            offers.append(
                Offer(title or image.name, image.description, link, "ready", image.commit, icon=image.icon)
            )
        return offers

    def _open_to(self, person: Person) -> list[ImageView]:
        """An administrator sees what others made with a credential, but a launch does not give it to them."""
        return [each for each in self._inventory.images(person) if is_open_to(person, each)]

    async def _ensure_plain(self) -> None:
        """Ask until it is there or was seen to fail; Docker may come later than we do."""
        folder = self._settings.examples_dir / PLAIN
        while True:
            with suppress(EngineError):
                if await asyncio.to_thread(folder.is_dir):
                    try:
                        await self._build_plain(folder)
                    except EngineError:
                        raise
                    except BinderError as error:
                        log.warning("The plain image was not built: %s", error)
                    return
            await asyncio.sleep(_AGAIN_S)

    async def _build_plain(self, folder: Path) -> None:
        pinned = await self._lookups.pin_spec(SYSTEM, _spec(folder))
        build = await self._queue.request(SYSTEM, pinned)
        if not build.hit:
            log.info("Building the plain image: %s", build.id)


def _bundled() -> list[tuple[str, str, str, str]]:
    """Folder, title, description, and what to open."""
    return [
        (PLAIN, _("Plain Jupyter"), _("JupyterLab on Python, nothing else"), ""),
        (EXAMPLE, _("Example"), _("A small repository with a notebook that plots"), "lab/tree/index.ipynb"),
    ]


def _spec(folder: Path) -> RepoSpec:
    return RepoSpec("local", str(folder))


def _is_described(image: ImageView) -> bool:
    spec = read_spec(image.spec)
    named = spec is not None and image.title not in ("", spec.display)
    return named or bool(image.icon or image.description)


def _key(image: ImageView) -> tuple[str, str]:
    spec = read_spec(image.spec)
    return image.repository, spec.subdir if spec else ""


def _state(image: ImageView | None, build: BuildView | None) -> State:
    if image is not None:
        return "ready"
    if build is None or build.state in ("built", "cancelled"):
        return "missing"
    return "failed" if build.state == "failed" else "building"
