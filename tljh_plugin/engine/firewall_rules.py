"""Which packets of servers pass, as values and as what `iptables-restore` reads. Pure.

Comes in: a `Site` and what `iptables-save` says. Goes out: the text of one atomic change, or nothing where
all is as it should be. Only chains that carry our bridge's name are written; in chains of others we have one
jump each.

    INPUT               → LB-…-IN    what servers, and others, want from this machine
    DOCKER-USER/FORWARD → LB-…-FWD   what passes through this machine to servers and from them
    LB-…-IN             → LB-…-HOST  of servers: the gateway listener, name servers, what is allowed
    LB-…-FWD            → LB-…-OUT   of servers: not the metadata service, not the local network
                          LB-…-NO    refuses
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..settings import Destination

# Where clouds tell a machine its secrets: link-local (AWS, GCP, OpenStack, Hetzner, …; RFC 3927), Azure's
# wire server, Oracle's and Alibaba's. fd00:ec2::254 and fd20:ce::254 need no line: no IPv6 passes.
METADATA = ("169.254.0.0/16", "168.63.129.16/32", "192.0.0.192/32", "100.100.100.200/32")
# RFC 1918, RFC 6598.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")

_ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED"
# A program learns at once that it may not: the kernel sends few of the other kind of answer.
_REFUSE = ("-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT")
# Neighbour solicitation and advertisement, RFC 4861.
_NEIGHBOUR_DISCOVERY = (135, 136)
_MARK = "littlest-binder:"


@dataclass(frozen=True, slots=True)
class Site:
    """What the rules follow from.

    `gateway` and `port` are where servers find the hub; `port` 0: nowhere yet. `nameservers` are IPv4
    addresses that answer at port 53. `build_bridge`, if not empty, gets the servers' rules too.
    """

    bridge: str
    gateway: str
    port: int
    deny_private: bool = True
    allowed: tuple[Destination, ...] = ()
    denied: tuple[Destination, ...] = ()
    nameservers: tuple[str, ...] = ()
    build_bridge: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Our part of the table `filter` of one IP version: chains with their rules, and where they hang."""

    chains: Mapping[str, tuple[str, ...]]
    hooks: Mapping[str, str]

    @property
    def digest(self) -> str:
        """What the first rule of each chain carries, so that other rules than these are noticed."""
        return hashlib.sha256(repr((sorted(self.chains.items()), self.hooks)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Saved:
    """The table `filter` as `iptables-save` tells it: each chain's rules in their order."""

    chains: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Saved:
        """Lines other than chains and rules mean nothing to us."""
        chains: dict[str, list[str]] = {}
        for line in text.splitlines():
            if line.startswith(":"):
                chains.setdefault(line[1:].split()[0], [])
            elif line.startswith("-A "):
                _, chain, rule = line.split(" ", 2) if line.count(" ") > 1 else (*line.split(" "), "")
                chains.setdefault(chain, []).append(rule)
        return cls(chains)


def prefix(bridge: str) -> str:
    """What the names of our chains begin with; together at most 28 characters (the kernel's limit)."""
    return f"LB-{bridge.removeprefix('lb-')}-"


def ipv4(site: Site) -> Table:
    """The rules for IPv4."""
    own = prefix(site.bridge)
    no = f"-j {own}NO"
    listener = f"-d {site.gateway}/32 -p tcp -m tcp --dport {site.port}"
    inside = [site.bridge, *([site.build_bridge] if site.build_bridge else [])]
    names = [
        f"-d {address}/32 -p {protocol} -m {protocol} --dport 53 -j RETURN"
        for address in site.nameservers
        for protocol in ("udp", "tcp")
    ]
    return Table(
        chains={
            f"{own}IN": (
                "-i lo -j RETURN",
                *(f"-i {bridge} -j {own}HOST" for bridge in inside),
                # A machine of the LAN with a route to our network: the kernel takes a packet for any of its
                # addresses from any interface. No more than the listener, since Docker may give the address
                # to somebody else should our network go without us.
                *([f"{listener} -j DROP"] if site.port else []),
            ),
            f"{own}HOST": (
                f"{_ESTABLISHED} -j ACCEPT",
                *([f"-i {site.bridge} {listener} -j ACCEPT"] if site.port else []),
                *names,
                # A network in the list means machines of the network: this one's services are named singly.
                *(
                    rule
                    for each in site.allowed
                    if each.port and each.network.prefixlen == 32
                    for rule in _to(each, "-j ACCEPT")
                ),
                no,
            ),
            f"{own}FWD": (
                f"-o {site.bridge} {_ESTABLISHED} -j RETURN",
                f"-o {site.bridge} -j DROP",
                *(f"-i {bridge} -j {own}OUT" for bridge in inside),
            ),
            f"{own}OUT": (
                f"{_ESTABLISHED} -j RETURN",
                *names,
                *(f"-d {network} {no}" for network in METADATA),
                # Published ports of other containers, where Docker rewrites addresses for servers as well.
                f"-m conntrack --ctstate DNAT {no}",
                *(rule for each in site.allowed for rule in _to(each, "-j RETURN")),
                *(rule for each in site.denied for rule in _to(each, no)),
                *(f"-d {network} {no}" for network in (PRIVATE if site.deny_private else ())),
            ),
            f"{own}NO": _REFUSE,
        },
        hooks={"INPUT": f"{own}IN", "FORWARD": f"{own}FWD"},
    )


def ipv6(site: Site) -> Table:
    """The rules for IPv6: our network has none, and what claims to come from it or go to it is dropped.

    On `build_bridge` Docker's administrator may have switched it on: what comes from there finds neither this
    machine nor anything beyond it, since destinations are listed for IPv4 alone. It finds its neighbours
    (RFC 4861), and answers whoever reaches a container there.
    """
    own = prefix(site.bridge)
    answers, neighbours, rest = [], [], []
    if site.build_bridge:
        answers = [f"-i {site.build_bridge} {_ESTABLISHED} -j RETURN"]
        neighbours = [
            f"-i {site.build_bridge} -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j RETURN"
            for kind in _NEIGHBOUR_DISCOVERY
        ]
        rest = [f"-i {site.build_bridge} -j {own}NO"]
    chains = {
        f"{own}IN": (f"-i {site.bridge} -j DROP", *answers, *neighbours, *rest),
        f"{own}FWD": (f"-i {site.bridge} -j DROP", f"-o {site.bridge} -j DROP", *answers, *rest),
    }
    if site.build_bridge:
        chains[f"{own}NO"] = _REFUSE
    return Table(chains, hooks={"INPUT": f"{own}IN", "FORWARD": f"{own}FWD"})


def _to(where: Destination, verdict: str) -> list[str]:
    if not where.port:
        return [f"-d {where.network} {verdict}"]
    return [f"-d {where.network} -p {p} -m {p} --dport {where.port} {verdict}" for p in ("tcp", "udp")]


def hook(saved: Saved, chain: str) -> str:
    """Where a jump from a built-in chain belongs: DOCKER-USER, which Docker keeps in front of its own rules.

    Unless it is not in front: a Docker that was restarted under its containers after a flush puts its rules
    back and not the jump, or before it, and a packet that they accept would never come to us.
    """
    if chain == "FORWARD" and _is_in_front(saved.chains.get("FORWARD", ()), "DOCKER-USER"):
        return "DOCKER-USER"
    return chain


def is_as_wanted(saved: Saved, table: Table) -> bool:
    """Whether all our chains are there, unchanged in number and kind, in front of everybody else's rules."""
    return not differences(saved, table)


def differences(saved: Saved, table: Table) -> list[str]:
    """What is not so, as short texts: each chain and each jump; empty if all is as it should be."""
    wrong = []
    for name, rules in table.chains.items():
        found = saved.chains.get(name, ())
        if not found:
            wrong.append(f"the chain {name} is missing")
        elif len(found) != len(rules) + 1 or _MARK + table.digest not in found[0]:
            wrong.append(f"the chain {name} has other rules")
    for at, to in table.hooks.items():
        place = hook(saved, at)
        if not _is_in_front(saved.chains.get(place, ()), to):
            wrong.append(f"the jump from {place} to {to} is missing or not in front")
    return wrong


def _is_in_front(rules: Sequence[str], chain: str) -> bool:
    for rule in rules:
        if rule == f"-j {chain}":
            return True
        if not rule.startswith("-j LB-"):  # of another installation, whose bridge is not ours
            return False
    return False


def change(saved: Saved, table: Table) -> str:
    """What makes it as wanted, in one transaction."""
    lines = ["*filter", *(f":{name} - [0:0]" for name in table.chains)]
    for name, rules in table.chains.items():
        lines += [f"-A {name} -m comment --comment {_MARK}{table.digest}"]
        lines += [f"-A {name} {rule}" for rule in rules]
    lines += _unhook(saved, table.hooks.values())
    lines += [f"-I {hook(saved, at)} 1 -j {to}" for at, to in table.hooks.items()]
    return "\n".join([*lines, "COMMIT", ""])


def removal(saved: Saved, bridge: str) -> str:
    """What takes our chains and our jumps away, in one transaction; empty if there is nothing."""
    ours = [name for name in saved.chains if name.startswith(prefix(bridge))]
    if not ours:
        return ""
    lines = ["*filter", *(f":{name} - [0:0]" for name in ours), *_unhook(saved, ours)]
    return "\n".join([*lines, *(f"-X {name}" for name in ours), "COMMIT", ""])


def of_ours(saved: Saved, bridge: str) -> list[str]:
    """Our rules and the jumps to them, each as `-A CHAIN RULE`, jumps first."""
    own = prefix(bridge)
    jumps = [
        f"-A {name} {rule}"
        for name, chain in saved.chains.items()
        if not name.startswith("LB-")
        for rule in chain
        if rule.startswith(f"-j {own}")
    ]
    inside = [
        f"-A {name} {rule}" for name, chain in saved.chains.items() if name.startswith(own) for rule in chain
    ]
    return jumps + inside


def _unhook(saved: Saved, chains: Iterable[str]) -> list[str]:
    jumps = {f"-j {chain}" for chain in chains}
    return [
        f"-D {name} {rule}"
        for name, rules in saved.chains.items()
        if not name.startswith("LB-")
        for rule in rules
        if rule in jumps
    ]
