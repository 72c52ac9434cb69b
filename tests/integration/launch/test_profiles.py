"""Profiles, limits and the end of servers, on a real hub and a real Docker."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from ruamel.yaml import YAML
from running_hub import RunningHub
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect
from waiting import until

from tljh_plugin.errors import LimitReached
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL
from tljh_plugin.launch import endings

pytestmark = [pytest.mark.docker, pytest.mark.hub]

MIB = 1024**2
HIT = {"repository": "gh/test/hit/main"}
SMALL: dict[str, Any] = {
    "id": "small",
    "memory_bytes": "256MiB",
    "cpus": 0.5,
    "pids": 256,
    "shm_bytes": "8MiB",
}


async def start(hub: RunningHub, options: dict[str, Any] | None, server: str) -> dict[str, Any]:
    """The last event of a start; raises what it was refused with at once."""
    await hub.api().start(hub.owner, server, options)
    return [event async for event in hub.api().progress(hub.owner, server)][-1]


def containers(hub: RunningHub, client: docker.APIClient) -> dict[str, str]:
    """Ids of containers by the names of their servers."""
    label = f"{INSTANCE_LABEL}={instance_id(hub.settings)}"
    rows = client.containers(all=True, filters={"label": label})
    return {row["Labels"]["org.littlest-binder.server"]: row["Id"] for row in rows}


def run(client: docker.APIClient, container: str, *command: str) -> tuple[int, str]:
    """The exit code of a command in a container, and what it printed."""
    made = client.exec_create(container, list(command))["Id"]
    printed: bytes = client.exec_start(made)
    return int(client.exec_inspect(made)["ExitCode"]), printed.decode(errors="replace")


def of_cgroup(client: docker.APIClient, container: str) -> list[str]:
    """Memory, processor and process limits, as the kernel shows them inside, in cgroup versions 1 and 2."""
    script = """cd /sys/fs/cgroup
    if [ -e memory.max ]; then cat memory.max cpu.max pids.max; else
    cat memory/memory.limit_in_bytes; echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us)
    cat pids/pids.max; fi"""
    return run(client, container, "sh", "-c", script)[1].split("\n")[:3]


async def test_a_profile_holds_in_the_container_and_those_for_others_are_refused(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    for_group = {**SMALL, "id": "medium", "memory_bytes": "320MiB", "groups": ["gpu"]}
    profiles = [SMALL, {"id": "big", "people": ["somebody-else"]}, for_group]
    async with RunningHub(tmp_path, settings={"profiles": profiles}) as hub:
        assert (await start(hub, {**HIT, "profile": "small"}, "one")).get("ready"), hub.log
        container = containers(hub, client)["one"]
        said = client.inspect_container(container)
        assert said["HostConfig"]["Memory"] == said["HostConfig"]["MemorySwap"] == 256 * MIB
        environment = dict(each.partition("=")[::2] for each in said["Config"]["Env"])
        assert (environment["MEM_LIMIT"], environment["CPU_LIMIT"]) == (str(256 * MIB), "0.5")
        assert of_cgroup(client, container) == [str(256 * MIB), "50000 100000", "256"]

        filled = "dd if=/dev/zero of=/dev/shm/x bs=1M count=64 2>&1"
        assert "No space left" in run(client, container, "sh", "-c", f"{filled}; rm -f /dev/shm/x")[1]
        code, _ = run(client, container, "python3", "-c", f"x = bytearray({600 * MIB})")
        assert code == 137, "the kernel ends what needs more memory than the profile has"
        code, printed = run(client, container, "python3", "-c", FORKS)
        assert (code, printed.strip()) == (0, "refused before 256")
        assert containers(hub, client), "the server itself goes on"

        await hub.api().stop(hub.owner, "one")
        refusals = {"big": "not meant for you", "medium": "not meant for you", "gone": "no profile `gone`"}
        for bad, reason in refusals.items():
            said = await hub.refusal({**HIT, "profile": bad})
            assert reason in said
            assert "`small`" in said
        found = await hub.api().server(hub.owner, "one")
        assert found is not None
        assert found.user_options["profile"] == "small", "refused options do not replace the good ones"
        await become_member(hub, "gpu")
        browser = await hub.signed_in()
        shown = (await browser.get("/hub/spawn")).text
        await browser.aclose()
        assert re.findall(r'<option value="(\w+)"', shown[shown.index('name="profile"') :]) == [
            "small",
            "medium",
        ]
        assert "memory are free" in shown
        change_file(hub, lambda section: section["profiles"][2].update(memory_bytes="300MiB"))
        assert (await start(hub, {**HIT, "profile": "medium"}, "one")).get("ready")
        [container] = containers(hub, client).values()
        assert client.inspect_container(container)["HostConfig"]["Memory"] == 300 * MIB, (
            "as the file says now"
        )

        (hub.settings.state_dir / "profile-of-image").write_text("medium")
        assert (await start(hub, HIT, "two")).get("ready"), hub.log
        said = client.inspect_container(containers(hub, client)["two"])
        assert said["HostConfig"]["Memory"] == 300 * MIB, "the image's own profile, since none was chosen"
        assert json.loads(said["Config"]["Labels"]["org.littlest-binder.groups"]) == ["gpu"]


async def become_member(hub: RunningHub, group: str) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"token {hub.token}"}, timeout=60) as http:
        url = f"http://127.0.0.1:{hub.port}/hub/api/groups/{group}"
        (await http.post(url)).raise_for_status()
        (await http.post(f"{url}/users", json={"users": [hub.owner]})).raise_for_status()


def change_file(hub: RunningHub, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the section `binder` of the settings' file while the hub runs."""
    place = hub.state / "config.yaml"
    document = YAML(typ="safe").load(place)
    change(document["binder"])
    with place.open("w") as file:
        YAML(typ="safe").dump(document, file)


FORKS = """
import os, signal, time
children = []
try:
    while len(children) < 400:
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
except OSError:
    print("refused before 256" if len(children) < 256 else "too late")
for each in children:
    os.kill(each, signal.SIGKILL)
    os.waitpid(each, 0)
"""


async def test_ten_simultaneous_starts_take_no_more_than_a_person_may_have(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    settings = {"profiles": [SMALL], "limits": {"memory_bytes": "600MiB", "servers": 5}}
    async with RunningHub(tmp_path, settings=settings) as hub:
        names = [f"s{n}" for n in range(10)]

        async def one(name: str) -> str:
            try:
                last = await start(hub, HIT, name)
            except LimitReached as error:
                return str(error)
            return "ready" if last.get("ready") else str(last["message"])

        said = dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
        ready = [name for name in names if said[name] == "ready"]
        assert len(ready) == 2, said
        assert sorted(containers(hub, client)) == ready
        for name in set(names) - set(ready):
            assert "All your running servers together may have 600 MiB" in said[name]
            assert "Stop one of them" in said[name]
        assert await hub.api().stop(hub.owner, ready[0])
        refused = next(name for name in names if name not in ready)
        assert (await start(hub, HIT, refused)).get("ready"), "a place that is free again is given"


async def test_servers_end_with_their_profile_and_also_after_a_restart_of_the_hub(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    profiles = [
        {**SMALL, "id": "brief", "cpus": 1, "lifetime_s": 8},
        {**SMALL, "id": "longer", "cpus": 1, "lifetime_s": 40},
        {**SMALL, "id": "idle", "cpus": 1, "idle_s": 3},
        {**SMALL, "id": "busy", "cpus": 1, "idle_s": 20},
        SMALL,
    ]
    environment = {"TEST_POLL_S": "1", "TEST_KEEP_SERVERS": "1"}
    async with RunningHub(tmp_path, settings={"profiles": profiles}, environment=environment) as hub:
        for name, profile in (("busy", "busy"), ("brief", "brief"), ("idle", "idle")):
            options = {**HIT, "profile": profile, "project": name}
            assert (await start(hub, options, name)).get("ready"), hub.log
            if name == "busy":
                kernels = await compute(hub, client, "busy")
        kept = hub.state / "projects" / "somebody" / "brief" / "home" / "mine.txt"
        kept.write_text("mine")

        assert await until(lambda: reason(hub, "brief")) == "It ran for 8 s, which is its profile's limit."
        assert "; its profile allows 3 s." in await until(lambda: reason(hub, "idle"))
        assert await until(lambda: list(containers(hub, client)) == ["busy"])
        for name in ("brief", "idle"):
            await until(partial(stopped, hub, name))
        assert f"{hub.owner}:brief is stopped. It ran for 8 s" in hub.log
        assert kept.read_text() == "mine"
        assert "busy is stopped" not in hub.log, "a kernel that computes is activity"

        assert (await start(hub, {**HIT, "profile": "longer", "project": "longer"}, "longer")).get("ready")
        await hub.stop()
        assert sorted(containers(hub, client)) == ["busy", "longer"]
        await hub.start_again()
        await end_kernels(hub, kernels)
        await until(lambda: "busy is stopped. It was idle for" in hub.log)
        await until(lambda: f"{hub.owner}:longer is stopped. It ran for 40 s" in hub.log)
        await until(lambda: containers(hub, client) == {})
        await until(partial(stopped, hub, "busy"))

        assert (await start(hub, {**HIT, "profile": "small", "project": "brief"}, "brief")).get("ready")
        assert reason(hub, "brief") == "", "what was said of the last time is over"
        await hub.api().stop(hub.owner, "brief")


def reason(hub: RunningHub, server: str) -> str:
    found = endings.read(hub.state, hub.owner, server)
    return found.why if found else ""


async def stopped(hub: RunningHub, server: str) -> bool:
    found = await hub.api().server(hub.owner, server)
    return found is None or not found.active


async def compute(hub: RunningHub, client: docker.APIClient, server: str) -> str:
    """Start a kernel that computes for long and prints nothing; the address of the server's kernels."""
    said = client.inspect_container(containers(hub, client)[server])
    [network] = said["NetworkSettings"]["Networks"].values()
    base = f"{network['IPAddress']}:8888/user/{hub.owner}/{server}/api/kernels"
    sign_in = {"Authorization": f"token {hub.token}"}
    async with httpx.AsyncClient(headers=sign_in, timeout=60) as http:
        answer = await http.post(f"http://{base}", json={"name": "python3"})
        answer.raise_for_status()
        kernel = answer.json()["id"]
    channels = await websocket_connect(HTTPRequest(f"ws://{base}/{kernel}/channels", headers=sign_in))
    header = {
        "msg_id": secrets.token_hex(8),
        "username": "",
        "session": "test",
        "msg_type": "execute_request",
    }
    content = {"code": "import time; time.sleep(600)", "silent": False}
    message = {
        "header": {**header, "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": content,
    }
    await channels.write_message(json.dumps({**message, "channel": "shell"}))
    while True:
        heard = json.loads(str(await channels.read_message()))
        if heard["msg_type"] == "execute_input":
            break
    channels.close()
    return f"http://{base}"


async def end_kernels(hub: RunningHub, kernels: str) -> None:
    """Remove the kernels of a server, as a person does who has finished."""
    async with httpx.AsyncClient(headers={"Authorization": f"token {hub.token}"}, timeout=60) as http:
        for each in (await http.get(kernels)).json():
            await http.delete(f"{kernels}/{each['id']}")
