"""Promises about who occupies the disk: parts, growth, warnings, Docker's folder, and history."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from small_docker import SmallDocker
from waiting import until

from tljh_plugin.cache import disk as disk_module
from tljh_plugin.cache import filesystems as filesystems_module
from tljh_plugin.cache.disk import Disk
from tljh_plugin.cache.docker_folder import read_layout
from tljh_plugin.cache.filesystems import Filesystem, Usage, filesystems, mount_point, usage_of
from tljh_plugin.cache.growth import DAY_S, full_in_s, growth, warning
from tljh_plugin.cache.inventory import Inventory
from tljh_plugin.cache.measuring import Measured, measure_folders
from tljh_plugin.cache.shares import Figures, HeldImage, Thing, largest, layer_parts, parts
from tljh_plugin.engine import EngineInfo, Layer
from tljh_plugin.errors import DiskUnread
from tljh_plugin.settings import DiskSettings, from_mapping
from tljh_plugin.store import SizeRow, Store, utc_now
from tljh_plugin.wire import DiskPart, DiskSample, FilesystemView

GIB = 1024**3
ALL = ("docker", "state", "projects")
NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def filesystem(used: int = 1000, **changes: Any) -> Filesystem:
    return replace(Filesystem("/", ALL, Usage(2000, used, 2000 - used)), **changes)


def sizes(found: Sequence[DiskPart]) -> dict[str, int | None]:
    return {each.id: each.bytes for each in found}


def kept(name: str, *layers: str) -> HeldImage:
    return HeldImage(name, name, "kept-images", layers)


def could_go(name: str, *layers: str) -> HeldImage:
    return HeldImage(name, name, "evictable-images", layers)


# -- parts ----------------------------------------------------------------------------------------------


def test_a_shared_layer_is_counted_once_and_where_it_stays_longest() -> None:
    images = [could_go("a", "base", "a"), kept("b", "base", "b"), HeldImage("c", "c", "other-docker", ("a",))]
    figures = Figures({"base": 100, "a": 10, "b": 20, "nobody's": 7})
    found = sizes(parts(filesystem(), images, figures))
    assert found["kept-images"] == 120
    assert found["other-docker"] == 10
    assert found["evictable-images"] == 0
    assert found["build-cache"] == 7


def test_what_cannot_be_had_is_missing_and_lies_in_the_rest() -> None:
    figures = Figures(
        {"a": 10}, (Thing("projects", "ann", "ann", Measured(30)),), frozenset({"other-docker"})
    )
    found = sizes(parts(filesystem(), [kept("a", "a")], figures))
    assert found["other-docker"] is None
    assert found["else"] == 1000 - 10 - 30


def test_an_image_whose_layers_are_not_known_makes_its_part_a_lower_bound() -> None:
    images = [kept("a", "a"), HeldImage("b", "b", "evictable-images", None)]
    found = {each.id: each.whole for each in parts(filesystem(), images, Figures({"a": 1}))}
    assert found["kept-images"]
    assert not found["evictable-images"]


def test_a_layer_is_nobodys_only_when_the_layers_of_all_images_are_known() -> None:
    images = [kept("a", "a"), HeldImage("b", "b", "evictable-images", None)]
    [cache] = [
        each for each in parts(filesystem(), images, Figures({"a": 1, "b": 10})) if each.id == "build-cache"
    ]
    assert (cache.bytes, cache.whole) == (0, False)


def test_a_filesystem_has_only_the_parts_that_lie_on_it() -> None:
    there = filesystem(holds=("projects",))
    assert [each.id for each in parts(there, [], Figures())] == ["projects", "else"]


_images = st.lists(
    st.builds(
        HeldImage,
        st.uuids().map(str),
        st.just("x"),
        st.sampled_from(["kept-images", "evictable-images", "other-docker"]),
        st.none() | st.lists(st.sampled_from("abcdefgh"), max_size=5).map(tuple),
    ),
    max_size=8,
)


@given(_images, st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 10**6)), st.integers(0, 10**8))
def test_the_parts_add_up_to_what_is_used(images: list[HeldImage], layers: dict[str, int], more: int) -> None:
    used = sum(layers.values()) + more
    there = filesystem(usage=Usage(used * 2, used, used))
    found = sizes(parts(there, images, Figures(layers)))
    assert sum(each or 0 for each in found.values()) == used


@given(_images)
def test_a_layer_of_a_kept_image_never_counts_as_one_that_could_go(images: list[HeldImage]) -> None:
    where = layer_parts(images)
    for image in images:
        if image.part == "kept-images":
            assert all(where[layer] == "kept-images" for layer in image.layers or ())


def test_the_largest_images_are_those_that_alone_hold_most() -> None:
    images = [could_go("shares", "base", "small"), could_go("alone", "base", "big")]
    items = largest(images, Figures({"base": 1000, "small": 1, "big": 10}))
    assert [(each.id, each.bytes) for each in items] == [("alone", 10), ("shares", 1)]


def test_of_each_part_a_few_are_named() -> None:
    things = tuple(Thing("projects", str(n), str(n), Measured(n)) for n in range(1, 20))
    assert [each.bytes for each in largest([], Figures(things=things))] == [19, 18, 17, 16, 15]


# -- growth and warning -----------------------------------------------------------------------------------


def samples(*used: int, every: timedelta = timedelta(hours=1)) -> list[tuple[datetime, int]]:
    return [(NOW + n * every, each) for n, each in enumerate(used)]


def test_growth_is_the_slope_of_what_was_used() -> None:
    rate = growth(samples(*(GIB * n for n in range(12))))
    assert rate == pytest.approx(24 * GIB)
    assert full_in_s(48 * GIB, rate) == pytest.approx(2 * DAY_S)


def test_one_hour_or_six_samples_are_too_few_to_tell() -> None:
    assert growth(samples(1, 2, 3)) is None
    assert growth(samples(*range(20), every=timedelta(seconds=60))) is None


def test_what_shrinks_is_never_full() -> None:
    rate = growth(samples(*range(100, 0, -1)))
    assert rate is not None
    assert rate < 0
    assert full_in_s(10, rate) is None


def view(percent: int, full_in: float | None = None, **more: Any) -> FilesystemView:
    values = {"path": "/data", "holds": ("docker",), "total": 100 * GIB, "used": percent * GIB}
    rate = None if full_in is None else (100 - percent) * GIB / full_in * DAY_S
    return FilesystemView(
        **{**values, "free": (100 - percent) * GIB, "full_in_s": full_in, "growth": rate, **more}
    )


def test_a_disk_warns_at_its_watermark_and_before_it_is_full() -> None:
    settings = DiskSettings(warn_percent=85, warn_days=3)
    assert warning([view(84)], settings) is None
    assert warning([view(50, full_in=4 * DAY_S)], settings) is None
    full = warning([view(91)], settings)
    assert full is not None
    assert full.code == "disk-low"
    assert "`/data`" in full.message
    assert "91 %" in full.message
    soon = warning([view(50, full_in=2 * DAY_S)], settings)
    assert soon is not None
    assert "full in 2 d" in soon.message


def test_the_fullest_disk_is_told_of() -> None:
    told = warning([view(91), view(97, path="/home", holds=("projects",))], DiskSettings())
    assert told is not None
    assert "/home" in told.message
    assert "projects" in told.next


# -- filesystems and folders ------------------------------------------------------------------------------


def test_total_is_used_and_free_as_df_reckons(tmp_path: Path) -> None:
    usage = usage_of(tmp_path)
    assert usage.total == usage.used + usage.free
    assert 0 < usage.percent < 100


def test_folders_of_one_filesystem_are_told_as_one_and_of_several_as_several(tmp_path: Path) -> None:
    found = filesystems({"docker": tmp_path, "state": Path("/dev/shm"), "projects": tmp_path / "not" / "yet"})
    assert [each.holds for each in found] == [("docker", "projects"), ("state",)]
    assert found[1].path == "/dev/shm"
    assert os.path.ismount(mount_point(tmp_path))


async def test_measured_is_what_is_allocated_and_not_what_it_seems(tmp_path: Path) -> None:
    full, sparse = tmp_path / "full", tmp_path / "sparse"
    for folder in (full, sparse):
        folder.mkdir()
    (full / "a").write_bytes(b"x" * 1_000_000)
    os.link(full / "a", full / "b")
    with (sparse / "c").open("wb") as file:
        file.truncate(10**12)
    (sparse / "link").symlink_to(full)
    found = await measure_folders([full, tmp_path / "gone", sparse], 60)
    assert set(found) == {full, sparse}
    assert 1_000_000 <= found[full].bytes < 1_100_000
    assert found[sparse].bytes < 100_000


async def test_measuring_ends_in_time_and_keeps_what_it_has(tmp_path: Path) -> None:
    assert await measure_folders([tmp_path] * 100_000, 0.3) in (
        {},
        {tmp_path: Measured(_allocated(tmp_path))},
    )


def _allocated(folder: Path) -> int:
    return folder.stat().st_blocks * 512


# -- Docker's folder --------------------------------------------------------------------------------------

LAYERS = {"sha256:" + letter * 64: f"layer-{letter}" for letter in "abc"}


class Docker(SmallDocker):
    """One whose folder is on the disk, laid out as Docker does."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        database = root / "image" / "overlay2" / "layerdb"
        for chain, name in LAYERS.items():
            self.fill(root / "overlay2" / name / "diff", 100_000)
            self.note(database / "sha256" / chain.removeprefix("sha256:") / "cache-id", name)
        self.note(database / "mounts" / "c-1" / "mount-id", "mount-1")
        self.note(database / "mounts" / "c-1" / "init-id", "mount-1-init")
        self.fill(root / "overlay2" / "mount-1" / "diff", 200_000)
        self.fill(root / "overlay2" / "mount-1-init" / "diff", 1)
        self.fill(root / "containers" / "c-1", 50_000)
        self.fill(root / "overlay2" / "snapshot" / "diff", 300_000)
        self.fill(root / "buildkit", 10_000)
        self.fill(root / "volumes" / "v" / "_data", 400_000)

    def fill(self, folder: Path, count: int) -> None:
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * count)

    def note(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    async def info(self) -> EngineInfo:
        return replace(await super().info(), root_dir=str(self.root))

    async def root_dir(self) -> str:
        return (await self.info()).root_dir

    async def container_sizes(self, timeout_s: float) -> dict[str, int]:
        return {"c-1": 123_456}


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    found = Docker(tmp_path / "docker")
    found.add("sha256:ours", "littlest-binder/a:1")
    found.run("sha256:ours", "c-1", person="ann", server="calm-otter")
    return found


def test_the_layout_tells_layers_containers_and_snapshots_apart(docker: Docker) -> None:
    layout = read_layout(docker.root)
    assert layout is not None
    assert {chain: folder.name for chain, (folder, _) in layout.layers.items()} == LAYERS
    assert all(chain.endswith(note.name) for chain, (_, note) in layout.layers.items())
    assert [each.name for each in layout.containers["c-1"]] == ["mount-1", "mount-1-init", "c-1"]
    assert sorted(each.name for each in layout.snapshots) == ["buildkit", "snapshot"]
    assert sorted(each.name for each in layout.rest) == ["mounts", "volumes"]


def test_another_layout_is_none_of_ours(tmp_path: Path) -> None:
    assert read_layout(tmp_path) is None


def test_a_note_that_leads_out_of_its_folder_is_not_followed(docker: Docker) -> None:
    note = next(iter(docker.root.glob("image/overlay2/layerdb/sha256/*/cache-id")))
    note.write_text("../../../etc")
    layout = read_layout(docker.root)
    assert layout is not None
    assert len(layout.layers) == 2


# -- all of it --------------------------------------------------------------------------------------------


class Known:
    """Layers and cache as others would have them in memory."""

    def __init__(self) -> None:
        self.chains = {"sha256:ours": tuple(Layer(chain, None) for chain in list(LAYERS)[:2])}
        self.bytes: int | None = 77_000
        self.records = ()


class World:
    def __init__(self, store: Store, docker: Docker, folder: Path) -> None:
        self.settings = from_mapping({}, platform="jupyterhub", state_dir=folder)
        self.store, self.docker, self.known = store, docker, Known()
        given: Any = docker
        self.inventory = Inventory(store, given, period_s=3600)
        self.disk = Disk(self.settings, store, given, self.inventory, self.known, self.known)  # type: ignore[arg-type]

    async def parts(self) -> dict[str, int | None]:
        await self.inventory.refresh()
        return sizes((await self.disk.measure()).filesystems[0].parts)


@pytest_asyncio.fixture
async def world(tmp_path: Path, docker: Docker) -> AsyncIterator[World]:
    state = tmp_path / "state"
    state.mkdir()
    store = await Store.open(state / "store.sqlite")
    yield World(store, docker, state)
    await store.close()


async def test_parts_are_what_lies_in_dockers_folder(world: World) -> None:
    (world.settings.mirror_dir / "a-repository").mkdir(parents=True)
    (world.settings.mirror_dir / "a-repository" / "pack").write_bytes(b"x" * 600_000)
    await world.store.set_size(SizeRow("/p", "ann", 700_000, 1, True, 0.1, utc_now()))
    found = await world.parts()
    # The image is not recorded: it is not ours, so its two layers are other Docker data.
    expected = {
        "servers": 250_000,
        "kept-images": 0,
        "build-cache": 100_000 + 300_000 + 10_000,
        "mirrors": 600_000,
        "projects": 700_000,
        "other-docker": 2 * 100_000 + 400_000,
    }
    for part, count in expected.items():
        said = found[part]
        assert said is not None
        assert count <= said <= count + 100_000, part  # folders and whole blocks


async def test_a_layer_is_measured_once_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await world.parts()
    measured: list[Path] = []

    async def measuring(folders: Sequence[Path], limit_s: float) -> dict[Path, Measured]:
        measured.extend(folders)
        return await measure_folders(folders, limit_s)

    monkeypatch.setattr(disk_module, "measure_folders", measuring)
    again = World(world.store, world.docker, world.settings.state_dir)
    assert {**await again.parts(), "else": 0} == {**first, "else": 0}
    assert not [each for each in measured if each.name.startswith("layer-")]


async def test_what_was_measured_for_an_image_is_said_of_its_layers_here_too(world: World) -> None:
    before = await world.parts()
    world.known.chains["sha256:ours"] = tuple(Layer(chain, 5_000_000) for chain in list(LAYERS)[:2])
    after = await world.parts()
    assert (after["other-docker"] or 0) - (before["other-docker"] or 0) > 9_500_000
    assert set(await world.store.layer_folders()) == {"layer-c"}


async def test_a_layer_that_is_gone_is_forgotten(world: World) -> None:
    await world.parts()
    assert set(await world.store.layer_folders()) == set(LAYERS.values())
    note = world.docker.root / "image/overlay2/layerdb/sha256" / ("a" * 64) / "cache-id"
    note.unlink()
    await world.parts()
    assert set(await world.store.layer_folders()) == set(LAYERS.values()) - {"layer-a"}


async def test_where_dockers_folder_is_closed_its_own_figures_are_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "read_layout", lambda root: None)
    found = await world.parts()
    assert found["servers"] == 123_456
    assert found["build-cache"] == 77_000
    assert found["other-docker"] is None


async def test_a_folder_of_a_store_that_docker_left_is_not_looked_into(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change to containerd's store the old layers are still there, and are nobody's build cache."""
    info = await world.docker.info()

    async def other_store() -> EngineInfo:
        return replace(info, containerd_store=True)

    monkeypatch.setattr(world.docker, "info", other_store)
    assert (await world.parts())["build-cache"] == 77_000


def test_what_was_measured_is_not_looked_at_again() -> None:
    class Folder:
        def exists(self) -> bool:
            pytest.fail("it was measured")

    folder: Any = Folder()
    assert disk_module._sum([folder], {folder: Measured(7)}) == Measured(7)


async def test_a_figure_that_nobody_has_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_module, "read_layout", lambda root: None)
    world.known.bytes = None
    assert (await world.parts())["build-cache"] is None


async def test_it_looks_again_soon_while_the_layers_of_an_image_are_not_known(world: World) -> None:
    chains, world.known.chains = world.known.chains, {}
    await world.parts()
    assert world.disk.rest(1000.0) == world.settings.disk.every_s
    world.known.chains = chains
    await world.parts()
    assert world.disk.rest(1000.0) == 3600.0


async def test_when_docker_is_gone_the_old_figures_stay_and_it_is_said(world: World) -> None:
    await world.parts()
    before = world.disk.view()
    world.docker.down = True
    world.disk.start()
    await until(lambda: world.disk.view().problem is not None)
    assert world.disk.view().measured == before.measured
    assert world.disk.view().filesystems == before.filesystems
    world.docker.down = False
    world.disk.wake()
    await until(lambda: world.disk.view().problem is None)
    await world.disk.stop()


async def test_a_docker_that_is_elsewhere_is_not_taken_for_this_disk(world: World) -> None:
    world.docker.root = world.docker.root / "of another machine"
    await world.inventory.refresh()
    with pytest.raises(DiskUnread, match="another machine"):
        await world.disk.measure()


async def test_how_full_it_is_is_known_before_everything_is_measured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, going_on = asyncio.Event(), asyncio.Event()

    async def slow(folders: Sequence[Path], limit_s: float) -> dict[Path, Measured]:
        begun.set()
        await going_on.wait()
        return {}

    monkeypatch.setattr(disk_module, "measure_folders", slow)
    await world.inventory.refresh()
    measuring = asyncio.create_task(world.disk.measure())
    await begun.wait()
    [early] = world.disk.view().filesystems
    assert early.total > 0
    assert early.parts == ()
    assert not world.disk.view().measured
    going_on.set()
    await measuring
    assert world.disk.view().measured


async def test_it_warns_from_the_samples_of_the_last_day(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(timezone.utc)
    [there] = filesystems({"docker": world.docker.root})
    usage = Usage(100 * GIB, 50 * GIB, 50 * GIB)
    monkeypatch.setattr(filesystems_module, "usage_of", lambda path: usage)
    for hours in range(1, 11):
        moment = (now - timedelta(hours=hours)).isoformat(timespec="milliseconds")
        used = (50 - 2 * hours) * GIB
        await world.store.add_disk_samples(
            [DiskSample(time=moment, path=there.path, total=100 * GIB, used=used)]
        )
    await world.inventory.refresh()
    found = await world.disk.measure()
    assert found.filesystems[0].growth == pytest.approx(48 * GIB, rel=0.05)
    assert found.warning is not None
    assert "more a day" in found.warning.message


async def test_history_is_thinned_out_with_age(world: World) -> None:
    now = datetime.now(timezone.utc)
    ages = [
        *(timedelta(minutes=5 * n) for n in range(24)),
        *(timedelta(days=5, minutes=5 * n) for n in range(24)),
        *(timedelta(days=100, hours=n) for n in range(48)),
        timedelta(days=800),
    ]
    await world.store.add_disk_samples(
        DiskSample(
            time=(now - age).isoformat(timespec="milliseconds"), path="/", total=10, used=5, parts={"else": 5}
        )
        for age in ages
    )
    left = await world.store.disk_samples("/")
    age_of = [now - datetime.fromisoformat(each.time) for each in left]
    assert sum(age < timedelta(days=1) for age in age_of) == 24
    assert 2 <= sum(timedelta(days=4) < age < timedelta(days=6) for age in age_of) <= 3
    assert 2 <= sum(timedelta(days=90) < age < timedelta(days=120) for age in age_of) <= 3
    assert not [age for age in age_of if age > timedelta(days=750)]
    assert left == sorted(left, key=lambda each: each.time)
    assert left[0].parts == {"else": 5}
