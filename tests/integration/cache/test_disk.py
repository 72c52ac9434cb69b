"""Who occupies the disk, on an engine of its own with a file system of its own, against what that says."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker.errors
import engines
import pytest
import pytest_asyncio
from private_docker import PrivateDocker

from tljh_plugin.build.identity import ImageIdentity
from tljh_plugin.cache import disk as disk_module
from tljh_plugin.cache.disk import Disk
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.layers import Layers
from tljh_plugin.engine import Engine
from tljh_plugin.installation import ensure_state
from tljh_plugin.labels import INSTANCE_LABEL, PERSON_LABEL, SERVER_LABEL
from tljh_plugin.settings import from_mapping
from tljh_plugin.store import BuildRow, ImageRow, SizeRow, Store, utc_now
from tljh_plugin.wire import DiskView

pytestmark = pytest.mark.docker

MIB = 1024**2
INSTANCE = f"test-{secrets.token_hex(6)}"
NAME = "littlest-binder/disk-test"


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDocker]:
    with engines.private(engines.OWN, tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def files(size: int, count: int = 1, prefix: str = "") -> bytes:
    """A tar of `count` files that cannot be compressed, `size` bytes together."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(count):
            entry = tarfile.TarInfo(f"{prefix}data/{secrets.token_hex(4)}-{number}")
            entry.size = size // count
            archive.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    return packed.getvalue()


@dataclass
class Lab:
    """An installation whose everything lies on that file system."""

    private: PrivateDocker
    engine: Engine
    store: Store
    layers: Layers
    inventory: Inventory
    disk: Disk
    folder: Path

    def layered(self, name: str, base: str, content: bytes) -> str:
        """An image with one more layer; nothing runs for it."""
        with self.private.client() as client:
            made = client.create_container(base, ["/none"])["Id"]
            client.put_archive(made, "/", content)
            image = client.commit(made, repository=NAME, tag=name)["Id"]
            client.remove_container(made)
        return str(image)

    def imported(self, name: str, content: bytes) -> str:
        with self.private.client() as client:
            client.import_image_from_data(content, repository=NAME, tag=name)
            return str(client.inspect_image(f"{NAME}:{name}")["Id"])

    async def record(self, image_id: str, name: str, *, pinned: bool) -> None:
        identity = ImageIdentity(f"https://example.org/{name}", "c" * 40, "", "linux/amd64")
        row = BuildRow(
            id=f"b-{name}", identity=identity.key, url=identity.url, commit=identity.commit, subdir="",
            platform=identity.platform, spec="gh/a/b/main", asked_ref="main", requested_by="ann",
            created=utc_now(),
        )  # fmt: skip
        await self.store.enqueue(row, per_person=9)
        await self.store.start_build(row.id)
        image = ImageRow(
            image_id=image_id, name=f"{NAME}:{name}", identity=row.identity, url=row.url, commit=row.commit,
            subdir="", platform=row.platform, spec=row.spec, asked_ref="main", title=name, built_by="ann",
            build_id=row.id, created=utc_now(), size=1, recipe="", home="/home/j", workdir="/home/j",
            pinned=pinned,
        )  # fmt: skip
        assert await self.store.finish_built(row.id, image)

    async def look(self) -> DiskView:
        os.sync()  # ext4 gives blocks to files when it writes them
        await self.inventory.refresh()
        self.layers.notice(each.id for each in self.inventory.listed())
        await self.layers.learn()
        return await self.disk.measure()

    async def parts(self) -> dict[str, int | None]:
        [filesystem] = (await self.look()).filesystems
        assert filesystem.holds == ("docker", "state", "projects")
        return {part.id: part.bytes for part in filesystem.parts}


@pytest_asyncio.fixture
async def lab(private: PrivateDocker) -> AsyncIterator[Lab]:
    folder = private.data / f"state-{secrets.token_hex(4)}"
    folder.mkdir()
    settings = from_mapping({}, platform="jupyterhub", state_dir=folder)
    ensure_state(settings)
    store = await Store.open(settings.store_path)
    engine = Engine(INSTANCE, base_url=private.host)
    layers, inventory = Layers(store, engine), Inventory(store, engine)
    yield Lab(
        private, engine, store, layers, inventory, Disk(settings, store, engine, inventory, layers), folder
    )
    with private.client() as client:
        for each in client.containers(all=True):
            client.remove_container(each["Id"], force=True)
        for tag in ("above", "going", "kept", "base"):
            with suppress(docker.errors.NotFound):
                client.remove_image(f"{NAME}:{tag}", force=True)
    await store.close()
    await engine.close()
    shutil.rmtree(folder)


async def furnish(lab: Lab) -> None:
    """A base that three images share, a server, a mirror, a project, somebody else's volume."""
    lab.imported("base", files(30 * MIB, 3000))
    kept = lab.layered("kept", f"{NAME}:base", files(40 * MIB, 100))
    going = lab.layered("going", f"{NAME}:base", files(25 * MIB, 1500))
    lab.layered("above", f"{NAME}:going", files(30 * MIB))
    await lab.record(kept, "kept", pinned=True)
    await lab.record(going, "going", pinned=False)
    with lab.private.client() as client:
        labels = {INSTANCE_LABEL: INSTANCE, PERSON_LABEL: "ann", SERVER_LABEL: "calm-otter"}
        server = client.create_container(f"{NAME}:kept", ["/none"], labels=labels)["Id"]
        client.put_archive(server, "/", files(20 * MIB))
        volume = client.create_volume(f"disk-test-{secrets.token_hex(4)}")
        (Path(volume["Mountpoint"]) / "data").write_bytes(os.urandom(10 * MIB))
    mirror = lab.folder / "mirrors" / "a-repository"
    mirror.mkdir()
    (mirror / "pack").write_bytes(os.urandom(15 * MIB))
    project = lab.folder / "projects" / "ann" / "thesis"
    project.mkdir(parents=True)
    (project / "data").write_bytes(os.urandom(25 * MIB))
    await lab.store.set_size(SizeRow(str(project), "ann", 25 * MIB, 1, True, 0.1, utc_now()))


async def test_the_measured_parts_are_what_the_file_system_says(lab: Lab) -> None:
    await furnish(lab)
    found = await lab.look()
    [filesystem] = found.filesystems
    figures = os.statvfs(lab.private.data)
    used = (figures.f_blocks - figures.f_bfree) * figures.f_frsize
    measured = sum(part.bytes or 0 for part in filesystem.parts if part.id != "else")
    assert measured == pytest.approx(used, rel=0.02)
    assert sum(part.bytes or 0 for part in filesystem.parts) == filesystem.used
    assert filesystem.used + filesystem.free == filesystem.total
    assert all(part.whole for part in filesystem.parts)


async def test_each_part_grows_by_what_is_put_into_it(lab: Lab) -> None:
    before = await lab.parts()
    await furnish(lab)
    after = await lab.parts()
    grown = {name: (after[name] or 0) - (before[name] or 0) for name in after}
    # Files of 10 KiB and 17 KiB, in blocks of 4 KiB.
    base, layer = 3000 * 12288, 1500 * 20480
    assert grown["servers"] == pytest.approx(20 * MIB, rel=0.02)
    assert grown["kept-images"] == pytest.approx(base + 40 * MIB, rel=0.02)
    # An image that is not ours stands on `going`, so that deleting it would free nothing.
    assert grown["evictable-images"] == 0
    assert grown["mirrors"] == pytest.approx(15 * MIB, rel=0.02)
    assert grown["projects"] == 25 * MIB
    assert sum(grown.values()) == pytest.approx(base + layer + (40 + 30 + 20 + 10 + 15 + 25) * MIB, rel=0.02)


async def test_an_image_that_goes_takes_its_part_with_it(lab: Lab) -> None:
    lab.imported("base", files(10 * MIB))
    going = lab.layered("going", f"{NAME}:base", files(50 * MIB))
    await lab.record(going, "going", pinned=False)
    before = await lab.parts()
    assert before["evictable-images"] == pytest.approx(50 * MIB, rel=0.02)
    await lab.engine.remove_image(going)
    after = await lab.parts()
    assert after["evictable-images"] == 0
    assert after["build-cache"] == before["build-cache"]


async def test_dockers_own_figures_come_near_where_its_folder_is_closed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await furnish(lab)
    by_folders = await lab.parts()
    monkeypatch.setattr(disk_module, "read_layout", lambda root: None)
    by_docker = await lab.parts()
    assert by_docker["servers"] == pytest.approx(by_folders["servers"], rel=0.02)
    assert by_docker["kept-images"] == pytest.approx(by_folders["kept-images"], rel=0.02)
    assert by_docker["other-docker"] is None
    assert by_docker["build-cache"] is None
