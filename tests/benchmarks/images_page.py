"""The administrator's table of images on a full machine: 1,000 images of ours and 200 of others.

    python tests/benchmarks/images_page.py [--requests 100] [--ours 1000] [--others 200] [--json]

A Docker of its own is given the images, a store their history; then the service is started as it is in real
life, behind a proxy that counts what Docker is asked. Figures: seconds from the start of the process until
the page answers with the images, the median of three starts; milliseconds of a page as its reader waits for
it, the median over several searches, orders and pages; the largest page in bytes; Docker calls meanwhile.
Exit code 1 if an aim is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
from desktop import free_port
from docker_proxy import DockerProxy
from engines import OWN, private
from house import PREFIX, SERVICE_TOKEN, StandInHub
from private_docker import PrivateDocker
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import create_signed_value
from waiting import until

from tljh_plugin import handover
from tljh_plugin.installation import ensure_state
from tljh_plugin.service.app import cookie_secret
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.store import BuildRow, ImageRow, Store

STATE = Path(__file__).parents[1] / ".state" / "images-page"
START_S, PAGE_MS, PAGE_BYTES = 5.0, 30.0, 100_000
ADDRESSES = (
    "",
    "?page=7",
    "?sort=-used",
    "?q=bob+course",
    "?show=older",
    "?sort=frees&page=3",
    "?show=not-ours",
)
_LAYERS, _STACKS, _STARTS = 20, 20, 3


@dataclass(frozen=True)
class Made:
    """An image that is put into Docker."""

    id: str
    name: str
    number: int


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    start_s: float
    page_ms: float
    worst_ms: float
    page_bytes: int
    docker_calls: int

    @property
    def good(self) -> bool:
        return (
            self.start_s <= START_S
            and self.page_ms <= PAGE_MS
            and self.page_bytes <= PAGE_BYTES
            and not self.docker_calls
        )


def load(docker: PrivateDocker, ours: int, others: int) -> list[Made]:
    """Images on a few layers that they share.

    `docker load` takes a second an image where the disk is busy. So it takes one of each stack of layers; the
    others, which differ in their configuration alone, are written into the engine's folder while it is down
    (the layout is that of `image/fs.go` and `reference/store.go` in Docker 20.10 to 28).
    """
    stacks = [_stack(number) for number in range(_STACKS)]
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in {name: content for stack in stacks for name, content in stack}.items():
            _add(archive, f"{name}/layer.tar", content)
        manifest = []
        for number, stack in enumerate(stacks):
            config = _config(number, stack)
            _add(archive, f"{hashlib.sha256(config).hexdigest()}.json", config)
            manifest.append(
                {
                    "Config": f"{hashlib.sha256(config).hexdigest()}.json",
                    "RepoTags": [_name(number, ours)],
                    "Layers": [f"{name}/layer.tar" for name, _ in stack],
                }
            )
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    command = ["docker", "--host", docker.host, "load", "--quiet"]
    subprocess.run(command, input=data.getvalue(), check=True, capture_output=True)
    docker.stop()
    place = docker.data / "docker" / "image" / "overlay2"
    names = json.loads((place / "repositories.json").read_text())
    made = []
    for number in range(ours + others):
        config = _config(number, stacks[number % _STACKS])
        digest = hashlib.sha256(config).hexdigest()
        (place / "imagedb" / "content" / "sha256" / digest).write_bytes(config)
        repository = _name(number, ours).partition(":")[0]
        names["Repositories"].setdefault(repository, {})[_name(number, ours)] = f"sha256:{digest}"
        made.append(Made(f"sha256:{digest}", _name(number, ours), number))
    (place / "repositories.json").write_text(json.dumps(names))
    docker.start()
    return made


def _name(number: int, ours: int) -> str:
    return f"littlest-binder/repo-{number}:1" if number < ours else f"other/thing-{number}:1"


def _stack(number: int) -> list[tuple[str, bytes]]:
    """One layer that all have, and three more."""
    return [_layer(each) for each in (0, *sorted(random.Random(number).sample(range(1, _LAYERS), 3)))]


def _config(number: int, stack: Sequence[tuple[str, bytes]]) -> bytes:
    diffs = [f"sha256:{hashlib.sha256(content).hexdigest()}" for _, content in stack]
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Labels": {"number": str(number)}},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        }
    ).encode()


def _layer(number: int) -> tuple[str, bytes]:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        _add(archive, f"layer-{number}", random.Random(number).randbytes(2000 + 500 * number))
    return f"{number:064x}", data.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


async def remember(settings: Settings, images: Sequence[Made]) -> None:
    """A store in which these were built and used."""
    chance = random.Random(1)
    store = await Store.open(settings.store_path)
    for image in images:
        person = chance.choice(("ada", "bob", "carol", "dan"))
        topic = chance.choice(("climate-course", "galaxy-zoo", "statistics", "bio-lab"))
        place = f"{person}/{topic}-{image.number}"
        commit = f"{chance.getrandbits(160):040x}"
        identity = hashlib.sha256(place.encode()).hexdigest()
        created = (datetime.now(timezone.utc) - timedelta(hours=image.number + 2)).isoformat(
            timespec="milliseconds"
        )
        same: dict[str, Any] = {
            "identity": identity,
            "url": f"https://github.com/{place}",
            "commit": commit,
            "subdir": "",
            "platform": "linux/amd64",
            "spec": f"gh/{place}/{commit}",
            "asked_ref": "main",
            "created": created,
        }
        build = BuildRow(id=f"b-{image.number}", requested_by=person, **same)
        await store.enqueue(build, per_person=10**6)
        await store.start_build(build.id)
        row = ImageRow(
            image_id=image.id,
            name=image.name,
            title=f"github.com/{place}",
            built_by=person,
            build_id=build.id,
            size=10**9,
            recipe=chance.choice(("old", "new")),
            home="/home/jovyan",
            workdir="/home/jovyan",
            pinned=chance.random() < 0.1,
            **same,
        )
        await store.finish_built(build.id, row)
        await store.settle_build(build.id)
        for _ in range(chance.randrange(4)):
            await store.add_use(image.id, chance.choice(("eve", "bob")), "calm-otter")
    await store.set_note("rescan", "done")  # the store is not new
    await store.close()


@asynccontextmanager
async def hub() -> AsyncIterator[int]:
    """A hub that knows who has which token; its port."""
    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(StandInHub().application())
    server.add_sockets(sockets)
    yield sockets[0].getsockname()[1]
    server.stop()
    await server.close_all_connections()


@asynccontextmanager
async def service(settings: Settings, hub_port: int, docker: str) -> AsyncIterator[str]:
    """The service as a process; the address of its pages."""
    port = free_port()
    handover.write(
        handover.Handover(platform="desktop", state_dir=settings.state_dir, owner="root", section={})
    )
    env = {
        **os.environ,
        handover.STATE_VARIABLE: str(settings.state_dir),
        "DOCKER_HOST": docker,
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_API_TOKEN": SERVICE_TOKEN,
        "JUPYTERHUB_API_URL": f"http://127.0.0.1:{hub_port}/hub/api",
        "JUPYTERHUB_HOST": "",
    }
    with (settings.state_dir / "serve.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tljh_plugin.cli", "serve", env=env, stdout=log, stderr=log
        )
        try:
            yield f"http://127.0.0.1:{port}{PREFIX}"
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


@asynccontextmanager
async def started(
    settings: Settings, hub_port: int, docker: str, signed: str, starts: list[float]
) -> AsyncIterator[httpx.AsyncClient]:
    """The service, seen by an administrator's browser; the seconds until it answered go to `starts`."""
    begun = time.perf_counter()
    async with (
        service(settings, hub_port, docker) as address,
        httpx.AsyncClient(
            base_url=address,
            cookies={"service-binder": signed},
            headers={"User-Agent": "Browser", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"},
            timeout=60,
        ) as browser,
    ):
        await until(lambda: answered(browser, "images", settings), 60)
        starts.append(time.perf_counter() - begun)
        yield browser


async def answered(browser: httpx.AsyncClient, path: str, settings: Settings) -> httpx.Response | None:
    """The page, or None while nobody listens; raises with the service's log if it has ended."""
    try:
        return await browser.get(path)
    except httpx.TransportError:
        log = (settings.state_dir / "serve.log").read_text()
        if "Traceback" in log or "binder:" in log:
            raise RuntimeError(log) from None
        return None


async def measure(requests: int, ours: int, others: int) -> Figures:
    """All figures, on a Docker of its own."""
    with tempfile.TemporaryDirectory(prefix="lb-images-page-") as folder, private(OWN, STATE) as docker:
        home = Path(folder)
        settings = from_mapping({}, platform="desktop", state_dir=home / "littlest-binder", owner="root")
        ensure_state(settings)
        _say(f"loading {ours + others} images")
        images = load(docker, ours, others)
        await remember(settings, images[:ours])
        signed = create_signed_value(cookie_secret(settings), "service-binder", "root-token").decode()
        async with DockerProxy(home / "docker.sock", docker.socket) as proxy, hub() as hub_port:
            starts: list[float] = []
            for _ in range(_STARTS - 1):
                async with started(settings, hub_port, proxy.host, signed, starts):
                    pass
            async with started(settings, hub_port, proxy.host, signed, starts) as browser:
                said = f"{ours} built here, {others} of others"
                first = await browser.get("images")
                if first.status_code != 200 or said not in first.text:
                    raise RuntimeError(
                        f"the page does not list them: {first.status_code}\n{first.text[:2000]}"
                    )
                _say(f"it answered after {', '.join(f'{each:.2f}' for each in starts)} s; waiting for quiet")
                await _quiet(proxy)
                taken, largest = [], 0
                proxy.begin()
                for number in range(requests):
                    begun = time.perf_counter()
                    page = await browser.get(f"images{ADDRESSES[number % len(ADDRESSES)]}")
                    taken.append(1000 * (time.perf_counter() - begun))
                    page.raise_for_status()
                    largest = max(largest, len(page.content))
                calls = len(proxy.calls)
    return Figures(statistics.median(starts), statistics.median(taken), max(taken), largest, calls)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _quiet(proxy: DockerProxy) -> None:
    """Wait until all layers are known and the list was just made: the next look is then a minute away."""

    async def nothing_for_a_while() -> bool:
        before = len(proxy.calls)
        await asyncio.sleep(2)
        return len(proxy.calls) == before

    await until(nothing_for_a_while, 300)
    proxy.begin()
    await until(lambda: any("/images/json" in call.what for call in proxy.calls), 90)
    await until(nothing_for_a_while, 60)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--ours", type=int, default=1000)
    parser.add_argument("--others", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    given = parser.parse_args()
    found = asyncio.run(measure(given.requests, given.ours, given.others))
    if given.json:
        print(json.dumps({**found.__dict__, "good": found.good}))
    else:
        print(f"start until the page answers {found.start_s:6.2f} s   (aim {START_S:g})")
        print(f"a page, median               {found.page_ms:6.1f} ms  (aim {PAGE_MS:g})")
        print(f"a page, worst                {found.worst_ms:6.1f} ms")
        print(f"largest page                 {found.page_bytes / 1000:6.1f} KB  (aim {PAGE_BYTES / 1000:g})")
        print(f"Docker calls for {given.requests} pages   {found.docker_calls:6}     (aim 0)")
    return int(not found.good)


if __name__ == "__main__":
    sys.exit(main())
