"""The installation that is examined: found whether it runs or not, with what several checks ask only once."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from ... import handover
from ...build.base import base_name
from ...build.machine import Machine, read_machine
from ...client import ServiceClient
from ...engine import ContainerRow, Engine, EngineInfo, ImageFacts, Network
from ...engine.threads import in_thread
from ...errors import BinderError, EngineTimedOut, HubUnavailable
from ...hub_api import HubApi, HubUser
from ...installation import instance_id
from ...labels import PERSON_LABEL, SERVER_LABEL
from ...settings import Settings, from_mapping, load_desktop, read_file
from ...time_limit import within
from ...wire import HealthView, Person
from .findings import CannotCheck

T = TypeVar("T")

TLJH = Path("/opt/tljh")
TLJH_CONFIG = TLJH / "config" / "config.yaml"

_LOCKS = Path("/proc/locks")
_ANSWER_S = 2.5
_CLOSE_S = 0.5


@dataclass
class Site:
    """An installation. `settings` are those in force, or as they would be; `settings_problem` is why those of
    the file are not among them. `instance` is empty where nothing was ever started.

    The methods ask once and share the answer among checks, which run at the same time; each raises what the
    first question raised.
    """

    settings: Settings
    engine: Engine
    instance: str = ""
    handover: handover.Handover | None = None
    settings_problem: BinderError | None = None
    handover_problem: BinderError | None = None
    # Seconds that Docker has for its first answer.
    patience_s: float = 2.0
    # The machine's own paths, which tests put elsewhere.
    tljh: Path = TLJH
    systemd: Path = Path("/run/systemd/system")
    _asked: dict[str, asyncio.Future[Any]] = field(default_factory=dict, repr=False)

    @property
    def state(self) -> Path:
        return self.settings.state_dir

    @property
    def root(self) -> bool:
        """Whether we may look at everything."""
        return os.geteuid() == 0

    @property
    def made(self) -> bool:
        """Whether anything was ever started with this state folder."""
        return bool(self.instance)

    def anew(self) -> Site:
        """The same installation, with nothing asked yet."""
        return Site(
            self.settings,
            self.engine,
            self.instance,
            self.handover,
            self.settings_problem,
            self.handover_problem,
            self.patience_s,
            self.tljh,
            self.systemd,
        )

    # -- Docker ---------------------------------------------------------------------------------------

    async def docker(self) -> EngineInfo:
        """What Docker says of itself. Raises an `EngineError`; for all other questions, too."""

        async def ask() -> EngineInfo:
            try:
                return await within(self.patience_s, self.engine.info())
            except (TimeoutError, asyncio.TimeoutError):
                raise EngineTimedOut(
                    f"Docker did not answer within {self.patience_s:g} s.",
                    "Check that `docker info` answers, and the machine's load and disk; restart Docker if it "
                    "stays so.",
                ) from None

        return await self._once("docker", ask)

    async def containers(self) -> list[ContainerRow]:
        """Our containers, running or not. Raises an `EngineError`."""

        async def ours() -> list[ContainerRow]:
            await self.docker()
            return [each for each in await self.engine.containers() if self.engine.is_ours(each.labels)]

        return await self._once("containers", ours) if self.made else []

    async def network(self) -> Network | None:
        """Our network, if there is one. Raises an `EngineError`."""

        async def ask() -> Network | None:
            await self.docker()
            return await self.engine.network()

        return await self._once("network", ask) if self.made else None

    async def base_image(self) -> ImageFacts | None:
        """Our base image, for containers that try something; any of its versions will do."""

        async def find() -> ImageFacts | None:
            if not self.made:
                return None
            await self.docker()
            wanted = await base_name(self.settings)
            return (await self.engine.image(wanted) if wanted else None) or await self.engine.image(
                "littlest-binder/base:latest"
            )

        return await self._once("base-image", find)

    # -- hub and service ------------------------------------------------------------------------------

    async def hub_version(self) -> str:
        """What the hub says that it is. Raises `HubUnavailable`."""

        async def ask() -> str:
            async with self._hub() as hub:
                return await hub.version()

        return await self._once("hub", ask)

    async def people(self) -> list[HubUser]:
        """Everybody with their servers. Raises `HubUnavailable`, or `Forbidden`."""

        async def ask() -> list[HubUser]:
            async with self._hub() as hub:
                return await hub.users()

        return await self._once("people", ask)

    async def runs(self) -> bool:
        """Whether the hub answers."""
        with suppress(BinderError):
            return bool(await self.hub_version())
        return False

    async def health(self) -> HealthView:
        """What the service says. Raises `ServiceDown`."""

        async def ask() -> HealthView:
            person = Person(name=self.settings.owner or "root", admin=True)
            async with ServiceClient(
                socket=self.settings.service_socket, person=person, timeout_s=_ANSWER_S
            ) as client:
                return await client.health()

        return await self._once("health", ask)

    async def serves(self) -> bool:
        """Whether the service answers."""
        with suppress(BinderError):
            return bool(await self.health())
        return False

    def is_up(self) -> bool:
        """Whether a `littlest-binder up` holds the installation, or its hub listens without one."""
        if is_locked(self.settings.run_dir / "up.lock"):
            return True
        known = urlsplit(self.handover.hub_api_url) if self.handover else None
        return bool(known and known.port and listens(known.port, known.hostname or "127.0.0.1"))

    def service_is_gone(self) -> bool:
        """Whether no service has the store: one that starts, stops or hangs has it without answering."""
        return not is_locked(self.settings.store_path.with_name(self.settings.store_path.name + ".lock"))

    @asynccontextmanager
    async def _hub(self) -> AsyncIterator[HubApi]:
        known = self.handover
        if known is None or not known.hub_api_url:
            raise self.handover_problem or HubUnavailable("No hub was started yet.", "Start it.")
        async with HubApi(known.hub_api_url, known.service_token, timeout_s=_ANSWER_S) as hub:
            yield hub

    # -- this machine ---------------------------------------------------------------------------------

    @cached_property
    def machine(self) -> Machine:
        """Certificates, proxies and package index, as builds get them."""
        return read_machine()

    # -- asked once -----------------------------------------------------------------------------------

    async def once(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answers, asked once by this `name`."""
        return await self._once(name, ask)

    async def _once(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        if name not in self._asked:
            self._asked[name] = asyncio.ensure_future(ask())
        # Shielded: the check that asked first may run out of time, and others go on waiting.
        answer: T = await asyncio.shield(self._asked[name])
        return answer

    async def close(self) -> None:
        """Let go of what is still being asked, and of Docker."""
        for each in self._asked.values():
            each.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        with suppress(TimeoutError, asyncio.TimeoutError):
            await within(_CLOSE_S, self.engine.close())


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def is_locked(path: Path) -> bool:
    """Whether a process holds a file's lock (flock(2)), by the kernel's list of them.

    Trying it would hold it for a moment, in which a service that starts would find it taken. The list numbers
    devices otherwise than stat(2) does on some filesystems, so that only the file's own number counts.
    """
    try:
        inode = str(path.stat().st_ino)
        lines = [line.split() for line in _LOCKS.read_text().splitlines()]
    except OSError:
        return False
    return any("FLOCK" in words and words[-3].endswith(f":{inode}") for words in lines if len(words) >= 8)


def server_of(container: ContainerRow) -> str:
    """`person/server` of a container, as its labels say."""
    return f"{container.labels.get(PERSON_LABEL, '')}/{container.labels.get(SERVER_LABEL, '')}"


def needs(reason: str) -> CannotCheck:
    """Why a check has nothing to look at."""
    return CannotCheck(reason)


@asynccontextmanager
async def open_site(state_dir: Path | None = None, *, patience_s: float = 2.0) -> AsyncIterator[Site]:
    """The installation that this command belongs to, or the one of this state folder; Docker has `patience_s`
    seconds for its first answer.

    Raises `SettingsError` if it is a server's and we are not root; nothing else: what is wrong with it is for
    the checks to say.
    """
    site = await in_thread(lambda: _find(state_dir or handover.find_state_dir()))
    site.patience_s = patience_s
    try:
        yield site
    finally:
        await site.close()


def _find(state: Path) -> Site:
    known, handover_problem, settings_problem = None, None, None
    try:
        known = handover.read(state)
    except BinderError as error:
        handover_problem = error
    try:
        settings = _from_file(state, known)
    except BinderError as error:
        settings_problem = error
        settings = _in_force(state, known)
    instance = ""
    with suppress(BinderError):
        instance = instance_id(settings)
    engine = Engine(instance or "none", timeout_s=settings.docker.timeout_s)
    return Site(settings, engine, instance, known, settings_problem, handover_problem)


def _from_file(state: Path, known: handover.Handover | None) -> Settings:
    """What the file says now. Raises `SettingsError`."""
    if known is not None and known.platform != "desktop":
        if known.origin is None:
            return known.settings()
        return from_mapping(
            read_file(known.origin, alone=False),
            platform=known.platform,
            state_dir=known.state_dir,
            owner=known.owner,
            source=str(known.origin),
            origin=known.origin,
        )
    if known is None and state == TLJH / "state" / "binder":
        section = read_file(TLJH_CONFIG, alone=False)
        return from_mapping(
            section, platform="tljh", state_dir=state, source=str(TLJH_CONFIG), origin=TLJH_CONFIG
        )
    return load_desktop(state, known.owner if known is not None else None)


def _in_force(state: Path, known: handover.Handover | None) -> Settings:
    """What the hub works with, or the defaults."""
    if known is not None:
        with suppress(BinderError):
            return known.settings()
    platform: Literal["tljh", "desktop"] = "tljh" if state == TLJH / "state" / "binder" else "desktop"
    owner = pwd.getpwuid(os.getuid()).pw_name if platform == "desktop" else ""
    return Settings(platform=platform, state_dir=state, owner=owner)
