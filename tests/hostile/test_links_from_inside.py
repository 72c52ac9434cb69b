"""Links, holes and set-uid programs that an image brings along and a server leaves in its folders.

From inside a real server first; then whatever works on these folders from outside is let loose on them: the
next start, another mount, measuring, removing.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
import pytest_asyncio
from attempts import exhausting, leaving
from git_server import GitServer
from inside import Inside
from places import fingerprint
from running_hub import RunningHub
from waiting import until

from tljh_plugin.errors import BinderError
from tljh_plugin.wire import ProjectView

pytestmark = [pytest.mark.docker, pytest.mark.hub, pytest.mark.asyncio(loop_scope="module")]

MIB = 1024**2
UID = 1000
NOBODY = 65534

# What copying an image's home would give to a project: a way out, a program of root's, a device, and a link
# in the place of ours to the person's own folder.
DOCKERFILE = """\
FROM littlest-binder/base
USER root
ENV TEST_RUN={mark}
RUN cd /home/jovyan && ln -s {outside} of-image && ln -s {outside} my-files && \\
    install -m 6755 /usr/bin/id root-id && mknod -m 666 device c 10 229
USER 1000
"""
LOOK = """
import os, pathlib
home = pathlib.Path.home()
got = {
    'set-id bits': os.stat(home / 'root-id').st_mode & 0o6000,
    'device': os.path.lexists(home / 'device'),
    'of the image': os.path.exists(home / 'of-image' / 'secret'),
}
"""
LEAVE = """
import os, pathlib, shutil
home = pathlib.Path.home()
(home / 'shared').unlink()
for name, target in (
    (home / 'shared', place['outside']), (home / 'out', '/'),
    (pathlib.Path('/data/shared/x'), place['outside']), (pathlib.Path('/my-files/x'), place['outside']),
):
    name.symlink_to(target)
for folder in (home, pathlib.Path('/data/shared')):
    shutil.copy('/usr/bin/id', folder / 'id')
    os.chmod(folder / 'id', 0o6755)
os.truncate(os.open(home / 'holes', os.O_CREAT | os.O_WRONLY), 2**40)
(home / 'kept').write_bytes(os.urandom(3 * 2**20))
got = sorted(os.listdir(home))
"""
FIND = """
import os, pathlib
home = pathlib.Path.home()
ways = {
    'the image': home / 'of-image', 'the project': home / 'out' / place['outside'][1:],
    'the place of a mount': home / 'shared', 'the place of my-files': home / 'my-files',
    'a mount': pathlib.Path('/data/shared/x'), 'my-files': pathlib.Path('/my-files/x'),
}
got = {name: os.path.exists(way / 'secret') for name, way in ways.items()}
got['ours'] = [os.path.realpath(home / name) for name in ('shared-mount', 'my-files-mount')]
"""
WAYS = ("the image", "the project", "the place of a mount", "the place of my-files", "a mount", "my-files")


@dataclass
class Visit:
    """What a hostile server got, and what became of its folders. Sizes in bytes."""

    at_first: dict[str, Any] = field(default_factory=dict)
    later: dict[str, Any] = field(default_factory=dict)
    led_outside: bool = False
    refused: str = ""
    project: ProjectView | None = None
    used: int = 0
    on_disk: int = 0
    reached_by_others: list[str] = field(default_factory=list)
    left_of_project: list[str] = field(default_factory=list)
    changed_outside: bool = True
    in_the_mount: list[str] = field(default_factory=list)


@contextmanager
def open_folder(name: str) -> Iterator[Path]:
    """A new one that everybody of this machine can come to, as to a data disk's; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix=f"lb-{name}-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def outside() -> Iterator[Path]:
    """A folder of the servers' user that is nobody's to get: only a link leads there."""
    with open_folder("outside") as folder:
        (folder / "secret").write_text("not for servers")
        (folder / "large").write_bytes(os.urandom(20 * MIB))
        for each in (folder, *folder.iterdir()):
            os.chown(each, UID, UID)
            each.chmod(0o777)
        yield folder


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder of the administrator's, which everybody on this machine can come to."""
    with open_folder("shared") as parent:
        folder = parent / "shared"
        folder.mkdir()
        os.chown(folder, UID, UID)
        yield folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, outside: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path_factory.mktemp("served")) as server:
        server.new("links", {"Dockerfile": DOCKERFILE.format(outside=outside, mark=secrets.token_hex(8))})
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(base_image: str, served: GitServer, shared: Path) -> AsyncIterator[RunningHub]:
    settings = {
        "policy": {
            **{key: list(value) for key, value in served.settings().items()},
            "dockerfile": "everyone",
        },
        "build": {"disk_reserve_bytes": 0},
        "servers": {"uid": UID, "gid": UID},
        "storage": {"measure_every_s": 1},
        "mounts": [
            {"id": "shared", "source": str(shared), "access": "read-write"},
            {"id": "below", "source": str(shared / "x")},
        ],
    }
    with open_folder("hub") as home:
        async with RunningHub(home, service="real", settings=settings) as running:
            await running.service_answers()
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def visit(
    hub: RunningHub, served: GitServer, outside: Path, shared: Path, client: docker.APIClient
) -> Visit:
    asked = {"repository": served.spec("links"), "mounts": ["shared"], "my_files": True}
    place = {"outside": str(outside)}
    before = fingerprint(outside)
    seen = Visit()
    server = await Inside(hub, hub.owner, "one").open(client, asked)
    hub.settings.storage_root.chmod(0o755)
    seen.at_first = await server.value(LOOK)
    await server.value(LEAVE, place)
    await stop(hub, "one")
    server = await Inside(hub, hub.owner, "one").open(client, asked)
    seen.later = await server.value(FIND, place)
    seen.refused = await refusal(hub, {**asked, "mounts": ["below"]})
    async with hub.service_client(await hub.person(hub.owner)) as service:
        seen.project = await measured(service.projects, 3 * MIB)
        seen.used = (await service.storage()).used_bytes
        home = next(hub.settings.storage_root.glob(f"*/{seen.project.id}/home"))
        seen.led_outside = all(
            (home / name / "secret").exists() for name in ("of-image", "shared", "my-files")
        )
        seen.on_disk = on_disk(home.parents[1])
        seen.reached_by_others = [
            str(each) for each in (home / "id", shared / "id") if is_set_uid_for(each, NOBODY)
        ]
        for name in ("one", "two"):
            await stop(hub, name)
        gone = await service.delete_project(seen.project.id)
        await service.remove_project(gone.id)
    with suppress(AssertionError):
        await until(lambda: not files_below(hub.settings.storage_root, "kept"), 30, every=0.2)
    seen.left_of_project = files_below(hub.settings.storage_root, "kept")
    seen.changed_outside = fingerprint(outside) != before
    seen.in_the_mount = sorted(os.listdir(shared))
    client.remove_image(server.container["Image"], force=True)
    return seen


async def stop(hub: RunningHub, server: str) -> None:
    """Stop it and be there when it has; it may not run at all."""
    await until(lambda: hub.api().stop(hub.owner, server), 60, every=0.2)


async def refusal(hub: RunningHub, options: dict[str, Any]) -> str:
    """The error of a start, be it said at once or, on a busy machine, on the way."""
    try:
        await hub.api().start(hub.owner, "two", options)
        return str([event async for event in hub.api().progress(hub.owner, "two")][-1])
    except BinderError as error:
        return error.code


async def measured(projects: Callable[[], Awaitable[list[ProjectView]]], at_least: int) -> ProjectView:
    """The person's one project, once its size shows what was written in it."""

    async def shown() -> ProjectView | None:
        [found] = await projects()
        return found if (found.size_bytes or 0) >= at_least else None

    found = await until(shown, 90, every=0.2)
    assert found is not None
    return found


def on_disk(folder: Path) -> int:
    """What du(1) says of a folder, in bytes."""
    done = subprocess.run(["du", "-s", "-B1", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def is_set_uid_for(path: Path, user: int) -> bool:
    """Whether somebody of this machine sees a set-uid program there."""
    return (
        subprocess.run(["/usr/bin/test", "-u", str(path)], user=user, group=user, check=False).returncode == 0
    )


def files_below(root: Path, name: str) -> list[str]:
    return [folder for folder, _, files in os.walk(root) if name in files]


@pytest.mark.attack(leaving.KIND)
@pytest.mark.parametrize("what", ["set-id bits", "device", "of the image"])
async def test_an_images_home_brings_nothing_but_files_into_a_project(visit: Visit, what: str) -> None:
    assert not visit.at_first[what]


@pytest.mark.attack(leaving.KIND)
@pytest.mark.parametrize("way", WAYS)
async def test_a_link_leads_no_server_to_this_machines_files(visit: Visit, way: str) -> None:
    """Also not after the next start, which mounts and links beside what was left. On this machine it does."""
    assert visit.led_outside
    assert visit.later[way] is False


@pytest.mark.attack(leaving.KIND)
async def test_a_link_in_the_place_of_ours_does_not_move_a_mount(visit: Visit) -> None:
    assert visit.later["ours"] == ["/data/shared", "/my-files"]


@pytest.mark.attack(leaving.KIND)
async def test_a_link_in_a_mount_is_no_folder_of_another_mount(visit: Visit) -> None:
    assert "mount-unsafe" in visit.refused


@pytest.mark.attack(exhausting.KIND)
async def test_neither_holes_nor_what_is_behind_links_counts_as_kept(visit: Visit) -> None:
    assert visit.project is not None
    assert visit.project.size_whole
    assert 3 * MIB <= visit.used <= visit.on_disk + MIB
    assert visit.on_disk < 20 * MIB


@pytest.mark.attack(leaving.KIND)
async def test_removing_a_project_removes_nothing_behind_its_links(visit: Visit) -> None:
    assert not visit.changed_outside
    assert visit.left_of_project == []
    assert visit.in_the_mount == ["id", "x"]


@pytest.mark.attack(leaving.KIND)
async def test_nobody_of_this_machine_comes_to_a_set_uid_program_of_a_project(visit: Visit) -> None:
    assert not [each for each in visit.reached_by_others if "/home/" in each]


@pytest.mark.attack(
    leaving.KIND, preventable=False, page="A server can leave set-uid programs in a read-write mount."
)
async def test_who_comes_to_a_mount_finds_set_uid_programs_in_it(visit: Visit, shared: Path) -> None:
    """They run as the servers' user, unless the administrator mounts that disk with `nosuid`."""
    assert visit.reached_by_others == [str(shared / "id")]
