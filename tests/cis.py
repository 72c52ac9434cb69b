"""The CIS Docker Benchmark 1.6.0, section 5 (containers), for a running server: each item met or explained.

`python tests/cis.py` writes the table of `docs/reference/cis.md`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tljh_plugin.engine.kernel import Seen

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cis.md"
PACKAGE = Path(__file__).parent.parent / "tljh_plugin"

_SYSTEM = ("/", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sys", "/usr", "/var/run")


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: what Docker says of it, what the kernel shows, and what Docker says of itself."""

    inspect: Mapping[str, Any]
    seen: Seen
    engine: Mapping[str, Any]
    processes: tuple[str, ...]

    @property
    def host(self) -> Mapping[str, Any]:
        host: Mapping[str, Any] = self.inspect["HostConfig"]
        return host


@dataclass(frozen=True, slots=True)
class Item:
    """`is_met` is what the benchmark asks for; where we do otherwise on purpose, `instead` says why."""

    number: str
    subject: str
    is_met: Callable[[Server], bool]
    how: str = ""
    instead: str = ""


def _published(server: Server) -> bool:
    ports = server.inspect["NetworkSettings"]["Ports"] or {}
    return bool(server.host.get("PublishAllPorts") or any(ports.values()))


def _sources(server: Server) -> list[str]:
    return [str(each.get("Source", "")).rstrip("/") or "/" for each in server.inspect["Mounts"]]


# Where a program is run in a container that runs already, and how its process may be made.
_EXECUTES = "build/packages.py"
_PLAINLY = {"stdout", "stderr"}


def _executes_plainly(server: Server) -> bool:
    """Nobody has run anything in this server, and nothing of ours runs with more rights than the container's.

    What asks an image for its packages does so in the container of its start check.
    """
    calls = {path: _calls(path) for path in PACKAGE.rglob("*.py")}
    asking = {str(path.relative_to(PACKAGE)) for path, found in calls.items() if "ask_inside" in found}
    given = [words for found in calls.values() for words in found.get("exec_create", ())]
    return (
        not server.inspect["ExecIDs"]
        and asking <= {_EXECUTES, "engine/facade.py"}
        and all(words <= _PLAINLY for words in given)
    )


def _calls(path: Path) -> dict[str, list[set[str]]]:
    """Names of the methods that a module calls, with the keywords of each call; `**` is an empty one."""
    found: dict[str, list[set[str]]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.setdefault(node.func.attr, []).append({word.arg or "" for word in node.keywords})
    return found


ITEMS = (
    Item(
        "5.1",
        "No swarm mode without need",
        lambda s: s.engine["Swarm"]["LocalNodeState"] == "inactive",
        "Nothing here needs a swarm; the installer does not start one.",
    ),
    Item(
        "5.2",
        "AppArmor profile, where there is AppArmor",
        lambda s: (
            s.inspect["AppArmorProfile"] == "docker-default"
            or not any("apparmor" in each for each in s.engine["SecurityOptions"])
        ),
        "Docker's own profile; a server with another one is stopped.",
    ),
    Item(
        "5.3",
        "SELinux options, where there is SELinux",
        lambda s: not any("label" in each for each in s.host["SecurityOpt"] or ()),
        "Docker's own labels are not switched off. Debian and Ubuntu have none.",
    ),
    Item(
        "5.4",
        "Capabilities restricted",
        lambda s: not s.host["CapAdd"] and int(s.seen.status["CapBnd"], 16) == 0,
        "None at all, and none can be gained.",
    ),
    Item("5.5", "Not privileged", lambda s: not s.host["Privileged"], "Checked after each start."),
    Item(
        "5.6",
        "No system folders of the host mounted",
        lambda s: not set(_sources(s)) & set(_SYSTEM),
        "Mounts come from the administrator's catalogue, which refuses system folders.",
    ),
    Item(
        "5.7",
        "No sshd inside",
        lambda s: not any("sshd" in each for each in s.processes),
        "We start none. An image may; nobody can reach it.",
    ),
    Item("5.8", "No privileged ports mapped", lambda s: not _published(s), "No port is published at all."),
    Item("5.9", "Only needed ports open", lambda s: not _published(s), "No port is published at all."),
    Item(
        "5.10",
        "Host's network not shared",
        lambda s: s.host["NetworkMode"] != "host" and "net" not in s.seen.shared,
        "A network of our own, without traffic between servers.",
    ),
    Item("5.11", "Memory limited", lambda s: s.host["Memory"] > 0, "`servers.memory_bytes` or the profile."),
    Item(
        "5.12",
        "Processor time limited",
        lambda s: s.host["CpuQuota"] > 0,
        "A quota (`servers.cpus` or the profile), where the benchmark asks for shares: it holds on an idle "
        "machine, too.",
    ),
    Item(
        "5.13",
        "Root file system read-only",
        lambda s: bool(s.host["ReadonlyRootfs"]),
        instead="People install packages into a running server. What they write outside of their files goes "
        "with it. The filling of projects does run read-only.",
    ),
    Item("5.14", "Ports bound to one interface", lambda s: not _published(s), "No port is published at all."),
    Item(
        "5.15",
        "Not restarted for ever",
        lambda s: s.host["RestartPolicy"]["Name"] in ("", "no"),
        "Never restarted by Docker; JupyterHub starts servers.",
    ),
    Item(
        "5.16",
        "Host's processes not shared",
        lambda s: s.host["PidMode"] != "host" and "pid" not in s.seen.shared,
        "Checked with the kernel after each start.",
    ),
    Item(
        "5.17",
        "Host's IPC not shared",
        lambda s: s.host["IpcMode"] == "private" and "ipc" not in s.seen.shared,
        "Private; not even other containers may share it.",
    ),
    Item(
        "5.18", "No devices of the host", lambda s: not s.host["Devices"], "None; checked after each start."
    ),
    Item(
        "5.19",
        "Default ulimits set where needed",
        lambda s: any(each["Name"] == "core" and each["Hard"] == 0 for each in s.host["Ulimits"] or ()),
        "No core dumps. Open files count as the server's memory.",
    ),
    Item(
        "5.20",
        "Mounts not propagated",
        lambda s: not any("shared" in str(each.get("Propagation")) for each in s.inspect["Mounts"]),
        "`rprivate`.",
    ),
    Item(
        "5.21",
        "Host's UTS namespace not shared",
        lambda s: s.host["UTSMode"] != "host" and "uts" not in s.seen.shared,
        "Checked with the kernel after each start.",
    ),
    Item(
        "5.22",
        "Default seccomp profile in force",
        lambda s: s.seen.status["Seccomp"] == "2",
        "Docker's own; a server without a filter is stopped.",
    ),
    Item(
        "5.23",
        "No `docker exec` with privileges",
        _executes_plainly,
        "Never in a server; in the container of a start check, to ask for its packages, with its own rights.",
    ),
    Item(
        "5.24",
        "No `docker exec` as root",
        _executes_plainly,
        "The same: as the container's user, without root.",
    ),
    Item(
        "5.25", "In Docker's control group", lambda s: not s.host["CgroupParent"], "Checked after each start."
    ),
    Item(
        "5.26",
        "No new privileges",
        lambda s: s.seen.status["NoNewPrivs"] == "1",
        "Checked with the kernel after each start.",
    ),
    Item(
        "5.27",
        "Health checked",
        lambda s: (s.inspect["Config"].get("Healthcheck") or {}).get("Test", ["NONE"]) != ["NONE"],
        instead="JupyterHub looks after each server and ends what does not run. An image's own check is "
        "switched off: Docker would run what it says as often as it says.",
    ),
    Item(
        "5.28",
        "Latest version of the image",
        lambda s: not s.inspect["Config"]["Image"].startswith("sha256:"),
        instead="The very image of the commit that was asked for, by its id. An image with an older recipe "
        "is marked so and can be rebuilt.",
    ),
    Item(
        "5.29",
        "Processes limited",
        lambda s: (s.host["PidsLimit"] or 0) > 0,
        "`servers.pids` or the profile.",
    ),
    Item(
        "5.30",
        "Docker's default bridge not used",
        lambda s: s.host["NetworkMode"].startswith("littlest-binder-"),
        "A network of our own.",
    ),
    Item(
        "5.31",
        "Host's user namespace not forced",
        lambda s: s.host["UsernsMode"] != "host",
        "Never asked for.",
    ),
    Item(
        "5.32",
        "Docker's socket not mounted",
        lambda s: not any("docker.sock" in each for each in _sources(s)),
        "The catalogue of mounts refuses it, and the list of mounts is checked after each start.",
    ),
)


def table() -> str:
    """The items for the documentation."""
    lines = ["| item | asks for | result | how |", "| --- | --- | --- | --- |"]
    for item in ITEMS:
        result = "explained" if item.instead else "passed"
        lines.append(f"| {item.number} | {item.subject} | {result} | {item.instead or item.how} |")
    return "\n".join(lines)


def page() -> str:
    """The whole page."""
    explained = sum(bool(item.instead) for item in ITEMS)
    return f"""\
# CIS Docker Benchmark, section 5

The container section of the CIS Docker Benchmark 1.6.0, for a running notebook server: {len(ITEMS)} items,
{len(ITEMS) - explained} passed, {explained} explained. `tests/hostile/test_from_inside.py` checks each on a
real server, and `python tests/cis.py` writes this page. Sections 1 to 4 (the machine, Docker, images) are
your administrator's.

{table()}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
