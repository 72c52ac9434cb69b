"""A disk fills up: under a clone, a build, a project or the store. What failed says so, nothing that was
there is harmed, and once there is room again everything works.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from git_server import GitServer
from machine import PATIENCE_S, Machine, content
from private_docker import PrivateDocker
from waiting import until

from tljh_plugin.settings import MIB

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="session")]

NOTE = b"the only copy\n"
# What may stand in the way first where everything is on the full disk.
_TELLING = ("checkout-disk-full: ", "store-failed: ", "disk-low: ", "build-disk-full: ")


class SmallDisk:
    """A file system of its own on `place`, in `file`."""

    def __init__(self, place: Path, file: Path, size: int) -> None:
        self.place = place
        self._file = file
        place.mkdir(parents=True)
        with self._file.open("wb") as content:
            content.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(self._file)], check=True)
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self._file), str(self.place)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.place)], check=True)

    def remove(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.place)], check=True)
        self._file.unlink()

    @contextmanager
    def full(self, free: int = 0) -> Iterator[None]:
        """All but `free` bytes are taken."""
        filler = self.place / "filler"
        with filler.open("wb", buffering=0) as file:
            figures = os.statvfs(self.place)
            size = figures.f_bavail * figures.f_frsize - max(free, MIB)
            os.posix_fallocate(file.fileno(), 0, size)
            file.seek(0, os.SEEK_END)
            with suppress(OSError):
                while not free:
                    file.write(bytes(4096))
        try:
            yield
        finally:
            filler.unlink()


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SmallDisk]]:
    """One for the state folder, one for people's files, one for JupyterHub's database."""
    folder = tmp_path_factory.mktemp("disks")
    folder.chmod(0o755)
    made = {}
    try:
        # The file of neither may lie on the other, whose room it would take.
        state = folder / "lab" / "state"
        made["state"] = SmallDisk(state, folder / "state.ext4", 120 * MIB)
        made["projects"] = SmallDisk(state / "projects", folder / "projects.ext4", 120 * MIB)
        made["hub"] = SmallDisk(folder / "lab" / "hub", folder / "hub.ext4", 20 * MIB)
        yield made
    finally:
        for each in reversed(made.values()):
            each.remove()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machine(
    disks: dict[str, SmallDisk], served: GitServer, private_docker: PrivateDocker
) -> AsyncIterator[Machine]:
    """With somebody's work on it."""
    folder = disks["state"].place.parent
    for each in disks.values():
        (each.place / "lost+found").rmdir()
    async with Machine(folder, served, private_docker.host) as running:
        await running.ready("kept", running.repository())
        [home] = running.projects().values()
        (home / "note.txt").write_bytes(NOTE)
        await running.gone("kept")
        yield running


def kept(machine: Machine) -> dict[str, dict[str, str]]:
    return {name: content(home) for name, home in machine.projects().items()}


async def refused(machine: Machine, server: str, spec: str) -> str:
    """How a start failed."""
    start = machine.begin(server, spec)
    assert await start.over() == "failed", start.said
    print(f"\n{server}: {start.error}")
    return start.error


async def works_again(machine: Machine, server: str, spec: str, before: dict[str, dict[str, str]]) -> None:
    await machine.ready(server, spec)
    now = kept(machine)
    assert {name: now[name] for name in before} == before
    await machine.sound()
    await machine.gone(server)


async def test_while_checking_out(machine: Machine, disks: dict[str, SmallDisk]) -> None:
    spec, before = machine.repository(), kept(machine)
    name = spec.split("%2F")[-1].split("/")[0]
    machine.git_server.commit(name, {"zeros.bin": bytes(40 * MIB)})  # small in the mirror
    with disks["state"].full(10 * MIB):
        error = await refused(machine, "clone", spec)
        assert error.startswith("checkout-disk-full: ")
        assert "Free some disk" in error
        await machine.sound()
    await works_again(machine, "clone", spec, before)


async def test_while_cloning(machine: Machine, disks: dict[str, SmallDisk]) -> None:
    spec, before = machine.repository(), kept(machine)
    name = spec.split("%2F")[-1].split("/")[0]
    machine.git_server.commit(name, {"large.bin": os.urandom(8 * MIB)})
    with disks["state"].full(4 * MIB):
        error = await refused(machine, "mirror", spec)
        assert error.startswith("checkout-disk-full: ")
        assert "Free some disk" in error
        await machine.sound()
    await works_again(machine, "mirror", spec, before)


async def test_while_filling_a_project(machine: Machine, disks: dict[str, SmallDisk]) -> None:
    spec, before = machine.repository(), kept(machine)
    with disks["projects"].full(3 * MIB):
        error = await refused(machine, "fill", spec)
        assert error.startswith("project-failed: ")
        assert "too full" in error
        assert "Free space" in error
        assert kept(machine) == before
    await machine.sound()
    await works_again(machine, "fill", spec, before)


async def test_while_writing_the_store(machine: Machine, disks: dict[str, SmallDisk]) -> None:
    spec, before = machine.repository(), kept(machine)
    with disks["state"].full():
        error = await refused(machine, "store", spec)
        assert error.startswith("store-failed: ")
        assert "Free some disk" in error
    await machine.sound()
    await works_again(machine, "store", spec, before)


async def sign_in(machine: Machine, person: str) -> int:
    """The status with which the hub answers a person's name: 302 leads on."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{machine.port}", timeout=60) as http:
        await http.get("/hub/login")
        answer = await http.post("/hub/login", data={"username": person, "_xsrf": http.cookies["_xsrf"]})
    return answer.status_code


async def test_the_hubs_own_database(machine: Machine, disks: dict[str, SmallDisk]) -> None:
    """JupyterHub says no more than 500 then; it needs no restart once there is room."""
    spec, before = machine.specs[0], kept(machine)
    with disks["hub"].full():
        assert await sign_in(machine, "carl") == 500
        error = await refused(machine, "database", spec)
        assert "Internal Server Error" in error, error
        assert "database or disk is full" in machine.log("hub")
        async with machine.client() as client:
            assert (await client.health()).engine
    assert await sign_in(machine, "carl") == 302
    assert kept(machine) == before
    await machine.ready("database", spec)
    await machine.sound()
    await machine.gone("database")


async def test_the_store_fills_up_during_a_build(machine: Machine, disks: dict[str, SmallDisk]) -> None:
    spec, before = machine.repository(), kept(machine)
    start = machine.begin("during", spec)
    await start.reached("Building the image")
    with disks["state"].full():
        await until(lambda: start.ended or "could not be noted" in machine.log("service"), PATIENCE_S)
    ended = await start.over()
    print(f"\nduring: {ended} {start.error}")
    assert ended in {"ready", "failed"}, start.said
    assert ended == "ready" or start.error.startswith(_TELLING), start.error
    if ended == "ready":  # nothing had to be noted while there was no room
        await machine.gone("during")
    await machine.sound()
    await works_again(machine, "during", spec, before)


async def test_dockers_disk_while_building(machine: Machine, private_docker: PrivateDocker) -> None:
    spec, before = machine.repository(), kept(machine)
    name = spec.split("%2F")[-1].split("/")[0]
    dockerfile = machine.git_server.path(name) / "Dockerfile"
    machine.git_server.commit(
        name,
        {"Dockerfile": f"{dockerfile.read_text()}RUN head -c 40000000 /dev/urandom > /home/jovyan/more\n"},
    )
    private_docker.leave_room(20 * MIB)
    try:
        error = await refused(machine, "build", spec)
        assert error.startswith("build-disk-full: ")
    finally:
        private_docker.make_room()
    await machine.sound()
    await works_again(machine, "build", spec, before)


async def test_a_disk_that_is_mounted_too_late(machine: Machine, disks: dict[str, SmallDisk]) -> None:
    """The machine starts, and the disk with people's files comes after the service."""
    disk, spec, before = disks["projects"], machine.specs[0], kept(machine)
    await machine.kill_service()
    disk.unmount()
    try:
        await machine.start_service()
        error = await refused(machine, "late", spec)
        assert error.startswith("storage-missing: ")
        assert list(disk.place.iterdir()) == []
    finally:
        disk.mount()
    assert kept(machine) == before
    await machine.ready("late", spec)  # no restart is needed
    await machine.sound()
    await machine.gone("late")
