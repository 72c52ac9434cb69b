"""What a text means, for one person: which commit, whether its image is there, which projects are theirs."""

from __future__ import annotations

import asyncio

from ..build.queue import Queue
from ..cache.inventory import Inventory
from ..errors import EngineError, ImageNotFound, ImageRetired, InvalidSpec, ProfileRefused
from ..launch.options import LaunchOptions
from ..launch.profiles import default_for
from ..projects import Projects
from ..settings import Settings, fresh
from ..source.credentials import Credentials
from ..source.policy import check_spec
from ..source.resolve import PinnedRepo, Resolver
from ..source.spec import RepoSpec, parse_link
from ..time_limit import within
from ..wire import BuildView, Credential, ImageView, Person, ProjectView, ResolveView
from .links import from_text, read_spec
from .texts import _

_Asked = tuple[str, str, str]  # path, commit, and the mark of the login; of an image the person

# A page that was told to ask again asks within a second or two.
_KEPT_S = 30.0
# A page is shown without what Docker would have said.
_DOCKER_S = 5.0


class Lookups:
    """Asks the stages; decides nothing."""

    def __init__(
        self,
        settings: Settings,
        resolver: Resolver,
        queue: Queue,
        projects: Projects,
        credentials: Credentials,
        inventory: Inventory,
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._queue = queue
        self._projects = projects
        self._credentials = credentials
        self._inventory = inventory
        self._pinning: dict[_Asked, asyncio.Task[PinnedRepo]] = {}

    async def pin(
        self, person: Person, text: str, commit: str = "", credential: Credential | None = None
    ) -> PinnedRepo:
        """The commit of what was typed or linked, read with `credential` if the host wants one.

        Raises `SourceError`; the policy is asked before the network.
        """
        spec = from_text(text).spec
        self.hold(person, spec, credential)
        return await self.pin_spec(person, spec, commit)

    def hold(self, person: Person, spec: RepoSpec, credential: Credential | None) -> None:
        """Keep a credential in memory for what the person does with this repository now.

        Raises `PolicyRefused`, `InvalidRequest`, and `InvalidSpec` for an image.
        """
        if credential is not None:
            self._credentials.give(person, spec.clone_url, credential)

    async def pin_spec(self, person: Person, spec: RepoSpec, commit: str = "") -> PinnedRepo:
        """As `pin`, for what was read already."""
        if spec.provider == "image":
            return await self._pin_image(person, spec, commit)
        await asyncio.to_thread(check_spec, spec, self._settings)
        login = await self._credentials.find(person, spec.clone_url)
        return await self._resolver.resolve(spec, commit, login)

    async def _pin_image(self, person: Person, spec: RepoSpec, commit: str) -> PinnedRepo:
        """The image that was adopted last under this name; its id is what a commit is of a repository."""
        await asyncio.to_thread(check_spec, spec, self._settings)
        for each in self._inventory.images(person):
            if each.adopted and each.repository == spec.normal_url and commit in ("", each.commit):
                return PinnedRepo(spec, spec.normal_url, each.commit)
        raise ImageNotFound(
            f"The image {spec.display} was not adopted here.",
            f"An administrator can do that: `littlest-binder adopt {spec.repository}`.",
        )

    async def pin_within(
        self, person: Person, spec: RepoSpec, commit: str, seconds: float
    ) -> PinnedRepo | None:
        """As `pin_spec`, or None if it takes longer; it goes on, and the next call finds what it found."""
        # Others have other credentials, and the same person another one the next time; images have no
        # credentials, but not everybody sees each.
        if spec.provider == "image":
            mark = person.name
        else:
            login = await self._credentials.find(person, spec.clone_url)
            mark = login.mark if login else ""
        key = (spec.path, commit, mark)
        task = self._pinning.get(key)
        if task is None:
            task = self._pinning[key] = asyncio.create_task(self.pin_spec(person, spec, commit))
            loop = asyncio.get_running_loop()
            task.add_done_callback(lambda done: loop.call_later(_KEPT_S, self._forget, key, done))
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            return None
        self._forget(key, task)
        return task.result()

    def _forget(self, key: _Asked, task: asyncio.Task[PinnedRepo]) -> None:
        if self._pinning.get(key) is task:
            del self._pinning[key]
        if task.done() and not task.cancelled():
            task.exception()  # nobody came back for it

    async def resolve(
        self, person: Person, text: str, commit: str = "", credential: Credential | None = None
    ) -> ResolveView:
        """Everything that the person may know about what they typed."""
        return await self.view(person, await self.pin(person, text, commit, credential))

    async def view(self, person: Person, pinned: PinnedRepo) -> ResolveView:
        """The same for a commit. A Docker that does not answer becomes a warning."""
        warnings: tuple[str, ...] = ()
        build: BuildView | None = None
        try:
            build = await within(_DOCKER_S, self._queue.state_of(person, pinned))
        except (EngineError, ImageRetired) as error:
            warnings = (str(error),)
        except asyncio.TimeoutError:
            warnings = (_("Docker is slow to answer: whether the image is there is not known yet."),)
        spec = pinned.spec
        ready = self._inventory.image(build.image_id) if build and build.image_id else None
        return ResolveView(
            spec=spec.path,
            display=spec.display,
            repository=pinned.url,
            page_url=spec.page_url,
            ref=spec.ref or pinned.ref_found.removeprefix("refs/heads/").replace("HEAD", ""),
            commit=pinned.commit,
            image="missing" if build is None else "ready" if build.state == "built" else "building",
            image_id=build.image_id if build else "",
            build_id=build.id if build else "",
            private=pinned.proven and pinned.login is not None,
            profile=ready.profile if ready else "",
            urlpath=ready.urlpath if ready else "",
            projects=tuple(await self.projects(person, spec)),
            warnings=warnings,
        )

    def default_profile(self, person: Person, options: LaunchOptions) -> str:
        """The id of the profile that the person gets who chooses none; empty if none is meant for them."""
        image = self._image_of(person, options)
        try:
            return default_for(fresh(self._settings), person, image.profile if image else "").id
        except ProfileRefused:
            return ""

    def _image_of(self, person: Person, options: LaunchOptions) -> ImageView | None:
        """What is there for options with a commit, from memory."""
        if options.image:
            return self._inventory.image(options.image, person)
        try:
            spec = parse_link(options.repository)
        except InvalidSpec:
            return None
        wanted = (spec.normal_url, spec.subdir, options.commit)
        for each in self._inventory.images(person):
            found = read_spec(each.spec)
            if (each.repository, found.subdir if found else "", each.commit) == wanted and not each.retired:
                return each
        return None

    async def projects(self, person: Person, spec: RepoSpec) -> list[ProjectView]:
        """The person's projects of this repository and folder, last used first."""
        return [
            project
            for project in await self._projects_by_use(person)
            if project.repository == spec.normal_url and _subdir(project) == spec.subdir
        ]

    async def _projects_by_use(self, person: Person) -> list[ProjectView]:
        projects = await self._projects.list(person)
        return sorted(projects, key=lambda each: (each.last_used or each.created, each.id), reverse=True)


def _subdir(project: ProjectView) -> str:
    spec = read_spec(project.spec)
    return spec.subdir if spec else ""
