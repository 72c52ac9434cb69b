"""Our network: its name, what Docker is asked for, and whether an existing one is what we want. All pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Any

from .values import Network

_BRIDGE = "com.docker.network.bridge.name"
_ICC = "com.docker.network.bridge.enable_icc"


def network_name(instance: str) -> str:
    """The name of an installation's network."""
    return f"littlest-binder-{instance}"


def bridge_name(instance: str) -> str:
    """The bridge's interface on the host, at most 15 characters (the kernel's limit)."""
    return "lb-" + hashlib.sha256(instance.encode()).hexdigest()[:12]


def options(instance: str) -> dict[str, str]:
    """Options of the bridge driver; they cannot be changed later."""
    return {_ICC: "false", _BRIDGE: bridge_name(instance)}


def read(inspect: Mapping[str, Any]) -> Network:
    """A network as Docker inspects it."""
    subnet, gateway = "", ""
    for each in (inspect.get("IPAM") or {}).get("Config") or ():
        candidate = str(each.get("Subnet", ""))
        if candidate and ":" not in candidate:
            subnet = candidate
            first = next(ipaddress.ip_network(candidate, strict=False).hosts())
            gateway = str(each.get("Gateway") or first).split("/")[0]
            break
    return Network(
        id=inspect["Id"],
        name=inspect["Name"],
        gateway=gateway,
        subnet=subnet,
        bridge=(inspect.get("Options") or {}).get(_BRIDGE, ""),
    )


def differences(inspect: Mapping[str, Any], instance: str, subnet: str) -> list[str]:
    """Where an existing network is not what `ensure_network` would make; empty if nowhere."""
    found = []
    if inspect.get("Driver") != "bridge":
        found.append(f"its driver is {inspect.get('Driver')!r}")
    if inspect.get("EnableIPv6"):
        found.append("it has IPv6")
    if inspect.get("Internal"):
        found.append("it is internal")
    have = inspect.get("Options") or {}
    found.extend(
        f"{key} is {have.get(key)!r}" for key, wanted in options(instance).items() if have.get(key) != wanted
    )
    is_subnet = read(inspect).subnet
    if subnet and ipaddress.ip_network(subnet) != ipaddress.ip_network(is_subnet or "0.0.0.0/32"):
        found.append(f"its subnet is {is_subnet!r}, not {subnet!r}")
    return found
