"""What the machine must be for a server, besides what every machine must be: read first, judged apart."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import machine, project, tljh
from .machine import Problem
from .site import Site, has_service_manager

OLDEST_PYTHON = (3, 10)
_PORTS = (80, 443)


@dataclass(frozen=True)
class Server:
    """`ports` are those that somebody else holds; `spawners` the administrator's files that set a spawner."""

    service_manager: bool
    python: str
    found: tljh.Found
    ours_to_finish: bool
    ports: tuple[tuple[int, str], ...]
    spawners: tuple[str, ...]


def read(site: Site) -> Server:
    """Look at everything, change nothing."""
    found = tljh.look()
    # Those of a TLJH that is there are its own, also of one that a run of ours began.
    free = found.whole or found.partial
    held = () if free else tuple((port, machine.port_holder(port, "")) for port in _PORTS)
    return Server(
        service_manager=has_service_manager(),
        python=project.python_version(project.base_python()),
        found=found,
        ours_to_finish=tljh.begun(site),
        ports=tuple((port, holder) for port, holder in held if holder),
        spawners=_spawners(tljh.PREFIX / "config" / "jupyterhub_config.d"),
    )


def problems(server: Server, *, admin: bool) -> list[Problem]:
    """Everything that stands in the way; `admin` says whether an administrator was named."""
    found = []
    if not server.service_manager:
        found.append(
            Problem(
                "systemd does not run", "no /run/systemd/system",
                "TLJH needs systemd: use a virtual machine or a computer, not a container without it.",
            )
        )  # fmt: skip
    if _numbers(server.python) < OLDEST_PYTHON:
        found.append(
            Problem(
                "The distribution's Python is too old", server.python or "none",
                "Use Debian 12 or later, or Ubuntu 22.04 or later.",
            )
        )  # fmt: skip
    if server.found.partial and not server.ours_to_finish:
        found.append(
            Problem(
                "A TLJH is there whose own installation did not come to its end", str(tljh.PREFIX),
                "Run TLJH's bootstrap again until it ends well, then this command.",
            )
        )  # fmt: skip
    if not server.found.whole and not admin:
        found.append(
            Problem(
                "No administrator was named", "a new TLJH needs one",
                "Add `--admin NAME` with the name with which you will sign in.",
            )
        )  # fmt: skip
    for port, holder in server.ports:
        found.append(Problem(f"Port {port} is taken", f"by {holder}", "End that program: TLJH needs it."))
    for name in server.found.others:
        found.append(
            Problem(
                "Another plugin decides how servers start", name.replace("_", "-"),
                f"Remove it first: `sudo {tljh.HUB}/bin/pip uninstall {name.replace('_', '-')}`.",
            )
        )  # fmt: skip
    for path in server.spawners:
        found.append(
            Problem(
                "Your own configuration decides how servers start", path,
                "Take `spawner_class` out of that file: it would win over The Littlest Binder's.",
            )
        )  # fmt: skip
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _spawners(folder: Path) -> tuple[str, ...]:
    found = []
    for path in sorted(folder.glob("*.py")):
        for line in path.read_text(errors="replace").splitlines():
            code = line.partition("#")[0]
            if "spawner_class" in code and "=" in code:
                found.append(str(path))
                break
    return tuple(found)


@dataclass(frozen=True)
class People:
    """Of an existing TLJH: unix accounts that it made, and the units of servers that run now."""

    accounts: tuple[str, ...]
    servers: tuple[str, ...]


def read_people() -> People:
    accounts = tuple(
        line.split(":")[0]
        for line in Path("/etc/passwd").read_text().splitlines()
        if line.startswith("jupyter-")
    )
    return People(accounts, running_servers())


def running_servers() -> tuple[str, ...]:
    """Units of TLJH's own spawner: transient ones, so that no unit of somebody else's is taken for one."""
    shown = subprocess.run(
        ["systemctl", "list-units", "--output=json", "--state=active", "jupyter-*.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        units = [str(each["unit"]) for each in json.loads(shown.stdout or "[]")]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(unit for unit in units if Path("/run/systemd/transient", unit).exists())


def page(server: Server, people: People, command: str) -> list[str]:
    """What changes for the people of an existing TLJH, what stays, and how to go back."""
    count = len(people.accounts)
    running = ", ".join(unit.removeprefix("jupyter-").removesuffix(".service") for unit in people.servers)
    now = (
        f"{len(people.servers)} servers run now and will be stopped: {running}. Saved files stay; what is "
        "not saved is lost."
        if people.servers
        else "No server runs now; one that starts before the hub is restarted will be stopped."
    )
    return [
        f"The Littlest JupyterHub {server.found.version} is here; {count} people have an account of it.",
        "",
        "What changes for them:",
        " - Servers become containers: each starts from an image, which is built from a repository, or is",
        "   plain Jupyter, which is there right away.",
        " - The shared user environment (/opt/tljh/user) is not inside them. What is installed there belongs",
        "   into a repository's requirements.txt or environment.yml.",
        " - Files are kept per person and repository, below /opt/tljh/state/binder. The homes",
        "   /home/jupyter-NAME stay as they are; with `binder.servers.identity: unix` in TLJH's config.yaml",
        "   servers run as these accounts and the homes can be mounted, so that files stay theirs.",
        " - What a server may use is said by `binder.servers` and profiles; TLJH's `limits` only lower it.",
        "   Settings of SystemdSpawner have no effect on containers, `users.extra_user_groups` has one only",
        "   with `identity: unix`.",
        f" - {now}",
        "",
        "What stays: people and administrators, how they sign in, HTTPS, config.yaml, the user environment,",
        "the homes. The hub is restarted once. What is added: Docker if it is missing, our package in",
        "/opt/tljh/hub, the service tljh-binder, /opt/tljh/state/binder, the command littlest-binder.",
        "",
        "How to go back: `sudo littlest-binder uninstall`. Servers are then TLJH's own again; files stay.",
        f"To do it without being asked: {command} --yes",
    ]
