"""Is a container what was asked for? Everything that Docker could do otherwise is noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tljh_plugin.engine import Limits, Mount
from tljh_plugin.errors import IsolationBroken, ServerNotReady
from tljh_plugin.launch import isolation

IMAGE = f"sha256:{'1' * 64}"
LIMITS = Limits(
    uid=1000,
    gid=1000,
    groups=(),
    memory_bytes=1 << 30,
    cpus=1,
    pids=512,
    shm_bytes=1 << 20,
    log_bytes=1 << 20,
)
HOME = Mount("/srv/projects/ada/home", "/home/jovyan")
GOOD: dict[str, Any] = {
    "Image": IMAGE,
    "State": {"Status": "running"},
    "Config": {"User": "1000:1000"},
    "HostConfig": {
        "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges:true"], "PidsLimit": 512,
        "Memory": 1 << 30, "MemorySwap": 1 << 30, "ShmSize": 1 << 20, "IpcMode": "private",
        "CpuPeriod": 100000, "CpuQuota": 100000,
        "Ulimits": [{"Name": "core", "Hard": 0}],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1000", "max-file": "2"}},
    },
    "Mounts": [{"Type": "bind", "Source": HOME.source, "Destination": HOME.target, "RW": True}],
    "NetworkSettings": {"Networks": {"ours": {"IPAddress": "10.0.0.2"}}},
}  # fmt: skip


def check(inspect: dict[str, Any]) -> None:
    isolation.check(inspect, LIMITS, image_id=IMAGE, mounts=(HOME,), network="ours")


def test_what_was_asked_for_passes() -> None:
    check(GOOD)
    assert isolation.address(GOOD, "ours") == "10.0.0.2"


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda c: c.update(Image="sha256:2"), "its image is sha256:2"),
        (lambda c: c["Config"].update(User="0:0"), "user is '0:0'"),
        (lambda c: c["HostConfig"].update(Privileged=True), "privileged"),
        (lambda c: c["Mounts"].clear(), "/srv/projects/ada/home is not mounted"),
        (lambda c: c["Mounts"][0].update(Source="/etc"), "/etc is mounted"),
        (lambda c: c["Mounts"][0].update(RW=False), "is not mounted"),
        (
            lambda c: c["Mounts"].append(
                {"Type": "bind", "Source": "/var/run/docker.sock", "Destination": "/s", "RW": True}
            ),
            "docker.sock",
        ),
        (
            lambda c: c["Mounts"].append({"Type": "volume", "Name": "secrets", "Destination": "/v"}),
            "unexpected mount: volume at /v",
        ),
        (lambda c: c["NetworkSettings"]["Networks"].update(bridge={}), "bridge"),
    ],
)
def test_every_difference_is_told(change: Callable[[dict[str, Any]], None], shown: str) -> None:
    changed = copy.deepcopy(GOOD)
    change(changed)
    with pytest.raises(IsolationBroken, match=shown):
        check(changed)


def test_anonymous_volumes_of_the_image_are_no_difference() -> None:
    changed = copy.deepcopy(GOOD)
    changed["Mounts"].append({"Type": "volume", "Name": "a" * 64, "Destination": "/data"})
    check(changed)


def test_without_an_address_it_is_not_ready() -> None:
    with pytest.raises(ServerNotReady, match="no address in the network ours"):
        isolation.address({"State": {"Status": "exited"}, "NetworkSettings": {}}, "ours")
