"""Mounts on a real hub and a real Docker: what a server has, and what nobody can make of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
from ruamel.yaml import YAML
from running_hub import RunningHub
from waiting import until

from tljh_plugin.engine import ContainerSpec, Engine, Limits, Mount
from tljh_plugin.errors import MountsDiffer
from tljh_plugin.installation import instance_id
from tljh_plugin.labels import INSTANCE_LABEL
from tljh_plugin.launch import endings, kernel_mounts
from tljh_plugin.launch.host_folders import look
from tljh_plugin.launch.kernel_mounts import Asked

pytestmark = [pytest.mark.docker, pytest.mark.hub]

HIT = {"repository": "gh/test/hit/main"}


class Lab:
    """Folders of a lab, as an administrator would lay them out, and the catalogue of them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        base.chmod(0o755)
        for name in ("course", "shared", "people", "other"):
            (base / name).mkdir()
        (base / "course" / "data.csv").write_text("1,2,3\n")
        os.chown(base / "shared", 1000, 1000)

    @property
    def catalogue(self) -> list[dict[str, Any]]:
        return [
            {"id": "course", "source": str(self.base / "course"), "default": True},
            {"id": "shared", "source": str(self.base / "shared"), "access": "read-write"},
            {
                "id": "own",
                "source": str(self.base / "people"),
                "access": "read-write",
                "per_person": True,
                "target": "/mnt/own",
            },
            {"id": "theirs", "source": str(self.base / "other"), "people": ["somebody-else"]},
            {"id": "inside", "source": str(self.base / "shared" / "inside")},
            {"id": "home", "source": str(self.base / "course"), "target": "/home/jovyan/course"},
            {"id": "over", "source": str(self.base / "course"), "target": "/data/course/more"},
        ]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    folder = tmp_path / "lab"
    folder.mkdir()
    return Lab(folder)


async def start(hub: RunningHub, options: dict[str, Any] | None, server: str = "one") -> dict[str, Any]:
    """The last event of a start; raises what it was refused with at once."""
    await hub.api().start(hub.owner, server, options)
    return [event async for event in hub.api().progress(hub.owner, server)][-1]


def container_of(hub: RunningHub, client: docker.APIClient) -> str:
    label = f"{INSTANCE_LABEL}={instance_id(hub.settings)}"
    found: list[dict[str, Any]] = client.containers(all=True, filters={"label": label})
    assert len(found) <= 1
    return str(found[0]["Id"]) if found else ""


def run(client: docker.APIClient, container: str, script: str) -> tuple[int, str]:
    """The exit code of a script in a server, and what it printed."""
    made = client.exec_create(container, ["sh", "-c", script])["Id"]
    printed: bytes = client.exec_start(made)
    return int(client.exec_inspect(made)["ExitCode"]), printed.decode(errors="replace").strip()


async def test_what_was_ticked_is_there_with_its_rights_and_in_the_home(
    tmp_path: Path, lab: Lab, base_image: str, client: docker.APIClient
) -> None:
    async with RunningHub(tmp_path, settings={"mounts": lab.catalogue}) as hub:
        # Something of the person's has the name of a link already.
        home = hub.state / "projects" / "somebody" / "own" / "home"
        home.mkdir(parents=True)
        (home / "course").write_text("mine")
        asked = {**HIT, "mounts": ["course", "shared", "own"], "my_files": True}
        assert (await start(hub, asked)).get("ready"), hub.log
        inside = partial(run, client, container_of(hub, client))

        assert inside("cat /data/course/data.csv ~/course-mount/data.csv") == (0, "1,2,3\n1,2,3")
        code, said = inside("echo x > /data/course/new")
        assert code != 0
        assert "Read-only file system" in said
        assert inside("cat ~/course") == (0, "mine"), "a file of the person was replaced by a link"
        for place in ("shared", "own", "my-files"):
            assert inside(f"echo {place} > ~/{place}/made; readlink ~/{place}")[0] == 0
        made = {
            "shared": lab.base / "shared" / "made",
            "own": lab.base / "people" / hub.owner / "made",
            "my-files": hub.state / "projects" / "somebody" / "my-files" / "made",
        }
        for name, path in made.items():
            facts = path.stat()
            assert (path.read_text(), facts.st_uid, facts.st_gid) == (f"{name}\n", 1000, 1000)
        assert (lab.base / "people" / hub.owner).stat().st_mode & 0o777 == 0o700
        told = await until(lambda: endings.read(hub.state, hub.owner, "one", "links"))
        assert told.why == "~/course is yours already, so that /data/course is linked as ~/course-mount."

        await hub.api().stop(hub.owner, "one")
        # No options: those of before, and links that are there are no files in the way.
        assert (await start(hub, None)).get("ready"), hub.log
        inside = partial(run, client, container_of(hub, client))
        assert inside("cat ~/own/made ~/my-files/made; ls ~") == (
            0,
            "own\nmy-files\ncourse\ncourse-mount\nmy-files\nown\nshared",
        )
        await hub.api().stop(hub.owner, "one")
        assert (await start(hub, {**HIT, "storage": "ephemeral", "mounts": ["shared"]})).get("ready"), hub.log
        inside = partial(run, client, container_of(hub, client))
        assert inside("cat ~/shared/made; readlink ~/shared") == (0, "shared\n/data/shared")


async def test_ids_that_are_not_theirs_and_folders_that_are_not_safe_are_refused(
    tmp_path: Path, lab: Lab, base_image: str, client: docker.APIClient
) -> None:
    (lab.base / "shared" / "inside").mkdir()
    async with RunningHub(tmp_path, settings={"mounts": lab.catalogue}) as hub:
        assert (await start(hub, {**HIT, "mounts": ["course"]})).get("ready"), hub.log
        await hub.api().stop(hub.owner, "one")
        kept = await options_of(hub)
        assert kept["mounts"] == ["course"]
        refused = {
            ("theirs",): "no mount `theirs` for you",
            ("nowhere",): "no mount `nowhere` for you",
            ("grant-000000000000",): "for you",
            ("/etc",): "not a path",
            ("inside",): "in which servers can write",
            ("course", "over"): "/data/course",
            ("home",): "your home is at /home/jovyan",
        }
        for ids, shown in refused.items():
            assert shown in await hub.refusal({**HIT, "mounts": list(ids)})
            assert await options_of(hub) == kept
        assert container_of(hub, client) == ""

        # What a person may have changes with the file, while the hub runs.
        (lab.base / "new").mkdir()
        write(hub, [*lab.catalogue[1:], {"id": "new", "source": str(lab.base / "new")}])
        assert "no mount `course` for you" in await hub.refusal(None)
        assert (await start(hub, {**HIT, "mounts": ["new"]})).get("ready"), hub.log
        await hub.api().stop(hub.owner, "one")

        # A member who could write `/data` replaced `/data/alice` by a link, and got the host's `/etc`.
        os.chown(lab.base / "people", 1000, 1000)
        own = lab.base / "people" / hub.owner
        own.mkdir()
        assert (await start(hub, {**HIT, "mounts": ["own"]})).get("ready"), hub.log
        await hub.api().stop(hub.owner, "one")
        own.rmdir()
        own.symlink_to("/etc")
        assert "is a link" in await hub.refusal(None)
        assert container_of(hub, client) == ""


async def test_a_server_whose_mount_ended_elsewhere_is_stopped(
    tmp_path: Path,
    lab: Lab,
    base_image: str,
    build_image: Callable[..., str],
    client: docker.APIClient,
) -> None:
    """A link of the image at the mount's place moves the mount, which only the kernel tells."""
    image = build_image(
        f"FROM {client.inspect_image(base_image)['RepoTags'][0]}\nUSER root\nRUN ln -s /srv /data\n"
    )
    environment = {"TEST_IMAGE": image}
    async with RunningHub(tmp_path, settings={"mounts": lab.catalogue}, environment=environment) as hub:
        said = await hub.refusal({**HIT, "mounts": ["course"]})
        assert "nothing is mounted at /data/course" in said
        assert "at /srv/course, which nobody asked for" in said
        assert container_of(hub, client) == ""


async def options_of(hub: RunningHub) -> dict[str, Any]:
    found = await hub.api().server(hub.owner, "one")
    assert found is not None
    return found.user_options


def write(hub: RunningHub, mounts: list[dict[str, Any]]) -> None:
    path = hub.state / "config.yaml"
    section = YAML(typ="safe").load(path.read_text())["binder"]
    with path.with_suffix(".new").open("w") as file:
        YAML(typ="safe").dump({"binder": {**section, "mounts": mounts}}, file)
    path.with_suffix(".new").replace(path)


# -- without a hub: the moment between our look and Docker's ------------------------------------------


@pytest.fixture
def swapped(tmp_path: Path) -> tuple[Path, Path]:
    """A folder that a server is to get, and a secret one."""
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").mkdir()
    return tmp_path / "data", tmp_path / "secret"


def spec_of(base_image: str, limits: Limits, *mounts: Mount) -> ContainerSpec:
    return ContainerSpec(
        image=base_image, command=("sleep", "600"), entrypoint=(), limits=limits, kind="server", mounts=mounts
    )


async def seen(engine: Engine, spec: ContainerSpec, asked: list[Asked]) -> str:
    """What the check says of a container that is started so; empty if nothing."""
    container = await engine.start(spec)
    try:
        found = await engine.inspect(container)
        assert found is not None
        assert await kernel_mounts.check(found, asked, must_see=True)
        assert seen_by_anybody(found)
    except MountsDiffer as error:
        return str(error)
    finally:
        await engine.remove(container)
    return ""


def seen_by_anybody(inspect: dict[str, Any]) -> bool:
    """Whether somebody who is not root, as the person of a desktop, sees the same list."""
    path = Path(f"/proc/{inspect['State']['Pid']}/mountinfo")
    done = subprocess.run(["/bin/cat", str(path)], user=65534, capture_output=True, text=True, check=True)
    return done.stdout == path.read_text()


async def test_the_kernel_shows_what_was_asked_for(
    engine: Engine, base_image: str, limits: Limits, swapped: tuple[Path, Path]
) -> None:
    data, other = swapped
    (other / "a b\\c").mkdir()
    odd = other / "a b\\c"
    mounts = (Mount(str(data), "/data/x", read_only=True), Mount(str(odd), "/data/y z"))
    asked = [Asked(look(each.source), each.target, each.read_only) for each in mounts]
    assert await seen(engine, spec_of(base_image, limits, *mounts), asked) == ""


@pytest.mark.parametrize("how", ["link", "folder", "rights", "more"])
async def test_what_is_swapped_after_our_look_is_noticed(
    engine: Engine, base_image: str, limits: Limits, swapped: tuple[Path, Path], how: str
) -> None:
    data, secret = swapped
    mount = Mount(str(data), "/data/x", read_only=True)
    asked = [Asked(look(str(data)), "/data/x", read_only=True)]
    mounts = [mount]
    if how == "link":
        data.rmdir()
        data.symlink_to(secret)
        shown = str(secret)
    elif how == "folder":
        data.rename(data.with_name("moved"))
        secret.rename(data)
        asked = [Asked(look(str(data.with_name("moved"))), "/data/x", read_only=True)]
        shown = str(data)
    elif how == "rights":
        mounts = [Mount(str(data), "/data/x")]
        shown = "can be written, and was to be only read"
    else:
        mounts.append(Mount(str(secret), "/opt/more", read_only=True))
        shown = f"{secret} is mounted at /opt/more, which nobody asked for"
    assert shown in await seen(engine, spec_of(base_image, limits, *mounts), asked)


async def test_what_is_mounted_below_a_folder_is_not_in_the_server(
    engine: Engine, base_image: str, limits: Limits, swapped: tuple[Path, Path], client: docker.APIClient
) -> None:
    """Engines before 25 would let it be written where only reading was asked for."""
    data, secret = swapped
    (data / "disk").mkdir()
    (secret / "file").touch()
    with mounted(secret, data / "disk"):
        container = await engine.start(
            spec_of(base_image, limits, Mount(str(data), "/data/x", read_only=True))
        )
        try:
            assert run(client, container, "ls /data/x/disk") == (0, "")
        finally:
            await engine.remove(container)


@contextmanager
def mounted(source: Path, target: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(target)], check=True)
