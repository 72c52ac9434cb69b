"""What steps of a build reach with `network.builds: as-servers`.

On an engine of its own: the rules hold for all containers on Docker's default bridge.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from host_service import HostService
from private_docker import PrivateDocker

from tljh_plugin.engine import Engine
from tljh_plugin.settings import from_mapping

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="session")]

LOOK = """
import socket, sys
for port in map(int, sys.argv[2:]):
    try:
        with socket.create_connection((sys.argv[1], port), 3) as there:
            there.sendall(b"x")
            print("SEEN", port, there.recv(8).decode()[:4])
    except OSError:
        print("SEEN", port, "none")
"""


@pytest_asyncio.fixture(loop_scope="session")
async def engine(private_docker: PrivateDocker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setenv("DOCKER_HOST", private_docker.host)
    ours = Engine(f"test-{secrets.token_hex(6)}")
    yield ours
    await ours.remove_network()
    await ours.close()


def gateway(private_docker: PrivateDocker) -> str:
    """This machine's address on that engine's default bridge."""
    return private_docker.docker(
        "network", "inspect", "bridge", "--format={{(index .IPAM.Config 0).Gateway}}"
    ).strip()


def seen(private_docker: PrivateDocker, base: str, folder: Path, address: str, *ports: int) -> list[str]:
    """What a step of a build gets of these ports of this machine."""
    (folder / "look.py").write_text(LOOK)
    asked = " ".join(map(str, ports))
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nCOPY look.py /tmp/\nENV RUN={secrets.token_hex(6)}\n"
        f"RUN /srv/venv/bin/python -I /tmp/look.py {address} {asked}\n"
    )
    command = ["docker", "--host", private_docker.host, "buildx", "build", "--progress=plain", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [
        line.partition("SEEN ")[2]
        for line in done.stderr.splitlines()
        if "SEEN " in line and "RUN" not in line
    ]
    return [line.split()[1] for line in lines]


async def test_a_step_reaches_what_is_listed_and_nothing_else_of_this_machine(
    private_docker: PrivateDocker, engine: Engine, tmp_path: Path
) -> None:
    [base] = [
        name
        for name in private_docker.docker("images", "--format={{.Repository}}:{{.Tag}}").split()
        if name.startswith("littlest-binder/base:") and "-python-" not in name and "latest" not in name
    ][:1]
    address = gateway(private_docker)
    with HostService() as index, HostService() as other:
        assert seen(private_docker, base, tmp_path, address, index.port, other.port) == ["HTTP", "HTTP"]
        section: dict[str, Any] = {"builds": "as-servers", "allowed": [f"{address}:{index.port}"]}
        settings = from_mapping({"network": section}, platform="jupyterhub", state_dir=tmp_path)
        await engine.ensure_firewall(settings, await engine.ensure_network(), 8899)
        assert seen(private_docker, base, tmp_path, address, index.port, other.port) == ["HTTP", "none"]
        await engine.remove_network()
        assert seen(private_docker, base, tmp_path, address, other.port) == ["HTTP"]
