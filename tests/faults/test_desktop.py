"""A desktop's service is killed: people hardly notice."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from running_hub import RunningHub
from waiting import until

from tljh_plugin.client import ServiceClient
from tljh_plugin.errors import BinderError
from tljh_plugin.wire import Person

pytestmark = [pytest.mark.docker, pytest.mark.hub]


def services(state: Path) -> list[int]:
    """The keeper and the service, in the order of their numbers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"\0serve\0" in command and str(state).encode() in environment:
            found.append(int(entry.name))
    return sorted(found)


async def test_a_killed_service_is_back_before_anybody_has_complained(tmp_path: Path) -> None:
    async with RunningHub(tmp_path, service="real") as hub:

        async def answers() -> bool:
            socket = hub.settings.service_socket
            try:
                async with ServiceClient(socket=socket, person=Person(name="root", admin=True)) as client:
                    await client.health()
            except BinderError:
                return False
            return True

        await until(answers)
        keeper, service = services(hub.state)
        began = time.monotonic()
        # Killed sooner than some seconds after its start it would be taken for one that cannot run.
        await until(lambda: time.monotonic() - began > 3.5)
        os.kill(service, signal.SIGKILL)
        killed = time.monotonic()
        await until(lambda: len(services(hub.state)) == 2 and service not in services(hub.state))
        await until(answers)
        print(f"back after {time.monotonic() - killed:.1f} s")
        assert services(hub.state)[0] == keeper, "JupyterHub did it, which takes up to 45 s"
    await until(lambda: not services(hub.state))
