"""Retention on a disk that is 95 % full, while people start servers and have images built.

    python tests/benchmarks/retention.py [--images N] [--seed N] [--json]

An engine of its own on a file system of its own (a loop device) holds images that share layers: ours, of
which some are pinned, and a stranger's. A hub and a service run on it with the settings
`high_watermark_percent: 90`, `low_watermark_percent: 86`; one person starts and stops servers without pause,
another has repositories built. Then a file fills the disk to 95 %. It ends when the disk is down at the low
watermark, and some more starts are over. Told are: how long that took, starts that failed, images that had to
stay and are gone, and what was promised and gained.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import private_docker
from engines import OWN, private
from git_server import GitServer
from machine import Machine
from private_docker import PrivateDocker
from waiting import until

from tljh_plugin.build.base import ensure_base
from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache.filesystems import Usage, usage_of
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import GIB, from_mapping
from tljh_plugin.store import BuildRow, ImageRow, Store

DISK = 4 * GIB
FULL, HIGH, LOW = 95, 90, 86
LARGEST_BYTES = 25_000_000
DEBIAN = "littlest-binder/debian:bookworm"
SETTINGS = {
    "retention": {
        "high_watermark_percent": HIGH,
        "low_watermark_percent": LOW,
        "every_s": 2,
        "min_age_hours": 1,
    },
    "build": {"disk_reserve_bytes": 0},
}
_REACHED_S = 900.0
# Starts and builds that must have come to their end since the disk was filled, before it is over.
_MORE = 8


def moment(age: timedelta) -> str:
    return (datetime.now(timezone.utc) - age).isoformat(timespec="milliseconds")


async def record(store: Store, docker: PrivateDocker, names: list[str], chance: random.Random) -> set[str]:
    """Let the images be ours, old, of different cost and last use; the ids of those that are pinned."""
    pinned = set()
    for number, name in enumerate(names):
        with docker.client() as client:
            image_id = client.inspect_image(name)["Id"]
        identity = ImageIdentity(
            f"https://example.org/lab/{number % 20}", f"{number:040x}", "", "linux/amd64"
        )
        made = moment(timedelta(days=chance.uniform(10, 200)))
        shared: dict[str, Any] = {
            "identity": identity.key,
            "url": identity.url,
            "commit": identity.commit,
            "subdir": "",
            "platform": identity.platform,
            "spec": f"gh/lab/{number % 20}/{identity.commit}",
            "asked_ref": "main",
            "created": made,
        }
        build = f"b-{number}"
        await store.enqueue(
            BuildRow(id=build, requested_by="ann", settled=True, rebuild=True, **shared), per_person=999
        )
        await store.start_build(build)
        image = ImageRow(
            image_id=image_id,
            name=name,
            title=f"lab/{number}",
            built_by="ann",
            build_id=build,
            size=1,
            recipe="r",
            home="/home/jovyan",
            workdir="/home/jovyan",
            pinned=number % 8 == 0,
            pin_reason="the course" if number % 8 == 0 else "",
            **shared,
        )
        await store.finish_built(build, image)
        times = [moment(timedelta(seconds=chance.choice([40, 300, 1500]))), moment(timedelta(0)), build]
        await store._change("UPDATE builds SET started = ?, finished = ? WHERE id = ?", times)
        await store._change(
            "INSERT INTO uses VALUES (?, ?, ?, ?)",
            [image_id, "ann", "", moment(timedelta(days=chance.uniform(1, 100)))],
        )
        if image.pinned:
            pinned.add(image_id)
    return pinned


class Load:
    """One person who starts and stops servers, another who has images built; all without pause."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.starts = 0
        self.builds = 0
        self.failed: list[str] = []
        self.over = False

    async def start(self, spec: str, name: str) -> None:
        number = 0
        while not self.over:
            number += 1
            server = f"{name}-{number}"
            start = self.machine.begin(server, spec, storage="ephemeral")
            if await start.over(300) != "ready":
                self.failed.append(f"{start.error}: {start.said}")
            self.starts += 1
            await self.machine.gone(server)

    async def build(self) -> None:
        number = 0
        while not self.over:
            number += 1
            server = f"b-{number}"
            start = self.machine.begin(server, self.machine.repository(), person="bob", storage="ephemeral")
            if await start.over(300) != "ready":
                self.failed.append(f"{start.error}: {start.said}")
            self.builds += 1
            async with self.machine.hub_api as api:
                await api.stop("bob", server, remove=True)


def usage(docker: PrivateDocker) -> Usage:
    return usage_of(docker.data)


def bake(docker: PrivateDocker, folder: Path, base: str, names: list[str], chance: random.Random) -> None:
    """Build images by BuildKit: on one of eight environments each, with up to so many bytes of its own."""
    folder.mkdir()
    targets = {}
    for number, name in enumerate(names):
        environment = chance.randrange(8)
        own = chance.randrange(LARGEST_BYTES // 4, LARGEST_BYTES)
        lines = [
            f"FROM {base}",
            "USER root",
            f"RUN head -c {LARGEST_BYTES // 2} /dev/urandom > /srv/environment-{environment}",
            f"RUN head -c {own} /dev/urandom > /srv/own-{number}",
            f"LABEL name={name}",
        ]
        inline = "\n".join(lines)
        targets[f"t{number}"] = {
            "context": ".",
            "dockerfile-inline": inline,
            "tags": [name],
            "attest": ["type=provenance,disabled=true"],
        }
    wanted = {"target": targets, "group": {"default": {"targets": list(targets)}}}
    (folder / "bake.json").write_text(json.dumps(wanted))
    subprocess.run(
        ["docker", "buildx", "--builder", "default", "bake", "--file=bake.json", "--progress=quiet"],
        cwd=folder,
        check=True,
        env={**os.environ, "DOCKER_HOST": docker.host, "BUILDX_CONFIG": f"{folder}/.buildx"},
    )


async def measure(
    docker: PrivateDocker, folder: Path, base: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """All of it; the figures."""
    chance = random.Random(arguments.seed)
    ours = [f"littlest-binder/bench-{number}:1" for number in range(arguments.images)]
    strangers = [f"strangers/bench-{number}:1" for number in range(4)]
    began = time.monotonic()
    await asyncio.to_thread(bake, docker, folder / "context", base, [*ours, *strangers], chance)
    print(f"built the images in {time.monotonic() - began:.0f} s", file=sys.stderr)
    with GitServer(folder / "served") as served:
        machine = Machine(folder / "lab", served, docker.host, SETTINGS)
        store = await Store.open(machine.settings.store_path)
        try:
            pinned = await record(store, docker, ours, chance)
        finally:
            await store.close()
        with docker.client() as client:
            old = {client.inspect_image(name)["Id"] for name in ours}
            kept = pinned | {client.inspect_image(name)["Id"] for name in strangers}
        async with machine:
            load = Load(machine)
            spec = machine.repository()
            works = [load.start(spec, "one"), load.start(spec, "two"), load.build()]
            tasks = [asyncio.create_task(work) for work in works]
            await until(lambda: load.starts >= 2, _REACHED_S)
            docker.leave_room((100 - FULL) * usage(docker).total // 100)
            before, done = usage(docker), load.starts + load.builds
            print(f"the disk is {before.percent:.1f} % full", file=sys.stderr)
            began = time.monotonic()

            async def reached() -> bool:
                runs = machine.rows("SELECT finished FROM runs")
                return bool(runs) and all(row["finished"] for row in runs) and usage(docker).percent <= LOW

            await until(reached, _REACHED_S)
            seconds = time.monotonic() - began
            after = usage(docker)
            await until(lambda: load.starts + load.builds >= done + _MORE, _REACHED_S)
            load.over = True
            await asyncio.wait_for(asyncio.gather(*tasks), 400)
            # What was built meanwhile is too young to go.
            built = machine.rows("SELECT image_id FROM builds WHERE state = 'built'")
            young = {row["image_id"] for row in built} - old
            gone = (kept | young) - {image.id for image in await machine.engine.images()}
            runs = machine.rows("SELECT * FROM runs ORDER BY started")
        results = [result for run in runs for result in json.loads(run["results"])]
        plans = [json.loads(run["plan"]) for run in runs]
        taken = {each["image_id"] for each in results if each["outcome"] == "erased"}
        promised = sum(
            item["frees_bytes"] or 0 for plan in plans for item in plan["take"] if item["image_id"] in taken
        )
        return {
            "from percent": round(before.percent, 1),
            "to percent": round(after.percent, 1),
            "target reached": after.percent <= LOW,
            "seconds": round(seconds, 1),
            "runs": len(runs),
            "images erased": len(taken),
            "of images": arguments.images,
            "promised bytes": promised,
            "gained bytes": sum(run["gained_bytes"] for run in runs),
            "results that failed": sum(each["outcome"] == "failed" for each in results),
            "starts": load.starts,
            "builds with a start": load.builds,
            "starts that failed": load.failed,
            "gone that had to stay": sorted(gone),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    private_docker._SIZE = DISK
    with tempfile.TemporaryDirectory(prefix="lb-retention-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        settings = from_mapping({}, platform="jupyterhub", state_dir=folder / "base")
        ensure_state(settings)
        base = asyncio.run(ensure_base(settings, lambda line: None))
        with private(OWN, folder / "engine") as docker:
            docker.copy_in(base.name, DEBIAN)
            try:
                figures = asyncio.run(measure(docker, folder, base.name, arguments))
            finally:
                with suppress(OSError):
                    docker.make_room()
    if arguments.json:
        print(json.dumps(figures))
        return
    for what, value in figures.items():
        print(f"{what:24} {value}")
    if figures["starts that failed"] or figures["gone that had to stay"] or not figures["target reached"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
