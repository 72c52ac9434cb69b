"""Values that cross a process: hub, service and command line all read and write these.

They are pydantic models with a version. Unknown keys of a *newer* sender are ignored by readers;
what a person can send (`launch.options.LaunchOptions`) is stricter and lives in its own stage.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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


class ErrorView(Wire):
    code: str
    message: str
    next: str = ""


class BuildRequest(Wire):
    """`POST builds`: start or join. `spec` is what was typed or the path of a link."""

    spec: str
    commit: str = ""  # full commit that the person confirmed; empty: resolve the ref now
    rebuild: bool = False


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
    built_by: str
    created: str
    size: int  # bytes, as Docker says; shared layers counted
    last_used: str = ""
    launches: int = 0
    pinned: bool = False
    older_recipe: bool = False
    users: tuple[str, ...] = ()  # "person/server" of its containers, as far as the person may know
    build_id: str = ""  # the build that made it, if it is known
    visibility: Visibility = "everyone"
    groups: tuple[str, ...] = ()  # with visibility "group"

    @property
    def owner(self) -> str:
        return self.built_by


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


class PrepareRequest(Wire):
    """`POST prepare` (hub only): everything that a container needs besides its image."""

    server: str
    image_id: str
    repository: str
    spec: str
    commit: str
    storage: Literal["project", "ephemeral"] = "project"
    project: str = ""  # id; "" the repository's own; "new" another one


class Prepared(Wire):
    image_id: str
    image_name: str
    home: str  # absolute path in the container
    workdir: str  # where the repository's files are
    project: str = ""  # id, with storage "project"
    project_path: str = ""  # absolute path on the host, to be mounted at `home`
    lease: str = ""  # keeps the image until released or expired
    environment: dict[str, str] = {}
    command: tuple[str, ...] = ("jupyterhub-singleuser",)


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


class DeletionView(Wire):
    """`DELETE images/{id}`: the plan (`dry_run`), or what was done. `refused` says why it would stay.

    `gained_bytes` became free on Docker's disk meanwhile, measured.
    """

    image: ImageView
    deleted: bool = False
    gained_bytes: int = 0
    refused: ErrorView | None = None


class HealthView(Wire):
    ok: bool
    engine: bool
    engine_version: str = ""
    message: str = ""


ResolveView.model_rebuild()
