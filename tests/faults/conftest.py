"""A machine as a lab has it, with a Docker of its own and a proxy in front of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from docker_proxy import DockerProxy
from git_server import GitServer
from machine import Homes, Machine
from private_docker import STATE, PrivateDocker
from soak import Ledger, Part
from trials import Trials

from tljh_plugin.build.base import ensure_base
from tljh_plugin.installation import ensure_state
from tljh_plugin.settings import from_mapping

DEBIAN = "littlest-binder/debian:bookworm"
NOTE = b"the only copy of three months of work\n"
# Seconds that Docker is given; `docker buildx` itself waits for ever, and ends when nothing more is said.
# A disk that stalls for some seconds is no fault; thousands of rounds cannot wait so long.
PATIENCE_S, SILENCE_S = 20.0, 40.0
SOAK_PATIENCE_S, SOAK_SILENCE_S = 8.0, 20.0
REMOVAL_S = 30.0


@pytest.fixture(scope="session")
def private_docker(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[PrivateDocker]:
    """One that all tests share; each part of a soak run has its own."""
    part = Part.parse(request.config.getoption("soak_part")).number
    folder = STATE if part == 1 else STATE.with_name(f"{STATE.name}-{part}")
    settings = from_mapping({}, platform="jupyterhub", state_dir=tmp_path_factory.mktemp("state"))
    ensure_state(settings)
    base = asyncio.run(ensure_base(settings, lambda line: None))
    with PrivateDocker(folder) as engine:
        engine.copy_in(DEBIAN)
        engine.copy_flat(base.name)
        yield engine


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with GitServer(tmp_path_factory.mktemp("git") / "served") as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def proxy(private_docker: PrivateDocker, soak: bool) -> AsyncIterator[DockerProxy]:
    late_s = 2.0, (SOAK_PATIENCE_S if soak else PATIENCE_S) + 2.0
    async with DockerProxy(
        private_docker.run / "proxy.sock", private_docker.socket, late_s=late_s
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def machine(
    tmp_path_factory: pytest.TempPathFactory, served: GitServer, proxy: DockerProxy, soak: bool
) -> AsyncIterator[Machine]:
    """One machine for all tests, with somebody's work on it, and an image for those that need no new one."""
    section = {
        "docker": {"timeout_s": SOAK_PATIENCE_S if soak else PATIENCE_S, "removal_timeout_s": REMOVAL_S},
        "build": {"disk_reserve_bytes": 0, "silence_s": SOAK_SILENCE_S if soak else SILENCE_S},
        # Images go when tests say so, however young they are.
        "retention": {"enabled": False, "min_age_hours": 0},
    }
    running = Machine(tmp_path_factory.mktemp("lab"), served, proxy.host, section)
    running.brisk = soak
    async with running:
        await running.ready("kept", running.repository())
        [home] = running.projects().values()
        (home / "note.txt").write_bytes(NOTE)
        await running.gone("kept")
        yield running
        proxy.begin()
        proxy.let_go()


@pytest.fixture(scope="module")
def homes(machine: Machine) -> Homes:
    """What people's files were after the rounds before."""
    machine.built = ""  # other tests may have had it evicted
    found = Homes()
    found.note(machine.projects())
    return found


@pytest.fixture(scope="session")
def trials(tmp_path_factory: pytest.TempPathFactory, soak: bool) -> Trials:
    """Which calls were failed in which way; all pieces of a soak run share one."""
    return Trials(Ledger().notes if soak else tmp_path_factory.mktemp("trials"))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    if config.getoption("soak"):
        for line in Trials(Ledger().notes).summary():
            terminalreporter.line(line)
