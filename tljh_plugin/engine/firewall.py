"""The firewall rules of our network: set where they are missing, looked at, taken away.

Comes in: a `Site`. Goes out: rules in the kernel, or `FirewallMissing` with the reason. Nothing but our own
chains and the jumps to them is ever changed, each IP version in one transaction. We use the `iptables`
commands of the machine, as Docker does, so that both write into the same tables.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import FirewallMissing
from ..settings import Settings
from . import firewall_rules as rules
from .firewall_rules import Saved, Site, Table
from .network import bridge_name
from .threads import in_thread
from .values import Network

_NET_ADMIN = 1 << 12  # capabilities(7)
_TIMEOUT_S = 20.0
_WAIT_S = 10
_ADMINISTRATORS_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_FILTERS_BRIDGES = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_OLD_TABLES = Path("/proc/net/ip_tables_names")
_OLD_TABLES6 = Path("/proc/net/ip6_tables_names")
_HAS_IPV6 = Path("/proc/net/if_inet6")


@dataclass(frozen=True, slots=True)
class Family:
    """One IP version: the prefix of its commands, and its rules."""

    command: str
    table: Callable[[Site], Table]


_IPV4 = Family("iptables", rules.ipv4)
_IPV6 = Family("ip6tables", rules.ipv6)


def site_for(settings: Settings, network: Network, port: int, build_bridge: str = "") -> Site:
    """What the settings and this machine say. `port` is the gateway listener's."""
    return Site(
        bridge=network.bridge,
        gateway=network.gateway,
        port=port,
        deny_private=settings.network.private_ranges == "deny",
        allowed=settings.network.allowed_destinations,
        denied=settings.network.denied_destinations,
        nameservers=nameservers(*_RESOLVERS),
        build_bridge=build_bridge if settings.network.builds == "as-servers" else "",
    )


def nameservers(*files: Path) -> tuple[str, ...]:
    """IPv4 name servers of the first file that names one outside of loopback, which is whom Docker asks."""
    for file in files:
        try:
            lines = [line.split() for line in file.read_text(errors="replace").splitlines()]
        except OSError:
            continue
        found = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
        usable = [each for each in found if _is_ipv4(each) and not each.startswith("127.")]
        if usable:
            return tuple(dict.fromkeys(usable))
    return ()


async def ensure(site: Site) -> bool:
    """Set what is missing or different; whether anything was. Raises `FirewallMissing`."""
    return await in_thread(lambda: _ensure(site))


async def remove(instance: str) -> None:
    """Take the rules of an installation away; none there, or none that we could have set, is no error.

    Raises `FirewallMissing` if the kernel keeps them, as when somebody else's rule jumps to our chains.
    """
    await in_thread(lambda: _remove(bridge_name(instance)))


async def missing(instance: str) -> str:
    """Why rules are not in force for an installation's network; empty if they are."""
    return await in_thread(lambda: _missing(bridge_name(instance)))


async def listed(instance: str) -> tuple[str, ...]:
    """All rules of an installation that are in the kernel, and the jumps to them, as commands would set them:
    `iptables -A …`. Empty where there are none or we may not look.
    """
    return await in_thread(lambda: _listed(bridge_name(instance)))


async def differences(site: Site) -> list[str]:
    """Which of our chains are missing or not as they should be, and which jumps to them are.

    Raises `FirewallMissing` if they cannot be looked at.
    """
    return await in_thread(lambda: _differences(site))


async def chains(bridge: str) -> dict[str, int]:
    """The chains of a bridge that are there, by `command:chain`, each with the number of its rules.

    Raises `FirewallMissing` if they cannot be looked at.
    """
    return await in_thread(
        lambda: {
            f"{family.command}:{name}": len(found)
            for family in _families()
            for name, found in _save(family).chains.items()
            if name.startswith(rules.prefix(bridge))
        }
    )


def has_rights() -> bool:
    """Whether this process may change the firewall: CAP_NET_ADMIN, as root has it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & _NET_ADMIN)
    return False


def _ensure(site: Site) -> bool:
    _check_machine(site.bridge)
    changed = False
    for family in _families():
        table = family.table(site)
        saved = _save(family)
        if not rules.is_as_wanted(saved, table):
            _restore(family, rules.change(saved, table))
            changed = True
            if not rules.is_as_wanted(_save(family), table):
                raise FirewallMissing(
                    f"`{family.command}` took our rules for {site.bridge} and does not show them.",
                    "Something else changes the firewall all the time, or two kinds of iptables are mixed: "
                    "see `update-alternatives --display iptables`.",
                )
    return changed


def _remove(bridge: str) -> None:
    if not has_rights():
        return
    for family in _every_family():
        try:
            saved = _save(family)
        except FirewallMissing:
            continue  # a machine without a working iptables has no rules of ours
        text = rules.removal(saved, bridge)
        if text:
            _restore(family, text)


def _listed(bridge: str) -> tuple[str, ...]:
    if not has_rights():
        return ()
    found: list[str] = []
    for family in _every_family():
        try:
            saved = _save(family)
        except FirewallMissing:
            continue
        found += [f"{family.command} {rule}" for rule in rules.of_ours(saved, bridge)]
    return tuple(dict.fromkeys(found))


def _missing(bridge: str) -> str:
    try:
        _check_machine(bridge)
        for family in _families():
            saved = _save(family)
            for at, chain in (("INPUT", "IN"), ("FORWARD", "FWD")):
                name = f"{rules.prefix(bridge)}{chain}"
                if f"-j {name}" not in saved.chains.get(rules.hook(saved, at), ()):
                    return f"{family.command} has no jump to {name}"
                if not saved.chains.get(name):
                    return f"{family.command} has no rules in {name}"
    except FirewallMissing as error:
        return error.message
    return ""


def _differences(site: Site) -> list[str]:
    _check_machine(site.bridge)
    return [
        f"{family.command}: {each}"
        for family in _families()
        for each in rules.differences(_save(family), family.table(site))
    ]


def _check_machine(bridge: str) -> None:
    if not has_rights():
        raise FirewallMissing(
            "This process may not set firewall rules (it lacks CAP_NET_ADMIN).",
            "Run the hub as root, or set `binder.network.firewall` to `auto`.",
        )
    if not Path("/sys/class/net", bridge).exists():
        raise FirewallMissing(
            f"This machine has no bridge {bridge}, so Docker runs elsewhere or our network is gone.",
            "Use the Docker engine of this machine.",
        )
    try:
        filtered = _FILTERS_BRIDGES.read_text().strip() == "1"
    except OSError:
        filtered = False
    if not filtered:
        raise FirewallMissing(
            f"The kernel does not filter traffic within a bridge ({_FILTERS_BRIDGES} is not 1), so servers "
            "reach each other.",
            "Run `modprobe br_netfilter && sysctl net.bridge.bridge-nf-call-iptables=1`.",
        )


def _families() -> tuple[Family, ...]:
    return (_IPV4, _IPV6) if _HAS_IPV6.exists() else (_IPV4,)


def _every_family() -> tuple[Family, ...]:
    """Also the kind of iptables that is not the machine's choice now: the choice may have changed since."""
    found = list(_families())
    known = {_kind(family.command) for family in found}
    for family in _families():
        for command, tables in _other_kinds(family.command):
            if _program(f"{command}-save") and _has_filter(tables) and _kind(command) not in known:
                known.add(_kind(command))
                found.append(Family(command, family.table))
    return tuple(found)


def _has_filter(tables: Path | None) -> bool:
    """The older kind would load its modules by being asked; where it has no tables there is nothing."""
    try:
        return tables is None or "filter" in tables.read_text().split()
    except OSError:
        return False


def _other_kinds(command: str) -> tuple[tuple[str, Path | None], ...]:
    old = _OLD_TABLES if command == "iptables" else _OLD_TABLES6
    return ((f"{command}-nft", None), (f"{command}-legacy", old))


def _kind(command: str) -> tuple[str, str]:
    """The program that a command leads to, and its family."""
    program = _program(f"{command}-save")
    return (os.path.realpath(program) if program else command, "6" if command.startswith("ip6") else "4")


def _save(family: Family) -> Saved:
    return Saved.read(_run(f"{family.command}-save", "-t", "filter"))


def _restore(family: Family, text: str) -> None:
    _run(f"{family.command}-restore", "--noflush", f"--wait={_WAIT_S}", text=text)


def _run(command: str, *arguments: str, text: str = "") -> str:
    program = _program(command)
    if not program:
        raise FirewallMissing(
            f"The command {command} is not installed.",
            "Install the package `iptables`, which Docker needs too.",
        )
    try:
        done = subprocess.run(
            [program, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallMissing(f"{command} cannot be run: {error}", "Run it by hand to see why.") from error
    if done.returncode != 0:
        raise FirewallMissing(
            f"{command} failed: {done.stderr.strip()[:500] or done.returncode}",
            "Run `iptables -L` as root to see whether the machine's firewall works at all.",
        )
    return done.stdout


def _program(command: str) -> str | None:
    return shutil.which(command, path=os.pathsep.join([os.environ.get("PATH", ""), _ADMINISTRATORS_PATH]))


def _is_ipv4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(part.isascii() and part.isdigit() and int(part) < 256 for part in parts)
