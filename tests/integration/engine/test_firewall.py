"""The firewall rules in the kernel: of our real network, and among an administrator's in a place apart."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import PIPE

import pytest

from tljh_plugin.engine import Engine
from tljh_plugin.engine.firewall import has_rights
from tljh_plugin.engine.firewall_rules import prefix
from tljh_plugin.engine.network import bridge_name, default_bridge
from tljh_plugin.settings import Settings

pytestmark = pytest.mark.docker

# As other programs have them: Docker's chains, an administrator's policy and rules, other kinds of jumps.
FOREIGN = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
:ufw-user-input - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -j ufw-user-input
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -s 198.51.100.0/24 -j DROP
-A DOCKER-USER -j RETURN
-A ufw-user-input -p tcp -m tcp --dport 22 -m comment --comment "ssh; -j LB-IN" -j ACCEPT
COMMIT
*nat
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
"""
STEPS = """
import asyncio, dataclasses, json, sys
from tljh_plugin.engine import firewall
from tljh_plugin.engine.firewall_rules import Site
from tljh_plugin.engine.network import bridge_name
instance = sys.argv[1]
site = Site(bridge_name(instance), "172.30.0.1", 8899, nameservers=("10.0.0.53",))
does = {
    "ensure": lambda: firewall.ensure(site),
    "ensure for builds": lambda: firewall.ensure(dataclasses.replace(site, build_bridge="builds")),
    "missing": lambda: firewall.missing(instance),
    "remove": lambda: firewall.remove(instance),
    "listed": lambda: firewall.listed(instance),
}
for line in sys.stdin:
    print(json.dumps(asyncio.run(does[line.strip()]())), flush=True)
"""


def run(*command: str, text: str | None = None, env: Mapping[str, str] | None = None) -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, env=env).stdout


def rules(text: str) -> list[str]:
    """What `iptables-save` shows, without its counters and times."""
    return [line.split(" [")[0] for line in text.splitlines() if not line.startswith("#")]


class Apart:
    """A network namespace with a bridge of our name and other people's rules.

    `programs` is a folder of which the `iptables` commands are taken, before the machine's own.
    """

    def __init__(self, programs: Path) -> None:
        self.environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        self.name = f"lbf-{secrets.token_hex(4)}"
        self.instance = f"test-{secrets.token_hex(6)}"
        self.steps: subprocess.Popen[str] | None = None

    def there(self, *command: str, text: str | None = None) -> str:
        return run("ip", "netns", "exec", self.name, *command, text=text, env=self.environment)

    def step(self, what: str) -> object:
        """What the firewall's function of that name returns in a process there."""
        assert self.steps is not None
        assert self.steps.stdin is not None
        assert self.steps.stdout is not None
        self.steps.stdin.write(f"{what}\n")
        self.steps.stdin.flush()
        return json.loads(self.steps.stdout.readline())

    def saved(self) -> list[str]:
        return rules(self.there("iptables-save") + self.there("ip6tables-save"))


class Neighbourhood:
    """A server on our bridge, a step of a build on one named `builds`, and a machine of the LAN, each a
    network namespace joined to the one apart, all with IPv6 and a program that answers. A context manager.
    """

    PORT = 4567
    ANSWER = (
        "import socket\n"
        "with socket.create_server(('::', {port}), family=socket.AF_INET6) as here:\n"
        "    print(flush=True)\n"
        "    while True:\n"
        "        here.accept()[0].close()\n"
    )
    KNOCK = (
        "import json, socket, sys\n"
        "def answers(address):\n"
        "    try:\n"
        "        socket.create_connection((address, {port}), 1).close()\n"
        "    except OSError:\n"
        "        return False\n"
        "    return True\n"
        "print(json.dumps({{who: answers(address) for who, address in json.loads(sys.argv[1]).items()}}))\n"
    )

    def __init__(self, apart: Apart) -> None:
        self.apart = apart
        # The namespace, the bridge that it is joined to, and its network.
        self.members = {
            "server": (f"{apart.name}-s", bridge_name(apart.instance), "fd00:5::"),
            "build": (f"{apart.name}-b", "builds", "fd00:b::"),
            "lan": (f"{apart.name}-l", "lan", "fd00:1::"),
        }
        self.running = contextlib.ExitStack()

    def __enter__(self) -> Neighbourhood:
        with contextlib.ExitStack() as made:
            apart = self.apart
            for bridge in ("builds", "lan"):
                apart.there("ip", "link", "add", bridge, "type", "bridge")
            for setting in (
                "conf.all.disable_ipv6=0",
                "conf.default.disable_ipv6=0",
                "conf.all.forwarding=1",
            ):
                apart.there("sysctl", "-q", f"net.ipv6.{setting}")
            for namespace, bridge, network in self.members.values():
                run("ip", "netns", "add", namespace)
                made.callback(run, "ip", "netns", "del", namespace)
                inner = ["ip", "netns", "exec", namespace]
                run(*inner, "sysctl", "-q", "net.ipv6.conf.all.disable_ipv6=0")
                port = f"p-{bridge}"[:15]
                apart.there(
                    *("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
                )
                apart.there("ip", "link", "set", port, "master", bridge, "up")
                apart.there("ip", "link", "set", bridge, "up")
                # Without the second in which an address is tentative (RFC 4862).
                apart.there("ip", "address", "add", f"{network}1/64", "dev", bridge, "nodad")
                apart.there("ip", "address", "add", "fe80::1/64", "dev", bridge, "nodad")
                run(*inner, "ip", "link", "set", "eth0", "up")
                run(*inner, "ip", "address", "add", f"{network}2/64", "dev", "eth0", "nodad")
                run(*inner, "ip", "route", "add", "default", "via", f"{network}1")
            for namespace in (apart.name, *(each[0] for each in self.members.values())):
                program = self.ANSWER.format(port=self.PORT)
                command = ["ip", "netns", "exec", namespace, sys.executable, "-c", program]
                answering = made.enter_context(subprocess.Popen(command, stdout=PIPE, text=True))
                made.callback(answering.kill)
                assert answering.stdout is not None
                assert answering.stdout.readline() == "\n"
            self.running = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.running.close()

    def reached(self, who: str) -> dict[str, bool]:
        """Who of the others answers to one of them, or to this machine."""
        others = {name: f"{network}2" for name, (_, _, network) in self.members.items() if name != who}
        if who == "machine":
            namespace = self.apart.name
        else:
            namespace, _, network = self.members[who]
            others["machine"] = f"{network}1"
        if who in ("server", "build"):
            others = {name: others[name] for name in ("machine", "lan")}
            others["machine by link-local address"] = "fe80::1%eth0"
        knock = [sys.executable, "-c", self.KNOCK.format(port=self.PORT), json.dumps(others)]
        found = json.loads(run("ip", "netns", "exec", namespace, *knock))
        return {str(name): bool(value) for name, value in found.items()}


@pytest.fixture(params=["xtables-nft-multi", "xtables-legacy-multi"])
def apart(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Apart]:
    """With the newer and with the older kind of iptables, which do not see each other's rules."""
    program = shutil.which(request.param, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert program
    for family in ("iptables", "ip6tables"):
        for name in (family, f"{family}-save", f"{family}-restore"):
            (tmp_path / name).symlink_to(program)
    place = Apart(tmp_path)
    run("ip", "netns", "add", place.name)
    try:
        place.there("ip", "link", "add", bridge_name(place.instance), "type", "bridge")
        place.there("sysctl", "-q", "net.bridge.bridge-nf-call-iptables=1")
        place.there("iptables-restore", text=FOREIGN)
        place.there("ip6tables", "-A", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT")
        command = ["ip", "netns", "exec", place.name, sys.executable, "-c", STEPS, place.instance]
        environment = place.environment
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment) as place.steps:
            yield place
    finally:
        run("ip", "netns", "del", place.name)


def test_rules_are_set_once_mended_after_a_flush_and_removed_without_a_trace(apart: Apart) -> None:
    before = apart.saved()
    assert apart.step("missing")
    assert apart.step("ensure") is True
    assert apart.step("missing") == ""
    with_ours = apart.saved()
    assert apart.step("ensure") is False
    assert apart.saved() == with_ours
    ours = prefix(bridge_name(apart.instance))
    for flush in (["-F", "INPUT"], ["-F", "DOCKER-USER"], ["-F", f"{ours}OUT"], ["-F"]):
        apart.there("iptables", *flush)
        assert apart.step("missing") or flush[-1].startswith("LB-")
        assert apart.step("ensure") is True, flush
        assert apart.step("missing") == ""
    apart.there("iptables-restore", text=FOREIGN)  # as at a reload of the administrator's firewall
    assert apart.step("ensure") is True
    assert apart.saved() == with_ours
    apart.step("remove")
    assert apart.saved() == before
    apart.step("remove")


def test_rules_are_listed_as_commands_would_set_them(apart: Apart) -> None:
    assert apart.step("listed") == []
    apart.step("ensure")
    own = prefix(bridge_name(apart.instance))
    told = apart.step("listed")
    assert isinstance(told, list)
    assert {f"iptables -A INPUT -j {own}IN", f"iptables -A DOCKER-USER -j {own}FWD"} <= set(told)
    assert all(own in rule for rule in told)
    in_kernel = [line for line in apart.saved() if line.startswith("-A ") and own in line]
    assert sorted(rule.partition(" ")[2] for rule in told) == sorted(in_kernel)


def test_what_the_other_kind_of_iptables_holds_is_found_and_removed_as_well(apart: Apart) -> None:
    """The machine's choice of the kind may have changed since the rules were set."""
    own = prefix(bridge_name(apart.instance))
    for kind in ("nft", "legacy"):
        for family in ("iptables", "ip6tables"):
            apart.there(f"{family}-{kind}", "-N", f"{own}IN")
            apart.there(f"{family}-{kind}", "-A", "INPUT", "-j", f"{own}IN")
    told = apart.step("listed")
    assert isinstance(told, list)
    assert len(told) >= 3, told
    apart.step("remove")
    assert apart.step("listed") == []
    for kind in ("nft", "legacy"):
        for family in ("iptables", "ip6tables"):
            assert own not in apart.there(f"{family}-{kind}-save")


@pytest.fixture
def with_ipv6(apart: Apart) -> Iterator[Neighbourhood]:
    with Neighbourhood(apart) as made:
        yield made


def test_no_ipv6_packet_of_a_server_passes(apart: Apart, with_ipv6: Neighbourhood) -> None:
    """Should its network have it after all: neither to this machine nor through it, nor to the server."""
    open_to = {"machine": True, "lan": True, "machine by link-local address": True}
    assert with_ipv6.reached("server") == open_to
    assert with_ipv6.reached("lan")["server"]
    assert apart.step("ensure") is True
    assert with_ipv6.reached("server") == dict.fromkeys(open_to, False)
    assert not with_ipv6.reached("lan")["server"]
    assert with_ipv6.reached("build") == open_to
    apart.step("remove")
    assert with_ipv6.reached("server") == open_to


def test_builds_that_are_as_servers_begin_nothing_by_ipv6(apart: Apart, with_ipv6: Neighbourhood) -> None:
    """Whoever is there by somebody else's wish is reached as before, and answers."""
    open_to = {"machine": True, "lan": True, "machine by link-local address": True}
    assert with_ipv6.reached("build") == open_to
    assert apart.step("ensure for builds") is True
    assert apart.step("ensure for builds") is False
    # What the machine knew of its neighbours is asked anew.
    apart.there("ip", "-6", "neigh", "flush", "all")
    assert with_ipv6.reached("build") == dict.fromkeys(open_to, False)
    assert with_ipv6.reached("lan")["build"]
    assert with_ipv6.reached("machine") == {"build": True, "lan": True, "server": False}
    apart.step("ensure")
    assert with_ipv6.reached("build") == open_to


def test_the_kernel_must_filter_traffic_between_servers(apart: Apart) -> None:
    apart.there("sysctl", "-q", "net.bridge.bridge-nf-call-iptables=0")
    assert "servers reach each other" in str(apart.step("missing"))


def test_a_process_without_rights_says_so(apart: Apart) -> None:
    limited = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", sys.executable]
    said = apart.there(*limited, "-c", STEPS, apart.instance, text="missing\nremove\n").splitlines()
    assert "may not set firewall rules" in said[0]
    assert said[1] == "null"
    assert has_rights()


async def test_rules_of_our_network_come_and_go_with_it(engine: Engine) -> None:
    network = await engine.ensure_network()
    assert await engine.missing_firewall()
    assert await engine.ensure_firewall(Settings(), network, 8899)
    assert not await engine.ensure_firewall(Settings(), network, 8899)
    assert await engine.ensure_firewall(Settings(), network, 8900)
    assert await engine.missing_firewall() == ""
    ours = prefix(bridge_name(engine.instance))
    assert ours in run("iptables-save") and ours in run("ip6tables-save")  # noqa: PT018
    await engine.remove_network()
    assert ours not in run("iptables-save") + run("ip6tables-save")


async def test_the_bridge_on_which_builds_run_is_found(engine: Engine) -> None:
    bridge = await engine._connection.call("show its default network", default_bridge)
    assert bridge in run("ip", "-o", "link")
