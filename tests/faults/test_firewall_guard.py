"""Servers' firewall rules over flushes, restarts of Docker, and what is left of them after a boot.

In a network namespace with a Docker of its own that writes its rules as on any machine, and a hub's launch
pad beside it. What counts is what a running server reaches of this machine, tried from inside.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import pytest
from private_docker import PrivateDocker
from waiting import until

from tljh_plugin.engine.firewall_rules import prefix

pytestmark = [pytest.mark.docker]

DEBIAN = "littlest-binder/debian:bookworm"
PAD = """
import asyncio, json, logging, sys
from pathlib import Path
from tljh_plugin.engine import ContainerSpec, Limits
from tljh_plugin.installation import ensure_state
from tljh_plugin.launch.pad import LaunchPad
from tljh_plugin.settings import from_mapping

async def main():
    logging.basicConfig(level=logging.INFO)
    section = {"network": {"firewall": "required"}}
    settings = from_mapping(section, platform="jupyterhub", state_dir=Path(sys.argv[1]))
    ensure_state(settings)
    pad = LaunchPad(settings)
    network, _ = await pad.ready_network("http://127.0.0.1:1", "/hub/")
    await asyncio.start_server(lambda reader, writer: writer.close(), network.gateway, 4567)
    limits = Limits(1000, 1000, (), 2**27, 1.0, 64, 2**24, 2**20)
    spec = ContainerSpec(sys.argv[2], ("sleep", "infinity"), limits, "server", network=network.name)
    container = await pad.engine.start(spec)
    print(json.dumps([network.bridge, network.gateway, container]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await pad.engine.remove(container)
    await pad.engine.remove_network()

asyncio.run(main())
"""


@dataclass
class Place:
    """The namespace, its Docker, and a server on a network with our rules."""

    namespace: str
    docker: PrivateDocker
    bridge: str
    gateway: str
    container: str
    log: Path

    def there(self, *command: str) -> str:
        command = ("ip", "netns", "exec", self.namespace, *command)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def in_force(self) -> bool:
        """Whether all is hung up in front of everything else, for both versions of IP."""
        own = prefix(self.bridge)
        both = self.there("iptables-save", "-t", "filter"), self.there("ip6tables-save", "-t", "filter")
        return all(_is_in_force(saved, own) for saved in both)

    def reaches_this_machine(self) -> bool:
        """Whether the server gets an answer of a service of this machine that is not the hub."""
        script = f"timeout 20 bash -c '</dev/tcp/{self.gateway}/4567' 2>/dev/null && echo open || echo closed"
        return self.docker.docker("exec", self.container, "bash", "-c", script).strip() == "open"

    def flush(self) -> None:
        """As an administrator's firewall does when it is loaded anew, and as a boot leaves it."""
        for command in ("iptables", "ip6tables"):
            self.there(command, "-F")
            # The guard may have set some of ours by now: what is not empty stays.
            subprocess.run(["ip", "netns", "exec", self.namespace, command, "-X"], capture_output=True)


def _is_in_force(saved: str, own: str) -> bool:
    forward = _first(saved, "FORWARD")
    if forward == "-j DOCKER-USER":
        forward = _first(saved, "DOCKER-USER")
    ours = f"-j {own}IN", f"-j {own}FWD"
    return (_first(saved, "INPUT"), forward) == ours and bool(_first(saved, f"{own}FWD"))


def _first(saved: str, chain: str) -> str:
    rules = [line for line in saved.splitlines() if line.startswith(f"-A {chain} ")]
    return rules[0].removeprefix(f"-A {chain} ") if rules else ""


@pytest.fixture(scope="module", params=[True, False], ids=["live-restore", "without"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    namespace = f"lbg-{secrets.token_hex(4)}"
    folder = tmp_path_factory.mktemp("guard")
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        subprocess.run(["ip", "netns", "exec", namespace, "ip", "link", "set", "lo", "up"], check=True)
        with PrivateDocker(folder / "docker", namespace=namespace, live_restore=request.param) as docker:
            docker.copy_in(DEBIAN)
            yield from _with_server(namespace, docker, folder)
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)


def _with_server(namespace: str, docker: PrivateDocker, folder: Path) -> Iterator[Place]:
    command = ["ip", "netns", "exec", namespace, "env", f"DOCKER_HOST={docker.host}"]
    command += [sys.executable, "-c", PAD, str(folder / "state"), DEBIAN]
    log = folder / "pad.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=output) as pad,
    ):
        assert pad.stdout is not None
        line = pad.stdout.readline()
        assert line, log.read_text()
        yield Place(namespace, docker, *json.loads(line), log)
        assert pad.stdin is not None
        pad.stdin.close()
        assert pad.wait(120) == 0, log.read_text()


async def test_after_a_flush_a_running_server_is_shut_in_again(place: Place) -> None:
    assert place.in_force()
    assert not place.reaches_this_machine()
    place.flush()
    await until(place.in_force)
    assert not place.reaches_this_machine()
    assert "The firewall rules of servers were gone" in place.log.read_text()


async def test_the_attempt_would_notice_if_there_were_no_rules(place: Place) -> None:
    own = prefix(place.bridge)
    door = ["-p", "tcp", "--dport", "4567", "-j", "ACCEPT"]

    def opened() -> bool:
        """The guard may come between."""
        place.there("iptables", "-I", f"{own}HOST", "1", *door)
        return place.reaches_this_machine()

    await until(opened)
    await until(lambda: not place.reaches_this_machine())


async def test_other_peoples_rules_stay(place: Place) -> None:
    theirs = ["INPUT", "-s", "198.51.100.0/24", "-j", "DROP"]
    place.there("iptables", "-A", *theirs)
    own = prefix(place.bridge)
    place.there("iptables", "-D", "INPUT", "-j", f"{own}IN")
    await until(place.in_force)
    place.there("iptables", "-C", *theirs)
    place.there("iptables", "-D", *theirs)


async def test_docker_is_restarted_and_everything_was_flushed_meanwhile(place: Place) -> None:
    place.docker.stop()
    place.flush()
    place.docker.start()
    await until(place.in_force)
    running = place.docker.docker("ps", "--quiet", "--no-trunc").split()
    if place.docker.live_restore:
        assert place.container in running
        assert not place.reaches_this_machine()
    else:
        # Servers have no restart policy: the hub starts them, and looks at the rules before it does.
        assert running == []
