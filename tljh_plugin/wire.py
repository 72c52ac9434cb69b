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

    version: int = VERSION  #: of this shape; a reader ignores keys that it does not know


class Person(Wire):
    """Who asks. Comes from JupyterHub, never from the request's own text."""

    name: str  #: as the hub knows them
    admin: bool = False  #: whether they are an administrator of the hub
    groups: tuple[str, ...] = ()  #: names of their groups in the hub
    scopes: tuple[str, ...] = ()  #: what the token that asks may do


class Credential(BaseModel):
    """What a private repository is read with. It goes with a request and is never stored, logged or shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    username: str = Field("", repr=False)  #: empty: an access token, for which most hosts take any name
    password: SecretStr  #: the password or access token

    def plain(self) -> dict[str, str]:
        """As it is sent."""
        return {"username": self.username, "password": self.password.get_secret_value()}


class ErrorView(Wire):
    """Why something was refused or failed."""

    code: str  #: a stable [error code](errors.md)
    message: str  #: a sentence that shows the value in question
    next: str = ""  #: what to do
    request: str = ""  #: id of the request that failed, as far as it is known


class BuildRequest(Wire):
    """`POST builds`: start or join. `spec` is what was typed or the path of a link."""

    spec: str  #: what was typed, or the path of a launch link
    commit: str = ""  #: full commit that the person confirmed; empty: resolve the ref now
    rebuild: bool = False  #: build although the image is there
    no_cache: bool = False  #: a rebuild in which Docker runs every step again


class BuildView(Wire):
    """A build, or the hit that made one needless (`id` is then the build that made the image)."""

    id: str  #: of the build
    state: BuildState  #: `queued` and `running` go on, the others are over
    phase: Phase  #: what it is at
    progress: int = Field(0, ge=0, le=100)  #: percent of the build alone
    spec: str  #: path of a launch link to it
    repository: str  #: normalised URL
    commit: str  #: full commit
    requested_by: str  #: name of who asked first
    hit: bool = False  #: the image was there, nothing was built
    joined: bool = False  #: an equal build was queued or running
    no_cache: bool = False  #: every step is run again
    request: str = ""  #: by which the logs know it: the id of the request that began it
    position: int = 0  #: in the queue, 1 is next; 0 if not queued
    image_id: str = ""  #: sha256:…, once built
    image_name: str = ""  #: littlest-binder/slug:tag
    visibility: Visibility = "everyone"  #: who may use its image
    groups: tuple[str, ...] = ()  #: with visibility "group"
    error: ErrorView | None = None  #: why it failed
    created: str = ""  #: UTC, ISO 8601
    started: str = ""  #: when it left the queue
    finished: str = ""  #: when it was over; empty: it goes on


class LogLine(Wire):
    """One event of a build's log. `n` counts from 1 without gaps and is the SSE id."""

    n: int  #: counts from 1 without gaps, and is the id of the event
    time: str  #: UTC, ISO 8601
    phase: Phase  #: what the build was at
    text: str = ""  #: the line, without its end
    progress: int | None = None  #: percent of the build
    error: ErrorView | None = None  #: with phase "failed"
    image_id: str = ""  #: with phase "built"


class ImageView(Wire):
    """An image of ours, as the pages and the form need it."""

    id: str  #: sha256:…
    name: str  #: littlest-binder/slug:tag
    title: str  #: as an administrator called it, or its repository
    spec: str  #: canonical path of a link to it, at its commit
    repository: str  #: normalised URL
    commit: str  #: full commit; empty for one that was adopted
    asked_ref: str = ""  #: branch, tag or commit that was asked for
    #: who had it built; told, as `launches`, `pin_reason` and `newer_problem`, to them and administrators
    built_by: str
    created: str  #: UTC, ISO 8601
    size: int  #: bytes, as Docker says; shared layers counted
    last_used: str = ""  #: when a server last ran on it; empty: never
    launches: int = 0  #: how many servers were started on it
    pinned: bool = False  #: now: a pin whose time is over is none
    older_recipe: bool = False  #: made by an earlier version of our builder
    users: tuple[str, ...] = ()  #: "person/server" of its containers, as far as the person may know
    build_id: str = ""  #: the build that made it, if it is known
    visibility: Visibility = "everyone"  #: who may use it
    groups: tuple[str, ...] = ()  #: with visibility "group"
    description: str = ""  #: plain text, what administrators say of it
    icon: str = ""  #: one emoji
    profile: str = ""  #: id of the profile of those who choose none
    urlpath: str = ""  #: what opens for those who ask for nothing else
    pin_reason: str = ""  #: why it is pinned
    pinned_until: str = ""  #: UTC, ISO 8601; empty: until it is taken away
    retired: bool = False  #: nobody starts it any more; servers that run on it go on
    adopted: bool = False  #: not built here: an administrator's word
    build_seconds: float | None = None  #: what its build took, if that is known
    last_used_by: str = ""  #: as far as the person may know
    own_bytes: int | None = None  #: what erasing it alone would free; null: not known on this engine
    building: bool = False  #: a build of the same repository and commit is queued or runs
    keep: str = ""  #: code of the rule by which retention keeps it; empty: it could be taken
    newer_commit: str = ""  #: where the ref that was asked for points meanwhile
    newer_looked: str = ""  #: when that was looked at
    newer_problem: str = ""  #: why it could not be found out
    decided: bool = False  #: an administrator has said something of it: its owner changes nothing any more

    @property
    def owner(self) -> str:
        return self.built_by


class ImageChange(BaseModel):
    """`PATCH images/{image}`: what is given changes, the rest stays.

    `visibility` and `groups` are for the image's owner too, unless it is for everyone or an administrator has
    decided about it; the rest is for administrators. If one value is refused, none changes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str | None = None  #: one line of at most 200 characters; empty: the repository's name
    description: str | None = None  #: plain text, at most 2000 characters
    icon: str | None = None  #: one emoji, or empty
    profile: str | None = None  #: id of the profile of those who choose none, or empty
    #: what opens for those who ask for nothing else: a path on the person's own server
    urlpath: str | None = None
    visibility: Visibility | None = None  #: who may use it; for its owner too
    groups: tuple[str, ...] | None = None  #: names of groups, with visibility `group`; for its owner too
    pinned: bool | None = None  #: whether it stays whatever the disk needs
    pin_reason: str | None = None  #: why, at most 300 characters
    #: a date (to its end) or a moment, UTC where no zone is given; empty: without end
    pinned_until: str | None = None
    retired: bool | None = None  #: servers that run go on, new ones are refused with `image-retired`


class ResolveView(Wire):
    """`POST resolve`: what a text means."""

    spec: str  #: canonical, with the ref that was asked
    display: str  #: for people: "github.com/owner/repo"
    repository: str  #: normalised URL
    page_url: str = ""  #: where a person can look at it
    ref: str  #: branch, tag or commit that was asked for
    commit: str  #: full commit to which it points
    image: Literal["ready", "building", "missing"]  #: whether there is one for this commit
    image_id: str = ""  #: of the one that is ready
    build_id: str = ""  #: of the build that goes on
    private: bool = False  #: the repository was read with the person's credential
    profile: str = ""  #: default profile of the image that is ready
    urlpath: str = ""  #: what it opens for those who ask for nothing else
    projects: tuple[ProjectView, ...] = ()  #: the person's projects of this repository
    warnings: tuple[str, ...] = ()  #: what the person should know before the start, a sentence each


class ProjectView(Wire):
    """The kept files of a person for one repository."""

    id: str  #: name of its folder
    owner: str  #: whose it is
    repository: str  #: normalised URL
    spec: str  #: path of a launch link to it
    commit: str  #: full commit whose files it began with
    created: str  #: UTC, ISO 8601
    last_used: str = ""  #: when a server last ran with it; empty: never
    title: str = ""  #: what its person calls it
    size_bytes: int | None = None  #: allocated bytes, hard links once; null: not measured yet
    size_whole: bool = True  #: false: at least so much
    measured: str = ""  #: when its size was
    archived: bool = False  #: deleted; `id` is then the one to bring it back by
    deleted: str = ""  #: when
    kept_until: str = ""  #: until when it can be brought back
    servers: tuple[str, ...] = ()  #: names of the person's servers that use it, where that was asked


class StorageView(Wire):
    """`GET storage`: what the person keeps in all, and the limit (0: none)."""

    used_bytes: int  #: allocated bytes of projects, deleted ones and the person's own folder
    whole: bool = True  #: false: at least so much
    limit_bytes: int = 0  #: 0: none
    #: `warn`: the limit is near; `full`: nothing that keeps files starts
    state: Literal["fine", "warn", "full"] = "fine"
    my_files_bytes: int | None = None  #: of the person's own folder; null: not measured yet
    problem: ErrorView | None = None  #: why the files cannot be reached now
    root: str = ""  #: administrators only


class MountView(Wire):
    """A folder of this machine that the person may have; `error` says why it cannot be had now."""

    id: str  #: what `mounts` of a launch takes
    title: str  #: for people
    description: str = ""  #: plain text
    target: str  #: absolute path in the server
    link: str  #: its name in the home
    access: Literal["read-only", "read-write"] = "read-only"  #: what a server may do with it
    default: bool = False  #: ticked on forms, never for a link
    picked: bool = False  #: by the person of a desktop, not in the catalogue
    error: ErrorView | None = None  #: why it cannot be had now


class PrepareRequest(Wire):
    """`POST prepare` (hub only): everything that a container needs besides its image."""

    server: str  #: its name; empty: the one without a name
    image_id: str  #: sha256:…
    repository: str  #: normalised URL
    spec: str  #: path of a launch link
    commit: str  #: full commit
    storage: Literal["project", "ephemeral"] = "project"  #: whether files are kept
    project: str = ""  #: id; empty: the repository's own; `new`: another one
    my_files: bool = False  #: whether the person's own folder is wanted


class Prepared(Wire):
    """The answer of `POST prepare`."""

    image_id: str  #: sha256:…
    image_name: str  #: littlest-binder/slug:tag
    home: str  #: absolute path in the container
    workdir: str  #: where the repository's files are
    project: str = ""  #: id, with storage "project"
    project_path: str = ""  #: absolute path on the host, to be mounted at `home`
    my_files_path: str = ""  #: absolute path on the host of the person's own folder, if it was wanted
    lease: str = ""  #: keeps the image until released or expired
    urlpath: str = ""  #: what the image opens for those who ask for nothing else
    packages: str = ""  #: where the image's own Python has its packages, if that is an environment of ours
    environment: dict[str, str] = {}  #: variables that the image needs in its server
    command: tuple[str, ...] = ("jupyterhub-singleuser",)  #: what starts the server


class ProfileView(Wire):
    """A profile that the person may choose. `lifetime_s` and `idle_s` of 0 mean without end.

    `problem` says why it does not fit now; it is not `possible` if it never fits what the person may have.
    """

    id: str  #: what `profile` of a launch takes
    title: str  #: for people
    description: str = ""  #: plain text
    memory_bytes: int  #: as much as the machine has, if the profile says more
    cpus: float  #: processors, also parts of one
    lifetime_s: float = 0  #: seconds after which its servers end; 0: never
    idle_s: float = 0  #: seconds without use after which its servers end; 0: never
    default: bool = False  #: what the person gets who chooses none
    problem: str = ""  #: why it does not fit now; empty: it does
    possible: bool = True  #: false: it never fits what the person may have


class RoomView(Wire):
    """What is free on the machine, read from it, and what the person has. A limit of 0 is none."""

    memory_bytes: int  #: of the machine
    available_bytes: int  #: memory that is free now, as the kernel says
    cpus: int  #: processors of the machine
    load: float  #: processors that were busy, on average over the last minute
    servers: int  #: running or starting ones of all people
    promised_bytes: int  #: sum of their memory limits
    capacity_bytes: int = 0  #: most that these limits may add up to
    own_servers: int = 0  #: the person's servers that run or start
    own_memory_bytes: int = 0  #: sum of their memory limits
    own_cpus: float = 0  #: sum of their processors
    may_servers: int = 0  #: most servers of the person; 0: no limit
    may_memory_bytes: int = 0  #: most memory of all of them; 0: no limit
    may_cpus: float = 0  #: most processors of all of them; 0: no limit


class ProfilesView(Wire):
    """`GET profiles`: what the person may choose, and what is free; no `room` where Docker is silent."""

    profiles: tuple[ProfileView, ...]  #: what the person may choose
    room: RoomView | None = None  #: what is free; null where Docker is silent


class LaunchView(Wire):
    """The answer of `POST launches`. `url` is the launch page, `state` what the server was found in."""

    server: str  #: its name, a random one where none was asked for
    url: str  #: path of its launch page
    state: Literal["starting", "ready"]  #: what it was found in


class LaunchEvent(Wire):
    """One event of `GET launches/{server}/events`: build and start as one stream.

    `progress` carries the percent of the whole way, the step and a sentence; `log` one line of the build
    `build`; `ready` the address to go to; `failed` the error. The last two end the stream.
    """

    type: Literal["progress", "log", "ready", "failed"]  #: `ready` and `failed` end the stream
    progress: int = Field(0, ge=0, le=100)  #: percent of the whole way
    step: LaunchStep = "fetch"  #: what it is at
    message: str = ""  #: a sentence
    build: str = ""  #: id of the build that it waits for
    line: LogLine | None = None  #: with type `log`: a line of that build
    url: str = ""  #: with type `ready`: where to go
    error: ErrorView | None = None  #: with type `failed`


class PlanItemView(Wire):
    """An image in a plan: `rule` is the code of what takes or keeps it, `text` a sentence that says it.

    `frees_bytes` of one that goes is what it adds to those before it; of one that stays, what erasing it
    alone would free.
    """

    image_id: str  #: sha256:…
    name: str  #: littlest-binder/slug:tag
    title: str  #: as the list of images calls it
    size: int  #: bytes, as Docker says; shared layers counted
    frees_bytes: int | None = None  #: null: not known on this engine
    rebuild_s: float | None = None  #: what its last build took; null: not known
    rule: str  #: code of what takes or keeps it
    text: str  #: a sentence that says it


class PlanView(Wire):
    """What a deletion or retention would do: `take` in this order, and what stays with its reason."""

    mode: Literal["evict", "erase"]  #: `evict` takes images, `erase` their part of the build cache as well
    take: tuple[PlanItemView, ...]  #: what goes, in this order
    keep: tuple[PlanItemView, ...]  #: what stays, with the reason
    frees_bytes: int | None = None  #: on Docker's disk; null: not known on this engine
    wanted_bytes: int = 0  #: what the policy asks for; 0: nothing


class RunResultView(Wire):
    """What became of one image of a run.

    `gone`: removed behind our back before. `kept`: something speaks for it now. `not-done`: the run was
    stopped or cut off before.
    """

    image_id: str  #: sha256:…
    name: str  #: littlest-binder/slug:tag
    outcome: Literal["evicted", "erased", "gone", "kept", "failed", "not-done"]  #: what became of it
    text: str = ""  #: a sentence that says why
    freed_bytes: int = 0  #: what Docker's disk gained meanwhile, measured


class RunView(Wire):
    """A plan that was carried out, or still is (`finished` empty). `gained_bytes` is measured."""

    id: str  #: of the run
    mode: Literal["evict", "erase"]  #: as in its plan
    by: str  #: a person, or "retention"
    started: str  #: UTC, ISO 8601
    finished: str = ""  #: empty: it goes on
    results: tuple[RunResultView, ...] = ()  #: what became of each image so far
    gained_bytes: int = 0  #: what Docker's disk gained, measured
    planned: int = 0  #: images that the plan took
    planned_bytes: int | None = None  #: what the plan said; null: not known on this engine
    wanted_bytes: int = 0  #: what the policy asked for; 0: nothing
    problem: ErrorView | None = None  #: why it ended before its end


class RetentionView(Wire):
    """`POST retention`: the plan under these settings (`dry_run`), or the run that was begun by it."""

    plan: PlanView  #: what goes and what stays
    run: RunView | None = None  #: what was begun; null: nothing, or it was not wanted
    used_percent: float | None = None  #: of Docker's disk; null: it cannot be looked at
    total_bytes: int | None = None  #: size of Docker's disk; null: it cannot be looked at


class DeletedView(Wire):
    """`DELETE images`: the plan, and unless it was only asked for, what was done."""

    plan: PlanView  #: what goes and what stays
    run: RunView | None = None  #: what was done; null: it was not wanted, or nothing could go


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

    `bytes` is null where the figure cannot be had on this machine: it is then contained in `else`, which is
    what all others leave of the used bytes. `whole` false: at least so much.
    """

    id: DiskPartId  #: who it is
    bytes: int | None = None  #: null: not to be had here, and contained in `else`
    whole: bool = True  #: false: at least so much


class DiskItem(Wire):
    """One of the largest of a part. `id` is an image's or a container's id, a person's name, a path."""

    part: DiskPartId  #: to whom it belongs
    id: str  #: of an image or a container, a person's name, a path
    title: str  #: for people
    bytes: int  #: allocated ones
    whole: bool = True  #: false: at least so much
    owner: str = ""  #: whose it is, where that is known


class FilesystemView(Wire):
    """A filesystem on which something of ours is. `total` is `used` and `free` together, as `df` reckons.

    What only root may fill is in neither.
    """

    path: str  #: where it is mounted
    holds: tuple[Literal["docker", "state", "projects"], ...]  #: what of ours is on it
    total: int  #: bytes, `used` and `free` together
    used: int  #: bytes
    free: int  #: bytes that everybody may fill
    parts: tuple[DiskPart, ...] = ()  #: who shares it
    growth: float | None = None  #: bytes a day, of the last days; null: not known yet
    full_in_s: float | None = None  #: at that rate; null: never, or not known

    @property
    def percent(self) -> float:
        return 100 * self.used / self.total if self.total else 0.0


class DiskView(Wire):
    """`GET disk`: who occupies what, as it was measured last; Docker's filesystem first."""

    measured: str = ""  #: empty: not yet
    filesystems: tuple[FilesystemView, ...] = ()  #: Docker's first
    largest: tuple[DiskItem, ...] = ()  #: the largest of each part
    warning: ErrorView | None = None  #: it is nearly full, or soon will be
    problem: ErrorView | None = None  #: why figures are old or missing


class MirrorView(Wire):
    """A stored copy of a repository; `needed` while an image of the repository is in the list."""

    name: str  #: readable, with a hash
    bytes: int  #: allocated ones
    used: str  #: when it was fetched from or into last
    needed: bool = False  #: an image of the repository is in the list


class DiskSample(Wire):
    """A filesystem at one moment, of its history."""

    time: str  #: UTC, ISO 8601
    path: str  #: where the filesystem is mounted
    total: int  #: bytes, `used` and `free` together
    used: int  #: bytes
    parts: dict[str, int] = {}  #: bytes by the id of a part


class DiskHistoryView(Wire):
    """`GET disk/history`: oldest first, thinned out with age."""

    samples: tuple[DiskSample, ...] = ()  #: oldest first


class RefusedImageView(Wire):
    """An image with our signature that was not taken into the list, and why."""

    id: str  #: sha256:…
    names: tuple[str, ...] = ()  #: its names in Docker
    reason: str  #: a sentence


class ProposalView(Wire):
    """An image of Docker that an administrator may adopt."""

    id: str  #: sha256:…
    names: tuple[str, ...]  #: its names in Docker
    size: int  #: bytes, as Docker says; shared layers counted
    created: str = ""  #: UTC, ISO 8601
    reason: str = ""  #: where it is from


class RescanView(Wire):
    """`POST images/rescan`: what was found again, and what could be adopted."""

    restored: tuple[ImageView, ...] = ()  #: what is in the list again
    known: int = 0  #: that were in the list before
    refused: tuple[RefusedImageView, ...] = ()  #: what is not, with the reason
    proposals: tuple[ProposalView, ...] = ()  #: what could be adopted


class NewerView(Wire):
    """Where the ref of an image points now.

    `fixed`: it was asked for by its commit; `gone`: the image is not there; `failed`: `error` says why
    nothing was found out. `build_id` is the build of the newer commit, where one was begun.
    """

    image_id: str  #: sha256:…
    title: str = ""  #: as the list of images calls it
    spec: str = ""  #: path of a launch link to it
    ref: str = ""  #: branch or tag that was asked for
    commit: str = ""  #: full commit of the image
    newer_commit: str = ""  #: full commit to which the ref points now
    state: Literal["same", "newer", "fixed", "failed", "gone"]  #: what was found
    error: ErrorView | None = None  #: with state `failed`: why nothing was found out
    build_id: str = ""  #: of the build of the newer commit, where one was begun


AccountBy = Literal["person", "group", "day"]


class AuditView(Wire):
    """An entry of the audit log: who did what to which thing, and how it ended."""

    number: int  #: counts up; send the last one as `before` for the next page
    time: str  #: UTC, ISO 8601
    who: str  #: name of a person, or of what acted by itself
    what: str  #: such as image.pin
    thing: str  #: id or name of what it was done to
    result: str  #: what came of it, in words
    request: str = ""  #: id of the request in which it happened


class AccountView(Wire):
    """What a person, a group or a day used. `name` is empty for people in no group."""

    name: str  #: of the person or group, or the day
    people: int = 0  #: how many it adds up
    servers: int = 0  #: that were started
    server_hours: float = 0  #: time that servers ran
    memory_gib_hours: float = 0  #: of the servers' limits, used or not
    cpu_hours: float = 0  #: the same of processors
    builds: int = 0  #: that began
    build_minutes: float = 0  #: time that builds ran
    kept_bytes: int | None = None  #: files kept now; null: not measured, and by day
    whole: bool = True  #: false: at least so much


class AccountingView(Wire):
    """`GET accounting`: the time from `since` until before `until`, both UTC."""

    since: str  #: UTC, ISO 8601
    until: str  #: UTC, ISO 8601; itself not included
    by: AccountBy  #: what a row stands for
    rows: tuple[AccountView, ...]  #: by name


HealthPartId = Literal["store", "docker", "hub", "disk", "queue", "firewall"]


class HealthPart(Wire):
    """Something that the service needs; `message` says what is wrong, and is empty where nothing is."""

    name: HealthPartId  #: what it is
    ok: bool  #: whether it is well
    message: str = ""  #: what is wrong


class HealthView(Wire):
    """`GET health`: with status 200 where all is well, else with 503."""

    ok: bool  #: whether all parts are well
    engine: bool  #: whether Docker answers
    # From here on for those signed in.
    engine_version: str = ""  #: Docker's; for those signed in
    message: str = ""  #: what is wrong with Docker; for those signed in
    # "in force", "off", or why the servers' network has no firewall rules.
    firewall: str = ""  #: `in force`, `off`, or why the servers' network has no rules; for those signed in
    # From here on for administrators and monitors.
    release: str = ""  #: the version that runs
    parts: tuple[HealthPart, ...] = ()  #: for administrators and monitors, as all below
    builds_queued: int | None = None  #: how many wait
    builds_running: int | None = None  #: how many run


FindingStatus = Literal["problem", "warning", "not-checked", "note", "ok"]


class FindingView(Wire):
    """What one check found about one thing. `repair` says what `doctor --fix` does; empty: nothing."""

    id: str  #: of the check, stable
    group: str  #: of checks
    title: str  #: what the check looks at
    about: str = ""  #: the thing, where a check looks at several
    status: FindingStatus  #: what it found
    seen: dict[str, str] = {}  #: what was read, names and values as texts
    meaning: str = ""  #: what it means for people
    fix: str = ""  #: what to do, a command or a sentence
    repair: str = ""  #: what `doctor --fix` does about it; empty: nothing


class RepairView(Wire):
    """What `doctor --fix` did about the finding of a check, or why it could not."""

    id: str  #: of the check
    about: str = ""  #: the thing, where a check looks at several
    done: str = ""  #: what was done
    error: str = ""  #: why it could not be


class DoctorView(Wire):
    """`GET doctor`: what the checks found, the worst first, and how many there are of each status."""

    checked: str  #: when, UTC, ISO 8601
    seconds: float  #: how long it took
    product: str = ""  #: our version
    platform: str = ""  #: `desktop`, `tljh` or `jupyterhub`
    state_dir: str = ""  #: the state folder
    counts: dict[FindingStatus, int]  #: how many findings have each status
    findings: tuple[FindingView, ...]  #: the worst first
    repairs: tuple[RepairView, ...] = ()  #: what `--fix` did


ResolveView.model_rebuild()
