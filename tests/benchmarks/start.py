"""From the request to a server that is ready, on an image that is there: ours and stock DockerSpawner.

    python tests/benchmarks/start.py [--rounds 7] [--only plain|mounts]

Two hubs of the same version run side by side on one Docker, with the same image; rounds alternate. Ours does
more meanwhile (asks the service, finds the project, checks the isolation), and only the clock decides. Two
figures: `plain`, where the stock server keeps nothing, and `mounts`, where both have a kept home, a folder
that is only read and one that is written. Prints seconds of each round, the medians and their ratio; exit
code 1 if a ratio is above 0.85.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1]))

import docker
from desktop import free_port
from running_hub import RunningHub
from waiting import until

from tljh_plugin.build.base import ensure_base
from tljh_plugin.errors import NotFound
from tljh_plugin.hub_api import HubApi
from tljh_plugin.installation import ensure_state
from tljh_plugin.operation.examples import ensure_examples

AIM = 0.85
FIGURES = ("plain", "mounts")
OWNER = "ada"


@asynccontextmanager
async def stock_hub(
    folder: Path, image: str, volumes: dict[str, dict[str, str]] | None = None
) -> AsyncIterator[HubApi]:
    """A stock hub in `folder`; its servers and its network are removed afterwards."""
    client = docker.APIClient(version="auto")
    name = f"binder-benchmark-{secrets.token_hex(4)}"
    network = client.create_network(name, driver="bridge")["Id"]
    gateway = client.inspect_network(network)["IPAM"]["Config"][0]["Gateway"]
    token, port = secrets.token_hex(16), free_port()
    env = {
        **os.environ, "STOCK_PORT": str(port), "STOCK_HUB_PORT": str(free_port()),
        "STOCK_PROXY_PORT": str(free_port()), "STOCK_GATEWAY": gateway, "STOCK_IMAGE": image,
        "STOCK_NETWORK": name, "TEST_TOKEN": token, "STOCK_VOLUMES": json.dumps(volumes or {}),
    }  # fmt: skip
    config = Path(__file__).with_name("stock_hub_config.py")
    log = folder / "hub.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "jupyterhub", "--config", str(config)],
            cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        await until(lambda: "JupyterHub is now running" in log.read_text(), 60)
        async with HubApi(f"http://127.0.0.1:{port}/hub/api", token, timeout_s=120) as api:
            await api._request("POST", f"/users/{OWNER}")
            yield api
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)
        for each in client.containers(all=True, filters={"network": name}):
            client.remove_container(each["Id"], force=True)
        client.remove_network(network)
        client.close()


async def seconds_to_ready(api: HubApi, person: str, options: dict[str, Any] | None) -> float:
    """One start from the request to the hub's word that the server is ready, then its stop."""
    begun = time.perf_counter()
    await api.start(person, "bench", options)
    async for event in api.progress(person, "bench"):
        if event.get("failed"):
            raise RuntimeError(event["message"])
    taken = time.perf_counter() - begun
    await api.stop(person, "bench")
    return taken


async def measure(rounds: int, base: Path, figures: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Seconds of each round by figure and hub."""
    lab, home = base / "lab", base / "home"
    for folder in (base / "ours", lab, lab / "course", lab / "shared", home):
        folder.mkdir()
    for folder in (lab / "shared", home):
        os.chown(folder, 1000, 1000)
    mounts = [
        {"id": "course", "source": str(lab / "course")},
        {"id": "shared", "source": str(lab / "shared"), "access": "read-write"},
    ]
    volumes = {
        str(home): {"bind": "/home/jovyan", "mode": "rw"},
        str(lab / "course"): {"bind": "/data/course", "mode": "ro"},
        str(lab / "shared"): {"bind": "/data/shared", "mode": "rw"},
    }
    ours = RunningHub(base / "ours", service="real", settings={"mounts": mounts})
    ensure_state(ours.settings)
    await ensure_base(ours.settings, print)
    await ensure_examples(ours.settings)
    repository = f"local/{quote(str(ours.settings.examples_dir / 'plain'), safe='')}"
    taken: dict[str, dict[str, list[float]]] = {}
    async with ours:
        api = ours.api()
        # Builds the image and fills the project; the stock hub's first round is for the page cache too.
        await seconds_to_ready(api, ours.owner, {"repository": repository})
        image = await image_of(ours)
        for figure in figures:
            folder = base / f"stock-{figure}"
            folder.mkdir()
            wanted: dict[str, Any] = {"repository": repository}
            if figure == "mounts":
                wanted |= {"mounts": [each["id"] for each in mounts]}
            async with stock_hub(folder, image, volumes if figure == "mounts" else None) as stock:
                await seconds_to_ready(api, ours.owner, wanted)
                await seconds_to_ready(stock, OWNER, None)
                seconds: dict[str, list[float]] = {"ours": [], "stock": []}
                for number in range(rounds):
                    pairs = [("ours", api, ours.owner), ("stock", stock, OWNER)]
                    for name, hub, person in pairs if number % 2 else reversed(pairs):
                        seconds[name].append(await seconds_to_ready(hub, person, None))
                taken[figure] = seconds
    return taken


async def image_of(hub: RunningHub) -> str:
    """The image that the repository became."""
    from tljh_plugin.client import ServiceClient
    from tljh_plugin.wire import Person

    person = Person(name=hub.owner, admin=True)
    async with ServiceClient(socket=hub.settings.service_socket, person=person) as client:
        images = await client.images()
    if not images:
        raise NotFound("The service lists no image.", "See its log.")
    return images[0].id


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=FIGURES, help="one figure alone")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    given = parser.parse_args()
    figures = (given.only,) if given.only else FIGURES
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        taken = asyncio.run(measure(given.rounds, Path(folder), figures))
    said: dict[str, dict[str, Any]] = {}
    for figure, rounds in taken.items():
        medians = {name: statistics.median(values) for name, values in rounds.items()}
        ratio = medians["ours"] / medians["stock"]
        said[figure] = {"rounds": rounds, "medians": medians, "ratio": ratio, "aim": AIM}
        if not given.json:
            print(f"{figure}\nround   ours  stock")
            for number, (own, other) in enumerate(zip(rounds["ours"], rounds["stock"], strict=True), 1):
                print(f"{number:5} {own:6.2f} {other:6.2f}")
            own, other = medians["ours"], medians["stock"]
            print(f"median {own:5.2f} {other:6.2f}   ratio {ratio:.2f} (aim {AIM:.2f})")
    if given.json:
        print(json.dumps(said))
    return int(any(figure["ratio"] > AIM for figure in said.values()))


if __name__ == "__main__":
    sys.exit(main())
