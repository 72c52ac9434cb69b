"""Our network: its name, what Docker is asked for, whether an existing one will do; then the doing."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import docker.errors
import docker.types

from ..errors import EngineError, NotOurs
from ..labels import INSTANCE_LABEL
from .connection import refused
from .values import Network, is_ours

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


def find(client: Any, instance: str) -> dict[str, Any] | None:
    """Our network as Docker inspects it. Raises `NotOurs` if its name is taken by somebody else's."""
    name = network_name(instance)
    for each in client.networks(names=[name]):
        if each["Name"] != name:
            continue  # the filter matches parts of names
        if not is_ours(each.get("Labels"), instance):
            raise NotOurs(
                f"There is a Docker network {name!r} without our label {INSTANCE_LABEL}.",
                f"Remove it if nobody needs it: `docker network rm {name}`.",
            )
        with suppress(docker.errors.NotFound):
            found: dict[str, Any] = client.inspect_network(each["Id"])
            return found
    return None


def ensure(client: Any, instance: str, subnet: str) -> dict[str, Any]:
    """See `Engine.ensure_network`."""
    found = find(client, instance)
    if found is not None:
        wrong = differences(found, instance, subnet)
        if not wrong:
            return found
        if found.get("Containers"):
            raise EngineError(
                f"Our network {found['Name']} is not as it should be: {'; '.join(wrong)}.",
                "Stop all servers and start again: it is then made anew.",
            )
        client.remove_network(found["Id"])
    try:
        _create(client, instance, subnet)
    except docker.errors.APIError as error:
        # Another process may have been faster; then name or bridge are taken, by what we want.
        made = find(client, instance)
        if made is None or differences(made, instance, subnet):
            chosen = f"subnet {subnet}" if subnet else "a subnet of its choice"
            raise refused(f"make our network with {chosen}", error) from error
        return made
    made = find(client, instance)
    if made is None:
        raise EngineError("Our network vanished while it was made.", "Try again.")
    return made


def _create(client: Any, instance: str, subnet: str) -> None:
    pools = [docker.types.IPAMPool(subnet=subnet)] if subnet else []
    client.create_network(
        network_name(instance),
        driver="bridge",
        options=options(instance),
        ipam=docker.types.IPAMConfig(pool_configs=pools) if pools else None,
        check_duplicate=True,
        labels={INSTANCE_LABEL: instance},
        enable_ipv6=False,
    )


def default_bridge(client: Any) -> str:
    """The interface of Docker's default network, where builds run; empty if Docker was told to have none."""
    with suppress(docker.errors.NotFound):
        return str((client.inspect_network("bridge").get("Options") or {}).get(_BRIDGE) or "")
    return ""


def remove(client: Any, instance: str) -> None:
    """See `Engine.remove_network`."""
    found = find(client, instance)
    if found is not None:
        with suppress(docker.errors.NotFound):
            client.remove_network(found["Id"])
