"""A lab's machine for tests of faults: hub, service and a Docker that can each be killed and started again.

The hub keeps its servers over a restart, and the service is a process of its own, as on TLJH; the tests are
the service manager that starts again what died.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from desktop import free_port
from git_server import GitServer
from waiting import Overdue, until
from warm_python import Forked, MovedClock, WarmPython

from tljh_plugin.build.identity import building_name
from tljh_plugin.build.processes import MARK
from tljh_plugin.client import ServiceClient
from tljh_plugin.engine import Engine
from tljh_plugin.errors import BinderError
from tljh_plugin.hub_api import HubApi, HubServer
from tljh_plugin.installation import ensure_state, instance_id
from tljh_plugin.labels import KIND_LABEL, SERVER_LABEL
from tljh_plugin.service.progress import Merger
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.wire import Person

CONFIG = Path(__file__).parent / "faults" / "hub_config.py"
HOME_FILES = 300
PEOPLE = ("ann", "bob")
# Several machines have their networks in one Docker at the same time.
_SUBNETS = itertools.cycle(random.sample(range(250), 250))
# On a machine that is busy with other things JupyterLab has taken a minute to answer.
PATIENCE_S = 240.0
# Each so manieth round is as on a real machine: JupyterLab, freshly started programs, our own intervals.
REAL = 25
# So many may be there before those of rounds that are over are evicted.
IMAGES = 12
_DOCKERFILE = f"""\
FROM littlest-binder/base
RUN mkdir -p /home/jovyan/data && cd /home/jovyan/data && \\
    for i in $(seq {HOME_FILES}); do echo "file $i" > $i; done && \\
    head -c 8000000 /dev/urandom > big && chmod -R a+rwX /home/jovyan
ENV TEST_RUN={{mark}}
RUN echo slow-step && sleep 1
"""
# Starting JupyterLab is two thirds of a start's work, and nothing that these tests kill.
_LIGHT_SERVER = """\
#!/usr/bin/python3 -ISB
import http.server, os, signal

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("", 8888), Handler).serve_forever()
"""
_LIGHT_DOCKERFILE = f"""\
FROM littlest-binder/base
COPY --chown=1000:1000 --chmod=755 server /home/jovyan/.local/bin/jupyterhub-singleuser
RUN mkdir -p /home/jovyan/data && cd /home/jovyan/data && \\
    for i in $(seq {HOME_FILES}); do echo "file $i" > $i; done && \\
    head -c 2000000 /dev/urandom > big && chmod -R a+rwX /home/jovyan
ENV TEST_RUN={{mark}}
RUN echo slow-step && sleep 0.5
"""


def real_files(mark: str) -> dict[str, str]:
    """A repository whose image is made in a few seconds, with JupyterLab."""
    return {"Dockerfile": _DOCKERFILE.format(mark=mark)}


def light_files(mark: str) -> dict[str, str]:
    """The same with a server that answers at once."""
    return {"Dockerfile": _LIGHT_DOCKERFILE.format(mark=mark), "server": _LIGHT_SERVER}


_WARM = ("jupyterhub.app", "tljh_plugin.hub", "tljh_plugin.cli", "tljh_plugin.service.app")
# Looked at as often as a test can wait for; what is looked at is the same.
_INTERVALS = {
    "tljh_plugin.service.tidying:PERIOD_S": 1.0,
    "tljh_plugin.service.tidying:_SECOND_LOOK_S": 0.5,
    "tljh_plugin.service.tidying:KNOWN_S": 1.0,
    "tljh_plugin.cache.inventory:_RETRY_S": 0.5,
    "tljh_plugin.build.pipeline:_DOCKER_POLL_S": 0.3,
    "tljh_plugin.cache.rescan:_AGAIN_S": 1.0,
}


@dataclass
class Start:
    """One start as the person at the progress page sees it. `ended` is `ready`, `failed`, or `lost` if the
    hub went away under it; `said` are the messages so far."""

    server: str
    person: str = "ann"
    said: list[str] = field(default_factory=list)
    ended: str = ""
    error: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def reached(self, text: str, seconds: float = PATIENCE_S) -> None:
        """Wait until it says `text`, or ends."""
        await until(lambda: self.ended or any(text in each for each in self.said), seconds)

    async def over(self, seconds: float = PATIENCE_S) -> str:
        try:
            return await until(lambda: self.ended, seconds)
        except Overdue:
            raise Overdue(f"{self.server} is not over after {seconds:g} s: {self.said}") from None


Program = subprocess.Popen[bytes] | Forked


class Machine:
    """Use as an async context manager."""

    def __init__(
        self, folder: Path, git_server: GitServer, docker_host: str, section: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.git_server = git_server
        self.docker_host = docker_host
        self.state = folder / "state"
        self.hub_folder = folder / "hub"
        self.hub_folder.mkdir(parents=True, exist_ok=True)
        self.port, self.hub_port, self.proxy_port = free_port(), free_port(), free_port()
        self.token = secrets.token_hex(16)
        policy = {key: list(value) for key, value in git_server.settings().items()}
        self.section: dict[str, Any] = {
            "policy": {**policy, "dockerfile": "everyone"},
            "source": {"resolve_cache_s": 0},
            "build": {"disk_reserve_bytes": 0},
            "network": {"subnet": f"10.214.{next(_SUBNETS)}.0/24"},
            **(section or {}),
        }
        self.settings: Settings = from_mapping(self.section, platform="jupyterhub", state_dir=self.state)
        ensure_state(self.settings)
        self.engine = Engine(instance_id(self.settings), base_url=docker_host)
        self.specs: list[str] = []  # of the repositories that were made
        self.evicted: set[str] = set()  # images that tests let go
        self.built = ""  # a repository whose image is there, if a test has said so
        self.hub: Program | None = None
        self.service: Program | None = None
        # Programs begin at once and look often, and new repositories start something light.
        self.brisk = False
        self.clock: MovedClock | None = None  # of programs that begin at once
        self._warm = contextlib.ExitStack()
        self._warm_python: WarmPython | None = None
        self._whole_logs: dict[str, tuple[str, Seen]] = {}

    # -- life -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Machine:
        # JupyterHub waits half a minute for a service that is not there when it starts.
        starting = [asyncio.create_task(each) for each in (self.start_service(), self.start_hub())]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for each in starting:
                each.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            for name, server in (await self.hub_api.servers("ann")).items():
                if server.active:
                    await self.hub_api.stop("ann", name)
        except BinderError:
            pass
        await self._end()

    async def _end(self) -> None:
        for process in (self.service, self.hub):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in (self.service, self.hub):
            if process is not None:
                try:
                    await asyncio.to_thread(process.wait, 60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        await asyncio.to_thread(self._warm.close)
        self.kill_proxy()
        with contextlib.suppress(BinderError):
            for each in await self.engine.containers():
                if self.engine.is_ours(each.labels):
                    await self.engine.remove(each.id)
            await self.engine.remove_network()
        await self.engine.close()

    @property
    def hub_api(self) -> HubApi:
        return HubApi(f"http://127.0.0.1:{self.port}/hub/api", self.token)

    def client(self, person: str = "ann", **more: Any) -> ServiceClient:
        """The service, asked over its own socket."""
        return ServiceClient(socket=self.settings.service_socket, person=Person(name=person, **more))

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _popen(self, name: str, arguments: list[str]) -> Program:
        own = str(Path(sys.executable).parent)
        given = {
            "state": str(self.state), "database": str(self.hub_folder / "jupyterhub.sqlite"),
            "port": self.port, "hub_port": self.hub_port,
            "proxy_port": self.proxy_port, "token": self.token, "section": self.section,
        }  # fmt: skip
        environment = {
            **os.environ,
            "PATH": f"{own}{os.pathsep}{os.environ['PATH']}",
            "DOCKER_HOST": self.docker_host,
            "LITTLEST_BINDER_STATE": str(self.state),
            "FAULTS": json.dumps(given),
            "PYTHONUNBUFFERED": "1",
        }
        path = self.folder / f"{name}.log"
        if self.brisk:
            if self._warm_python is None:
                self._warm_python = self._warm.enter_context(WarmPython(_WARM, environment))
            return self._warm_python.popen(
                arguments,
                cwd=self.state,
                env=environment,
                log=path,
                intervals=_INTERVALS,
                clock=self.clock,
            )
        with path.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=self.state, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def start_hub(self) -> None:
        """Start it and wait until people can use it; a proxy that the hub before left goes on."""
        self.hub = self._popen("hub", ["jupyterhub", "--config", str(CONFIG)])

        async def answers() -> bool:
            assert self.hub
            assert self.hub.poll() is None, self.log("hub")[-3000:]
            try:
                async with self.hub_api as api:
                    await api.users()
            except BinderError:
                return False
            return True

        await until(answers, PATIENCE_S, every=0.05)
        with contextlib.suppress(BinderError):
            for name in PEOPLE:
                await self._make_person(name)

    async def _make_person(self, name: str) -> None:
        async with self.hub_api as api:
            with contextlib.suppress(BinderError):
                await api._request("POST", f"/users/{name}")

    async def start_service(self) -> None:
        """Start it, once the hub has said with which of its tokens, and wait until it answers."""
        await until((self.settings.run_dir / "service.json").exists, PATIENCE_S)
        self.service = self._popen("service", ["tljh_plugin.cli", "serve"])

        async def answers() -> bool:
            assert self.service
            assert self.service.poll() is None, self.log("service")[-3000:]
            try:
                async with self.client() as client:
                    await client.health()
            except BinderError:
                return False
            return True

        await until(answers, PATIENCE_S, every=0.05)

    async def kill_hub(self) -> None:
        """The hub alone: its proxy and the servers go on."""
        await _kill(self.hub)

    def kill_proxy(self) -> None:
        """JupyterHub's, through which people come."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.state / "proxy.pid").read_text()), signal.SIGKILL)

    async def kill_service(self) -> None:
        await _kill(self.service)

    def kill_worker(self) -> bool:
        """A worker with all its processes; False if there is none now."""
        found = [int(line.split()[0]) for line in self.worker_processes()]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(found)

    def worker_processes(self) -> list[str]:
        """Number and command of each process that a build started on this machine."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                told = (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                ours = f"TMPDIR={self.state}".encode()
                of_build = all(any(part.startswith(mark) for part in told) for mark in (ours, MARK.encode()))
                if state not in "ZX" and of_build:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(f"{entry.name} {line}")
        return found

    # -- what a person does ---------------------------------------------------------------------------

    def repository(self) -> str:
        """A new one, whose image is made in a few seconds and is not there yet; its link's path."""
        name = f"r{secrets.token_hex(5)}"
        self.git_server.new(name, light_files(name) if self.brisk else real_files(name))
        self.specs.append(self.git_server.spec(name))
        return self.specs[-1]

    def begin(self, server: str, spec: str = "", person: str = "ann", **options: Any) -> Start:
        """Ask the hub to start a server, and look on; without `spec` with the options of before."""
        start = Start(server, person)
        asked = {"repository": spec, **options} if spec else None
        start.task = asyncio.create_task(self._follow(start, asked))
        return start

    async def _follow(self, start: Start, options: dict[str, Any] | None) -> None:
        try:
            async with self.hub_api as api:
                if await api.start(start.person, start.server, options) == "ready":
                    start.ended = "ready"
                    return
                merger = Merger()
                async for event in api.progress(start.person, start.server):
                    start.said.append(str(event.get("message", "")))
                    told = merger.of_hub(event)
                    if told.type == "ready":
                        start.ended = "ready"
                        return
                    if told.error is not None:
                        # Of a start that was over before it was looked at the hub knows the text alone.
                        start.error = f"{told.error.code}: {event.get('message')}"
                        start.ended = "failed"
                        return
            start.ended, start.error = "lost", "the hub's stream ended"
        except BinderError as error:
            start.error = f"{error.code}: {error}"
            start.ended = "lost" if error.code == "hub-unavailable" else "failed"
        except Exception as error:
            start.error, start.ended = repr(error), "lost"

    async def ready(self, server: str, spec: str = "", **options: Any) -> None:
        """Start it and be there when it answers."""
        start = self.begin(server, spec, **options)
        assert await start.over() == "ready", f"{start.error}\n{start.said}"
        async with self.hub_api as api:
            found = await api.server(start.person, server)
        assert found, start.said
        assert found.ready, start.said

    async def gone(self, server: str, person: str = "ann") -> None:
        """Stop it and forget its name."""
        async with self.hub_api as api:

            async def stopped() -> bool:
                await api.stop(person, server, remove=True)
                found = await api.server(person, server)
                return found is None or not found.active

            await until(stopped, PATIENCE_S)

    async def container(self, server: str) -> str:
        """The id of the container in which a server runs."""
        [found] = [
            each.id
            for each in await self.engine.containers()
            if self.engine.is_ours(each.labels)
            and each.labels[KIND_LABEL] == "server"
            and each.labels[SERVER_LABEL] == server
        ]
        return found

    async def page(self, path: str, person: str = "ann") -> str:
        """What somebody reads who signs in at a browser and opens a page."""
        headers = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
        address = f"http://127.0.0.1:{self.port}"
        async with httpx.AsyncClient(base_url=address, timeout=60, headers=headers) as http:
            await http.get("/hub/login")
            await http.post("/hub/login", data={"username": person, "_xsrf": http.cookies["_xsrf"]})
            answer = await http.get(path, follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return answer.text

    @contextlib.asynccontextmanager
    async def gone_if_it_fails(self, start: Start) -> AsyncIterator[None]:
        """The server of a failed round would go on to write files, and the rounds after it would fail too."""
        try:
            yield
        except AssertionError:
            with contextlib.suppress(AssertionError, BinderError):
                await self.gone(start.server, start.person)
            raise

    @contextlib.asynccontextmanager
    async def newcomer(self, person: str) -> AsyncIterator[None]:
        """Somebody without files here, whom the hub knows meanwhile."""
        await self._make_person(person)
        yield
        async with self.hub_api as api:
            await api._request("DELETE", f"/users/{person}")

    # -- what is true ---------------------------------------------------------------------------------

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What the store holds, read beside the service."""
        place = f"file:{self.settings.store_path}?mode=ro"
        with contextlib.closing(sqlite3.connect(place, uri=True, timeout=60)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(query)]

    async def sound(self, seconds: float = PATIENCE_S) -> list[str]:
        """Nothing is lost, doubled, left over or untrue; fails with what still is after `seconds`.

        What was the last to become true.
        """
        problems: list[str] = []
        last: list[str] = []

        async def none() -> bool:
            # While the files already tell, Docker and the hub are left to their work.
            problems[:] = self._file_problems() or await self.problems()
            last[:] = problems or last
            return not problems

        try:
            await until(none, seconds, every=0.05)
        except AssertionError:
            raise AssertionError("\n".join(problems)) from None
        return last

    async def problems(self) -> list[str]:
        """One line each; empty if all is as it should be. Starts in progress count as problems."""
        found = self._file_problems()
        try:
            return found + await self._docker_problems()
        except BinderError as error:
            return [*found, f"not to be seen: {error}"]

    def _file_problems(self) -> list[str]:
        found = [*self._store_problems(), *self._log_problems(), *self._folder_problems()]
        return found + [f"process of a build: {line}" for line in self.worker_processes()]

    def _store_problems(self) -> list[str]:
        found = [f"store: {row}" for row in self.rows("PRAGMA integrity_check") if "ok" not in row.values()]
        for row in self.rows("SELECT id, state, settled, error_code FROM builds"):
            if row["state"] in ("queued", "running") or not row["settled"]:
                found.append(f"build not over: {row}")
            if row["error_code"] == "unexpected":
                found.append(f"build failed by our own mistake: {row}")
        for row in self.rows("SELECT identity, count(*) AS n FROM images GROUP BY identity HAVING n > 1"):
            found.append(f"doubled image: {row}")
        for row in self.rows(
            "SELECT owner, repository, 'commit', count(*) AS n FROM projects GROUP BY 1, 2 HAVING n > 1"
        ):
            found.append(f"doubled project: {row}")
        found += [f"lease: {row}" for row in self.rows("SELECT * FROM leases")]
        return found

    def _log_problems(self) -> list[str]:
        found = []
        states = {row["id"]: row["state"] for row in self.rows("SELECT id, state FROM builds")}
        for build, state in states.items():
            path = self.settings.log_dir / f"{build}.jsonl"
            seen = _seen(path)
            if seen is not None and self._whole_logs.get(build) == (state, seen):
                continue
            before = len(found)
            try:
                lines = [json.loads(line) for line in path.read_text().splitlines()]
            except (OSError, ValueError) as error:
                found.append(f"log of {build}: {error}")
                continue
            if [line["n"] for line in lines] != list(range(1, len(lines) + 1)):
                found.append(f"log of {build} has gaps")
            if state not in ("queued", "running") and (not lines or lines[-1]["phase"] != state):
                found.append(f"log of {build} does not say that it is {state}")
            if seen is not None and len(found) == before:
                self._whole_logs[build] = (state, seen)
        return found

    def _folder_problems(self) -> list[str]:
        state, found = self.state, []
        for folder in (state / "temporary", self.settings.checkout_dir):
            if folder.exists():
                found += [f"left over: {each}" for each in folder.iterdir() if each.is_dir()]
        root = self.settings.storage_root
        if root.exists():
            found += [f"left over: {each}" for each in root.glob("*/*/.filling-*")]
            found += [f"left over: {each}" for each in root.glob("*/*/.project.json.*")]
        return found

    async def _docker_problems(self) -> list[str]:
        found = []
        containers = [each for each in await self.engine.containers() if self.engine.is_ours(each.labels)]
        servers = Counter[str]()
        for each in containers:
            if each.labels.get(KIND_LABEL) == "server":
                servers[each.labels["org.littlest-binder.server"]] += each.state == "running"
                if each.state != "running":
                    found.append(f"container {each.name} is {each.state}")
            else:
                found.append(f"container {each.name} of kind {each.labels.get(KIND_LABEL)}")
        told: dict[str, HubServer] = {}
        async with self.hub_api as api:
            for person in await api.users():
                told |= person.servers
        for name, server in told.items():
            if server.pending:
                found.append(f"the hub says that {name} is in {server.pending}")
            if server.ready and servers[name] != 1:
                found.append(f"the hub says that {name} runs, and {servers[name]} containers do")
        for name in servers:
            if name not in told or not told[name].active:
                found.append(f"a container of {name}, which the hub does not run")
        images = await self.engine.images()
        names = {tag for image in images for tag in image.tags}
        for row in self.rows("SELECT image_id, name FROM images"):
            if row["name"] not in names:
                found.append(f"recorded image {row['name']} is not in Docker")
        for row in self.rows("SELECT id, state, image_id FROM builds"):
            if building_name(row["id"]) in names:
                found.append(f"half image of {row['id']}")
            there = {each.id for each in images} | self.evicted
            if row["state"] == "built" and row["image_id"] not in there:
                found.append(f"{row['id']} is built, and its image is not there")
        async with self.client("root", admin=True) as client:
            told_builds = {each.id: each.state for each in await client.builds(everyone=True)}
        # A page of the list has so many.
        for row in self.rows("SELECT id, state FROM builds ORDER BY created DESC LIMIT 100"):
            if told_builds.get(row["id"]) != row["state"]:
                found.append(
                    f"{row['id']} is {row['state']}, and people are told {told_builds.get(row['id'])}"
                )
        return found

    async def erase(self, image_id: str) -> None:
        """Let one image go with all that only it used."""
        self.evicted.add(image_id)
        async with self.client("root", admin=True) as client:

            async def gone() -> bool:
                if image_id not in {each.id for each in await client.images()}:
                    return True
                # A server that has just stopped is taken for a user of its image for a moment.
                await client.delete_images([image_id], "erase")
                return False

            await until(gone, 60, every=0.2)
            await until(lambda: not self.rows("SELECT * FROM runs WHERE finished = ''"), every=0.05)

    async def evict_old(self, keep: int, beyond: int) -> None:
        """Evict all images but the newest `keep`, if there are more than `beyond`."""
        async with self.client("root", admin=True) as client:
            images = sorted(await client.images(), key=lambda each: each.created)
            if len(images) > beyond:
                old = {each.id for each in images[:-keep]}
                self.evicted |= old
                done = await client.delete_images(sorted(old), "evict")
                assert done.run, done
                await until(lambda: not self.rows("SELECT * FROM runs WHERE finished = ''"), every=0.05)
                assert not old & {each.id for each in await client.images()}, done

    def projects(self) -> dict[str, Path]:
        """Folders of complete projects by their ids and their people's folders."""
        found = self.settings.storage_root.glob("*/*/project.json")
        homes = {f"{each.parent.name} {each.parent.parent.name}": each.parent / "home" for each in found}
        return {name: home for name, home in homes.items() if home.is_dir()}


class Homes:
    """The homes of projects as they were; what the kernel says is untouched is not read again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[dict[str, Seen], dict[str, str]]] = {}

    def note(self, projects: Mapping[str, Path]) -> None:
        """Remember those that came since."""
        for name in projects.keys() - self._known.keys():
            self._known[name] = (_seen_below(projects[name]), content(projects[name]))

    def changed(self, projects: Mapping[str, Path]) -> list[str]:
        """Those that are gone or have other files than when they were noted."""
        found = []
        for name, (seen, files) in self._known.items():
            home = projects.get(name)
            if home is None or (_seen_below(home) != seen and content(home) != files):
                found.append(name)
        return found


Seen = tuple[int, int, int, int]


def _seen(path: Path) -> Seen | None:
    """What changes with a file; nobody can set back the time of the last change of its inode."""
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _seen_below(folder: Path) -> dict[str, Seen]:
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            seen = _seen(Path(place, name))
            if seen is not None:
                found[f"{place}/{name}"] = seen
    return found


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, or where a link leads, by the name below `folder`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


async def _kill(process: Program | None) -> None:
    assert process is not None
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait, PATIENCE_S)
