"""`Engine`: everything that we ask of Docker."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import docker.errors
import docker.types
import docker.utils

from ..errors import (
    EngineError,
    EngineTimedOut,
)
from ..labels import INSTANCE_LABEL, KIND_LABEL
from ..settings import Settings
from . import cache_records, containers, firewall, image_streams, images, layers, network
from .connection import Connection, Heard, unheard
from .firewall_rules import Site as FirewallSite
from .threads import in_thread
from .values import (
    CacheRecord,
    ContainerRow,
    ContainerSpec,
    EngineEvent,
    EngineInfo,
    Finished,
    ImageFacts,
    ImageRow,
    Kind,
    Layer,
    Network,
    is_ours,
)

T = TypeVar("T")

_LAYERS_S = 600.0  # many layers of many small files, on a disk that is busy
_CONTAINERD_STORE = "io.containerd.snapshotter.v1"
_LIMITS = {"memory": "MemoryLimit", "swap": "SwapLimit", "pids": "PidsLimit", "cpu": "CpuCfsQuota"}
_PROXIES = {"http": "HttpProxy", "https": "HttpsProxy", "no": "NoProxy"}


class Engine:
    """Docker for one installation: `instance` is its random id, the value of our label.

    Nothing without that label is changed or removed. Every call raises `EngineUnavailable` when Docker
    cannot be reached and `EngineTimedOut` when it does not answer within `timeout_s` seconds, or has not
    removed an image or a record of the build cache within `removal_timeout_s`. A Docker that comes later, or
    comes back, is used again without further ado. `base_url` empty means what the `docker` command would use
    by its environment. `heard` is told of every call: its name, how long it took in seconds (`None` for those
    that wait by nature), and what went wrong.
    """

    def __init__(
        self,
        instance: str,
        *,
        base_url: str | None = None,
        timeout_s: float = 60.0,
        removal_timeout_s: float = 600.0,
        heard: Heard = unheard,
    ) -> None:
        if not instance:
            raise ValueError("an engine needs the id of its installation")
        self.instance = instance
        self.timeout_s = timeout_s
        self.removal_timeout_s = removal_timeout_s
        self._connection = Connection(base_url, timeout_s, heard)
        self._network_lock = asyncio.Lock()
        self._root_dir = ""
        self._containerd_store = False
        self._build_bridge = ""
        self._cleanups: set[asyncio.Task[None]] = set()
        self._at_work: dict[str, str] = {}  # what was started here and is not to be removed yet: name → id

    def is_ours(self, labels: Mapping[str, str] | None) -> bool:
        """Whether a container, network or volume with these labels belongs to this installation."""
        return is_ours(labels, self.instance)

    async def close(self) -> None:
        """Finish removals that were begun for cancelled calls, and close idle connections."""
        if self._cleanups:
            await asyncio.wait(set(self._cleanups))
        self._connection.close()

    # -- the engine itself ----------------------------------------------------------------------------

    async def info(self) -> EngineInfo:
        """What Docker says of itself."""

        def ask(client: Any) -> EngineInfo:
            said = client.info()
            return EngineInfo(
                version=said.get("ServerVersion", ""),
                api_version=client.api_version,
                storage_driver=said.get("Driver", ""),
                root_dir=said.get("DockerRootDir", ""),
                architecture=said.get("Architecture", ""),
                containerd_store=["driver-type", _CONTAINERD_STORE] in (said.get("DriverStatus") or ()),
                system=said.get("OperatingSystem", ""),
                security=tuple(
                    str(each).partition(",")[0].removeprefix("name=")
                    for each in said.get("SecurityOptions") or ()
                ),
                cgroup_version=str(said.get("CgroupVersion") or "1"),
                limits={name: bool(said.get(key)) for name, key in _LIMITS.items()},
                mirrors=tuple((said.get("RegistryConfig") or {}).get("Mirrors") or ()),
                proxies={name: said[key] for name, key in _PROXIES.items() if said.get(key)},
                kernel=said.get("KernelVersion", ""),
            )

        info = await self._connection.call("tell about itself", ask)
        self._root_dir, self._containerd_store = info.root_dir, info.containerd_store
        return info

    async def root_dir(self) -> str:
        """Docker's folder on this machine; it is asked for once."""
        return self._root_dir or (await self.info()).root_dir

    async def free_bytes(self) -> int:
        """Bytes that are free for ordinary use on the file system of Docker's folder."""
        root = await self.root_dir()
        try:
            figures = await in_thread(lambda: os.statvfs(root))
        except OSError as error:
            raise EngineError(
                f"Docker's folder {root!r} cannot be looked at: {error.strerror}.",
                "Docker must run on this machine's own kernel (not Docker Desktop, not a remote engine).",
            ) from error
        return figures.f_bavail * figures.f_frsize

    async def events(
        self, types: Iterable[str] = ("image", "container"), *, from_memory: bool = False
    ) -> AsyncIterator[EngineEvent]:
        """What happens in Docker from now on, until nobody iterates any more.

        `from_memory`: first what Docker still remembers, which are its last 256 events since it was started
        (`daemon/events/events.go`). Ends when Docker ends the connection, and raises an `EngineError` if
        there is none: begin again then, and look at what was missed.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        opened: list[Any] = []
        ended = threading.Event()

        def follow(client: Any) -> None:
            client.timeout = None  # quiet hours are no fault
            since = 1 if from_memory else None
            stream = client.events(decode=True, since=since, filters={"type": list(types)})
            opened.append(stream)
            if ended.is_set():
                stream.close()
            for said in stream:
                if ended.is_set():
                    return
                loop.call_soon_threadsafe(queue.put_nowait, images.event(said))

        forever = threading.TIMEOUT_MAX
        task = asyncio.ensure_future(
            self._connection.call("report events", follow, timeout_s=forever, long=True)
        )
        task.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            task.result()
        finally:
            ended.set()
            for stream in opened:
                with suppress(Exception):
                    stream.close()
            task.cancel()
            with suppress(BaseException):
                await task

    # -- images ---------------------------------------------------------------------------------------

    async def image(self, ref: str) -> ImageFacts | None:
        """The image of a name or id, or `None`."""

        def ask(client: Any) -> ImageFacts | None:
            try:
                return images.facts(client.inspect_image(ref))
            except docker.errors.NotFound:
                return None

        return await self._connection.call(f"show the image {ref}", ask)

    async def images(self) -> list[ImageRow]:
        """All images of the engine, ours or not, without inspecting each."""
        return await self._connection.call(
            "list the images", lambda client: [images.row(each) for each in client.images()]
        )

    async def tag(self, image_id: str, name: str) -> None:
        """Give an image a (further) name `repository:tag`. Raises `ImageNotFound`."""
        repository, tag = docker.utils.parse_repository_tag(name)

        def ask(client: Any) -> None:
            try:
                client.tag(image_id, repository, tag or "latest")
            except docker.errors.NotFound:
                raise images.missing(image_id) from None

        await self._connection.call(f"name the image {image_id} {name}", ask)

    async def remove_image(self, image_id: str, names: Iterable[str] | None = None) -> None:
        """Take `names` (default: all beginning with `littlest-binder/`) from an image, and remove it if
        none is left.

        Nothing is forced: raises `ImageInUse` if a container uses it, before anything was changed, or if
        another image is built on it, when it has lost all these names but one; `NotOurs` if no `names` are
        given and it has only other people's; `ImageNotFound`. An image that somebody else named as well loses
        our names and stays.
        """
        wanted = None if names is None else frozenset(names)
        await self._connection.call(
            f"remove the image {image_id}",
            lambda client: images.remove(client, image_id, wanted, self.removal_timeout_s),
            timeout_s=self.removal_timeout_s + self.timeout_s,
            silence_s=self.timeout_s,
            long=True,
        )

    async def untag(self, name: str) -> None:
        """Take one name from an image, which goes with its last one; no such name is no error.

        Raises `ImageInUse` if it is the last one and a container uses the image.
        """
        await self._connection.call(
            f"take the name {name} away", lambda client: images.remove_name(client, name)
        )

    async def layers(self, image_id: str, known: Mapping[str, int] | None = None) -> tuple[Layer, ...]:
        """The layers of an image, lowest first, each measured where Docker's folder can be read.

        `known` are bytes by chain id that need not be found out again: measuring takes up to a second for a
        gigabyte of small files. Where containerd keeps the images all are `None`: it keeps layers packed,
        unpacked, and unpacked for the builder once more, and tells only one of the three. Raises
        `ImageNotFound`.
        """
        root = await self.root_dir()

        def ask(client: Any) -> tuple[Layer, ...]:
            try:
                digests = images.facts(client.inspect_image(image_id)).layers
                chains = layers.chain_ids(digests)
                if self._containerd_store:
                    return tuple(Layer(chain, None) for chain in chains)
                before = known or {}
                measured = [before.get(chain) or layers.on_disk(root, chain) for chain in chains]
                told: list[int | None] = []
                if None in measured:
                    told = layers.sizes(digests, client.history(image_id))
            except docker.errors.NotFound:
                raise images.missing(image_id) from None
            return tuple(
                Layer(chain, told[number] if found is None else found)
                for number, (chain, found) in enumerate(zip(chains, measured, strict=True))
            )

        return await self._connection.call(
            f"tell the layers of {image_id}", ask, timeout_s=_LAYERS_S, silence_s=self.timeout_s, long=True
        )

    # -- the build cache ------------------------------------------------------------------------------

    async def cache_records(self) -> list[CacheRecord]:
        """Everything that BuildKit keeps of builds."""
        found = await self._connection.call("list its build cache", cache_records.by_api)
        if found is None:
            found = await cache_records.by_buildx(self._connection.environment(), self.timeout_s)
        return found

    async def prune_cache_record(self, record_id: str) -> int | None:
        """Remove one record of the build cache, and no other; its bytes as Docker counts them.

        `None` if it stays, since an image shares it, another record stands on it or a build uses it; or if it
        is not there.
        """
        return await self._connection.call(
            f"remove the cache record {record_id}",
            lambda client: cache_records.prune(client, record_id),
            timeout_s=self.removal_timeout_s,
            long=True,
        )

    async def build_cache_bytes(self) -> int | None:
        """What the build cache holds beside images, as Docker counts; `None` if it does not tell."""
        return cache_records.beside_images(await self.cache_records())

    def save(self, image_id: str) -> AsyncGenerator[bytes, None]:
        """What `docker save` gives for an image by its id, piece by piece, without names."""
        return image_streams.save(self._connection, image_id)

    async def load(self, pieces: AsyncIterator[bytes]) -> None:
        """Give Docker what `docker save` gave; what `pieces` raises ends it, and then nothing is loaded."""
        await image_streams.load(self._connection, pieces)

    # -- our network ----------------------------------------------------------------------------------

    async def network(self) -> Network | None:
        """Our network, or `None`. Raises `NotOurs` if its name is taken by somebody else's."""
        found = await self._connection.call(
            "show our network", lambda client: network.find(client, self.instance)
        )
        return None if found is None else network.read(found)

    async def ensure_network(self, subnet: str = "") -> Network:
        """Our network: a bridge without traffic between servers and without IPv6, made if it is not there.

        `subnet` empty lets Docker choose a free one. A network of ours that is made otherwise is made anew
        if nothing is in it. Raises `NotOurs` if its name is taken.
        """
        async with self._network_lock:
            found = await self._connection.call(
                "make our network", lambda client: network.ensure(client, self.instance, subnet)
            )
        return network.read(found)

    async def labelled_networks(self) -> dict[str, str]:
        """Names of the networks of this and of other installations, each with its installation's id."""
        found = await self._connection.call(
            "list the networks", lambda client: client.networks(filters={"label": [INSTANCE_LABEL]})
        )
        return {each["Name"]: str((each.get("Labels") or {}).get(INSTANCE_LABEL, "")) for each in found}

    async def network_differences(self, subnet: str = "") -> list[str]:
        """Where our network is not as `ensure_network` would make it; empty too if there is none.

        Raises `NotOurs` if its name is taken.
        """
        found = await self._connection.call(
            "show our network", lambda client: network.find(client, self.instance)
        )
        return [] if found is None else network.differences(found, self.instance, subnet)

    async def remove_network(self) -> None:
        """Remove our network and its firewall rules if they are there.

        Raises `EngineError` if servers are still in it, and `FirewallMissing` if rules cannot be removed.
        """
        async with self._network_lock:
            await self._connection.call(
                "remove our network", lambda client: network.remove(client, self.instance)
            )
            await firewall.remove(self.instance)

    async def ensure_firewall(self, settings: Settings, ours: Network, port: int) -> bool:
        """Set the firewall rules of our network where they are missing or different; whether any was.

        `port` is that of the gateway listener, 0 as long as there is none. Docker is asked for the bridge of
        builds once. Raises `FirewallMissing` if they cannot be set.
        """
        return await firewall.ensure(await self._firewall_site(settings, ours, port))

    async def remove_firewall(self) -> None:
        """Take the firewall rules of our network away; needs no Docker.

        Raises `FirewallMissing` if the kernel keeps them.
        """
        await firewall.remove(self.instance)

    async def firewall_rules(self) -> tuple[str, ...]:
        """Our rules that are in the kernel, as commands would set them; needs no Docker."""
        return await firewall.listed(self.instance)

    async def missing_firewall(self) -> str:
        """Why no firewall rules are in force for our network; empty if they are."""
        return await firewall.missing(self.instance)

    async def firewall_differences(self, settings: Settings, ours: Network, port: int) -> list[str]:
        """Which chains of our firewall rules are missing or not as they should be; empty if none is.

        Raises `FirewallMissing` if the rules cannot be looked at.
        """
        return await firewall.differences(await self._firewall_site(settings, ours, port))

    async def _firewall_site(self, settings: Settings, ours: Network, port: int) -> FirewallSite:
        if settings.network.builds == "as-servers" and not self._build_bridge:
            self._build_bridge = await self._connection.call(
                "show its default network", network.default_bridge
            )
        return firewall.site_for(settings, ours, port, self._build_bridge)

    async def firewall_chains(self, ours: Network) -> dict[str, int]:
        """Our chains as the kernel has them, by `command:chain`, each with the number of its rules."""
        return await firewall.chains(ours.bridge)

    # -- containers -----------------------------------------------------------------------------------

    async def containers(self) -> list[ContainerRow]:
        """All containers of the engine, ours or not, running or not."""
        return await self._connection.call(
            "list the containers",
            lambda client: [containers.row(each) for each in client.containers(all=True)],
        )

    async def container_sizes(self, timeout_s: float) -> dict[str, int]:
        """By the id of each container the bytes that it wrote; Docker looks at all its files for that, so it
        may take up to `timeout_s` seconds.
        """
        return await self._connection.call(
            "measure the containers",
            lambda client: {
                each["Id"]: each.get("SizeRw") or 0 for each in client.containers(all=True, size=True)
            },
            timeout_s=timeout_s,
            long=True,
        )

    async def inspect(self, container: str) -> dict[str, Any] | None:
        """A container as Docker inspects it, or `None`."""

        def ask(client: Any) -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = client.inspect_container(container)
            except docker.errors.NotFound:
                return None
            return found

        return await self._connection.call(f"show the container {container}", ask)

    async def start(self, spec: ContainerSpec) -> str:
        """Start a container and return its id; on an error, also when cancelled, none is left.

        Raises `ImageNotFound`, or `ContainerNotStarted` if its program cannot be run.
        """
        name = spec.name or containers.make_name(spec.kind)
        self._at_work[name] = ""
        task = asyncio.ensure_future(
            self._connection.call(
                f"start a container of {spec.image}",
                lambda client: containers.start(client, spec, name, self.instance),
            )
        )
        try:
            self._at_work[name] = await asyncio.shield(task)
        except (asyncio.CancelledError, EngineTimedOut):
            await self._behind(self._remove_when_done(task, name))
            raise
        except BaseException:
            self._at_work.pop(name, None)
            raise
        return self._at_work[name]

    async def wait(self, container: str, timeout_s: float) -> int:
        """Wait until a container has ended; its exit code. Raises `EngineTimedOut` after `timeout_s`
        seconds.
        """
        return await self._connection.call(
            f"wait for the container {container}",
            lambda client: containers.wait(client, container, timeout_s),
            timeout_s=timeout_s,
            long=True,
        )

    async def logs(self, container: str, tail: int = 200) -> str:
        """The last `tail` lines that a container printed; empty if it is gone."""

        def ask(client: Any) -> str:
            try:
                said: bytes = client.logs(container, stdout=True, stderr=True, tail=tail)
            except docker.errors.NotFound:
                return ""
            return said.decode(errors="replace")

        return await self._connection.call(f"show the log of {container}", ask)

    async def ask_inside(
        self, container: str, command: Sequence[str], *, timeout_s: float, limit_bytes: int
    ) -> str:
        """What a command prints that is run in a running container, as that container's user.

        Reading ends after `limit_bytes`. Raises `EngineTimedOut` after `timeout_s` seconds; the command ends
        with its container at the latest.
        """
        return await self._connection.call(
            f"run a command in the container {container}",
            lambda client: containers.ask_inside(client, container, command, limit_bytes),
            timeout_s=timeout_s,
            long=True,
        )

    async def stop(self, container: str, timeout_s: int) -> None:
        """Ask a container of ours to end, and kill it after `timeout_s` seconds; it is not removed.

        One that is gone is no error. Raises `NotOurs`.
        """

        await self._connection.call(
            f"stop the container {container}",
            lambda client: containers.stop(client, container, self.instance, timeout_s),
            timeout_s=timeout_s + self.timeout_s,
            long=True,
        )

    async def remove(self, container: str) -> None:
        """Remove a container of ours, running or not, with its anonymous volumes; none there is no error.

        What was begun is finished, also when the caller is cancelled; what fails is left to `remove_strays`.
        Raises `NotOurs`.
        """
        for name, identifier in list(self._at_work.items()):
            if container in (name, identifier):
                del self._at_work[name]
        await self._behind(
            self._connection.call(
                f"remove the container {container}",
                lambda client: containers.remove(client, container, self.instance),
            )
        )

    async def run(self, spec: ContainerSpec, timeout_s: float, *, tail: int = 200) -> Finished:
        """Run a container to its end; it is removed in any case, also when cancelled.

        Raises as `start` does, and `EngineTimedOut` after `timeout_s` seconds.
        """
        container = await self.start(spec)
        try:
            exit_code = await self.wait(container, timeout_s)
            output = await self.logs(container, tail)
        finally:
            await self.remove(container)
        return Finished(exit_code, output)

    async def remove_strays(self, kind: Kind) -> list[str]:
        """Remove our containers of one kind that nobody works with; the names of what was removed.

        What a process that was killed has left, and what could not be removed when Docker was gone. Those
        that were started here and not given to `remove` yet stay.
        """
        rows = [
            each
            for each in await self.containers()
            if self.is_ours(each.labels)
            and each.labels.get(KIND_LABEL) == kind
            and each.name not in self._at_work
        ]
        await asyncio.gather(*(self.remove(each.id) for each in rows))
        return [each.name for each in rows]

    # -- what must be finished even when nobody waits -------------------------------------------------

    async def _behind(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work` to its end, also when cancelled; cancelled twice, it goes on by itself."""
        task = asyncio.ensure_future(work)
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})
            raise

    async def _remove_when_done(self, task: asyncio.Future[str], name: str) -> None:
        with suppress(EngineError):
            await task
        with suppress(EngineError):
            await self.remove(name)
