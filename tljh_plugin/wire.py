"""Values that cross a process: hub, service and command line all read and write these.

They are pydantic models with a version. Unknown keys of a *newer* sender are ignored by readers;
what a person can send (`launch.options.LaunchOptions`) is stricter and lives in its own stage.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

VERSION = 1

Visibility = Literal["everyone", "group", "private"]
BuildState = Literal["queued", "running", "built", "failed", "cancelled"]
Phase = Literal["queued", "fetching", "building", "checking", "built", "failed", "cancelled"]
LaunchStep = Literal["fetch", "build", "check", "prepare", "start"]


class Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = VERSION


class Person(Wire):
    """Who asks. Comes from JupyterHub, never from the request's own text."""

    name: str
    admin: bool = False
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


class Credential(BaseModel):
    """What a private repository is read with. It goes with a request and is never stored, logged or shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    username: str = Field("", repr=False)  # empty: an access token, for which most hosts take any name
    password: SecretStr

    def plain(self) -> dict[str, str]:
        """As it is sent."""
        return {"username": self.username, "password": self.password.get_secret_value()}


class ErrorView(Wire):
    code: str
    message: str
    next: str = ""
    request: str = ""  # id of the request that failed, as far as it is known


class BuildRequest(Wire):
    """`POST builds`: start or join. `spec` is what was typed or the path of a link."""

    spec: str
    commit: str = ""  # full commit that the person confirmed; empty: resolve the ref now
    rebuild: bool = False
    no_cache: bool = False  # a rebuild in which Docker runs every step again


class BuildView(Wire):
    """A build, or the hit that made one needless (`id` is then the build that made the image)."""

    id: str
    state: BuildState
    phase: Phase
    progress: int = Field(0, ge=0, le=100)  # percent of the build alone
    spec: str
    repository: str  # normalised URL
    commit: str
    requested_by: str
    hit: bool = False  # the image was there, nothing was built
    joined: bool = False  # an equal build was queued or running
    no_cache: bool = False  # every step is run again
    request: str = ""  # by which the logs know it: the id of the request that began it
    position: int = 0  # in the queue, 1 is next; 0 if not queued
    image_id: str = ""  # sha256:…, once built
    image_name: str = ""
    visibility: Visibility = "everyone"
    groups: tuple[str, ...] = ()  # with visibility "group"
    error: ErrorView | None = None
    created: str = ""  # UTC, ISO 8601
    started: str = ""
    finished: str = ""


class LogLine(Wire):
    """One event of a build's log. `n` counts from 1 without gaps and is the SSE id."""

    n: int
    time: str
    phase: Phase
    text: str = ""
    progress: int | None = None  # percent of the build
    error: ErrorView | None = None  # with phase "failed"
    image_id: str = ""  # with phase "built"


class ImageView(Wire):
    """An image of ours, as the pages and the form need it."""

    id: str  # sha256:…
    name: str  # littlest-binder/slug:tag
    title: str
    spec: str  # canonical path of a link to it, at its commit
    repository: str
    commit: str
    asked_ref: str = ""
    built_by: str  # told, as `launches`, `pin_reason` and `newer_problem`, to that person and administrators
    created: str
    size: int  # bytes, as Docker says; shared layers counted
    last_used: str = ""
    launches: int = 0
    pinned: bool = False  # now: a pin whose time is over is none
    older_recipe: bool = False
    users: tuple[str, ...] = ()  # "person/server" of its containers, as far as the person may know
    build_id: str = ""  # the build that made it, if it is known
    visibility: Visibility = "everyone"
    groups: tuple[str, ...] = ()  # with visibility "group"
    description: str = ""  # plain text, what administrators say of it
    icon: str = ""  # one emoji
    profile: str = ""  # id of the profile of those who choose none
    urlpath: str = ""  # what opens for those who ask for nothing else
    pin_reason: str = ""
    pinned_until: str = ""  # UTC, ISO 8601; empty: until it is taken away
    retired: bool = False  # nobody starts it any more; servers that run on it go on
    adopted: bool = False  # not built here: an administrator's word
    build_seconds: float | None = None  # what its build took, if that is known
    last_used_by: str = ""  # as far as the person may know
    own_bytes: int | None = None  # what erasing it alone would free; None: not known on this engine
    building: bool = False  # a build of the same repository and commit is queued or runs
    keep: str = ""  # code of the rule by which retention keeps it; empty: it could be taken
    newer_commit: str = ""  # where the ref that was asked for points meanwhile
    newer_looked: str = ""  # when that was looked at
    newer_problem: str = ""  # why it could not be found out
    decided: bool = False  # an administrator has said something of it: its owner changes nothing any more

    @property
    def owner(self) -> str:
        return self.built_by


class ImageChange(BaseModel):
    """`PATCH images/{id}`: what is given changes, the rest stays.

    `visibility` and `groups` are for the image's owner too, unless it is for everyone or an administrator has
    decided about it; the rest is for administrators. An empty `title` means the repository's name;
    `pinned_until` a date (to the end of that day) or a moment, in UTC where no zone is given, empty: without
    end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str | None = None
    description: str | None = None
    icon: str | None = None
    profile: str | None = None
    urlpath: str | None = None
    visibility: Visibility | None = None
    groups: tuple[str, ...] | None = None
    pinned: bool | None = None
    pin_reason: str | None = None
    pinned_until: str | None = None
    retired: bool | None = None


class ResolveView(Wire):
    """`POST resolve`: what a text means."""

    spec: str  # canonical, with the ref that was asked
    display: str  # for people: "github.com/owner/repo"
    repository: str
    page_url: str = ""  # where a person can look at it
    ref: str
    commit: str
    image: Literal["ready", "building", "missing"]
    image_id: str = ""
    build_id: str = ""
    private: bool = False  # the repository was read with the person's credential
    profile: str = ""  # default profile of the image that is ready
    urlpath: str = ""  # what it opens for those who ask for nothing else
    projects: tuple[ProjectView, ...] = ()  # the person's projects of this repository
    warnings: tuple[str, ...] = ()


class ProjectView(Wire):
    id: str
    owner: str
    repository: str
    spec: str
    commit: str
    created: str
    last_used: str = ""
    title: str = ""  # what its person calls it
    size_bytes: int | None = None  # allocated bytes, hard links once; None: not measured yet
    size_whole: bool = True  # false: at least so much
    measured: str = ""  # when its size was
    archived: bool = False  # deleted; `id` is then the one to bring it back by
    deleted: str = ""  # when
    kept_until: str = ""  # until when it can be brought back
    servers: tuple[str, ...] = ()  # names of the person's servers that use it, where that was asked


class StorageView(Wire):
    """`GET storage`: what the person keeps in all, and the limit (0: none)."""

    used_bytes: int
    whole: bool = True  # false: at least so much
    limit_bytes: int = 0
    state: Literal["fine", "warn", "full"] = "fine"
    my_files_bytes: int | None = None
    problem: ErrorView | None = None  # why the files cannot be reached now
    root: str = ""  # administrators only


class MountView(Wire):
    """A folder of this machine that the person may have; `error` says why it cannot be had now."""

    id: str
    title: str
    description: str = ""
    target: str  # absolute path in the server
    link: str  # its name in the home
    access: Literal["read-only", "read-write"] = "read-only"
    default: bool = False  # ticked on forms, never for a link
    picked: bool = False  # by the person of a desktop, not in the catalogue
    error: ErrorView | None = None


class PrepareRequest(Wire):
    """`POST prepare` (hub only): everything that a container needs besides its image."""

    server: str
    image_id: str
    repository: str
    spec: str
    commit: str
    storage: Literal["project", "ephemeral"] = "project"
    project: str = ""  # id; "" the repository's own; "new" another one
    my_files: bool = False  # whether the person's own folder is wanted


class Prepared(Wire):
    image_id: str
    image_name: str
    home: str  # absolute path in the container
    workdir: str  # where the repository's files are
    project: str = ""  # id, with storage "project"
    project_path: str = ""  # absolute path on the host, to be mounted at `home`
    my_files_path: str = ""  # absolute path on the host of the person's own folder, if it was wanted
    lease: str = ""  # keeps the image until released or expired
    urlpath: str = ""  # what the image opens for those who ask for nothing else
    packages: str = ""  # where the image's own Python has its packages, if that is an environment of ours
    environment: dict[str, str] = {}
    command: tuple[str, ...] = ("jupyterhub-singleuser",)


class ProfileView(Wire):
    """A profile that the person may choose. `lifetime_s` and `idle_s` of 0 mean without end.

    `problem` says why it does not fit now; it is not `possible` if it never fits what the person may have.
    """

    id: str
    title: str
    description: str = ""
    memory_bytes: int  # as much as the machine has, if the profile says more
    cpus: float
    lifetime_s: float = 0
    idle_s: float = 0
    default: bool = False  # what the person gets who chooses none
    problem: str = ""
    possible: bool = True


class RoomView(Wire):
    """What is free on the machine, read from it, and what the person has. A limit of 0 is none."""

    memory_bytes: int
    available_bytes: int
    cpus: int
    load: float  # processors that were busy, on average over the last minute
    servers: int  # running or starting ones of all people
    promised_bytes: int  # sum of their memory limits
    capacity_bytes: int = 0  # most that these limits may add up to
    own_servers: int = 0
    own_memory_bytes: int = 0
    own_cpus: float = 0
    may_servers: int = 0
    may_memory_bytes: int = 0
    may_cpus: float = 0


class ProfilesView(Wire):
    """`GET profiles`: what the person may choose, and what is free; no `room` where Docker is silent."""

    profiles: tuple[ProfileView, ...]
    room: RoomView | None = None


class LaunchView(Wire):
    """The answer of `POST launches`. `url` is the launch page, `state` what the server was found in."""

    server: str
    url: str
    state: Literal["starting", "ready"]


class LaunchEvent(Wire):
    """One event of `GET launches/{server}/events`: build and start as one stream.

    `progress` carries the percent of the whole way, the step and a sentence; `log` one line of the build
    `build`; `ready` the address to go to; `failed` the error. The last two end the stream.
    """

    type: Literal["progress", "log", "ready", "failed"]
    progress: int = Field(0, ge=0, le=100)
    step: LaunchStep = "fetch"
    message: str = ""
    build: str = ""
    line: LogLine | None = None
    url: str = ""
    error: ErrorView | None = None


class PlanItemView(Wire):
    """An image in a plan: `rule` is the code of what takes or keeps it, `text` a sentence that says it.

    `frees_bytes` of one that goes is what it adds to those before it; of one that stays, what erasing it
    alone would free.
    """

    image_id: str
    name: str
    title: str
    size: int  # bytes, as Docker says; shared layers counted
    frees_bytes: int | None = None  # None: not known on this engine
    rebuild_s: float | None = None  # what its last build took; None: not known
    rule: str
    text: str


class PlanView(Wire):
    """What a deletion or retention would do: `take` in this order, and what stays with its reason."""

    mode: Literal["evict", "erase"]
    take: tuple[PlanItemView, ...]
    keep: tuple[PlanItemView, ...]
    frees_bytes: int | None = None  # on Docker's disk; None: not known on this engine
    wanted_bytes: int = 0  # what the policy asks for; 0: nothing


class RunResultView(Wire):
    """What became of one image of a run.

    `gone`: removed behind our back before. `kept`: something speaks for it now. `not-done`: the run was
    stopped or cut off before.
    """

    image_id: str
    name: str
    outcome: Literal["evicted", "erased", "gone", "kept", "failed", "not-done"]
    text: str = ""
    freed_bytes: int = 0  # what Docker's disk gained meanwhile, measured


class RunView(Wire):
    """A plan that was carried out, or still is (`finished` empty). `gained_bytes` is measured."""

    id: str
    mode: Literal["evict", "erase"]
    by: str  # a person, or "retention"
    started: str  # UTC, ISO 8601
    finished: str = ""
    results: tuple[RunResultView, ...] = ()
    gained_bytes: int = 0
    planned: int = 0  # images that the plan took
    planned_bytes: int | None = None  # what the plan said; None: not known on this engine
    wanted_bytes: int = 0
    problem: ErrorView | None = None  # why it ended before its end


class RetentionView(Wire):
    """`POST retention`: the plan under these settings (`dry_run`), or the run that was begun by it."""

    plan: PlanView
    run: RunView | None = None
    used_percent: float | None = None  # of Docker's disk; None: it cannot be looked at
    total_bytes: int | None = None


class DeletedView(Wire):
    """`DELETE images`: the plan, and unless it was only asked for, what was done."""

    plan: PlanView
    run: RunView | None = None


DiskPartId = Literal[
    "servers",
    "kept-images",
    "evictable-images",
    "build-cache",
    "mirrors",
    "projects",
    "other-docker",
    "else",
]


class DiskPart(Wire):
    """One of those that share a filesystem.

    `bytes` is None where the figure cannot be had on this machine: it is then contained in `else`, which is
    what all others leave of the used bytes. `whole` false: at least so much.
    """

    id: DiskPartId
    bytes: int | None = None
    whole: bool = True


class DiskItem(Wire):
    """One of the largest of a part. `id` is an image's or a container's id, a person's name, a path."""

    part: DiskPartId
    id: str
    title: str
    bytes: int
    whole: bool = True
    owner: str = ""


class FilesystemView(Wire):
    """A filesystem on which something of ours is. `total` is `used` and `free` together, as `df` reckons.

    What only root may fill is in neither.
    """

    path: str  # where it is mounted
    holds: tuple[Literal["docker", "state", "projects"], ...]
    total: int
    used: int
    free: int
    parts: tuple[DiskPart, ...] = ()
    growth: float | None = None  # bytes a day, of the last days; None: not known yet
    full_in_s: float | None = None  # at that rate; None: never, or not known

    @property
    def percent(self) -> float:
        return 100 * self.used / self.total if self.total else 0.0


class DiskView(Wire):
    """`GET disk`: who occupies what, as it was measured last; Docker's filesystem first."""

    measured: str = ""  # empty: not yet
    filesystems: tuple[FilesystemView, ...] = ()
    largest: tuple[DiskItem, ...] = ()
    warning: ErrorView | None = None  # it is nearly full, or soon will be
    problem: ErrorView | None = None  # why figures are old or missing


class MirrorView(Wire):
    """A stored copy of a repository; `needed` while an image of the repository is in the list."""

    name: str  # readable, with a hash
    bytes: int  # allocated ones
    used: str  # when it was fetched from or into last
    needed: bool = False


class DiskSample(Wire):
    """A filesystem at one moment, of its history."""

    time: str
    path: str
    total: int
    used: int
    parts: dict[str, int] = {}


class DiskHistoryView(Wire):
    """`GET disk/history`: oldest first, thinned out with age."""

    samples: tuple[DiskSample, ...] = ()


class RefusedImageView(Wire):
    """An image with our signature that was not taken into the list, and why."""

    id: str
    names: tuple[str, ...] = ()
    reason: str


class ProposalView(Wire):
    """An image of Docker that an administrator may adopt."""

    id: str
    names: tuple[str, ...]
    size: int
    created: str = ""
    reason: str = ""


class RescanView(Wire):
    """`POST images/rescan`: what was found again, and what could be adopted."""

    restored: tuple[ImageView, ...] = ()
    known: int = 0  # that were in the list before
    refused: tuple[RefusedImageView, ...] = ()
    proposals: tuple[ProposalView, ...] = ()


class NewerView(Wire):
    """Where the ref of an image points now.

    `fixed`: it was asked for by its commit; `gone`: the image is not there; `failed`: `error` says why
    nothing was found out. `build_id` is the build of the newer commit, where one was begun.
    """

    image_id: str
    title: str = ""
    spec: str = ""
    ref: str = ""
    commit: str = ""
    newer_commit: str = ""
    state: Literal["same", "newer", "fixed", "failed", "gone"]
    error: ErrorView | None = None
    build_id: str = ""


AccountBy = Literal["person", "group", "day"]


class AuditView(Wire):
    """An entry of the audit log: who did what to which thing, and how it ended."""

    number: int  # counts up; send the last one as `before` for the next page
    time: str
    who: str
    what: str  # such as image.pin
    thing: str
    result: str
    request: str = ""  # id of the request in which it happened


class AccountView(Wire):
    """What a person, a group or a day used. `name` is empty for people in no group."""

    name: str
    people: int = 0
    servers: int = 0  # that were started
    server_hours: float = 0
    memory_gib_hours: float = 0  # of the servers' limits, used or not
    cpu_hours: float = 0  # the same of processors
    builds: int = 0  # that began
    build_minutes: float = 0
    kept_bytes: int | None = None  # files kept now; None: not measured, and by day
    whole: bool = True  # false: at least so much


class AccountingView(Wire):
    """`GET accounting`: the time from `since` until before `until`, both UTC."""

    since: str
    until: str
    by: AccountBy
    rows: tuple[AccountView, ...]


HealthPartId = Literal["store", "docker", "hub", "disk", "queue", "firewall"]


class HealthPart(Wire):
    """Something that the service needs; `message` says what is wrong, and is empty where nothing is."""

    name: HealthPartId
    ok: bool
    message: str = ""


class HealthView(Wire):
    """`GET health`: with status 200 where all is well, else with 503."""

    ok: bool
    engine: bool  # whether Docker answers
    # From here on for those signed in.
    engine_version: str = ""
    message: str = ""
    # "in force", "off", or why the servers' network has no firewall rules.
    firewall: str = ""
    # From here on for administrators and monitors.
    release: str = ""  # the version that runs
    parts: tuple[HealthPart, ...] = ()
    builds_queued: int | None = None
    builds_running: int | None = None


FindingStatus = Literal["problem", "warning", "not-checked", "note", "ok"]


class FindingView(Wire):
    """What one check found about one thing. `repair` says what `doctor --fix` does; empty: nothing."""

    id: str  # of the check, stable
    group: str
    title: str
    about: str = ""  # the thing, where a check looks at several
    status: FindingStatus
    seen: dict[str, str] = {}
    meaning: str = ""
    fix: str = ""
    repair: str = ""


class RepairView(Wire):
    """What `doctor --fix` did about the finding of a check, or why it could not."""

    id: str
    about: str = ""
    done: str = ""
    error: str = ""


class DoctorView(Wire):
    """`GET doctor`: what the checks found, the worst first, and how many there are of each status."""

    checked: str
    seconds: float
    product: str = ""  # our version
    platform: str = ""
    state_dir: str = ""
    counts: dict[FindingStatus, int]
    findings: tuple[FindingView, ...]
    repairs: tuple[RepairView, ...] = ()


ResolveView.model_rebuild()
