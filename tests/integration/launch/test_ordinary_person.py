"""A desktop whose hub is run by its person, who may use Docker and is not root."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import docker
import pytest
from running_hub import RunningHub

from tljh_plugin.engine.firewall_rules import prefix
from tljh_plugin.engine.network import bridge_name
from tljh_plugin.installation import INSTANCE_LABEL, instance_id

pytestmark = [pytest.mark.docker, pytest.mark.hub]

HIT = {"repository": "gh/test/hit/main", "storage": "ephemeral"}
UID = 65534
SOCKET = "/var/run/docker.sock"


def become() -> list[str]:
    """Somebody of the group that may use Docker, who can read all: the interpreter may lie in root's home."""
    caps = [f"--{kind}-caps=-all,+dac_read_search" for kind in ("bounding", "inh", "ambient")]
    caps[0] = "--bounding-set=-all,+dac_read_search"
    groups = f"--groups={os.stat(SOCKET).st_gid}"
    return ["setpriv", f"--reuid={UID}", f"--regid={UID}", groups, *caps, "--"]


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def uids(process: int) -> list[int]:
    """Real, effective, saved and file system's."""
    status = (Path("/proc") / str(process) / "status").read_text()
    [line] = [each for each in status.splitlines() if each.startswith("Uid:")]
    return [int(each) for each in line.split()[1:]]


async def test_a_server_starts_and_stops_and_the_missing_firewall_is_said(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    name = pwd.getpwuid(UID).pw_name
    environment = {"HOME": str(tmp_path), "LOGNAME": name, "USER": name}
    # The home in our base image is that of user 1000.
    servers = {"servers": {"uid": 1000, "gid": 1000}}
    hub = RunningHub(tmp_path, settings=servers, environment=environment, become=become())
    run("chown", "--recursive", f"{UID}:{UID}", str(tmp_path))
    async with hub:
        assert hub.process is not None
        assert uids(hub.process.pid) == [UID] * 4
        await hub.api().start(name, "one", HIT)
        events = [event async for event in hub.api().progress(name, "one")]
        assert events[-1].get("ready"), hub.log
        assert hub.log.count("Servers run without firewall rules") == 1
        assert prefix(bridge_name(instance_id(hub.settings))) not in run("iptables-save")

        label = f"{INSTANCE_LABEL}={instance_id(hub.settings)}"
        [row] = client.containers(filters={"label": label})
        assert uids(client.inspect_container(row["Id"])["State"]["Pid"]) == [1000] * 4
        await hub.api().stop(name, "one")
        assert client.containers(all=True, filters={"label": label}) == []
