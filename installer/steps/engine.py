"""Docker: an engine that answers is used as it is; else the distribution's is installed and started."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import keeper
from .command import alive, run, which
from .console import Step, StepFailed
from .packages import candidate, ensure_packages, ensure_programs, update
from .person import Person, group_name
from .site import LOG_DIR, Site, record

SOCKET = "/var/run/docker.sock"
PACKAGES = ("docker.io", "iptables", "ca-certificates")
NO_ROOM = (
    "Correct what the last lines say and run the command again. If apt refuses because it would have to "
    "remove a package, another Docker is installed: start that one, then run the command again."
)
_START_S = 180.0
_ANSWER_S = 20.0
# dockerd's own and that of the containerd which it starts; each takes a number that is in use, be it by a
# zombie or by a program that was given it since, for itself at work: dockerd then refuses to start, or waits
# for a containerd that does not run.
_PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}
ENGINE_LOG = LOG_DIR / "dockerd.log"
# Held by the keeper of an engine; see keeper.py.
_NOTE = Path("/run/littlest-binder/engine")


@dataclass(frozen=True)
class EngineFacts:
    """What an engine says of itself."""

    version: str
    operating_system: str
    root_dir: str
    rootless: bool
    product: str


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _get(path: str, where: str) -> Any:
    connection = _Connection(where, _ANSWER_S)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def ask(where: str = SOCKET) -> EngineFacts | None:
    """What the engine at the Unix socket `where` says of itself; None if there is none.

    Raises `TimeoutError` if something holds the socket and does not answer.
    """
    try:
        info, version = _get("/info", where), _get("/version", where)
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError):
        return None
    security = info.get("SecurityOptions") or []
    components = version.get("Components") or [{}]
    return EngineFacts(
        version=str(info.get("ServerVersion", "")),
        operating_system=str(info.get("OperatingSystem", "")),
        root_dir=str(info.get("DockerRootDir", "")),
        rootless=any("name=rootless" in option for option in security),
        product=str(components[0].get("Name", "")),
    )


class Engine:
    """The engine of one run: remembers whether we started it, and then stops it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._keeper: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None

    @property
    def started_by_us(self) -> bool:
        return self._keeper is not None

    @property
    def processes(self) -> set[int]:
        """Number of the process that keeps the engine, if we started it."""
        return set() if self._keeper is None else {self._keeper.pid}

    @property
    def lifeline(self) -> tuple[int, ...]:
        """File descriptors that a program inherits which needs the engine to outlive us."""
        return () if self._lifeline is None else (self._lifeline,)

    def answers(self, step: Step) -> bool:
        """Whether there is an engine already. Raises `StepFailed` if one is there and does not answer."""
        return self._ask(step) is not None

    def ensure(self, step: Step) -> str:
        """An engine that answers. Raises `StepFailed`."""
        facts = self._ask(step)
        if facts is not None:
            return f"version {facts.version}, already running"
        added: list[str] = []
        if which("dockerd") is None:
            added = ensure_packages(self._site, step, packages_of_engine(), next_step=NO_ROOM)
            facts = self._ask(step)
        if facts is None:
            facts = self._start(step)
        how = f"installed {', '.join(added)}; " if added else ""
        return f"version {facts.version}, {how}" + ("started by us" if self.started_by_us else "started")

    def _ask(self, step: Step) -> EngineFacts | None:
        _wait_while_stopping(step)
        try:
            return ask()
        except TimeoutError:
            raise StepFailed(
                f"Something holds {SOCKET} and did not answer within {_ANSWER_S:.0f} s.",
                tried=f"GET /info on {SOCKET}",
                next_step="See how the engine is (`docker info`), start it again, and run the command again.",
            ) from None

    def _start(self, step: Step) -> EngineFacts:
        if self._site.service_manager:
            step.say("systemctl enable --now docker")
            run(
                step, ["systemctl", "enable", "--now", "docker"], env=self._site.root_env,
                next_step="`journalctl -u docker` says why; then run the command again.",
            )  # fmt: skip
        else:
            self._start_keeper(step)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            # It listens before it serves: with much to load, on a busy disk, long before.
            with contextlib.suppress(TimeoutError):
                if (facts := ask()) is not None:
                    return facts
            if self._keeper is not None and self._keeper.poll() is not None:
                break
            step.say("waiting for the engine to answer")
            time.sleep(0.1)
        tail = _last_lines(ENGINE_LOG) if self._keeper is not None else []
        self.stop(step)
        raise StepFailed(
            "The Docker engine was started and does not answer.",
            tried="dockerd" if tail else "systemctl enable --now docker",
            tail=tail,
            next_step=f"{ENGINE_LOG if tail else '`journalctl -u docker`'} says why. dockerd needs "
            "root rights, control groups and iptables; in a container also the rights to make containers.",
        )

    def _start_keeper(self, step: Step) -> None:
        dockerd = which("dockerd")
        if dockerd is None:
            raise StepFailed(
                "There is no dockerd although its package is installed.",
                next_step="`apt-get install --reinstall docker.io`, then run the command again.",
            )
        ensure_programs(self._site, step, {"iptables": "iptables"})
        _forget_dead_engine()
        for folder in (LOG_DIR, _NOTE.parent):
            folder.mkdir(parents=True, exist_ok=True)
        reader, writer = os.pipe()
        step.log(f"$ {dockerd}   (kept by us, log in {ENGINE_LOG})")
        with ENGINE_LOG.open("wb") as log:
            self._keeper = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    str(Path(keeper.__file__).resolve()),
                    "--lifeline",
                    str(reader),
                    "--note",
                    str(_NOTE),
                    dockerd,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._site.root_env,
                pass_fds=(reader,),
                start_new_session=True,
            )
        os.close(reader)
        self._lifeline = writer

    def stop(self, step: Step) -> str:
        """Stop the engine if we started it, and nobody else holds its lifeline."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        while self._keeper is not None and self._keeper.poll() is None:
            step.say("waiting for the engine to stop")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._keeper.wait(timeout=0.2)
        self._keeper = None
        return "stopped"


def ensure_client(site: Site, step: Step) -> str:
    """The `docker` command; some distributions package it apart from the engine."""
    added: list[str] = []
    if which("docker") is None:
        update(site, step)
        added = ensure_packages(site, step, ["docker-cli" if candidate(site, "docker-cli") else "docker.io"])
    shown = run(
        step, ["docker", "--version"], env=site.root_env, timeout_s=60.0,
        next_step="Install a working `docker` command.",
    )  # fmt: skip
    return shown[0] + (f" (installed {', '.join(added)})" if added else "")


def ensure_access(site: Site, step: Step, person: Person) -> str:
    """The person may use the engine's socket: by membership in the socket's group."""
    if person.uid == 0:
        return "root may use Docker"
    status = Path(SOCKET).stat()
    group = group_name(status.st_gid)
    if status.st_gid in person.groups:
        return f"{person.name} is in group {group}"
    if status.st_gid == 0 or not status.st_mode & 0o020:
        raise StepFailed(
            f"{SOCKET} belongs to group {group}, mode {status.st_mode & 0o777:o}: closed to {person.name}.",
            next_step="Create group docker (`groupadd docker`), restart the engine, run the command again.",
        )
    run(
        step, ["gpasswd", "--add", person.name, group], env=site.root_env,
        next_step=f"Add {person.name} to group {group} by your own means, then run the command again.",
    )  # fmt: skip
    record("group", f"{group}:{person.name}")
    step.note(f"Members of group {group} can act as root on this machine through Docker.")
    step.note(f"Sessions of {person.name} that are open now get the group at their next login.")
    return f"added {person.name} to group {group}"


def packages_of_engine() -> list[str]:
    """The distribution's engine and what it needs on this machine."""
    return [*PACKAGES, *_apparmor()]


def _apparmor() -> list[str]:
    """dockerd needs the parser where the kernel enforces AppArmor profiles."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    try:
        return ["apparmor"] if enabled.read_text().strip() == "Y" else []
    except OSError:
        return []


def _wait_while_stopping(step: Step, note: Path = _NOTE) -> None:
    """Until an engine whose run was killed has ended: it answers while it stops its containers."""
    deadline = time.monotonic() + _START_S
    with contextlib.suppress(OSError), note.open("rb") as file:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if os.pread(file.fileno(), 64, 0) != b"stopping":
                    return
            step.say("waiting until the engine of an earlier run has stopped")
            time.sleep(0.1)


def _forget_dead_engine(files: Mapping[Path, str] = _PID_FILES) -> None:
    """Remove the notes of an engine that was killed, whose numbers no living process of that name has."""
    for path, program in files.items():
        with contextlib.suppress(OSError, ValueError):
            number = int(path.read_text())
            if not alive(number) or _program(number) != program:
                path.unlink()


def _program(pid: int) -> str:
    """The name of a process, as proc(5) has it in `comm`; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _last_lines(path: Path, count: int = 12) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").splitlines()[-count:]
    return []
