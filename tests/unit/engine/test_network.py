"""Whether an existing network is what we would make."""

from __future__ import annotations

from typing import Any

import pytest

from tljh_plugin.engine.network import bridge_name, differences, options, read

INSTANCE = "0123456789abcdef"


def inspect(**other: Any) -> dict[str, Any]:
    """A network of ours as Docker says, with `other` differing."""
    return {
        "Id": "1f",
        "Name": "littlest-binder-0123456789abcdef",
        "Driver": "bridge",
        "EnableIPv6": False,
        "Internal": False,
        "Options": options(INSTANCE),
        "IPAM": {"Config": [{"Subnet": "172.20.0.0/16", "Gateway": "172.20.0.1"}]},
        **other,
    }


def test_ours_differs_nowhere() -> None:
    assert differences(inspect(), INSTANCE, "") == []
    assert differences(inspect(), INSTANCE, "172.20.0.0/16") == []


@pytest.mark.parametrize(
    "other",
    [
        {"Driver": "macvlan"},
        {"EnableIPv6": True},
        {"Internal": True},
        {"Options": {}},
        {"Options": {**options(INSTANCE), "com.docker.network.bridge.enable_icc": "true"}},
    ],
)
def test_what_docker_would_not_change_later_is_noticed(other: dict[str, Any]) -> None:
    assert differences(inspect(**other), INSTANCE, "")


def test_another_subnet_than_asked_for_is_noticed() -> None:
    assert differences(inspect(), INSTANCE, "10.9.0.0/24") == [
        "its subnet is '172.20.0.0/16', not '10.9.0.0/24'"
    ]


def test_the_gateway_is_the_first_address_if_docker_does_not_say() -> None:
    network = read(inspect(IPAM={"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "10.3.0.0/24"}]}))
    assert (network.subnet, network.gateway) == ("10.3.0.0/24", "10.3.0.1")


def test_the_name_of_the_bridge_fits_the_kernel() -> None:
    assert len(bridge_name("any id at all, however long it may be")) == 15
    assert bridge_name("a") != bridge_name("b")
