"""What the kernel says of a container's first process: Docker's answer is what it was told, this is what is.

Comes in: what Docker says of a running container. Goes out: `Seen`, and where it is less isolated than the
limits say. Where /proc does not show the process (the hub runs in a container, say) there is nothing to see.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .isolation import CPU_PERIOD_US, Limits

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
_NAMESPACES = ("pid", "net", "ipc", "uts", "mnt")
# Files of control groups, version 2 and version 1 with its controller.
_AMOUNTS = {
    "pids": ("pids.max", "pids", "pids.max"),
    "memory": ("memory.max", "memory", "memory.limit_in_bytes"),
    "swap": ("memory.swap.max", "memory", "memory.memsw.limit_in_bytes"),
    "cpu": ("cpu.max", "cpu", "cpu.cfs_quota_us"),
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as /proc shows it.

    `status` are the fields of /proc/PID/status, `shared` the namespaces that it shares with us, as far as we
    may know. `amounts` are the contents of its control groups' files (`""`: no such file); what is not in
    it could not be looked at. `version` is that of the control groups, 1 or 2.
    """

    status: Mapping[str, str]
    shared: tuple[str, ...] = ()
    amounts: Mapping[str, str] = field(default_factory=dict)
    version: int = 2


def look(inspect: Mapping[str, Any], proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Seen | None:
    """The first process of a running container; `None` if /proc does not show it."""
    place = proc / str((inspect.get("State") or {}).get("Pid") or "none")
    try:
        lines = (place / "cgroup").read_text().splitlines()
        status = (place / "status").read_text().splitlines()
    except OSError:
        return None
    if not any(str(inspect["Id"]) in line for line in lines):
        return None  # that number is somebody else's here: Docker counts in another namespace
    fields = dict(line.split(":", 1) for line in status if ":" in line)
    version = 2 if (cgroups / "cgroup.controllers").exists() else 1
    return Seen(
        status={name: value.strip() for name, value in fields.items()},
        shared=tuple(name for name in _NAMESPACES if _is_shared(proc, place, name)),
        amounts=_amounts(lines, version, cgroups),
        version=version,
    )


def _is_shared(proc: Path, place: Path, namespace: str) -> bool:
    try:
        return os.readlink(place / "ns" / namespace) == os.readlink(proc / "self" / "ns" / namespace)
    except OSError:  # another person's process, and we are not root
        return False


def _amounts(lines: list[str], version: int, cgroups: Path) -> dict[str, str]:
    paths: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    found = {}
    for name, (new, controller, old) in _AMOUNTS.items():
        group, file = ("", new) if version == 2 else (controller, old)
        if group not in paths:
            continue
        folder = cgroups / group / paths[group].lstrip("/")
        if not folder.is_dir():
            continue
        found[name] = ""
        with suppress(OSError):
            found[name] = (folder / file).read_text().strip()
            if name == "cpu" and version == 1:
                found[name] += " " + (folder / "cpu.cfs_period_us").read_text().strip()
    return found


def differences(seen: Seen, limits: Limits) -> list[str]:
    """Where a process is less isolated than `limits` say; empty if nowhere. Pure."""
    return [*_identity(seen, limits), *_privileges(seen), *_limits(seen, limits)]


def _identity(seen: Seen, limits: Limits) -> list[str]:
    found = []
    for name, wanted in (("Uid", limits.uid), ("Gid", limits.gid)):
        numbers = set(seen.status.get(name, "").split())
        if numbers != {str(wanted)}:
            found.append(f"it runs with {name} {' '.join(sorted(numbers)) or 'unknown'}, not {wanted}")
    groups = set(seen.status.get("Groups", "").split())
    strange = groups - {str(each) for each in (limits.gid, *limits.groups)}
    if strange:
        found.append(f"it is in the groups {', '.join(sorted(strange))}")
    return found


def _privileges(seen: Seen) -> list[str]:
    found = []
    for name in _CAPABILITIES:
        if int(seen.status.get(name, "0") or "0", 16):
            found.append(f"it has capabilities ({name} is {seen.status[name]})")
    if seen.status.get("NoNewPrivs") != "1":
        found.append("the kernel lets it gain privileges (NoNewPrivs is not 1)")
    if seen.status.get("Seccomp") != "2":
        found.append("the kernel does not filter its system calls (Seccomp is not 2)")
    found.extend(f"it shares the {name} namespace of this machine" for name in seen.shared)
    return found


def _limits(seen: Seen, limits: Limits) -> list[str]:
    page = os.sysconf("SC_PAGE_SIZE")
    memory = limits.memory_bytes // page * page
    wanted = {
        "pids": limits.pids,
        "memory": memory,
        "swap": 0 if seen.version == 2 else memory,
    }
    found = []
    for name, most in wanted.items():
        said = seen.amounts.get(name)
        # A kernel without swap has no file for it, and then there is none to use.
        if said is None or (name == "swap" and not said and seen.version == 2):
            continue
        if not said.isdigit() or int(said) > most:
            found.append(f"the kernel's limit of {name} is {said or 'missing'}, not {most}")
    said = seen.amounts.get("cpu")
    if said is not None and not _cpu_is_limited(said, limits):
        found.append(f"the kernel's limit of processors is {said or 'missing'}, not {limits.cpus:g}")
    return found


def _cpu_is_limited(said: str, limits: Limits) -> bool:
    words = said.split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or not int(words[1]):
        return False
    return int(words[0]) / int(words[1]) <= limits.cpu_quota_us / CPU_PERIOD_US + 1e-6
