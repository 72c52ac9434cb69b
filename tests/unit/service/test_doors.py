"""Every address of the service, for every kind of person, about things that are private, a group's, or not.

Real are the handlers, the store, the inventory, the queue, sharing and deleting; Docker and the building are
not. A new address without a line in `DOORS` fails `test_every_address_has_a_line_here`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
import pytest_asyncio
from house import NOW, PREFIX, SERVICE_TOKEN, House, open_house, project_view
from small_docker import SmallDocker
from tornado.web import RequestHandler
from waiting import LONG_S, until

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.build.log import BuildLog
from tljh_plugin.build.queue import Queue
from tljh_plugin.cache.adoption import Adoption
from tljh_plugin.cache.build_cache import BuildCache
from tljh_plugin.cache.candidates import Candidates
from tljh_plugin.cache.describing import Describing
from tljh_plugin.cache.dossier import Dossiers
from tljh_plugin.cache.filesystems import Usage
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.layers import Layers
from tljh_plugin.cache.leases import Leases
from tljh_plugin.cache.plan import Plan
from tljh_plugin.cache.rescan import Rescan
from tljh_plugin.cache.retention import Retention
from tljh_plugin.cache.run import Run, to_row
from tljh_plugin.cache.sharing import Sharing
from tljh_plugin.cache.sweep import Sweep
from tljh_plugin.client import PERSON_HEADER
from tljh_plugin.errors import BuildFailed
from tljh_plugin.hub_api import HubApi
from tljh_plugin.service.accounting import Accounting
from tljh_plugin.service.api import binderhub
from tljh_plugin.service.app import application
from tljh_plugin.service.auth import HubDoor, SocketDoor
from tljh_plugin.service.in_work import InWork
from tljh_plugin.service.preparations import Preparations
from tljh_plugin.source.spec import parse_link
from tljh_plugin.store import BuildRow, ImageRow, Store, utc_now
from tljh_plugin.wire import Person, PrepareRequest, Visibility

Kind = Literal["anonymous", "stranger", "other", "member", "owner", "admin", "narrow"]
Rule = Literal[
    "all", "nobody", "signed-in", "see", "change", "delete", "admin", "own server", "own project", "desktop"
]

# `narrow` is a token that the administrator gave few scopes, `stranger` has no right to use the service.
KINDS: dict[Kind, str] = {
    "anonymous": "",
    "stranger": "eve",
    "other": "bob",
    "member": "carol",
    "owner": "ada",
    "admin": "root",
    "narrow": "narrow",
}
THINGS: tuple[Visibility, ...] = ("private", "group", "everyone")
GROUP = "physics"


@dataclass(frozen=True)
class Thing:
    """A build, its log and its image. What tells of it may be told to those alone who may see it."""

    visibility: Visibility

    @property
    def number(self) -> int:
        return THINGS.index(self.visibility) + 1

    @property
    def image(self) -> str:
        return f"sha256:{self.number:064x}"

    @property
    def build(self) -> str:
        return f"b-20260101-{self.visibility}"

    @property
    def commit(self) -> str:
        return f"{self.number:040x}"

    @property
    def repository(self) -> str:
        return f"gh/lab/{self.visibility}-matter"

    @property
    def seen(self) -> str:
        """What the form of a plan says that takes this image alone."""
        return hashlib.sha256(f"erase\n{self.image}".encode()).hexdigest()[:16]

    @property
    def telling(self) -> tuple[str, ...]:
        return (
            self.image,
            self.build,
            self.commit,
            f"{self.visibility}-matter",
            f"{self.visibility} log line",
        )

    def seen_by(self, kind: Kind) -> bool:
        seeing = {"private": (), "group": ("member",), "everyone": ("member", "other", "narrow")}
        return kind in ("owner", "admin", *seeing[self.visibility])

    def fill(self, text: str) -> str:
        for name in ("image", "build", "commit", "repository", "visibility", "seen"):
            text = text.replace(f"{{{name}}}", str(getattr(self, name)))
        return text


@dataclass(frozen=True)
class Door:
    """How to knock at an address, and by which rule it opens. `thing`: once for each thing."""

    rule: Rule
    path: str = ""
    body: str = ""
    form: dict[str, str] = field(default_factory=dict)

    @property
    def thing(self) -> bool:
        return bool(re.search(r"\{\w+\}", self.path + self.body + str(self.form)))


PROJECT, DELETED = "owner-repo-0123abcd", "gone-0123abcd.20261121t092652123000"
_SPEC = '{"spec": "{repository}/main", "commit": "{commit}"}'
_SHARE = '{"visibility": "{visibility}", "groups": [GROUPS]}'
_PREPARE = PrepareRequest(
    server="x", image_id="IMAGE", repository="r", spec="gh/o/r/main", commit="0" * 40, storage="ephemeral"
)

# By method and pattern below the API; in path and body the names of a `Thing` stand for its values.
API: dict[tuple[str, str], Door] = {
    ("GET", "health"): Door("all"),
    ("GET", "metrics"): Door("admin"),
    ("GET", "link"): Door("signed-in", "link?repository=lab/private-matter"),
    ("POST", "resolve"): Door("signed-in", body=_SPEC),
    ("GET", "builds"): Door("signed-in"),
    ("POST", "builds"): Door("signed-in", body=_SPEC),
    ("GET", "builds/([^/]+)"): Door("see", "builds/{build}"),
    ("DELETE", "builds/([^/]+)"): Door("see", "builds/{build}"),
    ("POST", "builds/([^/]+)/retry"): Door("see", "builds/{build}/retry"),
    ("GET", "builds/([^/]+)/log"): Door("see", "builds/{build}/log"),
    ("GET", "builds/([^/]+)/events"): Door("see", "builds/{build}/events"),
    ("GET", "images"): Door("signed-in"),
    ("POST", "images/rescan"): Door("admin"),
    ("GET", "images/adoptable"): Door("admin"),
    ("POST", "images/adopt"): Door("admin", body='{"image": "{image}"}'),
    ("POST", "images/newer"): Door("admin", body='{"images": ["{image}"], "build": true}'),
    ("POST", "images/import"): Door("admin", "images/import?trust=1", body="EMPTY"),
    ("GET", "images/([^/]+)/export"): Door("admin", "images/{image}/export"),
    ("GET", "images/([^/]+)"): Door("see", "images/{image}"),
    ("PATCH", "images/([^/]+)"): Door("change", "images/{image}", body=_SHARE),
    ("DELETE", "images"): Door("delete", "images?id={image}&mode=evict"),
    ("POST", "retention"): Door("admin", body='{"dry_run": false}'),
    ("GET", "runs"): Door("admin"),
    ("GET", "runs/([^/]+)"): Door("admin", "runs/r-1"),
    ("DELETE", "runs/([^/]+)"): Door("admin", "runs/r-1"),
    ("POST", "images/([^/]+)/rebuild"): Door("see", "images/{image}/rebuild", body='{"no_cache": true}'),
    ("GET", "projects"): Door("signed-in", "projects?deleted=1"),
    ("PATCH", "projects/([^/]+)"): Door("own project", f"projects/{PROJECT}", body='{"title": "x"}'),
    ("DELETE", "projects/([^/]+)"): Door("own project", f"projects/{PROJECT}"),
    ("POST", "projects/([^/]+)/undelete"): Door("own project", f"projects/{DELETED}/undelete"),
    ("GET", "disk"): Door("admin"),
    ("GET", "disk/history"): Door("admin"),
    ("GET", "mirrors"): Door("admin"),
    ("DELETE", "mirrors"): Door("admin"),
    ("GET", "storage"): Door("signed-in"),
    ("POST", "storage/adopt"): Door("admin"),
    ("GET", "doctor"): Door("admin"),
    ("GET", "audit"): Door("admin"),
    ("GET", "accounting"): Door("admin"),
    ("GET", "profiles"): Door("signed-in"),
    ("GET", "mounts"): Door("signed-in"),
    ("POST", "launches"): Door("signed-in", body='{"image": "{image}"}'),
    ("GET", "launches/([^/]+)/events"): Door("own server", "launches/x/events"),
}
OWN_API: dict[tuple[str, str], Door] = {
    ("POST", "prepare"): Door("see", body=_PREPARE.model_dump_json().replace("IMAGE", "{image}")),
    ("POST", "release"): Door("signed-in", body='{"lease": "l-none", "ok": false}'),
}
PAGES: dict[tuple[str, str], Door] = {
    ("GET", ""): Door("signed-in"),
    ("GET", "go"): Door("all", "go?repository=lab/private-matter"),
    ("GET", "v2/(.+)"): Door("signed-in", "v2/{repository}/{commit}"),
    ("POST", "v2/(.+)"): Door(
        "signed-in", "v2/{repository}/{commit}", form={"commit": "{commit}", "files": "ephemeral"}
    ),
    ("GET", "launch/([^/]+)"): Door("own server", "launch/x"),
    ("POST", "launch/([^/]+)/start"): Door("own server", "launch/x/start"),
    ("POST", "launch/([^/]+)/stop"): Door("own server", "launch/x/stop"),
    ("POST", "launch/([^/]+)/remove"): Door("own server", "launch/x/remove"),
    ("GET", "builds"): Door("signed-in", "builds?everyone=1"),
    ("GET", "builds/([^/]+)"): Door("see", "builds/{build}"),
    ("POST", "builds/([^/]+)/cancel"): Door("see", "builds/{build}/cancel"),
    ("POST", "builds/([^/]+)/retry"): Door("see", "builds/{build}/retry"),
    ("GET", "images"): Door("admin"),
    ("POST", "images/rescan"): Door("admin"),
    ("POST", "images/newer"): Door("admin"),
    ("POST", "images/([^/]+)/newer"): Door("admin", "images/{image}/newer"),
    ("GET", "images/adopt"): Door("admin"),
    ("POST", "images/adopt"): Door("admin", form={"image": "{image}"}),
    ("GET", "images/new"): Door("admin"),
    ("POST", "images/new"): Door("admin", form={"repository": "{repository}"}),
    ("GET", "images/plan"): Door("admin", "images/plan?id={image}"),
    ("POST", "images/plan"): Door("admin", form={"id": "{image}", "mode": "erase", "seen": "{seen}"}),
    ("GET", "images/([^/]+)"): Door("admin", "images/{image}"),
    ("GET", "images/([^/]+)/edit"): Door("admin", "images/{image}/edit"),
    ("POST", "images/([^/]+)/edit"): Door("admin", "images/{image}/edit", form={"title": "x"}),
    ("GET", "runs/([^/]+)"): Door("admin", "runs/r-1"),
    ("POST", "runs/([^/]+)/stop"): Door("admin", "runs/r-1/stop"),
    ("GET", "retention"): Door("admin"),
    ("POST", "retention"): Door("admin"),
    ("POST", "images/([^/]+)/share"): Door(
        "change", "images/{image}/share", form={"visibility": "{visibility}", "group": GROUP}
    ),
    ("POST", "images/([^/]+)/rebuild"): Door("see", "images/{image}/rebuild"),
    ("GET", "projects"): Door("signed-in"),
    ("POST", "projects/([^/]+)/rename"): Door("own project", f"projects/{PROJECT}/rename"),
    ("GET", "projects/([^/]+)/delete"): Door("own project", f"projects/{PROJECT}/delete"),
    ("POST", "projects/([^/]+)/delete"): Door("own project", f"projects/{DELETED}/delete"),
    ("POST", "projects/([^/]+)/undelete"): Door("own project", f"projects/{DELETED}/undelete"),
    ("GET", "disk"): Door("admin"),
    ("GET", "disk/mirrors"): Door("admin"),
    ("POST", "disk/mirrors"): Door("admin"),
    ("GET", "doctor"): Door("admin"),
    ("POST", "doctor"): Door("admin"),
    ("GET", "audit"): Door("admin"),
    ("GET", "accounting"): Door("admin"),
    ("GET", "folders"): Door("desktop"),
    ("GET", "folders/pick"): Door("signed-in"),
    ("POST", "folders/pick"): Door("nobody", form={"path": "/etc"}),
    ("POST", "folders/([^/]+)/forget"): Door("nobody", "folders/grant-none/forget"),
    ("GET", "oauth_callback"): Door("nobody"),
    ("GET", "repo/([^/]+)/([^/]+)/?"): Door("all", "repo/lab/private-matter"),
    ("GET", "build/(.+)"): Door("signed-in", "build/{repository}/{commit}"),
    ("GET", "versions"): Door("all"),
}
STATIC = {
    "static",
    "()badge\\.svg",
    "api/v1/.*",
    ".*",
}  # files that are the same for all, and what is nowhere


class NeverBuilds:
    """Stands in for the pipeline."""

    async def check_disk(self) -> None:
        return

    async def know_recipe(self) -> None:
        return

    async def tidy(self, row: BuildRow) -> None:
        return

    async def build(self, row: BuildRow, report: object, login: object = None) -> ImageRow:
        raise BuildFailed("The host gave nothing.", "Check the repository.")


class World:
    """A house with three things of ada's in it, and a server `x` of hers."""

    def __init__(self, house: House, store: Store) -> None:
        self.house = house
        self.store = store
        self.docker = SmallDocker()
        parts: Any = house
        parts.inventory = Inventory(store, parts_of(self.docker))
        leases = Leases(store)
        layers = Layers(store, parts_of(self.docker))
        candidates = Candidates(house.settings, store, parts_of(self.docker), parts.inventory, layers)
        parts.sweep = Sweep(
            house.settings,
            store,
            parts_of(self.docker),
            parts.inventory,
            leases,
            candidates,
            BuildCache(store, parts_of(self.docker), layers),
        )
        parts.retention = Retention(
            house.settings, store, parts.inventory, candidates, parts.sweep, roomy_disk
        )
        parts.dossiers = Dossiers(store, parts.inventory, layers)
        parts.sharing = Sharing(store, parts.inventory)
        docker = parts_of(self.docker)
        parts.moves.image = Thing("everyone").image
        parts.rescan = Rescan(house.settings, store, docker, parts.inventory, nobody_else)
        parts.adoption = Adoption(house.settings, store, docker, parts.inventory)
        parts.audit = store.audit_log
        parts.describing = Describing(store, parts.inventory, parts.sharing, list)
        parts.queue = Queue(
            house.settings,
            store,
            parts_of(self.docker),
            parts.resolver,
            parts_of(None),
            parts.inventory,
            pipeline=parts_of(NeverBuilds()),
        )
        parts.preparations = Preparations(
            house.settings, house.environment, store, parts_of(self.docker), leases, parts.projects
        )
        self.hub_api = HubApi(house.environment.api_url, SERVICE_TOKEN)
        parts.accounting = Accounting(store, self.hub_api)
        self.public = httpx.AsyncClient(base_url=house.url, timeout=LONG_S)
        socket = httpx.AsyncHTTPTransport(uds=str(house.settings.service_socket))
        self.own = httpx.AsyncClient(transport=socket, base_url="http://binder/", timeout=LONG_S)

    async def furnish(self) -> None:
        hub = self.house.hub
        hub.add("ada", groups=[GROUP])
        hub.add("carol", groups=[GROUP])
        for name in ("eve", "narrow"):
            hub.add(name)
        hub.people["eve-token"]["scopes"] = ["read:users!user=eve"]
        narrow = {**hub.people["root-token"], "session_id": None}
        hub.people["narrow-token"] = {**narrow, "scopes": ["access:services!service=binder"]}
        for visibility in THINGS:
            await self.add(Thing(visibility))
        run = Run("r-1", "erase", "retention", NOW, Plan("erase", (), (), 0), finished=NOW)
        await self.store.put_run(to_row(run))
        await self.house.go()
        self.house.come(self.hub_api)
        await self.house.listening()
        await self.queue.start()

    @property
    def queue(self) -> Queue:
        queue: Any = self.house.queue
        return queue

    async def add(self, thing: Thing) -> None:
        spec = parse_link(f"{thing.repository}/main")
        identity = ImageIdentity(spec.normal_url, thing.commit, "", "linux/amd64")
        shared: dict[str, Any] = {
            "identity": identity.key,
            "url": identity.url,
            "commit": identity.commit,
            "subdir": "",
            "platform": identity.platform,
            "asked_ref": "main",
            "created": utc_now(),
        }
        if await self.store.build(thing.build) is None:
            row = BuildRow(id=thing.build, spec=spec.path, requested_by="ada", settled=True, **shared)
            await self.store.enqueue(row, per_person=9)
            await self.store.start_build(row.id)
            log = BuildLog(self.house.settings.log_dir / f"{row.id}.jsonl", live=True)
            await log.open()
            log.append("building", f"{thing.visibility} log line")
            log.append("built", "Built.", image_id=thing.image)
            await log.close()
        else:
            await self.store._change("UPDATE builds SET state = 'running' WHERE id = ?", [thing.build])
        image = ImageRow(
            image_id=thing.image,
            name=f"littlest-binder/{thing.visibility}-matter:1",
            spec=spec.with_ref(thing.commit).path,
            title=spec.display,
            built_by="ada",
            build_id=thing.build,
            size=1,
            recipe="r",
            home="/home/jovyan",
            workdir="/home/jovyan",
            **shared,
        )
        assert await self.store.finish_built(thing.build, image)
        await self.store.share_image(
            image.image_id, thing.visibility, [GROUP] if thing.visibility == "group" else []
        )
        self.docker.add(image.image_id, image.name)
        inventory: Any = self.house.inventory
        await inventory.refresh()

    async def knock(
        self, method: str, door: Door, path: str, thing: Thing, kind: Kind, *, own: bool = False
    ) -> httpx.Response:
        """One request, everything being as it was before."""
        for each in THINGS:
            if await self.store.image(Thing(each).image) is None:
                await self.add(Thing(each))
        options = {"repository": f"{thing.repository}/main", "commit": thing.commit}
        self.house.hub.servers["ada"] = {}
        self.house.hub.put("ada", "x", ready=False, options=options)
        self.house.projects.known = [project_view(PROJECT)]
        self.house.kept_files.gone = [project_view(DELETED, archived=True, kept_until=NOW)]
        client = self.own if own else self.public
        headers = {"User-Agent": "Browser", "Sec-Fetch-Mode": "navigate"}
        if own and KINDS[kind]:
            headers[PERSON_HEADER] = person(kind).model_dump_json()
        elif KINDS[kind]:
            headers["Authorization"] = f"token {KINDS[kind]}-token"
        groups = f'"{GROUP}"' if thing.visibility == "group" else ""
        body = thing.fill(door.body).replace("GROUPS", groups)
        form = {name: thing.fill(value) for name, value in door.form.items()}
        more: dict[str, Any] = {"data": form} if form else {}
        if body:
            more, headers["Content-Type"] = {"content": body}, "application/json"
        answer = await client.request(method, thing.fill(path), headers=headers, **more)
        client.cookies.clear()
        await until(lambda: not self.queue._entries)
        return answer


async def roomy_disk() -> Usage:
    return Usage(100, 10, 90)


async def nobody_else() -> list[str]:
    return []


def parts_of(thing: object) -> Any:
    """A stand-in where the type checker wants the real one."""
    return thing


def person(kind: Kind) -> Person:
    groups = (GROUP,) if kind in ("owner", "member") else ()
    return Person(name=KINDS[kind], groups=groups, admin=kind == "admin")


@pytest.fixture(autouse=True)
def soon_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """BinderHub's stream is not held open at its end."""
    monkeypatch.setattr(binderhub, "_HOLD_S", 0.0)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_house(tmp_path, retention={"min_age_hours": 0}) as house:
        store = await Store.open(house.settings.store_path)
        world = World(house, store)
        await world.furnish()
        yield world
        for client in (world.public, world.own, world.hub_api):
            await client.aclose()
        await world.queue.stop()
        await store.close()


def opens(door: Door, thing: Thing, kind: Kind) -> bool:
    """Whether the rule lets this kind of person in."""
    if kind == "stranger" or door.rule == "nobody":
        return False
    if door.rule == "all":
        return True
    if kind == "anonymous":
        return False
    match door.rule:
        case "see":
            return thing.seen_by(kind)
        case "change" | "delete":
            return kind == "admin" or (kind == "owner" and thing.visibility != "everyone")
        case "admin":
            return kind == "admin"
        case "desktop":
            return kind in ("admin", "narrow")  # the person to whom this desktop belongs
        case "own server" | "own project":
            return kind == "owner"
    return True


def judge(answer: httpx.Response, door: Door, path: str, thing: Thing, kind: Kind, sent: str) -> str:
    """What is wrong with an answer, or nothing."""
    to_sign_in = "/oauth2/authorize" in answer.headers.get("location", "")
    let_in = answer.status_code < 400 and not to_sign_in
    if let_in is not opens(door, thing, kind):
        return f"answered {answer.status_code}: {answer.text[:300]}"
    if answer.status_code >= 500:
        return f"failed with {answer.status_code}: {answer.text[:300]}"
    hidden = not thing.seen_by(kind)
    if not let_in and door.rule in ("see", "change", "delete") and kind in ("other", "member", "narrow"):
        wanted = 404 if hidden else 403
        if answer.status_code != wanted:
            return f"answered {answer.status_code} instead of {wanted}: {answer.text[:300]}"
    for each in THINGS:
        told = (
            [] if Thing(each).seen_by(kind) else [word for word in Thing(each).telling if word in answer.text]
        )
        # What somebody sent themselves tells them nothing.
        told = [word for word in told if word not in sent]
        if told:
            return f"told of {told}: {answer.text[:2000]}"
    return ""


async def matrix(
    world: World, doors: dict[tuple[str, str], Door], kind: Kind, prefix: str, own: bool
) -> None:
    wrong: list[str] = []
    for (method, pattern), door in doors.items():
        for visibility in THINGS if door.thing else THINGS[:1]:
            thing = Thing(visibility)
            path = prefix + (door.path or pattern)
            answer = await world.knock(method, door, path, thing, kind, own=own)
            sent = thing.fill(path + door.body + json.dumps(door.form))
            problem = judge(answer, door, path, thing, kind, sent)
            if problem:
                wrong.append(f"{method} {pattern or '(front page)'}, {kind}, {visibility}: {problem}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_public_api(world: World, kind: Kind) -> None:
    await matrix(world, API, kind, "api/v1/", own=False)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_pages(world: World, kind: Kind) -> None:
    await matrix(world, PAGES, kind, "", own=False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("stranger", "narrow")])
async def test_our_own_socket(world: World, kind: Kind) -> None:
    # Starting servers needs a person's own hub token, which does not come along there.
    doors = {key: door for key, door in API.items() if not key[1].startswith("launches")}
    await matrix(world, {**doors, **OWN_API}, kind, "api/v1/", own=True)


async def test_what_is_the_hubs_alone_is_nowhere_else(world: World) -> None:
    closed = {key: Door("nobody", key[1], door.body) for key, door in OWN_API.items()}
    for kind in KINDS:
        await matrix(world, closed, kind, "api/v1/", own=False)


def without_token(page: str) -> str:
    """The page without its token against forged requests, which has the time in seconds in it, and without
    the id of the request.
    """
    page = re.sub(r'(?<=<meta name="binder-xsrf" content=")[^"]*', "", page)
    return re.sub(r'(?<=<code data-part="request">)\w+', "", page)


async def test_a_hidden_thing_answers_as_one_that_is_not_there(world: World) -> None:
    """Not only with the same status: word for word."""
    hidden, nowhere = Thing("private"), Thing("private")
    unknown = {"image": "sha256:" + "f" * 64, "build": "b-20260101-nowhere"}
    for doors, prefix in ((API, "api/v1/"), (PAGES, "")):
        for (method, pattern), door in doors.items():
            if door.rule not in ("see", "change", "delete"):
                continue
            path = prefix + (door.path or pattern)
            there = await world.knock(method, door, path, hidden, "other")
            for name, value in unknown.items():
                path = path.replace(f"{{{name}}}", value)
            not_there = await world.knock(method, door, path, nowhere, "other")
            told = there.text.replace(hidden.image, unknown["image"]).replace(hidden.build, unknown["build"])
            said = (not_there.status_code, without_token(not_there.text))
            assert (there.status_code, without_token(told)) == said, path


async def test_every_address_has_a_line_here(world: World) -> None:
    context = world.house._context
    known = {(method, f"api/v1/{pattern}") for method, pattern in API} | set(PAGES)
    public = addresses(application(context, HubDoor(), InWork()), re.escape(PREFIX))
    assert public == known
    own = addresses(application(context, SocketDoor(), InWork()), re.escape("/"))
    assert own == {(method, f"api/v1/{pattern}") for method, pattern in [*API, *OWN_API]}


def addresses(app: Any, prefix: str) -> set[tuple[str, str]]:
    """Methods and patterns that an application serves, without those of `STATIC`."""
    found = set()
    for rule in app.wildcard_router.rules:
        pattern = rule.matcher.regex.pattern.removesuffix("$").removeprefix(prefix)
        if pattern in STATIC or pattern.startswith("static/"):
            continue
        for method in ("get", "head", "post", "put", "patch", "delete", "options"):
            if getattr(rule.target, method) is not getattr(RequestHandler, method):
                found.add((method.upper(), pattern))
    return found
