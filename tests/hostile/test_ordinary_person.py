"""A desktop whose hub is run by its person, who may use Docker and is not root."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import docker
import pytest
from attempts import reaching
from host_service import HostService
from inside import Inside
from neighbour import PORT, Neighbour
from running_hub import RunningHub

from tljh_plugin.engine.firewall_rules import prefix
from tljh_plugin.engine.network import bridge_name
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL

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


@pytest.mark.attack(reaching.KIND, preventable=False, page="Without root there is no firewall.")
async def test_a_server_starts_and_reaches_what_no_firewall_closes(
    tmp_path: Path, base_image: str, client: docker.APIClient
) -> None:
    """The hub's log says so, and what is reached stands on the security page."""
    name = pwd.getpwuid(UID).pw_name
    environment = {"HOME": str(tmp_path), "LOGNAME": name, "USER": name}
    # The home in our base image is that of user 1000.
    servers = {"servers": {"uid": 1000, "gid": 1000}}
    hub = RunningHub(tmp_path, settings=servers, environment=environment, become=become())
    run("chown", "--recursive", f"{UID}:{UID}", str(tmp_path))
    async with hub:
        assert hub.process is not None
        assert uids(hub.process.pid) == [UID] * 4
        server = await Inside(hub, name, "one").open(client, HIT)
        assert hub.log.count("Servers run without firewall rules") == 1
        assert prefix(bridge_name(instance_id(hub.settings))) not in run("iptables-save")
        assert uids(server.container["State"]["Pid"]) == [1000] * 4

        (network,) = server.container["NetworkSettings"]["Networks"].values()
        with HostService() as service, Neighbour() as lan:
            places = {
                "this machine": [network["Gateway"], service.port],
                "the local network": [lan.address, PORT],
                "the metadata service": [lan.metadata, PORT],
            }
            knock = f"{reaching.KNOCK}got = [name for name, each in place.items() if answers(*each)]"
            assert await server.value(knock, places) == list(places)

        await hub.api().stop(name, "one")
        label = f"{INSTANCE_LABEL}={instance_id(hub.settings)}"
        assert client.containers(all=True, filters={"label": label}) == []
