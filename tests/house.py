"""The service's two listeners over stages that are told what to say, and a hub that keeps its promises.

Real are: the handlers, the sign-in for tokens and cookies, XSRF, the client, launches, lookups, offers. The
stages behind them (queue, inventory, projects, Docker) have tests of their own; here they answer from memory.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from desktop import free_port
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler, create_signed_value
from waiting import LONG_S

from tljh_plugin import settings as binder_settings
from tljh_plugin.access import may
from tljh_plugin.cache.dossier import Dossier, LayerOf
from tljh_plugin.cache.filesystems import Usage
from tljh_plugin.cache.inventory import Snapshot
from tljh_plugin.cache.listing import Listed
from tljh_plugin.cache.mirrors import Mirrors
from tljh_plugin.cache.moves import Export, Wanted
from tljh_plugin.cache.plan import Candidate, Mode, Plan, plan_of, plan_retention
from tljh_plugin.cache.run import Outcome, Result, Run
from tljh_plugin.client import ServiceClient
from tljh_plugin.engine import ContainerRow, EngineInfo, Layer
from tljh_plugin.errors import BinderError, ImageNotFound, NotFound, ProjectInUse, RefNotFound
from tljh_plugin.hub_api import HubApi
from tljh_plugin.installation import ensure_state
from tljh_plugin.labels import KIND_LABEL
from tljh_plugin.launch.running import Running
from tljh_plugin.projects.deletion import read_title
from tljh_plugin.service import engine_health, events, folders, lookups, room
from tljh_plugin.service.again import Again
from tljh_plugin.service.app import cookie_secret, listening
from tljh_plugin.service.context import Context
from tljh_plugin.service.engine_health import EngineHealth
from tljh_plugin.service.environment import HubEnvironment, from_environment
from tljh_plugin.service.folders import Folders
from tljh_plugin.service.health import Health, Look
from tljh_plugin.service.launches import Launches
from tljh_plugin.service.lookups import Lookups
from tljh_plugin.service.offers import Offers
from tljh_plugin.service.pages import confirm
from tljh_plugin.service.room import Room
from tljh_plugin.service.sockets import Sockets
from tljh_plugin.settings import RetentionSettings, Settings
from tljh_plugin.source.credentials import Credentials, Login
from tljh_plugin.source.resolve import PinnedRepo
from tljh_plugin.source.spec import RepoSpec
from tljh_plugin.store import AuditEntry, AuditFilter, ImageRow, utc_now
from tljh_plugin.store.about_images import Launch, Package, PackagesRow, PastBuild
from tljh_plugin.store.audit import EVERYTHING
from tljh_plugin.wire import (
    AccountBy,
    AccountingView,
    AccountView,
    BuildView,
    DiskSample,
    DiskView,
    DoctorView,
    ErrorView,
    HealthPartId,
    ImageChange,
    ImageView,
    LogLine,
    NewerView,
    Person,
    Phase,
    Prepared,
    PrepareRequest,
    ProjectView,
    ProposalView,
    RescanView,
    StorageView,
    Visibility,
)

PREFIX = "/services/binder/"
SERVICE_TOKEN = "service-token-of-the-tests"
COMMIT, OLDER = "c0ffee" + "0" * 34, "0ddba11" + "0" * 33
NOW = "2026-11-21T09:26:52.123+00:00"
IMAGE = "sha256:" + "ab" * 32


def build_view(build_id: str = "b-1", **more: Any) -> BuildView:
    values: dict[str, Any] = {
        "id": build_id,
        "state": "running",
        "phase": "building",
        "progress": 40,
        "spec": "gh/owner/repo/main",
        "repository": "https://github.com/owner/repo",
        "commit": COMMIT,
        "requested_by": "ada",
        "created": NOW,
        "started": NOW,
    }
    return BuildView(**{**values, **more})


def image_view(image_id: str = IMAGE, **more: Any) -> ImageView:
    values: dict[str, Any] = {
        "id": image_id,
        "name": "littlest-binder/owner-repo:0123456789ab-01234567",
        "title": "owner/repo",
        "spec": f"gh/owner/repo/{COMMIT}",
        "repository": "https://github.com/owner/repo",
        "commit": COMMIT,
        "built_by": "ada",
        "created": NOW,
        "size": 1_234_567_890,
    }
    return ImageView(**{**values, **more})


def project_view(project_id: str = "owner-repo-0123abcd", **more: Any) -> ProjectView:
    values: dict[str, Any] = {
        "id": project_id,
        "owner": "ada",
        "repository": "https://github.com/owner/repo",
        "spec": "gh/owner/repo/main",
        "commit": COMMIT,
        "created": NOW,
    }
    return ProjectView(**{**values, **more})


def disk_view(**more: Any) -> DiskView:
    """A disk of 100 GiB that is nearly full, and one of people's projects."""
    gib = 1024**3
    sizes = {
        "servers": 2,
        "kept-images": 24,
        "evictable-images": 14,
        "build-cache": 20,
        "mirrors": 1,
        "other-docker": None,
        "else": 29,
    }
    parts = [
        {"id": name, "bytes": None if size is None else size * gib, "whole": name != "build-cache"}
        for name, size in sizes.items()
    ]
    docker = {
        "path": "/",
        "holds": ("docker", "state"),
        "total": 100 * gib,
        "used": 90 * gib,
        "free": 10 * gib,
    }
    people = {"path": "/srv", "holds": ("projects",), "total": 500 * gib, "used": 45 * gib, "free": 455 * gib}
    kept = [{"id": "projects", "bytes": 40 * gib}, {"id": "else", "bytes": 5 * gib}]
    largest = [
        {"part": "servers", "id": "c-1", "title": "ada/calm-otter", "bytes": gib, "owner": "ada"},
        {"part": "kept-images", "id": IMAGE, "title": "owner/repo", "bytes": 3 * gib, "owner": "ada"},
        {"part": "build-cache", "id": "r-1", "title": "mount / from exec /bin/sh -c pip", "bytes": 2 * gib},
        {
            "part": "mirrors",
            "id": "/m/x",
            "title": "github-com-owner-repo-0123456789abcdef",
            "bytes": gib // 2,
        },
        {"part": "projects", "id": "bob", "title": "bob", "bytes": 30 * gib, "owner": "bob", "whole": False},
    ]
    warning = ErrorView(
        code="disk-low",
        message="The disk `/` is 90 % full: 10 GiB are free, and at 4 GiB more a day it is full in 2 d 12 h.",
        next="Erase images that nobody needs, or let retention do it.",
    )
    values: dict[str, Any] = {
        "measured": NOW,
        "filesystems": [
            {**docker, "parts": parts, "growth": 4.0 * gib, "full_in_s": 216_000.0},
            {**people, "parts": kept},
        ],
        "largest": largest,
        "warning": warning,
    }
    return DiskView(**{**values, **more})


def disk_samples(hours: int = 24 * 10) -> list[DiskSample]:
    """One an hour until now: images that nobody needs come in, and so does build cache."""
    gib, now = 1024**3, datetime.now(timezone.utc)
    found = []
    for ago in range(hours, 0, -1):
        growing = {
            "evictable-images": max(0, 14 * gib - ago * gib // 24),
            "build-cache": max(0, 20 * gib - ago * gib // 16),
        }
        parts = {"servers": 2 * gib, "kept-images": 24 * gib, **growing, "mirrors": gib, "else": 29 * gib}
        time = (now - timedelta(hours=ago, minutes=-1)).isoformat(timespec="milliseconds")
        found.append(DiskSample(time=time, path="/", total=100 * gib, used=sum(parts.values()), parts=parts))
    return found


def line(n: int, phase: Phase = "building", text: str = "", **more: Any) -> LogLine:
    return LogLine(n=n, time=NOW, phase=phase, text=text or f"line {n}", **more)


class StandInEngine:
    def __init__(self) -> None:
        self.problem: BinderError | None = None
        self.no_firewall = ""
        self.running: list[Running] = []

    def is_ours(self, labels: Mapping[str, str]) -> bool:
        return True

    async def containers(self) -> list[ContainerRow]:
        if self.problem:
            raise self.problem
        return [
            ContainerRow(each.server, each.server, IMAGE, {KIND_LABEL: "server", **each.labels()}, "running")
            for each in self.running
        ]

    async def root_dir(self) -> str:
        return (await self.info()).root_dir

    async def missing_firewall(self) -> str:
        return self.no_firewall

    async def info(self) -> EngineInfo:
        if self.problem:
            raise self.problem
        return EngineInfo("27.1", "1.46", "overlay2", "/var/lib/docker", "x86_64")


class StandInResolver:
    """Knows `main` and full commits; holds its answer while `hold` is set."""

    def __init__(self) -> None:
        self.commit = COMMIT
        self.hold: asyncio.Event | None = None
        self.asked = 0

    async def resolve(self, spec: RepoSpec, commit: str = "", login: Login | None = None) -> PinnedRepo:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if commit or len(spec.ref) == 40:
            return PinnedRepo(spec, spec.normal_url, commit or spec.ref)
        if spec.ref not in ("", "main"):
            raise RefNotFound(f"{spec.display} has no `{spec.ref}`.", "Did you mean `main`?")
        return PinnedRepo(spec, spec.normal_url, self.commit, "refs/heads/main")


class StandInQueue:
    def __init__(self) -> None:
        self.builds: dict[str, BuildView] = {}
        self.logs: dict[str, list[LogLine]] = {}
        self.private: set[str] = set()
        self.more = asyncio.Condition()
        self.requested: list[tuple[str, PinnedRepo]] = []
        self.problem: BinderError | None = None
        self.readers = 0
        self.counts = (0, 0)

    def add(self, build: BuildView, lines: Iterable[LogLine] = ()) -> None:
        self.builds[build.id] = build
        self.logs[build.id] = list(lines)

    async def write(self, build_id: str, *lines: LogLine) -> None:
        async with self.more:
            self.logs[build_id] += lines
            self.more.notify_all()

    async def request(
        self, person: Person, pinned: PinnedRepo, rebuild: bool = False, **more: Any
    ) -> BuildView:
        if self.problem:
            raise self.problem
        self.requested.append((person.name, pinned))
        build = build_view(
            f"b-{len(self.builds) + 1}",
            state="queued",
            phase="queued",
            position=1,
            repository=pinned.url,
            spec=pinned.spec.path,
            requested_by=person.name,
        )
        self.add(build)
        return build

    async def state_of(self, person: Person, pinned: PinnedRepo) -> BuildView | None:
        if self.problem:
            raise self.problem
        return next(
            (
                each
                for each in self.builds.values()
                if (each.repository, each.commit) == (pinned.url, pinned.commit) and each.state != "failed"
            ),
            None,
        )

    async def get(self, build_id: str, person: Person | None = None) -> BuildView:
        build = self.builds.get(build_id)
        hidden = (
            build_id in self.private and person is not None and build and person.name != build.requested_by
        )
        if build is None or hidden:
            raise NotFound(f"There is no build {build_id!r}.", "Look at the list of builds.")
        return build

    async def list(
        self, person: Person | None = None, *, asked_by: str = "", limit: int = 200
    ) -> list[BuildView]:
        known = [each for each in reversed(self.builds.values()) if asked_by in ("", each.requested_by)]
        return known[:limit]

    async def cancel(self, build_id: str, person: Person) -> BuildView:
        build = await self.get(build_id, person)
        self.builds[build_id] = build.model_copy(update={"state": "cancelled", "phase": "cancelled"})
        return self.builds[build_id]

    async def follow(
        self, build_id: str, after: int = 0, person: Person | None = None
    ) -> AsyncIterator[LogLine]:
        self.readers += 1
        try:
            while True:
                for each in self.logs[build_id][after:]:
                    after = each.n
                    yield each
                    if each.phase in ("built", "failed", "cancelled"):
                        return
                if self.builds[build_id].state in ("built", "failed", "cancelled"):
                    return
                async with self.more:
                    if len(self.logs[build_id]) <= after:
                        await self.more.wait()
        finally:
            self.readers -= 1


class StandInInventory:
    def __init__(self) -> None:
        self.known: list[ImageView] = []
        self.others: list[Listed] = []
        self.looked = utc_now()
        self.recipe = ""
        self.problem: BinderError | None = None

    def listed(self) -> tuple[Listed, ...]:
        same = {each.name for each in fields(Listed)} & set(ImageView.model_fields)
        rows = [
            Listed(
                **{name: getattr(each, name) for name in same},
                containers=len(each.users),
                private=each.visibility != "everyone",
            )
            for each in self.known
        ]
        return (*rows, *self.others)

    def images(self, person: Person | None = None) -> list[ImageView]:
        return self.known

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot()

    def servers(self) -> int:
        return 0

    def image(self, image_id: str, person: Person | None = None) -> ImageView | None:
        return next((each for each in self.known if each.id == image_id), None)


class StandInSweep:
    """Plans with the real rules from what the inventory lists; deletes at once, `held` holds a run up."""

    def __init__(self, inventory: StandInInventory) -> None:
        self.inventory = inventory
        self.deleted: list[str] = []
        self.known: dict[str, Run] = {}
        self.stopped: list[str] = []
        self.held = False

    def candidates(self) -> list[Candidate]:
        return [
            Candidate(
                image_id=each.id,
                name=each.name,
                title=each.title,
                created=datetime.fromisoformat(each.created),
                chain=(Layer(each.id, each.size),),
                size=each.size,
                ours=each.ours,
                repository=each.repository,
                built_by=each.built_by,
                users=each.users,
                building=each.building,
                pinned=each.pinned,
                pin_reason=each.pin_reason,
                retired=each.retired,
                last_used=datetime.fromisoformat(each.last_used) if each.last_used else None,
                rebuild_s=each.build_seconds,
            )
            for each in self.inventory.listed()
        ]

    async def plan(self, ids: Sequence[str], mode: Mode, person: Person) -> Plan:
        known = {each.image_id for each in self.candidates()}
        for each in ids:
            if each not in known:
                raise ImageNotFound(f"There is no image {each!r}.", "Look at the list of images.")
        return plan_of(ids, self.candidates(), mode, min_age_hours=0, now=datetime.now(timezone.utc))

    async def begin(self, plan: Plan, person: Person) -> Run:
        run = Run(f"r-{len(self.known) + 1}", plan.mode, person.name, NOW, plan)
        if not self.held:
            outcome: Outcome = "erased" if plan.mode == "erase" else "evicted"
            results = tuple(Result(each.image_id, each.name, outcome, "", 4096) for each in plan.take)
            run = replace(run, finished=NOW, results=results, gained_bytes=4096 * len(results))
            self.deleted += plan.ids
            self.inventory.known = [each for each in self.inventory.known if each.id not in plan.ids]
        self.known[run.id] = run
        return run

    async def carry_out(self, plan: Plan, person: Person) -> Run:
        return await self.begin(plan, person)

    async def wait(self, run_id: str, seconds: float) -> Run:
        return self.known[run_id]

    async def run(self, run_id: str) -> Run | None:
        return self.known.get(run_id)

    async def runs(self, limit: int = 50) -> list[Run]:
        return list(self.known.values())[::-1][:limit]

    def stop(self, run_id: str) -> None:
        self.stopped.append(run_id)


class StandInRetention:
    """The real plan of a policy, on a disk that is as full as `disk` says."""

    def __init__(self, sweep: StandInSweep) -> None:
        self.sweep = sweep
        self.policy = RetentionSettings(min_age_hours=0)
        self.enabled = True
        self.disk = Usage(10**11, 9 * 10**10, 10**10)
        self.problem: BinderError | None = None

    async def usage(self) -> Usage | None:
        return self.disk

    async def preview(self, policy: RetentionSettings | None = None) -> Plan:
        now = datetime.now(timezone.utc)
        return plan_retention(self.sweep.candidates(), policy or self.policy, self.disk, now, begun=True)

    async def begin(self, person: Person) -> Run | None:
        plan = await self.preview()
        return await self.sweep.begin(plan, person) if plan.take else None


class StandInDossiers:
    """What is in an image: two layers, one of them shared, and what its list says."""

    def __init__(self, inventory: StandInInventory) -> None:
        self.inventory = inventory
        self.packages: PackagesRow | None = PackagesRow(
            NOW, (Package("python", "numpy", "2.3.1"), Package("debian", "git", "1:2.39.5"))
        )
        self.builds = (PastBuild("b-1", "built", "ada", NOW, NOW, NOW, IMAGE, ""),)
        self.launches = (Launch("eve", "calm-otter", NOW),)

    async def of(self, image_id: str) -> Dossier | None:
        view = self.inventory.image(image_id)
        if view is None:
            return None
        layers = (LayerOf("sha256:base", 300_000_000, ("owner/other",)), LayerOf("sha256:top", 4096, ()))
        row = ImageRow(
            **{
                name: getattr(view, name)
                for name in {f.name for f in fields(ImageRow)} & set(ImageView.model_fields)
            },
            image_id=image_id,
            identity="identity",
            url=view.repository,
            subdir="",
            platform="linux/amd64",
            recipe="0123456789abcdef",
            home="/home/jovyan",
            workdir="/home/jovyan",
        )
        return Dossier(row, layers, self.packages, self.builds, self.launches)


class StandInSharing:
    def __init__(self, inventory: StandInInventory) -> None:
        self.inventory = inventory
        self.shared: list[tuple[str, str, str, tuple[str, ...]]] = []

    async def share(
        self, image_id: str, person: Person, visibility: Visibility, groups: Sequence[str] = ()
    ) -> None:
        self.shared.append((image_id, person.name, visibility, tuple(groups)))


class StandInDescribing:
    def __init__(self, sharing: StandInSharing) -> None:
        self.sharing = sharing
        self.asked: list[tuple[str, str, ImageChange]] = []
        self.problem: BinderError | None = None

    async def change(self, image_id: str, person: Person, asked: ImageChange) -> None:
        if self.problem:
            raise self.problem
        self.asked.append((image_id, person.name, asked))
        if asked.visibility is not None:
            await self.sharing.share(image_id, person, asked.visibility, asked.groups or ())


class StandInAudit:
    """Two entries, or what it is told."""

    def __init__(self) -> None:
        self.known = [
            AuditEntry(2, NOW, "root", "image.pin", "littlest-binder/owner-repo:1", "until the exam"),
            AuditEntry(1, NOW, "ada", "project.delete", "ada/owner-repo-0123abcd", "done"),
        ]
        self.asked: list[AuditFilter] = []

    async def entries(
        self, wanted: AuditFilter = EVERYTHING, *, limit: int = 200, before: int = 0
    ) -> list[AuditEntry]:
        self.asked.append(wanted)
        found = [
            each
            for each in self.known
            if (not before or each.number < before)
            and wanted.who in ("", each.who)
            and wanted.thing in each.thing
        ]
        return found[:limit]

    async def actions(self) -> list[str]:
        return sorted({each.what for each in self.known})

    async def note(self, who: str, what: str, thing: str, result: str) -> None:
        self.known.insert(0, AuditEntry(len(self.known) + 1, NOW, who, what, thing, result))


class StandInAccounting:
    """One row, whatever is asked."""

    def __init__(self) -> None:
        self.rows = (
            AccountView(
                name="ada",
                people=1,
                servers=3,
                server_hours=7.5,
                memory_gib_hours=15.0,
                cpu_hours=7.5,
                builds=2,
                build_minutes=4.5,
                kept_bytes=123_456_789,
            ),
        )
        self.asked: list[tuple[AccountBy, str, str]] = []

    async def view(self, by: AccountBy, since: str, until: str) -> AccountingView:
        self.asked.append((by, since, until))
        return AccountingView(since=since, until=until, by=by, rows=self.rows)


class StandInProjects:
    def __init__(self) -> None:
        self.known: list[ProjectView] = []

    async def list(self, person: Person) -> list[ProjectView]:
        return [each for each in self.known if each.owner == person.name]


class StandInKeptFiles:
    """Keeps what `StandInProjects` has, and what was deleted of it."""

    def __init__(self, projects: StandInProjects) -> None:
        self.live = projects
        self.gone: list[ProjectView] = []
        self.now = StorageView(used_bytes=1024)
        self.in_use: set[str] = set()
        self.adopted_by = ""

    async def projects(self, person: Person) -> list[ProjectView]:
        return await self.live.list(person)

    async def deleted(self, person: Person) -> list[ProjectView]:
        return [each for each in self.gone if each.owner == person.name]

    async def delete(self, person: Person, identifier: str) -> ProjectView:
        found = self._take(self.live.known, person, identifier)
        if identifier in self.in_use:
            self.live.known.append(found)
            raise ProjectInUse(f"The project {identifier} is in use by calm-otter.", "Stop it.")
        later = "2026-12-05T09:26:52.123+00:00"
        gone = {"id": f"{identifier}.20261121t092652123000", "deleted": NOW, "kept_until": later}
        self.gone.append(found.model_copy(update={**gone, "archived": True}))
        return self.gone[-1]

    async def undelete(self, person: Person, identifier: str) -> ProjectView:
        found = self._take(self.gone, person, identifier)
        back = {"id": identifier.partition(".")[0], "archived": False, "deleted": "", "kept_until": ""}
        self.live.known.append(found.model_copy(update=back))
        return self.live.known[-1]

    async def remove(self, person: Person, identifier: str) -> None:
        self._take(self.gone, person, identifier)

    async def rename(self, person: Person, identifier: str, title: str) -> ProjectView:
        found = self._take(self.live.known, person, identifier)
        self.live.known.append(found.model_copy(update={"title": read_title(title)}))
        return self.live.known[-1]

    async def storage(self, person: Person, *, admin: bool = False) -> StorageView:
        return self.now

    async def adopt(self, person: Person) -> StorageView:
        self.adopted_by = person.name
        return self.now

    def _take(self, among: list[ProjectView], person: Person, identifier: str) -> ProjectView:
        for each in among:
            if (each.owner, each.id) == (person.name, identifier):
                among.remove(each)
                return each
        raise NotFound(f"You have no project {identifier!r}.", "Look at your projects.")


class StandInDisk:
    """Says what it is told of the disk."""

    def __init__(self) -> None:
        self.now = DiskView()
        self.samples: list[DiskSample] = []

    def view(self) -> DiskView:
        return self.now

    async def history(self, since: datetime, path: str = "") -> list[DiskSample]:
        return [each for each in self.samples if datetime.fromisoformat(each.time) >= since]

    def wake(self) -> None:
        """It was told that something large came or went."""


class StandInExamination:
    """Finds what it is told, and counts how often it is asked."""

    def __init__(self) -> None:
        self.found = DoctorView(
            checked=NOW,
            seconds=1.5,
            counts={"problem": 0, "warning": 0, "not-checked": 0, "note": 0, "ok": 0},
            findings=(),
        )
        self.last: DoctorView | None = None
        self.asked = 0

    async def now(self) -> DoctorView:
        self.asked += 1
        self.last = self.found
        return self.found


class StandInRescan:
    def __init__(self) -> None:
        self.found = RescanView()
        self.known: list[ProposalView] = []
        self.run_by: list[str] = []

    async def run(self, person: Person) -> RescanView:
        self.run_by.append(person.name)
        return self.found

    def proposals(self) -> list[ProposalView]:
        return self.known


class StandInAdoption:
    def __init__(self) -> None:
        self.adopted: list[tuple[str, str]] = []
        self.said: dict[str, Any] = {}
        self.problem: BinderError | None = None

    async def adopt(self, person: Person, image: str, **more: Any) -> str:
        if self.problem:
            raise self.problem
        self.adopted.append((person.name, image))
        self.said = more
        return IMAGE


class StandInMoves:
    """Takes any file for the image that it is told, and gives a few bytes for any image."""

    def __init__(self) -> None:
        self.image = IMAGE
        self.received: list[tuple[str, bytes, Wanted]] = []
        self.problem: BinderError | None = None

    @asynccontextmanager
    async def export(self, person: Person, image_id: str) -> AsyncIterator[Export]:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(3):
                if self.problem and number == 2:
                    raise self.problem
                yield bytes([number]) * 1000

        yield Export("image.tar", pieces())

    async def receive(self, person: Person, data: AsyncIterator[bytes], wanted: Wanted) -> str:
        if self.problem:
            raise self.problem
        self.received.append((person.name, b"".join([piece async for piece in data]), wanted))
        return self.image


class StandInNewer:
    def __init__(self) -> None:
        self.found: list[NewerView] = []
        self.asked: list[tuple[str, tuple[str, ...], bool]] = []

    async def look(
        self, person: Person, image_ids: Sequence[str] = (), *, build: bool = False
    ) -> list[NewerView]:
        self.asked.append((person.name, tuple(image_ids), build))
        return self.found

    async def build(self, person: Person, image_id: str) -> BuildView:
        self.asked.append((person.name, (image_id,), True))
        return build_view()


class StandInPreparations:
    def __init__(self) -> None:
        self.released: list[tuple[str, bool]] = []
        self.cancelled = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.begun = asyncio.Event()

    async def prepare(self, person: Person, request: PrepareRequest) -> Prepared:
        self.begun.set()
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Prepared(
            image_id=request.image_id,
            image_name="n",
            home="/home/jovyan",
            workdir="/home/jovyan",
            lease=f"lease of {person.name}",
        )

    async def release(self, lease: str, ok: bool) -> None:
        self.released.append((lease, ok))


# -- the hub ------------------------------------------------------------------------------------------


class StandInHub:
    """JupyterHub's API as far as the service uses it, in the shapes of JupyterHub 6."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, Any]] = {}
        self.servers: dict[str, dict[str, dict[str, Any]]] = {}
        self.progress: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.watchers = 0
        self.not_starting = 400  # or 404: JupyterHub answers either to who asks about a stopped server
        self.requests: list[str] = []  # ids of the requests that started servers
        self.started: list[tuple[str, str, dict[str, Any]]] = []
        self.stopped: list[tuple[str, str]] = []
        self.port = 0
        self.add("ada")
        self.add("bob")
        self.add("root", admin=True)

    def add(
        self, name: str, *, admin: bool = False, scopes: Iterable[str] = (), groups: Iterable[str] = ()
    ) -> None:
        own = [f"servers!user={name}", f"read:users!user={name}", "access:services!service=binder", *scopes]
        own += ["admin:users"] if admin else []
        self.people[f"{name}-token"] = {
            "kind": "user",
            "name": name,
            "admin": admin,
            "groups": list(groups),
            "scopes": own,
            "session_id": f"session of {name}",
        }
        self.servers.setdefault(name, {})

    def put(
        self,
        person: str,
        name: str,
        *,
        ready: bool = True,
        pending: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.servers[person][name] = {
            "name": name,
            "ready": ready,
            "pending": pending,
            "stopped": not (ready or pending),
            "url": f"/user/{person}/{name}/",
            "user_options": options or {},
            "last_activity": NOW,
        }

    def application(self) -> Application:
        hub = self

        class Handler(RequestHandler):
            def who(self, name: str = "") -> dict[str, Any]:
                token = self.request.headers.get("Authorization", "").partition(" ")[2]
                model = hub.people.get(token)
                if model is None:
                    raise HTTPError(403)
                if name and name != model["name"]:
                    raise HTTPError(404)
                return model

            def write_error(self, status_code: int, **_: Any) -> None:
                self.finish({"status": status_code, "message": self._reason})

        class Root(Handler):
            def get(self) -> None:
                self.finish({"version": "6.1.1"})

        class Me(Handler):
            def get(self) -> None:
                self.finish(self.who())

        class User(Handler):
            def get(self, name: str) -> None:
                self.finish({**self.who(name), "servers": hub.servers[name]})

        class Server(Handler):
            def post(self, name: str, server: str) -> None:
                self.who(name)
                body = json.loads(self.request.body or b"{}")
                found = hub.servers[name].get(server)
                if found and found["ready"]:
                    self.set_status(400)
                    self.finish({"status": 400, "message": f"{name}:{server} is already running"})
                    return
                options = body.get("user_options", (found or {}).get("user_options", {}))
                hub.started.append((name, server, options))
                hub.requests.append(self.request.headers.get("X-Request-ID", ""))
                hub.put(name, server, ready=False, pending="spawn", options=options)
                self.set_status(202)

            def delete(self, name: str, server: str) -> None:
                self.who(name)
                hub.stopped.append((name, server))
                hub.put(name, server, ready=False, options=hub.servers[name][server]["user_options"])
                self.set_status(204)

        class Progress(Handler):
            async def get(self, name: str, server: str) -> None:
                self.who(name)
                if server not in hub.servers[name]:
                    raise HTTPError(404)
                if (name, server) not in hub.progress:
                    raise HTTPError(hub.not_starting, reason="is not starting")
                self.set_header("Content-Type", "text/event-stream")
                self.gone = asyncio.Event()
                hub.watchers += 1
                try:
                    for event in hub.progress[name, server]:
                        self.write(f"data: {json.dumps(event)}\n\n")
                        await self.flush()
                    last = (hub.progress[name, server] or [{}])[-1]
                    if not (last.get("ready") or last.get("failed")):
                        await self.gone.wait()
                finally:
                    hub.watchers -= 1

            def on_connection_close(self) -> None:
                self.gone.set()

        return Application(
            [
                (r"/hub/api/?", Root),
                (r"/hub/api/user", Me),
                (r"/hub/api/users/([^/]+)", User),
                (r"/hub/api/users/([^/]+)/servers/([^/]+)", Server),
                (r"/hub/api/users/([^/]+)/servers/([^/]+)/progress", Progress),
            ]
        )


# -- all of it ----------------------------------------------------------------------------------------


class House:
    """The running service and everything behind it."""

    def __init__(self, settings: Settings, environment: HubEnvironment, hub: StandInHub) -> None:
        self.settings = settings
        self.environment = environment
        self.hub = hub
        self.engine = StandInEngine()
        self.resolver = StandInResolver()
        self.queue = StandInQueue()
        self.inventory = StandInInventory()
        self.sweep = StandInSweep(self.inventory)
        self.retention = StandInRetention(self.sweep)
        self.dossiers = StandInDossiers(self.inventory)
        self.sharing = StandInSharing(self.inventory)
        self.describing = StandInDescribing(self.sharing)
        self.audit = StandInAudit()
        self.accounting = StandInAccounting()
        self.projects = StandInProjects()
        self.kept_files = StandInKeptFiles(self.projects)
        self.preparations = StandInPreparations()
        self.disk = StandInDisk()
        self.examination = StandInExamination()
        self.rescan = StandInRescan()
        self.adoption = StandInAdoption()
        self.moves = StandInMoves()
        self.newer = StandInNewer()
        self.problems: dict[HealthPartId, str] = {}
        self.mirrored: list[ImageRow] = []  # images whose repositories' copies are needed
        self.mirrors = Mirrors(settings, self._mirrored, self._noted)
        self.url = environment.url.rstrip("/") + PREFIX

    async def _mirrored(self) -> list[ImageRow]:
        return self.mirrored

    async def _noted(self, who: str, what: str, thing: str, result: str) -> None:
        self.audit.known.insert(0, AuditEntry(len(self.audit.known) + 1, NOW, who, what, thing, result))

    def context(self, hub_api: HubApi) -> Context:
        given: Any = self
        lookups = Lookups(
            self.settings,
            given.resolver,
            given.queue,
            given.projects,
            Credentials(self.settings),
            given.inventory,
        )
        return Context(
            settings=self.settings,
            environment=self.environment,
            engine_health=EngineHealth(given.engine),
            inventory=given.inventory,
            dossiers=given.dossiers,
            sweep=given.sweep,
            retention=given.retention,
            sharing=given.sharing,
            describing=given.describing,
            audit=given.audit,
            accounting=given.accounting,
            queue=given.queue,
            again=Again(lookups, given.queue, given.inventory),
            rescan=given.rescan,
            adoption=given.adoption,
            moves=given.moves,
            newer=given.newer,
            mirrors=given.mirrors,
            projects=given.projects,
            kept_files=given.kept_files,
            lookups=lookups,
            launches=Launches(self.environment, hub_api, lookups, given.queue),
            preparations=given.preparations,
            offers=Offers(self.settings, given.inventory, given.queue, lookups),
            folders=Folders(self.settings, given.engine, given.audit.note),
            room=Room(self.settings, given.engine),
            disk=given.disk,
            health=Health({name: self._look(name) for name in get_args(HealthPartId)}, wait_s=LONG_S),
            examination=given.examination,
        )

    def _look(self, name: HealthPartId) -> Look:
        """What a part says of itself: what the test wrote into `problems`."""

        async def look() -> str:
            if name == "docker" and self.engine.problem:
                raise self.engine.problem
            return self.problems.get(name, "")

        return look

    def come(self, hub_api: HubApi) -> None:
        """What it listens with."""
        self._context = self.context(hub_api)
        self._listeners = AsyncExitStack()

    async def listening(self) -> None:
        sockets = self._listeners.enter_context(Sockets())
        await self._listeners.enter_async_context(listening(self._context, sockets))

    async def go(self) -> None:
        await self._listeners.aclose()

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """The service does not run for a while."""
        await self.go()
        yield
        await self.listening()

    def client(self, person: str) -> ServiceClient:
        """The typed client, over HTTP with the person's token."""
        return ServiceClient(url=self.url, token=f"{person}-token")

    def own_client(self, person: str, **more: Any) -> ServiceClient:
        """The typed client, over our own socket."""
        return ServiceClient(socket=self.settings.service_socket, person=Person(name=person, **more))

    def browser(self, person: str = "", **headers: str) -> Browser:
        """Somebody's browser, signed in unless `person` is empty."""
        return Browser(self, person, headers)


class Browser(httpx.AsyncClient):
    """Sends what a browser sends, and knows the XSRF token of the page it saw last."""

    def __init__(self, house: House, person: str, headers: dict[str, str]) -> None:
        cookies: dict[str, str] = {}
        if person:
            signed = create_signed_value(cookie_secret(house.settings), "service-binder", f"{person}-token")
            cookies["service-binder"] = signed.decode()
        super().__init__(
            base_url=house.url,
            timeout=LONG_S,
            cookies=cookies,
            headers={
                "User-Agent": "Browser",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Site": "none",
                **headers,
            },
        )
        self.xsrf = ""

    async def visit(self, path: str, **more: Any) -> httpx.Response:
        """Open a page."""
        answer = await self.get(path, **more)
        found = re.search(r'name="binder-xsrf" content="([^"]+)"', answer.text)
        self.xsrf = found[1] if found else ""
        return answer

    async def submit(self, path: str, /, **fields: str) -> httpx.Response:
        """Send a form of the page that was opened last."""
        return await self.post(path, data={"_xsrf": self.xsrf, **fields})

    async def ask(self, path: str, **headers: str) -> httpx.Response:
        """What a script of the page fetches."""
        return await self.get(
            path, headers={"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", **headers}
        )


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is slow here but the machine, which is not what tests of the service are about."""
    for module, name in (
        (confirm, "_PATIENCE_S"),
        (engine_health, "_WAIT_S"),
        (events, "_FIRST_S"),
        (folders, "_DOCKER_S"),
        (lookups, "_DOCKER_S"),
        (room, "_WAIT_S"),
    ):
        monkeypatch.setattr(module, name, LONG_S)


@asynccontextmanager
async def open_house(folder: Path, *, hub_host: str = "", **section: Any) -> AsyncIterator[House]:
    """Everything up, on free ports."""
    hub = StandInHub()
    sockets = bind_sockets(0, "127.0.0.1")
    hub.port = sockets[0].getsockname()[1]
    hub_server = HTTPServer(hub.application())
    hub_server.add_sockets(sockets)
    settings = binder_settings.from_mapping(section, platform="desktop", state_dir=folder, owner="root")
    ensure_state(settings)
    environment = from_environment(
        {
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{free_port()}",
            "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
            "JUPYTERHUB_API_TOKEN": SERVICE_TOKEN,
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub.port}/hub/api",
            "JUPYTERHUB_HOST": hub_host,
        }
    )
    house = House(settings, environment, hub)
    try:
        async with HubApi(environment.api_url, SERVICE_TOKEN) as hub_api:
            house.come(hub_api)
            await house.listening()
            try:
                yield house
            finally:
                await house.go()
    finally:
        hub_server.stop()
        await hub_server.close_all_connections()


__all__ = [
    "COMMIT",
    "IMAGE",
    "OLDER",
    "ErrorView",
    "House",
    "build_view",
    "image_view",
    "line",
    "may",
    "open_house",
]
