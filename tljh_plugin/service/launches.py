"""Servers, as the signed-in person sees and starts them: a start is a wish to the hub with their own token.

Deciding (`decide`, `differences`) is pure; `Launches` asks and tells the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from ..build.queue import Queue
from ..errors import (
    BinderError,
    Forbidden,
    HubUnavailable,
    InvalidRequest,
    NotFound,
    ServerExists,
    ServerStopped,
)
from ..hub_api import HubApi, HubServer
from ..launch.options import LaunchOptions, parse
from ..source.spec import LaunchLink, RepoSpec, parse_link
from ..wire import BuildView, LaunchEvent, LaunchView, LogLine, Person, ProjectView
from .environment import HubEnvironment
from .links import read_spec
from .lookups import Lookups
from .names import check_name, random_name
from .progress import merge

# In an address the server without a name needs one that no server can have.
NO_NAME = "-"

_STOP_S = 90.0
_STOP_POLL_S = 0.25

Decision = Literal["start", "connect", "ask", "restart", "wait"]


@dataclass(frozen=True)
class Server:
    """A server of a person, running or not; `options` is None if it was not started by us."""

    name: str
    ready: bool
    pending: str
    url: str
    page: str
    options: LaunchOptions | None
    last_activity: str = ""

    @property
    def active(self) -> bool:
        """Whether it runs, starts or stops."""
        return self.ready or bool(self.pending)

    @property
    def shown(self) -> str:
        """Its name for people."""
        return self.name or "default server"

    @property
    def spec(self) -> RepoSpec | None:
        """The repository that it was started from."""
        return read_spec(self.options.repository) if self.options and self.options.repository else None

    @property
    def repository(self) -> str:
        """The repository for people, such as `github.com/owner/repo`."""
        return self.spec.display if self.spec else ""

    @property
    def commit(self) -> str:
        """The commit that it was started at, if it was told one."""
        return self.options.commit if self.options else ""

    @property
    def ephemeral(self) -> bool:
        """Whether its files are lost when it stops."""
        return self.options is not None and self.options.storage == "ephemeral"


@dataclass(frozen=True)
class Difference:
    """An option that would change."""

    what: str
    now: str
    wanted: str


class OptionsDiffer(ServerExists):
    """A server of that name was started with other options: the person is asked."""

    def __init__(self, server: Server, found: Sequence[Difference]) -> None:
        changes = ", ".join(f"{each.what} {each.now or 'none'} → {each.wanted or 'none'}" for each in found)
        super().__init__(
            f"The server {server.shown!r} was started with other options ({changes}).",
            "Restart it with the new ones (`restart`), choose another name, or open it as it is.",
        )
        self.server = server
        self.differences = tuple(found)


# -- deciding -----------------------------------------------------------------------------------------


def differences(
    now: LaunchOptions | None,
    wanted: LaunchOptions,
    projects: Sequence[ProjectView] = (),
    default_profile: str = "",
) -> list[Difference]:
    """What would change; options that were not given do not differ, and neither does what to open.

    `projects` are the person's of this repository, last used first: without an id the last used one at the
    commit is meant. Without a profile `default_profile` is.
    """
    if now is None:
        return [Difference("started by", "somebody else", "The Littlest Binder")]
    given = wanted.model_fields_set
    found = [
        Difference(what, str(getattr(now, what)), str(getattr(wanted, what)))
        for what in ("repository", "image", "commit", "storage", "my_files")
        if what in given and getattr(now, what) != getattr(wanted, what)
        if what != "repository" or not _one_repository(now, wanted)
    ]
    if "project" in given and wanted.storage == now.storage == "project":
        old, new = project_of(now, projects), project_of(wanted, projects)
        if old != new:
            found.append(Difference("project", old, new))
    if "mounts" in given and now.mounts != wanted.mounts:
        found.append(Difference("mounts", ", ".join(now.mounts), ", ".join(wanted.mounts)))
    if "profile" in given and wanted.profile:
        before, asked = now.profile or default_profile, wanted.profile
        if before != asked:
            found.append(Difference("profile", before, asked))
    return found


def _one_repository(now: LaunchOptions, wanted: LaunchOptions) -> bool:
    """Whether both mean one folder of one repository: by which ref a commit was found is no difference."""
    specs = [read_spec(each.repository) for each in (now, wanted)]
    found = {(spec.normal_url, spec.subdir) for spec in specs if spec is not None}
    return None not in specs and len(found) == 1 and bool(now.commit and wanted.commit)


def project_of(options: LaunchOptions, projects: Sequence[ProjectView]) -> str:
    """The id of the project that options mean, `new`, or nothing if there is none yet."""
    if options.project:
        return options.project
    return next((each.id for each in projects if each.commit == options.commit), "")


def decide(found: Server | None, changes: Sequence[Difference], restart: bool) -> Decision:
    """What a wish means for the server of that name."""
    if found is None:
        return "start"
    if found.pending and found.pending != "spawn":
        return "wait"
    if changes:
        return "restart" if restart else "ask"
    return "connect" if found.active else "start"


def opened(path: str) -> str:
    """A path to open, as an address gives it; raises `InvalidSpec` if it could lead off the server."""
    return LaunchLink(RepoSpec("gh", "any/repository"), path).open_path


def address(server_url: str, path: str) -> str:
    """Where to go on a server; `path` was validated with the options."""
    return server_url.rstrip("/") + "/" + path.lstrip("/")


# -- doing --------------------------------------------------------------------------------------------


class Launches:
    """Speaks to the hub for the person whose token it is given; nothing is stored."""

    def __init__(self, environment: HubEnvironment, hub: HubApi, lookups: Lookups, queue: Queue) -> None:
        self._environment = environment
        self._hub = hub
        self._lookups = lookups
        self._queue = queue
        self.heard: Callable[[str], None] = lambda outcome: None  # start, connect, ask, refused

    def page(self, name: str) -> str:
        """The path of a server's launch page."""
        return f"{self._environment.prefix}launch/{quote(name or NO_NAME, safe='')}"

    async def servers(self, person: Person, token: str) -> list[Server]:
        """The person's servers, running ones first, then the last used."""
        found = await self._acting(token).servers(person.name)
        servers = [self._server(each) for each in found.values() if each.active or each.name]
        servers.sort(key=lambda each: each.last_activity, reverse=True)
        return sorted(servers, key=lambda each: not each.active)

    async def server(self, person: Person, token: str, name: str) -> Server:
        """One server; raises `NotFound`."""
        found = await self._acting(token).server(person.name, name)
        if found is None:
            raise NotFound(f"You have no server {name!r:.60}.", "See your servers on the front page.")
        return self._server(found)

    async def launch(
        self, person: Person, token: str, wanted: LaunchOptions, name: str = "", restart: bool = False
    ) -> LaunchView:
        """Start, start again, or connect to the server `name`; without a name it gets a random one.

        Raises `OptionsDiffer` where the person must be asked, `SourceError`, `LaunchError`, `HubUnavailable`.
        """
        with self._counted() as outcome:
            return await self._launch(person, token, wanted, name, restart, outcome)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[list[str]]:
        """Tells how a launch went; what is put into the list is told instead of `start`."""
        outcome: list[str] = []
        try:
            yield outcome
        except OptionsDiffer:
            self.heard("ask")
            raise
        except BinderError:
            self.heard("refused")
            raise
        self.heard(outcome[0] if outcome else "start")

    async def _launch(
        self,
        person: Person,
        token: str,
        wanted: LaunchOptions,
        name: str,
        restart: bool,
        outcome: list[str],
    ) -> LaunchView:
        hub = self._acting(token)
        servers = await hub.servers(person.name)
        name = check_name(name) if name and name not in servers else name or random_name(servers)
        found = self._server(servers[name]) if name in servers else None
        changes = await self._changes(person, found.options, wanted) if found else []
        decision = decide(found, changes, restart)
        if found is not None and decision == "wait":
            raise ServerExists(f"The server {found.shown!r} is being stopped.", "Try again in a few seconds.")
        if found is not None and decision == "ask":
            raise OptionsDiffer(found, changes)
        if found is not None and decision == "connect":
            outcome.append("connect")
            return self._view(found.name, "ready" if found.ready else "starting", wanted.path)
        if found is not None and found.options is not None and not changes:
            wanted = found.options.model_copy(update={"path": wanted.path or found.options.path})
        options = await self._pinned(person, wanted)
        if decision == "restart" and found is not None and found.active:
            await self._stop_and_wait(hub, person, name)
        state = await hub.start(person.name, name, options.model_dump())
        return self._view(name, state, options.path)

    async def start_again(self, person: Person, token: str, name: str) -> LaunchView:
        """Start a stopped server with the options that it was last started with."""
        with self._counted() as outcome:
            server = await self.server(person, token, name)
            if server.active:
                outcome.append("connect")
                return self._view(name, "ready" if server.ready else "starting", "")
            options = (await self._pinned(person, server.options)).model_dump() if server.options else None
            return self._view(name, await self._acting(token).start(person.name, name, options), "")

    async def stop(self, person: Person, token: str, name: str, *, remove: bool = False) -> None:
        """Stop a server, or its start; a build goes on. `remove` forgets its name, never its files."""
        await self._acting(token).stop(person.name, name, remove=remove)

    async def events(
        self, person: Person, token: str, name: str, *, after: tuple[str, int] = ("", 0), path: str = ""
    ) -> AsyncGenerator[LaunchEvent, None]:
        """Build and start as one stream; a start that is over is told at once. Raises `NotFound`."""
        server = await self.server(person, token, name)
        said = self._said(person, token, server)

        async def follow(build: str, line: int) -> AsyncGenerator[LogLine, None]:
            async for each in self._queue.follow(build, line, person):
                yield each

        async with aclosing(merge(said, follow, after)) as events:
            async for event in events:
                if event.type == "ready":
                    where = path or (server.options.path if server.options else "")
                    event = event.model_copy(update={"url": address(event.url or server.url, where)})
                yield event

    async def failure(self, person: Person, token: str, server: Server) -> LaunchEvent | None:
        """How the last start of a server that does not run ended, if the hub still knows."""
        async with aclosing(self.events(person, token, server.name)) as events:
            async for event in events:
                if event.type == "failed":
                    return event
        return None

    async def last_build(self, person: Person, server: Server) -> BuildView | None:
        """The latest build of what a server was started from."""
        spec = server.spec
        if spec is None or not server.commit:
            return None
        for build in await self._queue.list(person):
            if build.repository == spec.normal_url and build.commit == server.commit:
                return build
        return None

    # -- within ---------------------------------------------------------------------------------------

    def _acting(self, token: str) -> HubApi:
        if not token:
            raise Forbidden(
                "Servers are started with a person's own hub token, and none came along.",
                "Send it: `Authorization: token …`.",
            )
        return self._hub.acting_as(token)

    async def _said(self, person: Person, token: str, server: Server) -> AsyncIterator[Mapping[str, Any]]:
        """What the hub says; to a failure that is told afterwards, the build that it came from is added."""
        named = False
        try:
            async for event in self._acting(token).progress(person.name, server.name):
                if event.get("failed") and not named:
                    build = await self.last_build(person, server)
                    if build is not None and build.state in ("failed", "cancelled"):
                        yield {"build": build.id}
                named = named or bool(event.get("build"))
                yield event
        except (InvalidRequest, NotFound):
            # It was found a moment ago, but it is not starting: 400, or 404 once the hub has put it away.
            build = await self.last_build(person, server)
            if build is not None and build.state == "failed" and build.error is not None:
                yield {"build": build.id, "error": build.error.model_dump()}
            else:
                error = ServerStopped(f"The server {server.shown!r} is not running.", "Start it.")
                yield {"error": error.to_dict()}
            yield {"failed": True}

    async def _pinned(self, person: Person, options: LaunchOptions) -> LaunchOptions:
        """The options with a full commit; raises `SourceError`."""
        if not options.repository:
            return options
        pinned = await self._lookups.pin_spec(person, parse_link(options.repository), options.commit)
        return options.model_copy(update={"repository": pinned.spec.path, "commit": pinned.commit})

    async def _changes(
        self, person: Person, now: LaunchOptions | None, wanted: LaunchOptions
    ) -> list[Difference]:
        projects = await self._projects(person, wanted)
        default = self._lookups.default_profile(person, now) if now else ""
        return differences(now, wanted, projects, default)

    async def _projects(self, person: Person, options: LaunchOptions) -> list[ProjectView]:
        return (
            await self._lookups.projects(person, parse_link(options.repository)) if options.repository else []
        )

    async def _stop_and_wait(self, hub: HubApi, person: Person, name: str) -> None:
        await hub.stop(person.name, name)
        deadline = asyncio.get_running_loop().time() + _STOP_S
        while (server := await hub.server(person.name, name)) is not None and server.active:
            if asyncio.get_running_loop().time() > deadline:
                raise HubUnavailable(
                    f"The server {name!r} did not stop within {_STOP_S:.0f} seconds.",
                    "Try again in a moment; if it stays so, ask the administrator.",
                )
            await asyncio.sleep(_STOP_POLL_S)

    def _view(self, name: str, state: Literal["starting", "ready"], path: str) -> LaunchView:
        query = f"?path={quote(path, safe='/')}" if path else ""
        return LaunchView(server=name, url=self.page(name) + query, state=state)

    def _server(self, found: HubServer) -> Server:
        return Server(
            name=found.name,
            ready=found.ready,
            pending=found.pending or "",
            url=found.url,
            page=self.page(found.name),
            options=options_of(found.user_options),
            last_activity=found.last_activity.isoformat() if found.last_activity else "",
        )


def options_of(stored: Mapping[str, Any]) -> LaunchOptions | None:
    """The options that the hub keeps of a server, or None where they are not ours."""
    try:
        return parse(stored) if stored else None
    except BinderError:
        return None
