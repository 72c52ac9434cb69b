"""What the machine is, and whether that is enough: read first, judged apart, shown all at once."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import engine
from .person import Person

GIB = 1024**3
# Measured with the plain image and the example, then rounded up; the rest is room for the first builds.
FIRST_DISK = 6 * GIB
LATER_DISK = 2 * GIB
# A machine sold with 2 GiB reports somewhat less.
MEMORY = int(1.7 * GIB)
ARCHITECTURES = ("amd64", "arm64")
OLDEST = {"debian": (12,), "ubuntu": (22, 4)}
TESTED = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
_CHECKOUT = ("pyproject.toml", "README.md", "LICENSE", "tljh_plugin/__init__.py")
_SUPPORTED = "Debian 12 or 13, or Ubuntu 22.04 or 24.04"
_CODENAMES = {"bookworm": "12", "trixie": "13", "jammy": "22.04", "noble": "24.04"}


@dataclass(frozen=True)
class Problem:
    """Something that must be put right first: what it is, the value that was found, and what to do."""

    what: str
    value: str
    next_step: str


@dataclass(frozen=True)
class Release:
    """The distribution; a derivative counts as what it is derived from."""

    family: str
    version: str
    name: str


@dataclass(frozen=True)
class DockerFound:
    """The engine to which the person's `docker` command leads; `chosen_by` is empty for the default."""

    endpoint: str
    chosen_by: str
    facts: engine.EngineFacts | None


@dataclass(frozen=True)
class Machine:
    """Everything that the preflight looks at. Sizes in bytes."""

    system: str
    architecture: str
    release: Release
    uid: int
    memory: int
    disks: tuple[tuple[str, int, int], ...]
    docker: DockerFound
    port: int
    port_holder: str
    lowest_port: int
    person: Person
    home_problem: str
    state_owner: str
    checkout_lacks: str


def parse_os_release(text: str) -> Release:
    """`/etc/os-release` as os-release(5) has it."""
    values = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"([A-Z_0-9]+)=(?:\"(.*)\"|'(.*)'|(.*))", line.strip()):
            values[match[1]] = next(part for part in match.groups()[1:] if part is not None)
    family, version = values.get("ID", ""), values.get("VERSION_ID", "")
    name = values.get("PRETTY_NAME") or family or "unknown"
    if family not in OLDEST:
        for base, key in (("ubuntu", "UBUNTU_CODENAME"), ("debian", "DEBIAN_CODENAME")):
            if codename := values.get(key, ""):
                return Release(base, _CODENAMES.get(codename, codename), name)
    return Release(family, version or values.get("VERSION_CODENAME", ""), name)


def judge_release(release: Release) -> Problem | None:
    """Older ones are refused; newer ones, and derivatives, go through: packages say if they cannot."""
    oldest = OLDEST.get(release.family)
    if oldest is None:
        return Problem("The distribution is not supported", release.name, f"Use {_SUPPORTED}.")
    numbers = tuple(int(part) for part in re.findall(r"\d+", release.version))
    if numbers and numbers < oldest:
        return Problem("The distribution is too old", release.name, f"Upgrade it to {_SUPPORTED}.")
    return None


def docker_endpoint(environ: Mapping[str, str], home: Path) -> tuple[str, str]:
    """Where the `docker` command of this environment and home leads, and what decided that.

    The order is Docker's own: `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context of `config.json`.
    """
    if host := environ.get("DOCKER_HOST", ""):
        return host, "the variable DOCKER_HOST"
    folder = home / ".docker"
    name, chosen_by = environ.get("DOCKER_CONTEXT", ""), "the variable DOCKER_CONTEXT"
    if not name:
        chosen_by = f"the current context in {folder / 'config.json'}"
        name = str(_json(folder / "config.json").get("currentContext", ""))
    if name in ("", "default"):
        return f"unix://{engine.SOCKET}", ""
    meta = _json(folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json")
    endpoints = meta.get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    found = docker.get("Host") if isinstance(docker, dict) else None
    return str(found or f"context {name}"), chosen_by


def _json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def judge_docker(found: DockerFound) -> Problem | None:
    """Images are built and started on this machine's own kernel, by an engine that runs as root."""
    undo = "`unset DOCKER_HOST`" if "DOCKER_HOST" in found.chosen_by else "`docker context use default`"
    back = f"take back {found.chosen_by} ({undo}), " if found.chosen_by else ""
    again = f"Stop that engine, {back}and run the command again: it uses or installs the machine's own."
    value = found.endpoint
    if found.facts is not None:
        value = f"{found.facts.product or 'engine'} {found.facts.version} at {found.endpoint}"
        if "Docker Desktop" in found.facts.operating_system:
            return Problem(
                "Docker Desktop is not supported: it runs in a virtual machine of its own", value, again
            )
        if found.facts.rootless:
            return Problem(
                "Rootless Docker is not supported: it cannot limit or isolate servers", value, again
            )
        if found.facts.root_dir.startswith("/var/snap/"):
            return Problem(
                "Docker from a snap is not supported: it may not read hidden folders", value, again
            )
        if "podman" in found.facts.product.lower():
            return Problem("Podman's imitation of Docker is not supported", value, again)
    path = found.endpoint.removeprefix("unix://")
    if os.path.realpath(path) == os.path.realpath(engine.SOCKET):
        return None
    if "desktop" in found.endpoint:
        return Problem(
            "Docker Desktop is not supported: it runs in a virtual machine of its own", value, again
        )
    if not found.endpoint.startswith("unix://"):
        return Problem(
            "Docker is on another machine; images are built on this one",
            f"{value}, by {found.chosen_by}",
            again,
        )
    return Problem(
        f"Docker's socket is not the usual one, {engine.SOCKET}", f"{value}, by {found.chosen_by}", again
    )


def problems(machine: Machine, command: str) -> list[Problem]:
    """Everything that stands in the way; `command` is what to type as root."""
    found: list[Problem | None] = []
    if machine.system != "Linux":
        found.append(Problem("The system is not Linux", machine.system, f"Use {_SUPPORTED}."))
    if machine.architecture not in ARCHITECTURES:
        found.append(
            Problem(
                "The architecture is not supported",
                machine.architecture,
                "Use a machine with amd64 or arm64.",
            )
        )
    found.append(judge_release(machine.release))
    if machine.uid != 0:
        found.append(Problem("Installing needs root rights", f"user id {machine.uid}", f"Run: {command}"))
    if machine.memory < MEMORY:
        found.append(
            Problem(
                "The machine has too little memory", _gib(machine.memory), "Use a machine with 2 GiB or more."
            )
        )
    for path, free, needed in machine.disks:
        if free < needed:
            found.append(
                Problem(
                    f"The disk of {path} is too full",
                    f"{_gib(free)} free, {_gib(needed)} needed",
                    f"Free {_gib_or_more(needed - free)} there.",
                )
            )
    found.append(judge_docker(machine.docker))
    if machine.port_holder:
        found.append(
            Problem(
                f"Port {machine.port} is taken",
                f"by {machine.port_holder}",
                "End that program, or choose another port: `--port NUMBER`.",
            )
        )
    if machine.port < machine.lowest_port and machine.person.uid != 0:
        found.append(
            Problem(
                "The port is for root only", str(machine.port), f"Choose one from {machine.lowest_port} on."
            )
        )
    if machine.home_problem:
        found.append(
            Problem(
                f"{machine.person.name}'s home cannot be used", machine.home_problem, "Correct the account."
            )
        )
    if machine.state_owner:
        found.append(
            Problem(
                "The state folder belongs to somebody else",
                machine.state_owner,
                f"Give it to {machine.person.name} (`chown -R`), or move it away.",
            )
        )
    if machine.checkout_lacks:
        found.append(
            Problem(
                "The checkout is not complete", f"no {machine.checkout_lacks}", "Clone the repository again."
            )
        )
    return [problem for problem in found if problem is not None]


def read(
    person: Person,
    state: Path,
    checkout: Path,
    environ: Mapping[str, str],
    *,
    port: int,
    first: bool | None = None,
) -> Machine:
    """Look at everything, change nothing. `first`: whether nothing was installed yet, if that is known."""
    endpoint, chosen_by = docker_endpoint(environ, person.home)
    facts = _ask(endpoint)
    docker_root = facts.root_dir if facts is not None and facts.root_dir else "/var/lib/docker"
    if first is None:
        first = not (state / "venv").exists()
    return Machine(
        system=platform.system(),
        architecture=_architecture(),
        release=parse_os_release(_text("/etc/os-release")),
        uid=os.geteuid(),
        memory=_memory(),
        disks=_disks((Path(docker_root), state), FIRST_DISK if first else LATER_DISK),
        docker=DockerFound(endpoint, chosen_by, facts),
        port=port,
        port_holder=port_holder(port),
        lowest_port=int(_text("/proc/sys/net/ipv4/ip_unprivileged_port_start") or "1024"),
        person=person,
        home_problem=_home_problem(person.home),
        state_owner=_other_owner(state, person),
        checkout_lacks=", ".join(name for name in _CHECKOUT if not (checkout / name).exists()),
    )


def summary(machine: Machine) -> str:
    free = min(free for _, free, _ in machine.disks)
    room = f"{_gib(machine.memory)} memory, {_gib(free)} free disk"
    text = f"{machine.release.name}, {machine.architecture}, {room}"
    tested = TESTED.get(machine.release.family, ())
    return text if machine.release.version in tested else f"{text} (this release is not tested)"


def _ask(endpoint: str) -> engine.EngineFacts | None:
    if not endpoint.startswith("unix://"):
        return None
    try:
        return engine.ask(endpoint.removeprefix("unix://"))
    except TimeoutError:
        # Said by the step that needs the engine, with what was tried.
        return None


def _architecture() -> str:
    """dpkg's, since packages come for that one: a 32-bit system may run on a 64-bit kernel."""
    with contextlib.suppress(OSError):
        shown = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=False)
        if shown.stdout.strip():
            return shown.stdout.strip()
    return platform.machine()


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return ""


def _memory() -> int:
    found = re.search(r"^MemTotal: +(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _disks(folders: tuple[Path, ...], needed: int) -> tuple[tuple[str, int, int], ...]:
    """Path, free and needed bytes of each filesystem, once each."""
    found: dict[int, tuple[str, int, int]] = {}
    for folder in folders:
        there = folder
        while not there.exists():
            there = there.parent
        status = os.statvfs(there)
        found.setdefault(os.stat(there).st_dev, (str(folder), status.f_bavail * status.f_frsize, needed))
    return tuple(found.values())


def _home_problem(home: Path) -> str:
    if not home.is_dir():
        return f"{home} is not a folder"
    if os.statvfs(home).f_flag & os.ST_NOEXEC:
        return f"{home} is mounted noexec, so that no program can run there"
    return ""


def _other_owner(state: Path, person: Person) -> str:
    with contextlib.suppress(OSError):
        owner = state.lstat().st_uid
        if owner != person.uid:
            return f"{state} belongs to user id {owner}, not {person.uid}"
    return ""


def port_holder(port: int, host: str = "127.0.0.1") -> str:
    """Who listens on `host`:`port` (all addresses if it is empty); empty if nobody does."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return ""
        except PermissionError:
            return ""
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return f"nobody, but it cannot be used: {error.strerror}"
    return _process_at(_listening_inodes(port)) or "another program"


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _text(table).splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def _process_at(inodes: set[str]) -> str:
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            for descriptor in folder.iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        return f"{_text(str(folder.parent / 'comm')).strip()} (process {folder.parent.name})"
    return ""


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _gib_or_more(size: int) -> str:
    """Rounded up: nobody is told to free 0.0 GiB."""
    return _gib(math.ceil(size * 10 / GIB) * GIB // 10)
