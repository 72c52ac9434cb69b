"""The isolation rules: told to Docker in full, and each one's absence noticed."""

from __future__ import annotations

from typing import Any

import pytest
from docker.types import HostConfig

from tljh_plugin.engine.isolation import Limits, deviations, host_config, limits_for
from tljh_plugin.settings import Settings

LIMITS = Limits(
    uid=1000,
    gid=1001,
    groups=(2000, 3000),
    memory_bytes=512 * 1024**2,
    cpus=1.5,
    pids=512,
    shm_bytes=64 * 1024**2,
    log_bytes=1024**2,
)


def inspect(**host: Any) -> dict[str, Any]:
    """What Docker would say of a container with our arguments, with `host` differing."""
    said = dict(HostConfig(version="1.41", **host_config(LIMITS)))
    said |= {"MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"], "NetworkMode": "some-network"}
    return {"Config": {"User": "1000:1001"}, "HostConfig": {**said, **host}}


def test_a_container_started_with_our_arguments_deviates_nowhere() -> None:
    assert deviations(inspect(), LIMITS) == []


def test_what_older_and_newer_engines_say_differently_is_no_deviation() -> None:
    said = inspect(SecurityOpt=["no-new-privileges", "name=seccomp"], GroupAdd=["3000", "2000"])
    del said["HostConfig"]["MaskedPaths"], said["HostConfig"]["ReadonlyPaths"]
    assert deviations(said, LIMITS) == []


@pytest.mark.parametrize(
    ("difference", "named"),
    [
        ({"Privileged": True}, "privileged"),
        ({"CapAdd": ["SYS_ADMIN"]}, "SYS_ADMIN"),
        ({"CapDrop": None}, "capabilities were not dropped"),
        ({"CapDrop": ["MKNOD"]}, "capabilities were not dropped"),
        ({"SecurityOpt": []}, "new privileges"),
        ({"SecurityOpt": ["no-new-privileges:false"]}, "new privileges"),
        ({"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}, "seccomp=unconfined"),
        ({"SecurityOpt": ["no-new-privileges:true", "apparmor=unconfined"]}, "apparmor=unconfined"),
        ({"Devices": [{"PathOnHost": "/dev/sda"}]}, "Devices"),
        ({"DeviceRequests": [{"Count": -1}]}, "DeviceRequests"),
        ({"DeviceCgroupRules": ["a *:* rwm"]}, "DeviceCgroupRules"),
        ({"VolumesFrom": ["another"]}, "VolumesFrom"),
        ({"Sysctls": {"net.ipv4.ip_forward": "1"}}, "Sysctls"),
        ({"MaskedPaths": []}, "MaskedPaths"),
        ({"ReadonlyPaths": []}, "ReadonlyPaths"),
        ({"PidMode": "host"}, "PidMode"),
        ({"UTSMode": "host"}, "UTSMode"),
        ({"UsernsMode": "host"}, "UsernsMode"),
        ({"IpcMode": "host"}, "IpcMode"),
        ({"IpcMode": "container:abc"}, "IpcMode"),
        ({"CgroupParent": "/elsewhere"}, "CgroupParent"),
        ({"NetworkMode": "host"}, "NetworkMode"),
        ({"PortBindings": {"8888/tcp": [{"HostPort": "80"}]}}, "ports"),
        ({"PublishAllPorts": True}, "ports"),
        ({"GroupAdd": None}, "groups"),
        ({"GroupAdd": ["2000", "0"]}, "groups"),
        ({"PidsLimit": None}, "PidsLimit"),
        ({"PidsLimit": 100000}, "PidsLimit"),
        ({"Memory": 0}, "Memory"),
        ({"MemorySwap": 2 * LIMITS.memory_bytes}, "MemorySwap"),
        ({"MemorySwap": -1}, "MemorySwap"),
        ({"ShmSize": 8 * 1024**3}, "ShmSize"),
        ({"Ulimits": None}, "ulimit core"),
        ({"OomKillDisable": True}, "memory is exhausted"),
        ({"CpuQuota": 0}, "CpuQuota"),
        ({"CpuQuota": 200_000}, "CpuQuota"),
        ({"CpuPeriod": 1000}, "CpuQuota"),
        ({"LogConfig": {"Type": "json-file", "Config": {}}}, "log"),
        ({"LogConfig": {"Type": "journald", "Config": {}}}, "log"),
        ({"LogConfig": {"Type": "json-file", "Config": {"max-size": "1g"}}}, "log"),
    ],
)
def test_the_absence_of_each_rule_is_noticed(difference: dict[str, Any], named: str) -> None:
    found = deviations(inspect(**difference), LIMITS)
    assert len(found) == 1
    assert named in found[0]


@pytest.mark.parametrize(("profile", "deviates"), [("", 0), ("docker-default", 0), ("unconfined", 1)])
def test_an_apparmor_profile_is_dockers_own_or_there_is_none(profile: str, deviates: int) -> None:
    assert len(deviations({**inspect(), "AppArmorProfile": profile}, LIMITS)) == deviates


@pytest.mark.parametrize("user", ["", "root", "jovyan", "0:0", "1000", "1000:0", "1000:1000"])
def test_any_other_user_is_noticed(user: str) -> None:
    said = inspect()
    said["Config"]["User"] = user
    assert deviations(said, LIMITS) == [f"user is {user!r}, not '1000:1001'"]


@pytest.mark.parametrize("key", sorted(set(host_config(LIMITS)) - {"init", "cpu_period"}))
def test_an_argument_that_docker_was_not_given_is_noticed(key: str) -> None:
    arguments = {name: value for name, value in host_config(LIMITS).items() if name != key}
    said = inspect()
    said["HostConfig"] = {
        **dict(HostConfig(version="1.41", **arguments)),
        "NetworkMode": "some-network",
        # What Docker then says: its own defaults.
        **({"IpcMode": "shareable"} if key == "ipc_mode" else {}),
    }
    assert deviations(said, LIMITS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"uid": 0},
        {"gid": 0},
        {"groups": (0,)},
        {"memory_bytes": 0},
        {"pids": 0},
        {"cpus": 0.0},
        {"shm_bytes": -1},
        {"log_bytes": 0},
    ],
)
def test_what_would_be_no_limit_is_refused(wrong: dict[str, Any]) -> None:
    good = {name: getattr(LIMITS, name) for name in Limits.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"root|no limit"):
        Limits(**{**good, **wrong})


def test_the_settings_decide_the_limits() -> None:
    settings = Settings.model_validate(
        {"servers": {"uid": 1234, "gid": 77, "groups": [5], "memory_bytes": 10**9, "cpus": 0.5, "pids": 300}}
    )
    limits = limits_for(settings)
    assert (limits.user, limits.groups, limits.memory_bytes, limits.pids) == ("1234:77", (5,), 10**9, 300)
    assert limits.cpu_quota_us == 50_000
