"""`docker buildx du`, which older engines are asked with, and a Docker that never answers."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import until

from tljh_plugin.engine.cache_records import by_buildx
from tljh_plugin.errors import EngineTimedOut

ASK = """
import asyncio, sys
from tljh_plugin.engine.cache_records import by_buildx
asyncio.run(by_buildx({"DOCKER_HOST": sys.argv[1]}, 1.0))
"""


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[str]:
    """The address of a Docker that takes every connection and says nothing."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "docker.sock"))
        listening.listen()
        yield f"unix://{tmp_path}/docker.sock"


def asking(host: str) -> list[int]:
    """Processes that ask this Docker."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"DOCKER_HOST={host}".encode() in told[0] and b"du\0--verbose" in told[1]:
            found.append(int(entry.name))
    return found


async def test_one_that_hangs_is_told_and_leaves_no_process(hanging: str) -> None:
    with pytest.raises(EngineTimedOut, match=r"did not end within 0\.5 s"):
        await by_buildx({"DOCKER_HOST": hanging}, 0.5)
    assert asking(hanging) == []


async def test_nor_does_one_that_asked_and_was_killed(hanging: str) -> None:
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", ASK, hanging)
    await until(lambda: len(asking(hanging)) >= 2)  # `docker` and its buildx
    killed.kill()
    await killed.wait()
    assert asking(hanging)
    await until(lambda: not asking(hanging), 30)
