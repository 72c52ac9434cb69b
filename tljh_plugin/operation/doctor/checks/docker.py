"""Docker itself: there, of a kind that works, and with what builds and limits need."""

from __future__ import annotations

import os
from pathlib import Path

from packaging.version import InvalidVersion, Version

from ....engine import buildx
from ....engine.threads import in_thread
from ....errors import BinderError, EngineError, EngineUnavailable
from ..findings import Verdict, note, ok, problem, warning
from ..registry import check
from ..site import Site

_OLDEST = Version("20.10")
_FAST_DRIVERS = ("overlay2", "overlayfs", "stargz")
_SWAPS = Path("/proc/swaps")


@check("docker", "Docker", "Docker answers")
async def reachable(site: Site) -> Verdict:
    """Whether Docker answers, and its version (20.10 or later)."""
    try:
        info = await site.docker()
    except EngineError as error:
        return problem(
            f"{error.message} No server starts and nothing is built.",
            error.next_step,
            seen={"host": os.environ.get("DOCKER_HOST") or "the usual socket"},
        )
    seen = {"version": info.version, "api": info.api_version}
    if (version := _version(info.version)) is not None and version < _OLDEST:
        return problem(
            f"Docker {info.version} is older than {_OLDEST}: builds need what came with that.",
            "Install a newer Docker Engine.",
            seen=seen,
        )
    return ok(seen=seen)


@check("docker-kind", "Docker", "Docker's kind")
async def kind(site: Site) -> Verdict:
    """Whether Docker runs on this machine's own kernel as root; Docker Desktop and rootless Docker do not."""
    info = await site.docker()
    seen = {"system": info.system, "folder": info.root_dir, "security": ", ".join(info.security)}
    if "Docker Desktop" in info.system:
        return problem(
            "This is Docker Desktop: its Docker runs in a virtual machine, whose folders, network and limits "
            "are not this machine's.",
            "Install Docker Engine (Debian, Ubuntu: the package `docker.io`), and take it with "
            "`docker context use default`.",
            seen=seen,
        )
    if "rootless" in info.security:
        return problem(
            "This is rootless Docker: servers' users, the firewall and limits do not work with it.",
            "Use the Docker of the system: unset DOCKER_HOST, and `docker context use default`.",
            seen=seen,
        )
    if not await in_thread(lambda: Path(info.root_dir).exists()):
        return problem(
            f"Docker's folder {info.root_dir} is not on this machine, so Docker runs elsewhere.",
            "Use the Docker of this machine: unset DOCKER_HOST, and `docker context use default`.",
            seen=seen,
        )
    return ok(seen=seen)


@check("docker-storage", "Docker", "Docker's storage driver")
async def storage(site: Site) -> Verdict:
    """The storage driver: with overlay2 or containerd's overlayfs images share layers at full speed."""
    info = await site.docker()
    driver = info.storage_driver
    seen = {"driver": driver, "images_by": "containerd" if info.containerd_store else "Docker"}
    if driver not in _FAST_DRIVERS:
        why = {
            "vfs": "copies an image whole for each server and layer: starts are slow and the disk fills up",
            "fuse-overlayfs": "reads and writes by a program outside of the kernel, which is slow",
        }.get(driver, "is not what The Littlest Binder is tested with")
        return warning(
            f"Docker's storage driver `{driver}` {why}.",
            "Put Docker's folder on ext4 or xfs, and set `storage-driver` to `overlay2` in "
            "/etc/docker/daemon.json. Images are then built or loaded again.",
            seen=seen,
        )
    if info.containerd_store:
        return note(
            "containerd keeps the images, and tells their bytes less exactly: the page of the disk says "
            "less.",
            seen=seen,
        )
    return ok(seen=seen)


@check("buildx", "Docker", "buildx")
async def builder(site: Site) -> Verdict:
    """The `docker` command with the plugin `buildx`, which all builds need."""
    try:
        return ok(seen={"version": await buildx.version()})
    except EngineUnavailable as error:
        return problem(f"{error.message.splitlines()[0]}. Nothing can be built.", error.next_step)
    except BinderError as error:
        return warning(error.message.splitlines()[0], error.next_step)


@check("cgroups", "Docker", "Limits of servers")
async def cgroups(site: Site) -> Verdict:
    """Whether the kernel lets Docker limit memory, swap, processes and processors (control groups)."""
    info = await site.docker()
    missing = [name for name in ("memory", "pids", "cpu") if not info.limits.get(name)]
    seen = {
        "version": info.cgroup_version,
        **{name: "yes" if there else "no" for name, there in info.limits.items()},
    }
    if missing:
        return problem(
            f"The kernel does not let Docker limit {', '.join(missing)}: no server starts, or one can take "
            "what the others need.",
            "Turn the controllers on (`cat /sys/fs/cgroup/cgroup.controllers`); for memory on Debian: "
            "`cgroup_enable=memory swapaccount=1` on the kernel's command line, and a reboot.",
            seen=seen,
        )
    if not info.limits.get("swap"):
        if await in_thread(_has_swap):
            return warning(
                "The kernel does not count swap: a server can use swap beside its memory, as much as there "
                "is.",
                "Add `swapaccount=1` to the kernel's command line and reboot, or turn swap off (`swapoff "
                "-a`).",
                seen=seen,
            )
        return note("The kernel does not count swap, of which this machine has none.", seen=seen)
    return ok(seen=seen)


def _has_swap() -> bool:
    try:
        return len(_SWAPS.read_text().splitlines()) > 1
    except OSError:
        return False


def _version(text: str) -> Version | None:
    try:
        return Version(text.partition("+")[0].partition("-")[0])
    except InvalidVersion:
        return None
