"""A service for tests of the hub: speaks our API on the socket, does what the repository's name says.

`gh/test/hit/…` is there. `gh/test/slow/…` is built until the file `go` appears in the state folder,
`gh/test/bad/…` fails after two lines, `gh/test/unknown/…` is no repository, `gh/test/evicted/…` vanishes once
between build and preparation. `gh/test/dies/…` gives a server that prints a line and ends, `gh/test/silent/…`
one that never answers. What was asked is written to `asked.jsonl`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any
from urllib.parse import urlsplit

import docker
from stand_in_facts import COMMIT
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.web import Application, RequestHandler
from waiting import until

from tljh_plugin.errors import BinderError, ImageNotFound, RepositoryNotFound
from tljh_plugin.handover import find_state_dir, read
from tljh_plugin.wire import (
    BuildRequest,
    BuildView,
    ErrorView,
    ImageView,
    LogLine,
    Prepared,
    PrepareRequest,
    ResolveView,
)

STATE = find_state_dir()
SETTINGS = read(STATE).settings()
IMAGE = os.environ.get("TEST_IMAGE", "littlest-binder/base:latest")

NOW = "2026-01-01T00:00:00Z"
FAILURE = ErrorView(code="build-failed", message="No package is called nonsense.", next="Correct line 1.")


def image_id() -> str:
    client = docker.APIClient("unix:///var/run/docker.sock", version="auto")
    try:
        return str(client.inspect_image(IMAGE)["Id"])
    finally:
        client.close()


class World:
    def __init__(self) -> None:
        self.image_id = image_id()
        self.builds: dict[str, BuildView] = {}
        self.leases: list[str] = []
        self.evicted = False
        self.image_gone = False

    def name(self, spec: str) -> str:
        return spec.split("/")[2]

    def build(self, request: BuildRequest) -> BuildView:
        name = self.name(request.spec)
        if name == "unknown":
            raise RepositoryNotFound(f"There is no repository {request.spec}.", "Check its name.")
        hit = name not in ("slow", "bad")
        view = BuildView(
            id=f"b{len(self.builds) + 1}",
            state="built" if hit else "running",
            phase="built" if hit else "fetching",
            progress=100 if hit else 0,
            spec=request.spec,
            repository=f"https://github.com/test/{name}",
            commit=request.commit or COMMIT,
            requested_by="somebody",
            hit=hit,
            image_id=self.image_id if hit else "",
        )
        self.builds[view.id] = view
        return view

    async def events(self, build: str) -> Any:
        name = self.name(self.builds[build].spec)
        yield LogLine(n=1, time=NOW, phase="fetching", text="cloning", progress=5)
        yield LogLine(n=2, time=NOW, phase="building", text="Step 1", progress=50)
        if name == "bad":
            ended = {"state": "failed", "phase": "failed", "error": FAILURE}
            self.builds[build] = self.builds[build].model_copy(update=ended)
            yield LogLine(n=3, time=NOW, phase="failed", error=FAILURE)
            return
        await until((STATE / "go").exists, 300)
        ended = {"state": "built", "phase": "built", "image_id": self.image_id, "progress": 100}
        self.builds[build] = self.builds[build].model_copy(update=ended)
        yield LogLine(n=3, time=NOW, phase="built", text="done", progress=100, image_id=self.image_id)

    def image(self) -> ImageView:
        return ImageView(
            id=self.image_id,
            name="littlest-binder/test:1",
            title='A "test" <image>',
            spec="gh/test/hit/main",
            repository="https://github.com/test/hit",
            commit=COMMIT,
            built_by="somebody",
            created=NOW,
            size=1,
        )

    def resolve(self, spec: str) -> ResolveView:
        """What is there has the profile that is written in `profile-of-image`, if that is there."""
        said = STATE / "profile-of-image"
        return ResolveView(
            spec=spec,
            display=spec,
            repository=f"https://github.com/test/{self.name(spec)}",
            ref="main",
            commit=COMMIT,
            image="ready",
            image_id=self.image_id,
            profile=said.read_text() if said.exists() else "",
        )

    def prepare(self, request: PrepareRequest) -> Prepared:
        name = self.name(request.spec)
        if name == "evicted" and not self.evicted:
            self.evicted = True
            raise ImageNotFound("It was evicted.", "Build it again.")
        path = ""
        if request.storage == "project":
            home = STATE / "projects" / "somebody" / (request.project or "own") / "home"
            home.mkdir(parents=True, exist_ok=True)
            os.chown(home, SETTINGS.server_uid, SETTINGS.server_gid)
            path = str(home)
        mine = STATE / "projects" / "somebody" / "my-files"
        if request.my_files:
            mine.mkdir(parents=True, exist_ok=True)
            os.chown(mine, SETTINGS.server_uid, SETTINGS.server_gid)
        self.leases.append(f"lease-{len(self.leases)}")
        command = {
            "dies": ("sh", "-c", "echo I cannot do that; exit 3"),
            "silent": ("sh", "-c", "echo I say nothing; exec sleep infinity"),
        }
        return Prepared(
            image_id=request.image_id,
            image_name="littlest-binder/test:1",
            home="/home/jovyan",
            workdir="/home/jovyan",
            project="new-1" if request.project == "new" else request.project or "own" if path else "",
            project_path=path,
            my_files_path=str(mine) if request.my_files else "",
            lease=self.leases[-1],
            environment={"BINDER_REPO_URL": request.repository},
            command=command.get(name, ("jupyterhub-singleuser",)),
        )


class Api(RequestHandler):
    def initialize(self, world: World) -> None:
        self.world = world

    async def prepare(self) -> None:
        with (STATE / "asked.jsonl").open("a") as file:
            body = json.loads(self.request.body) if self.request.body else None
            person = json.loads(self.request.headers.get("Littlest-Binder-Person", "null"))
            said = {"method": self.request.method, "path": self.request.path, "body": body, "person": person}
            file.write(json.dumps(said) + "\n")

    async def get(self, path: str) -> None:
        if path == "images":
            self.finish(json.dumps([self.world.image().model_dump()]))
        elif path.startswith("images/"):
            if (STATE / "image-gone").exists():
                raise ImageNotFound("That image is gone.", "Build it again.")
            self.finish(self.world.image().model_dump_json())
        elif path.endswith("/events"):
            self.set_header("Content-Type", "text/event-stream")
            async for line in self.world.events(path.split("/")[1]):
                self.write(f"id: {line.n}\ndata: {line.model_dump_json()}\n\n")
                await self.flush()
        elif path.startswith("builds/"):
            self.finish(self.world.builds[path.split("/")[1]].model_dump_json())
        else:
            self.finish('{"ok": true, "engine": true}')

    async def post(self, path: str) -> None:
        body = self.request.body
        if path == "builds":
            self.finish(self.world.build(BuildRequest.model_validate_json(body)).model_dump_json())
        elif path == "resolve":
            self.finish(self.world.resolve(json.loads(body)["spec"]).model_dump_json())
        elif path == "prepare":
            self.finish(self.world.prepare(PrepareRequest.model_validate_json(body)).model_dump_json())
        else:
            self.finish("{}")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1]
        if isinstance(error, BinderError):
            self.set_status(error.http_status)
            self.finish(error.to_dict())
        else:
            super().write_error(status_code, **kwargs)

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, (BinderError, StreamClosedError)):
            super().log_exception(kind, error, trace)

    def check_xsrf_cookie(self) -> None: ...


class Page(RequestHandler):
    def get(self) -> None:
        self.finish(f"page {self.request.uri}")


async def main() -> None:
    application = Application([(r"/api/v1/(.*)", Api, {"world": World()}), (r"/services/binder/.*", Page)])
    server = HTTPServer(application)
    if os.environ["TEST_SERVICE"] != "none":
        server.add_socket(bind_unix_socket(str(SETTINGS.service_socket), mode=0o600))
    url = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    server.add_sockets(bind_sockets(url.port or 0, url.hostname))
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


asyncio.run(main())
SETTINGS.service_socket.unlink(missing_ok=True)
