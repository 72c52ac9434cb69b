"""Binder at home, running: the hub with its proxy and service as one tree of processes in the foreground.

Comes in: settings. Goes out: a hub that answers, and, when it ends, a machine on which no process, container
or network of this installation is left. Nothing of anybody else is touched: processes are known by their
session and start time, containers and networks by the label of the installation.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, get_args

import httpx

from ..build.processes import end_group, members, process_facts
from ..client import ServiceClient
from ..desktop import PARENT_VARIABLE, boot_id
from ..engine import Engine
from ..engine.values import Kind
from ..errors import BinderError, HubUnavailable, ServerExists, SettingsError
from ..installation import instance_id
from ..plain_http import verify_for
from ..settings import Settings
from ..time_limit import within
from ..wire import Person

_LOOK_S = 0.5
_START_S = 90.0
_STOP_S = 60.0
_LOG_BYTES = 16 * 1024**2
_LOG_LINES = 15
_PR_SET_CHILD_SUBREAPER = 36

_CONFIG = """\
# Written anew at each start by `littlest-binder up`; settings belong into {file}.
from pathlib import Path

from tljh_plugin.hub import configure
from tljh_plugin.settings import load_desktop

configure(get_config(), load_desktop(Path({state!r}), owner={owner!r}))
"""


class AlreadyRunning(ServerExists):
    """Another `littlest-binder up` works with this state folder."""


def lock_path(settings: Settings) -> Path:
    """Held while it runs; its text has the number of the process, as JSON: the installer reads it, too."""
    return settings.run_dir / "up.lock"


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the installation while it runs; raises `AlreadyRunning` if another process does."""
    with lock_path(settings).open("a+") as file:
        if not _locked(file):
            raise AlreadyRunning(
                f"The Littlest Binder is running already with {settings.state_dir}.",
                "`littlest-binder link` prints a sign-in link.",
            )
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid()}))
        file.flush()
        yield


def _locked(file: IO[str]) -> bool:
    """Whether the lock is ours now. Who looks whether somebody holds it, holds it for that moment."""
    deadline = time.monotonic() + _LOOK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


async def answers(settings: Settings) -> bool:
    """Whether a hub and a service of this installation answer."""
    # The service comes last, and whoever waits asks often, on the processors on which both are starting.
    if not settings.service_socket.exists():
        return False
    try:
        async with ServiceClient(
            socket=settings.service_socket, person=Person(name=settings.owner, admin=True), timeout_s=5
        ) as service:
            await service.health()
        address = f"http://127.0.0.1:{settings.desktop.port}/hub/health"
        async with httpx.AsyncClient(trust_env=False, timeout=5, verify=verify_for(address)) as http:
            found = await http.get(address)
        return found.status_code == 200
    except (BinderError, httpx.HTTPError):
        return False


def check_port(settings: Settings) -> None:
    """Raises `SettingsError` if somebody else listens on the port of the pages."""
    port = settings.desktop.port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            holder = holder_of(port)
            raise SettingsError(
                f"Port {port} on 127.0.0.1 is taken{f' by {holder}' if holder else ''}: {error.strerror}.",
                f"End that program, or set another port in {settings.state_dir / 'config.yaml'}: "
                "`binder.desktop.port`.",
                code="port-taken",
            ) from None


def holder_of(port: int) -> str:
    """The program that listens on a TCP port, where the kernel lets us see it; see proc(5), `net/tcp`."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(each) in inodes for each in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""


async def end_leftovers(settings: Settings) -> bool:
    """End the processes that an earlier run, which was killed, left behind; whether there were any."""
    found = False
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(_record(settings).read_text())
        for pid, start in known["processes"]:
            facts = process_facts(pid)
            ours = facts.start == start if facts is not None else known["boot"] == boot_id()
            if ours and members(pid):
                await end_group(pid)
                found = True
    _record(settings).unlink(missing_ok=True)
    return found


async def clear_engine(engine: Engine) -> list[str]:
    """Remove the containers and the network of this installation; says what there was."""
    removed = [name for kind in get_args(Kind) for name in await engine.remove_strays(kind)]
    network = await engine.network()
    if network is not None:
        await engine.remove_network()
    count = len(removed)
    return [
        *([f"{count} container{'s' if count > 1 else ''}"] if count else []),
        *([f"the network {network.name}"] if network else []),
    ]


def _record(settings: Settings) -> Path:
    return settings.run_dir / "hub.json"


def hub_log(settings: Settings) -> Path:
    """Where hub, proxy and service write."""
    return settings.log_dir / "hub.log"


@contextlib.asynccontextmanager
async def hub(settings: Settings, ended: asyncio.Event, say: Callable[[str], None]) -> AsyncIterator[Process]:
    """The hub, answering (or not yet, if `ended` is set first); ends it, its proxy and its service on the way
    out, and clears up after them.

    Raises `HubUnavailable` with the end of the log if it does not answer within 90 s.
    """
    _adopt_orphans()
    process = await _start(settings)
    try:
        await _until_it_answers(settings, process, ended)
        _remember(settings, process)
        yield process
    finally:
        await asyncio.shield(_stop(settings, process, say))


async def _start(settings: Settings) -> Process:
    folder = settings.state_dir / "hub"
    folder.mkdir(mode=0o700, exist_ok=True)
    config = folder / "jupyterhub_config.py"
    config.write_text(
        _CONFIG.format(
            file=settings.state_dir / "config.yaml", state=str(settings.state_dir), owner=settings.owner
        )
    )
    log = hub_log(settings)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "jupyterhub",
            "-f",
            str(config),
            cwd=folder,
            env=_environment(),
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _remember(settings, process)
    return process


def _remember(settings: Settings, process: Process) -> None:
    """Note hub, proxy and service, so that the next run finds them should all of this one be killed."""
    found = [process_facts(pid) for pid in (process.pid, *_descendants(process.pid))]
    leaders = [(each.pid, each.start) for each in found if each is not None and each.session == each.pid]
    _record(settings).write_text(json.dumps({"boot": boot_id(), "processes": leaders}))


def _adopt_orphans() -> None:
    """Become the parent of what the hub leaves behind when it is killed: proxy and service lead sessions of
    their own, and nothing else connects them with us; see prctl(2), PR_SET_CHILD_SUBREAPER.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants(ancestor: int) -> list[int]:
    """All processes below one, by their parents as proc(5) tells them."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(place.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(place.parent.name))
    found, waiting = [], [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _environment() -> dict[str, str]:
    """Ours, with the programs of our own environment first: the proxy is one of them."""
    own = str(Path(sys.executable).parent)
    path = f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, PARENT_VARIABLE: str(os.getpid())}


async def _until_it_answers(settings: Settings, process: Process, ended: asyncio.Event) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + _START_S
    while not ended.is_set() and not await answers(settings):
        if process.returncode is not None or clock() > deadline:
            how = "ended" if process.returncode is not None else f"did not answer within {_START_S:.0f} s"
            raise HubUnavailable(
                f"The hub {how}. The last lines of {hub_log(settings)}:\n{_last_lines(hub_log(settings))}\n",
                "Correct what they say and run `littlest-binder up` again.",
            )
        await asyncio.sleep(0.1)


def _last_lines(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16 * 1024))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_LOG_LINES:])


async def _stop(settings: Settings, process: Process, say: Callable[[str], None]) -> None:
    """JupyterHub stops servers, service and proxy on SIGTERM; what is left after that is ended."""
    if process.returncode is None:
        say("Stopping servers, service and hub")
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(asyncio.TimeoutError):
            await within(_STOP_S, process.wait())
    await end_group(process.pid)
    for orphan in _descendants(os.getpid()):
        await end_group(orphan)
    _record(settings).unlink(missing_ok=True)
    engine = Engine(instance_id(settings), timeout_s=settings.docker.timeout_s)
    try:
        for what in await clear_engine(engine):
            say(f"Removed {what}")
    except BinderError as error:
        say(f"Docker could not be cleared up: {error} The next start does it.")
    finally:
        await engine.close()
