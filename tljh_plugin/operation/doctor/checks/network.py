"""The network of the servers: there, guarded, and with a way to the hub."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ....engine import ContainerSpec, Network, limits_for
from ....engine.firewall import has_rights
from ....engine.threads import in_thread
from ....errors import EngineError, FirewallMissing
from ....labels import KIND_LABEL
from ....launch.gateway import read_port
from ....time_limit import within
from ..findings import CannotCheck, Repair, Verdict, note, ok, problem
from ..registry import check
from ..site import Site

_CONNECT_S = 1.5
_INSIDE_S = 2.6
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_INTERFACES = Path("/sys/class/net")
_PACKETS = "Packets do not pass through this machine: servers and builds reach no network."


@check(
    "network",
    "Network",
    "The servers' network",
    repairs="makes it if it is missing; a wrong one is made anew if nothing is in it",
)
async def network(site: Site) -> Verdict:
    """Our Docker network: there, made as it should be, and its bridge up on this machine."""
    subnet = site.settings.network.subnet
    if not site.made:
        raise CannotCheck("Nothing was started here yet.")

    async def make() -> str:
        made = await site.engine.ensure_network(subnet)
        return f"The network {made.name} is there, on {made.bridge}."

    repair = Repair("make the servers' network as it should be", make)
    ours = await site.network()  # `NotOurs` says what to do
    running = [each for each in await site.containers() if each.state == "running"]
    if ours is None:
        # The first start makes it; a desktop's `up` takes it away when it ends.
        if running:
            return problem(
                "The servers' network is gone while servers run: they are cut off from the hub.",
                "Stop these servers and start them again; the start makes the network.",
                repair=repair,
                seen={"servers": len(running)},
            )
        wanted = await site.runs()  # else nobody needs it before the next start
        return note(
            "There is none now: the next start of a server makes it.", repair=repair if wanted else None
        )
    seen = {"name": ours.name, "bridge": ours.bridge, "subnet": ours.subnet, "gateway": ours.gateway}
    wrong = await site.engine.network_differences(subnet)
    if wrong:
        return problem(
            f"The servers' network is not as it should be: {'; '.join(wrong)}.",
            "Stop all servers; the next start makes the network anew.",
            repair=None if running else repair,
            seen=seen,
        )
    if ours.bridge and not (_INTERFACES / ours.bridge).exists():
        return problem(
            f"Docker knows the network {ours.name}, and this machine has no bridge {ours.bridge}: servers do "
            "not start.",
            f"Run `docker network rm {ours.name}` when no server runs, or restart Docker.",
            seen=seen,
        )
    return ok(seen=seen)


@check("gateway", "Network", "The servers' way to the hub")
async def gateway(site: Site) -> Verdict:
    """Whether the listener, through which servers reach the hub, answers at the gateway of our network."""
    ours, port = await _listener(site)
    running = await _servers(site)
    seen = {"address": f"{ours.gateway}:{port or '?'}", "servers": str(len(running))}
    answers = bool(port) and await _connects(ours.gateway, port)
    if answers:
        return ok(seen=seen)
    if running:
        return problem(
            "The listener does not answer: servers that run cannot report activity, and new people cannot "
            "sign "
            "in to them.",
            "Restart the hub. If a program has taken the port, set `binder.network.gateway_port`.",
            seen=seen,
        )
    return note("The listener is not open: the hub opens it when the next server starts.", seen=seen)


@check("gateway-inside", "Network", "The hub, seen from a server")
async def gateway_inside(site: Site) -> Verdict:
    """The same from inside: a container of our base image, started for a second, opens the hub's address."""
    ours, port = await _listener(site)
    if not port or not await _connects(ours.gateway, port):
        raise CannotCheck("The listener is not open.")
    program = (
        "import sys, urllib.request as u\n"
        "o = u.build_opener(u.ProxyHandler({}))\n"
        "try: print('answer', o.open(sys.argv[1], timeout=2).status)\n"
        "except u.HTTPError as error: print('answer', error.code)\n"
        "except Exception as error: print('failed', error)\n"
    )
    said = await _inside(site, ours.name, program, f"http://{ours.gateway}:{port}/hub/api")
    seen = {"address": f"{ours.gateway}:{port}", "said": said[-200:]}
    if "answer" not in said:
        return problem(
            "A container in the servers' network does not reach the hub: servers start and never become "
            "ready.",
            f"Let this machine's own firewall (ufw, firewalld, nftables) accept from {ours.bridge} to "
            f"{ours.gateway} port {port}.",
            seen=seen,
        )
    return ok(seen=seen)


@check(
    "firewall",
    "Network",
    "Firewall rules for servers",
    repairs="sets our own rules again, in one transaction; other rules stay as they are",
)
async def firewall(site: Site) -> Verdict:
    """Our firewall rules, chain by chain, against those that the settings ask for; named alone, it lists
    them.
    """
    wanted = site.settings.firewall
    if wanted == "off":
        return note(
            "`binder.network.firewall` is `off`: servers reach this machine's services and the local "
            "network.",
            "Leave the setting out, unless another firewall does it.",
            seen={"wanted": wanted},
        )
    ours, port = await _listener(site, hub=False)
    if not port:
        raise CannotCheck("The rules are set when the first server starts.")
    try:
        wrong = await site.engine.firewall_differences(site.settings, ours, port)
    except FirewallMissing as error:
        return await _no_rules(site, error)
    chains = await site.engine.firewall_chains(ours)
    seen = {
        "wanted": wanted,
        "chains": ", ".join(f"{name} ({n})" for name, n in chains.items()) or "none",
        "rules": "\n".join(await site.engine.firewall_rules()),
    }
    if wrong:

        async def put_back() -> str:
            changed = await site.engine.ensure_firewall(site.settings, ours, port)
            return f"The firewall rules for {ours.bridge} {'were set' if changed else 'are in force'}."

        return problem(
            f"Firewall rules for servers are not in force: {'; '.join(wrong)}. Servers may reach this "
            "machine's "
            "services, the local network, and a cloud's metadata.",
            "The next start of a server sets them; at once: `littlest-binder doctor --fix firewall`.",
            repair=Repair("set our firewall rules again", put_back),
            seen=seen,
        )
    return ok(seen=seen)


async def _no_rules(site: Site, error: FirewallMissing) -> Verdict:
    seen = {"wanted": site.settings.firewall, "account": str(os.geteuid())}
    if site.settings.platform != "desktop" and not has_rights():
        # The hub has them, and the service's own unit need not.
        raise CannotCheck(
            "This process may not look at the firewall: run `sudo littlest-binder doctor firewall`."
        )
    if site.settings.firewall == "required":
        return problem(
            f"{error.message} No server starts, since firewall rules are required here.",
            error.next_step,
            seen=seen,
        )
    return note(
        f"Servers run without firewall rules: {error.message} They reach this machine's services and the "
        "local "
        "network.",
        "See `docs/explanation/security.md`, Firewall, for rules that root can add.",
        seen=seen,
    )


@check("forwarding", "Network", "Forwarding of packets")
async def forwarding(site: Site) -> Verdict:
    """Whether the kernel passes packets on for containers (`net.ipv4.ip_forward`)."""
    await site.docker()  # which turns it on when it starts
    value = await in_thread(lambda: _FORWARDING.read_text().strip())
    if value != "1":
        return problem(
            _PACKETS,
            "Run `sysctl -w net.ipv4.ip_forward=1`, and find what sets it otherwise in /etc/sysctl.d.",
            seen={"ip_forward": value},
        )
    return ok(seen={"ip_forward": value})


@check("bridge-filter", "Network", "No traffic between servers")
async def bridge_filter(site: Site) -> Verdict:
    """Whether the kernel filters within bridges, without which Docker cannot keep servers from each other."""
    await site.docker()
    value = await in_thread(_filters)
    if value == "1":
        return ok(seen={"bridge_nf_call_iptables": value})
    # Docker loads it with the first network that needs it.
    loaded = await site.network() is not None if site.made else False
    if not loaded and value == "not loaded":
        return note(
            "Docker loads the filter with the servers' network.", seen={"bridge_nf_call_iptables": value}
        )
    return problem(
        "The kernel does not filter within bridges, so servers reach each other.",
        "Run `modprobe br_netfilter && sysctl net.bridge.bridge-nf-call-iptables=1`.",
        seen={"bridge_nf_call_iptables": value},
    )


def _filters() -> str:
    try:
        return _FILTER.read_text().strip()
    except FileNotFoundError:
        return "not loaded"


@check("build-dns", "Network", "Names in builds")
async def build_dns(site: Site) -> Verdict:
    """Whether a container where builds run (Docker's default network) resolves the package index's name."""
    from .reach import index_host

    host = index_host(site.machine)
    here = await _resolves(host)
    if not here:
        return note(
            f"This machine does not resolve {host} itself: it is offline, or behind a proxy.",
            seen={"host": host},
        )
    program = (
        "import socket, sys\n"
        "try: print('found', socket.getaddrinfo(sys.argv[1], 443)[0][4][0])\n"
        "except OSError as error: print('failed', error)\n"
    )
    said = await _inside(site, "bridge", program, host)
    if "found" not in said:
        return problem(
            f"Builds do not resolve {host}, and this machine does: no package is found.",
            'Name a resolver that containers reach: `"dns": ["ADDRESS"]` in /etc/docker/daemon.json, and '
            "restart Docker.",
            seen={"host": host, "said": said[-200:]},
        )
    return ok(seen={"host": host, "said": said.strip()[-80:]})


# -- what they share ----------------------------------------------------------------------------------


async def _listener(site: Site, *, hub: bool = True) -> tuple[Network, int]:
    """Our network, and the port of the listener (0: never opened)."""
    if hub and not await site.runs():
        raise CannotCheck("The hub does not answer.")
    ours = await site.network()
    if ours is None:
        raise CannotCheck("There is no network of ours now: the next start of a server makes it.")
    port = site.settings.network.gateway_port or read_port(site.state / "gateway-port")
    return ours, port


async def _servers(site: Site) -> list[str]:
    return [
        each.name
        for each in await site.containers()
        if each.labels.get(KIND_LABEL) == "server" and each.state == "running"
    ]


async def _connects(host: str, port: int) -> bool:
    try:
        _, writer = await within(_CONNECT_S, asyncio.open_connection(host, port))
    except (OSError, asyncio.TimeoutError, TimeoutError):
        return False
    writer.close()
    return True


async def _resolves(host: str) -> bool:
    try:
        await within(_CONNECT_S, asyncio.get_running_loop().getaddrinfo(host, 443))
    except (OSError, asyncio.TimeoutError, TimeoutError):
        return False
    return True


async def _inside(site: Site, where: str, program: str, argument: str) -> str:
    """What a program says in a container of our base image; nothing is pulled for it."""
    image = await site.base_image()
    if image is None:
        raise CannotCheck("The base image is not there yet, and nothing is pulled for this.")
    spec = ContainerSpec(
        image=image.id,
        entrypoint=("python3", "-I", "-S", "-B", "-c", program),
        command=(argument,),
        limits=limits_for(site.settings),
        kind="doctor",
        network=where,
        workdir="/",
        read_only=True,
    )
    try:
        return (await site.engine.run(spec, _INSIDE_S)).output
    except EngineError as error:
        raise CannotCheck(f"A container to look from could not be run: {error.message}") from error
