"""What a container may do and use: one set of limits, how Docker is told, and whether Docker did it.

Comes in: the settings. Goes out: host-config arguments for `create_host_config`, used alike for servers,
checks and fills, and, for what Docker says of a container, the list of differences. Everything here is
pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..accounts import Identity, fixed
from ..settings import Settings

CPU_PERIOD_US = 100_000
_LOG_FILES = 2
# No core dumps, which are as large as the memory. Open files need no limit of their own: the kernel counts
# them as a server's memory, and an engine without CAP_SYS_RESOURCE cannot set one above its own.
_ULIMITS = {"core": 0}


@dataclass(frozen=True, slots=True)
class Limits:
    """As whom a container runs and how much it gets.

    `uid`, `gid` and `groups` are numbers, since an image chooses what a name means. `memory_bytes` is
    memory and swap together; `pids` counts processes and threads; `log_bytes` is what Docker keeps of its
    output. Raises `ValueError` for what would not be a limit.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    memory_bytes: int
    cpus: float
    pids: int
    shm_bytes: int
    log_bytes: int

    def __post_init__(self) -> None:
        if self.uid < 1 or self.gid < 1 or any(group < 1 for group in self.groups):
            raise ValueError(f"uid {self.uid}, gid {self.gid}, groups {self.groups}: root is never allowed")
        for name in ("memory_bytes", "cpus", "pids", "shm_bytes", "log_bytes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}, which Docker would take as no limit")

    @property
    def user(self) -> str:
        """`uid:gid`, as Docker wants it."""
        return f"{self.uid}:{self.gid}"

    @property
    def cpu_quota_us(self) -> int:
        """Microseconds of processor time in each period; the kernel accepts 1000 or more."""
        return max(1000, round(self.cpus * CPU_PERIOD_US))


def limits_for(settings: Settings, who: Identity | None = None) -> Limits:
    """The limits of every server, and of everything that is started to try or to fill one.

    `who` is as whom it runs; without it, it is what images are made and tried for.
    """
    servers = settings.servers
    who = who or fixed(settings)
    return Limits(
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        memory_bytes=servers.memory_bytes,
        cpus=servers.cpus,
        pids=servers.pids,
        shm_bytes=servers.shm_bytes,
        log_bytes=servers.log_bytes,
    )


def host_config(limits: Limits) -> dict[str, Any]:
    """Keyword arguments of docker-py's `create_host_config`; the user is given beside it (`limits.user`).

    A quota instead of Docker's `NanoCpus`, which refuses to start on a machine with fewer processors. An
    init process reaps what a terminal leaves behind, which would else count against the process limit for
    ever.
    """
    return {
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "group_add": [str(group) for group in limits.groups],
        "pids_limit": limits.pids,
        "mem_limit": limits.memory_bytes,
        "memswap_limit": limits.memory_bytes,
        "cpu_period": CPU_PERIOD_US,
        "cpu_quota": limits.cpu_quota_us,
        "shm_size": limits.shm_bytes,
        "ipc_mode": "private",
        "init": True,
        "ulimits": [{"Name": name, "Soft": most, "Hard": most} for name, most in sorted(_ULIMITS.items())],
        "log_config": {
            "type": "json-file",
            "config": {
                "max-size": str(max(1, limits.log_bytes // _LOG_FILES)),
                "max-file": str(_LOG_FILES),
            },
        },
    }


def deviations(inspect: Mapping[str, Any], limits: Limits) -> list[str]:
    """Where a container, as `docker inspect` tells it, is less isolated than `limits` say; empty if nowhere.

    Mounts are not looked at: the kernel's own list of them is compared where they are made.
    """
    config = inspect.get("Config") or {}
    host = inspect.get("HostConfig") or {}
    return [
        *_identity(config, host, limits),
        *_privileges(host),
        *_namespaces(host),
        *_amounts(host, limits),
        *_profile(inspect),
    ]


def _identity(config: Mapping[str, Any], host: Mapping[str, Any], limits: Limits) -> list[str]:
    found = []
    if config.get("User") != limits.user:
        found.append(f"user is {config.get('User')!r}, not {limits.user!r}")
    groups = sorted(str(group) for group in host.get("GroupAdd") or ())
    if groups != sorted(str(group) for group in limits.groups):
        found.append(f"supplementary groups are {groups}, not {sorted(limits.groups)}")
    return found


def _privileges(host: Mapping[str, Any]) -> list[str]:
    found = []
    if host.get("Privileged"):
        found.append("it is privileged")
    if host.get("CapAdd"):
        found.append(f"capabilities were added: {', '.join(host['CapAdd'])}")
    if "ALL" not in [str(name).upper() for name in host.get("CapDrop") or ()]:
        found.append("capabilities were not dropped")
    options = [str(option) for option in host.get("SecurityOpt") or ()]
    if not any(re.fullmatch(r"no-new-privileges([:=]true)?", option) for option in options):
        found.append("new privileges are not forbidden")
    for option in options:
        if not option.startswith(("no-new-privileges", "name=")):
            found.append(f"security option {option!r} was set")
    for key in ("Devices", "DeviceRequests", "DeviceCgroupRules", "VolumesFrom", "Sysctls"):
        if host.get(key):
            found.append(f"{key} was set: {host[key]!r:.80}")
    for key in ("MaskedPaths", "ReadonlyPaths"):
        # Absent in what old engines say, `[]` where the engine was told to protect nothing.
        if key in host and not host[key]:
            found.append(f"{key} is empty, so parts of /proc and /sys are open")
    return found


def _profile(inspect: Mapping[str, Any]) -> list[str]:
    """Of AppArmor, which Docker loads where the kernel has it; elsewhere it says nothing."""
    profile = inspect.get("AppArmorProfile") or ""
    return [] if profile in ("", "docker-default") else [f"its AppArmor profile is {profile!r}"]


def _namespaces(host: Mapping[str, Any]) -> list[str]:
    found = []
    for key, allowed in (
        ("PidMode", ("",)),
        ("UTSMode", ("",)),
        ("UsernsMode", ("",)),
        ("IpcMode", ("private",)),
        ("CgroupParent", ("",)),
    ):
        value = host.get(key) or ""
        if value not in allowed:
            found.append(f"{key} is {value!r}")
    if host.get("NetworkMode") == "host":
        found.append("NetworkMode is 'host'")
    if host.get("PublishAllPorts") or any((host.get("PortBindings") or {}).values()):
        found.append("ports are published on the host")
    return found


def _amounts(host: Mapping[str, Any], limits: Limits) -> list[str]:
    found = []
    for key, wanted in (
        ("PidsLimit", limits.pids),
        ("Memory", limits.memory_bytes),
        ("MemorySwap", limits.memory_bytes),
        ("ShmSize", limits.shm_bytes),
    ):
        if host.get(key) != wanted:
            found.append(f"{key} is {host.get(key)!r}, not {wanted}")
    if host.get("OomKillDisable"):
        found.append("the kernel may not end it when memory is exhausted")
    period = host.get("CpuPeriod") or CPU_PERIOD_US
    quota = host.get("CpuQuota") or 0
    if quota <= 0 or quota / period > limits.cpu_quota_us / CPU_PERIOD_US:
        found.append(f"CpuQuota is {quota} of {period}, not {limits.cpu_quota_us} of {CPU_PERIOD_US}")
    ulimits = {each.get("Name"): each.get("Hard") for each in host.get("Ulimits") or ()}
    for name, most in _ULIMITS.items():
        if ulimits.get(name) != most:
            found.append(f"ulimit {name} is {ulimits.get(name)}, not {most}")
    log = host.get("LogConfig") or {}
    if not _log_is_bounded(log, limits):
        found.append(f"its log is not bounded: {log!r:.120}")
    return found


def _log_is_bounded(log: Mapping[str, Any], limits: Limits) -> bool:
    if log.get("Type") == "none":
        return True
    options = log.get("Config") or {}
    try:
        size, files = int(options["max-size"]), int(options.get("max-file", 1))
    except (KeyError, ValueError):
        return False
    return log.get("Type") == "json-file" and 0 < size * files <= max(limits.log_bytes, _LOG_FILES)
