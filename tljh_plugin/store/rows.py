"""The rows of the store as frozen values.

Times are UTC in ISO 8601 with milliseconds (`utc_now`), so that they sort as text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import ClassVar, Literal

from ..wire import BuildState, Phase, Visibility

CredentialKind = Literal["", "request", "host"]


def utc_now() -> str:
    """Now, as it is stored: `2026-11-21T09:26:52.123+00:00`."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def utc_after(moment: str) -> str:
    """The present time, or a millisecond after `moment` where the clock was set back before it."""
    now = utc_now()
    if now > moment:
        return now
    return (datetime.fromisoformat(moment) + timedelta(milliseconds=1)).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class BuildRow:
    """One build, from the request to its end. Satisfies `access.Owned`.

    `identity` is the key of the image's identity, `platform` such as `linux/amd64`. `requested_by` is the
    person who asked first, or, when they withdrew, the next one. `attempts` counts starts. `settled` is
    false until nothing of the build is left over: no process, no temporary thing, a final log line.
    `credential` says where the credential that its repository needs comes from, never what it is.
    """

    id: str
    identity: str
    url: str
    commit: str
    subdir: str
    platform: str
    spec: str
    asked_ref: str
    requested_by: str
    created: str
    visibility: Visibility = "everyone"
    rebuild: bool = False
    state: BuildState = "queued"
    phase: Phase = "queued"
    progress: int = 0
    image_id: str = ""
    image_name: str = ""
    error_code: str = ""
    error_message: str = ""
    error_next: str = ""
    started: str = ""
    finished: str = ""
    worker_pid: int = 0
    worker_start: int = 0  # field 22 of /proc/PID/stat, in clock ticks since boot
    attempts: int = 0
    recipe: str = ""
    settled: bool = False
    groups: tuple[str, ...] = ()
    asked_groups: tuple[str, ...] = ()  # of the person who asked, when they did
    credential: CredentialKind = ""
    no_cache: bool = False
    request: str = ""  # the id of the request that began it

    @property
    def owner(self) -> str:
        return self.requested_by

    @property
    def decided(self) -> bool:
        return False  # that is said of images

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")


@dataclass(frozen=True)
class ImageRow:
    """One image that we built and checked; what Docker does not know of it. Satisfies `access.Owned`.

    `home` and `workdir` are absolute paths in the image. `build_id` is empty for what no build here has
    made; an `imported` image came from a file. `pinned` is what was said once, `pin_holds` whether it is so
    now; `pinned_until` is empty for a pin without an end. `profile` and `urlpath` hold for those who ask for
    none. A `retired` image is not started any more.
    `decided`: an administrator has changed one of these, or who may use it.
    """

    image_id: str
    name: str
    identity: str
    url: str
    commit: str
    subdir: str
    platform: str
    spec: str
    asked_ref: str
    title: str
    built_by: str
    build_id: str
    created: str
    size: int
    recipe: str
    home: str
    workdir: str
    visibility: Visibility = "everyone"
    pinned: bool = False
    description: str = ""
    groups: tuple[str, ...] = ()
    icon: str = ""
    profile: str = ""
    urlpath: str = ""
    pin_reason: str = ""
    pinned_until: str = ""
    retired: bool = False
    adopted: bool = False
    imported: bool = False
    decided: bool = False

    @property
    def owner(self) -> str:
        return self.built_by

    def pin_holds(self, now: str = "") -> bool:
        """Whether it is pinned at a moment (`utc_now`'s format; by default the present one)."""
        return self.pinned and (not self.pinned_until or self.pinned_until > (now or utc_now()))


@dataclass(frozen=True)
class ImageUse:
    """How often and when an image was started, and by whom the last time."""

    launches: int
    last_used: str
    last_used_by: str = ""


@dataclass(frozen=True)
class LatestBuild:
    """The newest build of an identity; `open` tells whether everyone may know of it."""

    id: str
    state: BuildState
    open: bool

    @property
    def active(self) -> bool:
        return self.state in ("queued", "running")


@dataclass(frozen=True)
class NewerRow:
    """Where the ref that an image was asked by pointed when it was `looked` at; `problem` says why nothing
    was found out, and `commit` is then what was known before."""

    image_id: str
    commit: str
    looked: str
    problem: str = ""


@dataclass(frozen=True)
class ProjectRow:
    """One person's kept files for one repository; `path` is their absolute folder on the host.

    `title` is what its person calls it. A deleted one has the name of its folder in the archive as its id.
    """

    id: str
    owner: str
    repository: str
    spec: str
    commit: str
    subdir: str
    image_id: str
    path: str
    created: str
    last_used: str = ""
    visibility: Visibility = "private"
    title: str = ""
    groups: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class LeaseRow:
    """An image, and a project if it has one, that must not go before `until`: a start in progress uses it.

    `server` is `person/name`, `project` the path of the project's files.
    """

    id: str
    image_id: str
    until: str
    server: str = ""
    project: str = ""


@dataclass(frozen=True)
class RunRow:
    """A deletion that was carried out, or still is (`finished` empty); `plan`, `results` and `problem` are
    JSON, which `cache.run` reads and writes."""

    id: str
    mode: str
    by: str
    started: str
    finished: str
    plan: str
    results: str
    gained_bytes: int
    problem: str


@dataclass(frozen=True)
class SizeRow:
    """What a folder of a person occupied when it was measured.

    `bytes` are allocated ones, hard links counted once; with `whole` false they are a lower bound. `took` is
    in seconds.
    """

    path: str
    owner: str
    bytes: int
    entries: int
    whole: bool
    took: float
    measured: str


@dataclass(frozen=True)
class ServerRun:
    """One container of a server: whose it was, in which groups they were then, what it held, how long it ran.

    `ended` is empty while it runs; `seen` is the last moment at which that was known. With `exact` false its
    end was not seen: it ran at least so long.
    """

    container_id: str
    person: str
    server: str
    image_id: str
    groups: tuple[str, ...]
    profile: str
    memory_bytes: int
    cpus: float
    started: str
    seen: str
    ended: str = ""
    exact: bool = True


@dataclass(frozen=True)
class BuildTime:
    """Who asked for a build, in which groups they were then, and how long it ran; `ended` empty: it runs."""

    person: str
    groups: tuple[str, ...]
    started: str
    ended: str


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to which thing, and how it ended."""

    number: int
    time: str
    who: str
    what: str
    thing: str
    result: str
    request: str = ""  # the id of the request in which it happened


@dataclass(frozen=True)
class Enqueued:
    """What became of a wish for a build: exactly one of a new `build`, a `joined` one, or a refusal.

    `look_again`: an image of this identity was recorded meanwhile. `full`: the person has that many builds
    queued or running already.
    """

    build: BuildRow | None = None
    joined: bool = False
    look_again: bool = False
    full: int = 0
