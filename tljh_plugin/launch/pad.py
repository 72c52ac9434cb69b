"""What all servers of one hub share: Docker, our network, the way to the hub, the limits."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from ..accounts import Identity, ensure_identity
from ..client import ServiceClient
from ..engine import Engine, Limits, Network, limits_for
from ..engine.firewall import has_rights
from ..engine.threads import in_thread
from ..errors import BinderError, EngineError, FirewallMissing
from ..installation import instance_id
from ..settings import Settings, fresh
from ..time_limit import within
from ..wire import MountView, Person, ProfilesView
from .gateway import Gateway
from .guard import FirewallGuard
from .hub_metrics import hub_metrics
from .mounts import check_targets
from .options import LaunchOptions
from .profiles import Profile
from .reservations import Reservations
from .resolving import Chosen, resolve, views
from .room import fitted, offer, read_machine

log = logging.getLogger("littlest_binder.launch")

_SERVICE_S = 60.0
# A form is shown without what Docker would have said.
_ROOM_S = 2.0


class LaunchPad:
    """Made once with the configuration; connects to nothing until a server is started or looked at."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.metrics = hub_metrics()
        self.engine = Engine(
            instance_id(settings), timeout_s=settings.docker.timeout_s, heard=self.metrics.docker.heard
        )
        self.reservations = Reservations(self.engine)
        self._gateway = Gateway(settings.network.gateway_port, settings.state_dir / "gateway-port")
        self._background: set[asyncio.Task[Any]] = set()
        self._firewall = asyncio.Lock()
        self._firewall_looked = -1.0
        self._firewall_was_set = False
        self._firewall_told = ""
        self._network: Network | None = None
        self._guard: FirewallGuard | None = None

    @property
    def settings(self) -> Settings:
        """As the file says now: who may have what changes without a restart of the hub."""
        return fresh(self._settings)

    async def identity(self, settings: Settings, person: Person) -> Identity:
        """As whom the person's servers run; on TLJH an account is made that is not there.

        Raises an `AccountError`.
        """
        return await in_thread(lambda: ensure_identity(settings, person.name, admin=person.admin))

    async def folders(
        self, settings: Settings, person: Person, options: LaunchOptions, home: str = "", workdir: str = ""
    ) -> tuple[Chosen, ...]:
        """The mounts of `options` as they are on the disk now. `home` and `workdir` are the image's.

        Raises `MountError`, or an `AccountError`.
        """
        if not options.mounts:
            return ()
        root = await self.engine.root_dir()
        chosen = await in_thread(lambda: resolve(settings, person, options.mounts, root))
        check_targets([each.offer for each in chosen], home, workdir, my_files=options.my_files)
        return chosen

    async def mounts(self, settings: Settings, person: Person) -> tuple[MountView, ...]:
        """What `person` may have, each with the reason if it cannot be had now; for a form."""
        try:
            root = await within(_ROOM_S, self.engine.root_dir())
        except (EngineError, asyncio.TimeoutError):
            root = ""
        return await in_thread(lambda: views(settings, person, root))

    def limits(self, settings: Settings, profile: Profile, who: Identity) -> Limits:
        """As whom a server of this profile runs and how much it gets; never more than the machine has."""
        return replace(
            limits_for(settings, who),
            memory_bytes=fitted(profile.memory_bytes, settings.limits, read_machine()),
            cpus=profile.cpus,
            pids=profile.pids,
            shm_bytes=profile.shm_bytes,
        )

    async def profiles(self, settings: Settings, person: Person) -> ProfilesView:
        """What `person` may choose, and what is free; without the latter where Docker does not tell.

        Raises `ProfileRefused` if no profile is meant for the person.
        """
        try:
            others = await within(_ROOM_S, self.reservations.others())
            return offer(settings, person, others, read_machine())
        except (EngineError, asyncio.TimeoutError):
            return offer(settings, person, None, None)

    def client(self, person: Person, *, timeout_s: float = _SERVICE_S) -> ServiceClient:
        """The service, asked for `person`."""
        return ServiceClient(socket=self.settings.service_socket, person=person, timeout_s=timeout_s)

    async def ready_network(self, hub: str, api_prefix: str) -> tuple[Network, str]:
        """Our network, and the hub's address in it; both, and the firewall rules, are made if need be.

        Raises `FirewallMissing` where rules are required and cannot be set.
        """
        network = self._network = await self.engine.ensure_network(self.settings.network.subnet)
        url = await self._gateway.open(network.gateway, hub, api_prefix)
        await self._ready_firewall(network)
        return network, url

    async def _ready_firewall(self, network: Network) -> None:
        """At each start, since Docker and administrators flush rules; starts at one time share a look."""
        if self.settings.firewall == "off":
            return
        clock = asyncio.get_running_loop().time
        asked = clock()
        async with self._firewall:
            if self._firewall_looked >= asked:
                return
            looking = clock()
            try:
                changed = await self.engine.ensure_firewall(self.settings, network, self._gateway.port)
            except FirewallMissing as error:
                if self.settings.firewall == "required":
                    raise
                self._tell(f"Servers run without firewall rules: {error}")
                return
            self._firewall_looked = looking
            self._firewall_set(network, changed)
        self.guard()

    def guard(self) -> None:
        """From now on put rules back that somebody takes away. Needs a running loop: without one, as where a
        configuration is only read, nothing is done.
        """
        if self.settings.firewall == "off" or not has_rights():
            return  # a start says what is missing
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._guard is None:
            self._guard = FirewallGuard(self._look_at_firewall, self.engine)
        self._guard.start()

    async def _look_at_firewall(self, docker_changed: bool) -> bool:
        """See `FirewallGuard`. Raises `BinderError`."""
        settings = self.settings
        if settings.firewall == "off":
            return False
        if docker_changed:
            self._network = await self.engine.network()
            if self._network is None and settings.network.builds == "as-servers":
                # Builds may begin before the first server does.
                self._network = await self.engine.ensure_network(settings.network.subnet)
        network = self._network
        if network is None:
            return False
        async with self._firewall:
            try:
                changed = await self.engine.ensure_firewall(settings, network, self._gateway.known_port)
            except FirewallMissing as error:
                self._tell(f"The firewall rules of servers cannot be kept: {error}")
                return True
            self._firewall_set(network, changed)
        return True

    def _firewall_set(self, network: Network, changed: bool) -> None:
        """Say so, as a return of what was there before or for the first time."""
        if self._firewall_told:
            self._firewall_told = ""
            log.info("The firewall rules of servers are in force on %s", network.bridge)
        elif changed and self._firewall_was_set:
            log.warning("The firewall rules of servers were gone from %s; they are set again", network.bridge)
            self.metrics.firewall_restored.of().inc()
        elif changed:
            log.info("Firewall rules for servers were set on %s", network.bridge)
        self._firewall_was_set = True

    def _tell(self, problem: str) -> None:
        """Warn once, not at each start."""
        if problem != self._firewall_told:
            self._firewall_told = problem
            log.warning("%s", problem)

    def reopen_gateway(self, hub: str, api_prefix: str) -> None:
        """Let running servers reach the hub again after it was restarted; a failure is only logged."""
        if self._gateway.url or any(task.get_name() == "gateway" for task in self._background):
            return

        async def reopen() -> None:
            try:
                network = self._network = await self.engine.network()
                if network is not None:
                    await self._gateway.open(network.gateway, hub, api_prefix)
                    await self._ready_firewall(network)
            except BinderError as error:
                log.warning("Running servers were not taken up in full: %s", error)

        self.behind(reopen(), name="gateway")

    def behind(self, work: Any, *, name: str = "") -> asyncio.Task[Any]:
        """Run `work` to its end even if whoever asked for it is cancelled."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work, name=name or None)
        self._background.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # whoever awaits it gets it; asyncio need not complain where nobody does

    async def finish(self, work: Any) -> None:
        """Await `work`; a cancellation of the caller does not stop it, and errors of ours are logged."""
        try:
            await asyncio.shield(self.behind(work))
        except BinderError as error:
            log.warning("Cleaning up: %s", error)
