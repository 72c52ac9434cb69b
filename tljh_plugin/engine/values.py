"""The values that go in and out of the engine; all frozen."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..labels import INSTANCE_LABEL
from .isolation import Limits

Kind = Literal["server", "fill", "check", "stub", "doctor"]

_USER = re.compile(r"[1-9][0-9]*:[1-9][0-9]*")
_SYSTEM_FOLDERS = ("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr")
DEFAULT_HOME = "/home/jovyan"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What Docker says of itself. `root_dir` is its folder on the host; `containerd_store` is whether
    containerd keeps the images, as new installations of Engine 29 and later have it.

    `security` are words such as `rootless`; `limits` is which limits the kernel lets it set (`memory`,
    `swap`, `pids`, `cpu`); `mirrors` are the registries that it asks first, `proxies` its own by `http`,
    `https` and `no`; `kernel` is the release of the kernel that its containers run on, as uname(1) says it.
    """

    version: str
    api_version: str
    storage_driver: str
    root_dir: str
    architecture: str
    containerd_store: bool = False
    system: str = ""
    security: tuple[str, ...] = ()
    cgroup_version: str = ""
    limits: Mapping[str, bool] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    kernel: str = ""

    @property
    def rootless(self) -> bool:
        """Whether Docker itself runs without root's rights."""
        return "rootless" in self.security


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image in the list. `size` in bytes counts shared layers; `created` is UTC, ISO 8601.

    `digests` are the names under which a registry has it; newer engines give some to every image.
    """

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size: int
    created: str
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """An image as Docker inspects it. `layers` are the digests of its file systems, lowest first."""

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size: int
    created: str
    env: Mapping[str, str]
    user: str
    workdir: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    layers: tuple[str, ...]
    architecture: str

    @property
    def home(self) -> str:
        """Where a person's files are mounted: the image's HOME, else its working folder, else `/home/jovyan`.

        A folder of the system is never taken, since a mount would hide it.
        """
        for place in (self.env.get("HOME", ""), self.workdir):
            if is_mountable(place):
                return posixpath.normpath(place)
        return DEFAULT_HOME

    @property
    def start_folder(self) -> str:
        """The folder in which a server starts: the image's working folder, else the home."""
        return self.workdir if self.workdir not in ("", "/") else self.home


def is_ours(labels: Mapping[str, str] | None, instance: str) -> bool:
    """Whether what carries these labels belongs to the installation of this id."""
    return (labels or {}).get(INSTANCE_LABEL) == instance


def is_mountable(place: str) -> bool:
    """Whether a person's folder may be mounted there: absolute, and not a folder of the system."""
    if not place.startswith("/") or "\0" in place or ".." in place.split("/"):
        return False
    parts = [part for part in place.split("/") if part not in ("", ".")]
    return bool(parts) and (parts[0] not in _SYSTEM_FOLDERS or parts[:2] == ["usr", "src"])


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image; its `chain_id` stands for it and all layers below.

    `bytes` is what it occupies on Docker's disk, or, where we cannot look there, what Docker says; `None` if
    neither tells, as where containerd keeps the images.
    """

    chain_id: str
    bytes: int | None


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """What BuildKit keeps of one step of a build. `shared`: an image has it as a layer.

    `parents` are the records that it stands on, as far as the engine tells them; `bytes` as the engine counts
    them; `last_used` is empty if it does not tell. `created` sorts as text within one engine.
    """

    id: str
    parents: tuple[str, ...]
    bytes: int | None
    shared: bool
    in_use: bool
    last_used: str
    description: str
    kind: str
    created: str


@dataclass(frozen=True, slots=True)
class Network:
    """Our network. `gateway` is the host's address in it, `bridge` its interface on the host."""

    id: str
    name: str
    gateway: str
    subnet: str
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or folder of the host, seen at `target`; it must exist."""

    source: str
    target: str
    read_only: bool = False

    def __post_init__(self) -> None:
        for place in (self.source, self.target):
            if not place.startswith("/"):
                raise ValueError(f"mount {place!r} is not an absolute path")


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container to start, always with all isolation rules.

    `network` is "none", the name of a network, or "container:<id>" to share that container's. `entrypoint`
    of `None` leaves the image's, `()` removes it. `name` empty makes one. `read_only` forbids writing
    anywhere but to mounts. `user` empty means `limits.user`; it is numeric in any case, since an image
    chooses what a name means. `files`, by absolute path, are put into the container before it starts and
    belong to its user; where their folder does not exist they are left out. `account` is what the image is to
    call a user that it does not know; `owned` is a folder of the image that its user is to own with all that
    is in it, up to `owned_bytes`.
    """

    image: str
    command: tuple[str, ...]
    limits: Limits
    kind: Kind
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    network: str = "none"
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    workdir: str | None = None
    read_only: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    owned: str = ""
    owned_bytes: int = 0

    def __post_init__(self) -> None:
        if self.user and not _USER.fullmatch(self.user):
            raise ValueError(f"user {self.user!r} must be a numeric `uid:gid` and not root")
        if self.network == "host":
            raise ValueError("the host's network is never shared")


@dataclass(frozen=True, slots=True)
class ContainerRow:
    """A container in the list, running or not. `state` is Docker's word: running, exited, created, …

    `mounts` are the places on the host that it sees, `created` is in seconds since 1970 (0: not said).
    """

    id: str
    name: str
    image_id: str
    labels: Mapping[str, str]
    state: str
    mounts: tuple[str, ...] = ()
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A container that ended: its exit code (137: killed) and what it printed."""

    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something that happened in Docker: `type` is image, container or network; `action` is tag, untag,
    delete, die, … `time` is in seconds since 1970, 0 if Docker did not say it.
    """

    type: str
    action: str
    id: str
    attributes: Mapping[str, str]
    time: float = 0.0
