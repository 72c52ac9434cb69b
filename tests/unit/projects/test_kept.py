"""Deleting, bringing back, measuring and limiting what people keep: a real disk and store, a told Docker."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from unit.projects.test_marker import make
from waiting import until

from tljh_plugin.engine import ContainerRow, ImageFacts
from tljh_plugin.errors import (
    EngineUnavailable,
    InvalidRequest,
    NotFound,
    ProjectFailed,
    ProjectInUse,
    StorageFull,
    StorageMissing,
)
from tljh_plugin.projects import DeletedProjects, Projects, Upkeep, clock, prepare, sizes
from tljh_plugin.projects.archive import read_deleted
from tljh_plugin.projects.deletion import read_title
from tljh_plugin.projects.fill import Filled
from tljh_plugin.projects.names import project_id
from tljh_plugin.projects.people import MY_FILES, ensure_person_folder
from tljh_plugin.projects.sizes import Kept, is_due
from tljh_plugin.service.kept_files import KeptFiles
from tljh_plugin.settings import Settings, from_mapping
from tljh_plugin.store import ProjectRow, SizeRow, Store
from tljh_plugin.wire import Person, PrepareRequest

ANN, BOB = Person(name="ann"), Person(name="bob")
UID = 4321 if os.geteuid() == 0 else os.geteuid()
PERSON, SERVER = "org.littlest-binder.person", "org.littlest-binder.server"


class Docker:
    """Says what it is told."""

    instance = "ours"

    def __init__(self) -> None:
        self.rows: list[ContainerRow] = []
        self.problem: EngineUnavailable | None = None

    async def containers(self) -> list[ContainerRow]:
        if self.problem:
            raise self.problem
        return self.rows

    def serve(
        self, path: str, name: str = "calm-otter", image: str = "sha256:1", state: str = "running"
    ) -> None:
        labels = {PERSON: "ann", SERVER: name}
        self.rows.append(ContainerRow(name, name, image, labels, state, (path,)))


class Clocks:
    """Those of a machine: `wall` can be set, and `run` lets time pass."""

    def __init__(self, wall: datetime) -> None:
        self.wall, self.uptime_s = wall, 1000.0

    def run(self, **by: float) -> None:
        self.wall += timedelta(**by)
        self.uptime_s += timedelta(**by).total_seconds()

    @property
    def reading(self) -> clock.Reading:
        return clock.Reading(self.wall, "boot", self.uptime_s)


class Lab:
    """Two people with a project each."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.docker = Docker()
        engine: Any = self.docker
        self.projects = Projects(settings, store, engine)
        self.upkeep = Upkeep(
            settings, store, engine, self.projects.root, self.projects.sizes, self.projects.locks
        )
        self.deleted = DeletedProjects(settings, store, engine, self.projects.locks, self.upkeep.wake)
        self.kept = KeptFiles(settings, store, self.projects, self.deleted, self.projects.sizes)

    def keep(self, owner: str, name: str, size: int = 0) -> ProjectRow:
        folder = ensure_person_folder(self.settings.storage_root, owner) / name
        row = make(folder, owner)
        if size:
            (folder / "home" / "data").write_bytes(os.urandom(size))
        self.give(folder / "home")
        return row

    def give(self, folder: Path) -> None:
        for each in (folder, *folder.rglob("*")):
            os.chown(each, UID, UID, follow_symlinks=False)

    def later(self, **more: float) -> datetime:
        return datetime.now(timezone.utc) + timedelta(**more)

    async def audit(self) -> list[tuple[str, str, str]]:
        return [(each.who, each.what, each.result) for each in await self.store.audit_entries()][::-1]


async def opened(state: Path, **storage: Any) -> Lab:
    section = {"storage": storage, "servers": {"uid": UID}}
    settings = from_mapping(section, platform="jupyterhub", state_dir=state)
    lab = Lab(settings, await Store.open(settings.store_path))
    await lab.projects.ensure_root()
    return lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = await opened(tmp_path, max_bytes_per_person=1_000_000, warn_fraction=0.5)
    yield made
    await made.store.close()


# -- deleting and bringing back ----------------------------------------------------------------------------


async def test_a_deleted_project_comes_back_with_all_that_is_known_of_it(lab: Lab) -> None:
    lab.keep("ann", "p", 50_000)
    [before] = await lab.projects.list(ANN)
    await lab.store.use_project("ann", "p", "sha256:1")
    await lab.upkeep.round()
    gone = await lab.kept.delete(ANN, "p")
    assert (gone.archived, gone.size_whole) == (True, True)
    assert (gone.size_bytes or 0) >= 50_000
    assert await lab.projects.list(ANN) == []
    assert [each.id for each in await lab.kept.deleted(ANN)] == [gone.id]
    assert await lab.kept.deleted(BOB) == []
    back = await lab.kept.undelete(ANN, gone.id)
    assert (back.id, back.created, back.size_bytes) == ("p", before.created, gone.size_bytes)
    assert back.last_used
    assert await lab.audit() == [("ann", "project.delete", "done"), ("ann", "project.undelete", "done")]


async def test_only_its_person_deletes_a_project(lab: Lab) -> None:
    lab.keep("ann", "p")
    for person in (BOB, Person(name="root", admin=True)):
        with pytest.raises(NotFound):
            await lab.kept.delete(person, "p")
    gone = await lab.kept.delete(ANN, "p")
    for act in (lab.kept.undelete, lab.kept.remove):
        with pytest.raises(NotFound):
            await act(BOB, gone.id)
    for odd in ("", ".", "..", "../p", ".deleted", "p/home", gone.id + "/home"):
        with pytest.raises(NotFound):
            await lab.kept.delete(ANN, odd)
    assert await lab.kept.undelete(ANN, gone.id)


@pytest.mark.parametrize("below", ["", "/data"])
async def test_a_project_that_a_server_uses_stays(lab: Lab, below: str) -> None:
    row = lab.keep("ann", "p")
    lab.docker.serve(row.path + below)
    with pytest.raises(ProjectInUse, match="calm-otter"):
        await lab.kept.delete(ANN, "p")
    assert [each.servers for each in await lab.kept.projects(ANN)] == [("calm-otter",)]
    lab.docker.rows = [replace(lab.docker.rows[0], state="exited")]
    assert await lab.kept.delete(ANN, "p")
    assert (await lab.audit())[0] == ("ann", "project.delete", "project-in-use")


async def test_a_project_that_a_start_was_promised_stays(lab: Lab) -> None:
    row = lab.keep("ann", "p")
    lease = await lab.store.add_lease("sha256:1", lab.later(hours=1).isoformat(), "ann/new-server")
    await lab.store.lease_project(lease.id, row.path)
    with pytest.raises(ProjectInUse, match="new-server"):
        await lab.kept.delete(ANN, "p")
    await lab.store.drop_lease(lease.id)
    assert await lab.kept.delete(ANN, "p")


async def comes_up_while_docker_answers(lab: Lab, row: ProjectRow) -> None:
    """A start in progress, whose server is there just after Docker has told of all others."""
    lease = await lab.store.add_lease("sha256:1", lab.later(hours=1).isoformat(), "ann/first")
    await lab.store.lease_project(lease.id, row.path)

    async def told_before() -> list[ContainerRow]:
        told = list(lab.docker.rows)
        lab.docker.serve(row.path, "first", "sha256:1")
        await lab.store.end_lease(lease.id)
        return told

    lab.docker.containers = told_before  # type: ignore[method-assign]


async def test_a_server_that_comes_up_at_the_same_moment_keeps_its_files(lab: Lab) -> None:
    row = lab.keep("ann", "p")
    await comes_up_while_docker_answers(lab, row)
    with pytest.raises(ProjectInUse, match="first"):
        await lab.kept.delete(ANN, "p")
    assert [each.id for each in await lab.projects.list(ANN)] == ["p"]


async def test_without_docker_nothing_is_deleted(lab: Lab) -> None:
    lab.keep("ann", "p")
    lab.docker.problem = EngineUnavailable("Docker does not run.", "Start it.")
    with pytest.raises(EngineUnavailable):
        await lab.kept.delete(ANN, "p")
    assert [each.servers for each in await lab.kept.projects(ANN)] == [()]


async def test_a_lost_store_loses_no_deleted_project_and_no_title(lab: Lab, tmp_path: Path) -> None:
    lab.keep("ann", "p")
    await lab.kept.rename(ANN, "p", "Thesis")
    gone = await lab.kept.delete(ANN, "p")
    lab.keep("ann", "q")
    await lab.store.close()
    for name in os.listdir(tmp_path):
        if name.startswith("store.sqlite"):
            os.unlink(tmp_path / name)
    again = await opened(tmp_path)
    assert [each.id for each in await again.projects.list(ANN)] == ["q"]
    assert [(each.id, each.title) for each in await again.kept.deleted(ANN)] == [(gone.id, "Thesis")]
    assert (await again.kept.undelete(ANN, gone.id)).title == "Thesis"
    await again.store.close()
    lab.store = again.store


# -- removing ----------------------------------------------------------------------------------------------


async def test_it_is_removed_when_its_days_are_over_and_not_before(lab: Lab) -> None:
    lab.keep("ann", "p", 1000)
    gone = await lab.kept.delete(ANN, "p")
    await lab.upkeep.remove_expired(lab.later(days=13.9))
    assert [each.id for each in await lab.kept.deleted(ANN)] == [gone.id]
    await lab.upkeep.remove_expired(lab.later(days=14.1))
    assert await lab.kept.deleted(ANN) == []
    assert not list(lab.settings.storage_root.glob("*/.deleted/*"))
    assert await lab.store.project("ann", gone.id) is None
    assert (await lab.audit())[-1] == ("service", "project.purge", "kept long enough")


async def test_a_clock_that_jumps_ahead_for_some_days_removes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year ahead for two days, and right again; what time has passed for certain counts all the while."""
    moved = Clocks(datetime.now(timezone.utc))
    monkeypatch.setattr(clock, "read_clocks", lambda: moved.reading)
    lab.keep("ann", "p", 1000)
    gone = await lab.kept.delete(ANN, "p")
    await lab.upkeep.round()
    moved.wall += timedelta(days=365)
    for _ in range(2):
        await lab.upkeep.round()
        moved.run(days=1)
    moved.wall -= timedelta(days=365)
    await lab.upkeep.round()
    assert [each.id for each in await lab.kept.deleted(ANN)] == [gone.id]
    moved.run(days=13)
    await lab.upkeep.round()
    assert await lab.kept.deleted(ANN) == []


async def test_what_is_deleted_before_a_dead_clock_is_set_right_is_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Clocks(datetime.now(timezone.utc))
    monkeypatch.setattr(clock, "read_clocks", lambda: moved.reading)
    await lab.upkeep.round()
    right = moved.wall
    moved.wall = datetime(1970, 1, 1, tzinfo=timezone.utc)
    lab.keep("ann", "p", 1000)
    gone = await lab.kept.delete(ANN, "p")
    moved.wall = right + timedelta(minutes=1)
    await lab.upkeep.round()
    assert [each.id for each in await lab.kept.deleted(ANN)] == [gone.id]


async def test_its_person_can_remove_it_earlier(lab: Lab) -> None:
    lab.keep("ann", "p", 1000)
    gone = await lab.kept.delete(ANN, "p")
    await lab.kept.remove(ANN, gone.id)
    with pytest.raises(NotFound):
        await lab.kept.undelete(ANN, gone.id)
    await lab.upkeep.round()
    assert not list(lab.settings.storage_root.glob("*/.deleted/*"))
    assert await lab.store.sizes() == {}


async def test_the_background_does_what_was_asked(lab: Lab) -> None:
    lab.keep("ann", "p", 1000)
    lab.upkeep.start()
    gone = await lab.kept.delete(ANN, "p")
    await lab.kept.remove(ANN, gone.id)
    await until(lambda: not list(lab.settings.storage_root.glob("*/.deleted/*")))
    await lab.upkeep.stop()


async def test_what_cannot_be_removed_is_tried_again(lab: Lab) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    row = lab.keep("ann", "p")
    stuck = Path(row.path) / "stuck"
    stuck.mkdir()
    (stuck / "file").touch()
    await lab.kept.remove(ANN, (await lab.kept.delete(ANN, "p")).id)
    await lab.upkeep.round()
    [place] = lab.settings.storage_root.glob("*/.deleted/*")
    lab.give(place / "home")
    await lab.upkeep.round()
    assert not place.exists()


# -- sizes and the limit -----------------------------------------------------------------------------------


async def test_everything_that_a_person_keeps_counts(lab: Lab) -> None:
    lab.keep("ann", "p", 200_000)
    lab.keep("ann", "q", 100_000)
    lab.keep("bob", "p", 300_000)
    mine = ensure_person_folder(lab.settings.storage_root, "ann") / MY_FILES
    mine.mkdir()
    (mine / "notes").write_bytes(os.urandom(50_000))
    lab.give(mine)
    assert (await lab.kept.storage(ANN)).whole is False
    await lab.upkeep.round()
    await lab.kept.delete(ANN, "q")
    storage = await lab.kept.storage(ANN)
    assert 350_000 <= storage.used_bytes <= 420_000
    assert 50_000 <= (storage.my_files_bytes or 0) <= 60_000
    assert (storage.whole, storage.limit_bytes, storage.state) == (True, 1_000_000, "fine")
    assert 300_000 <= (await lab.kept.storage(BOB)).used_bytes <= 320_000


async def test_what_comes_while_the_background_looks_keeps_its_size(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.keep("ann", "p", 1000)
    await lab.upkeep.round()
    gone = await lab.kept.delete(ANN, "p")
    really = sizes.in_thread

    async def look_then_it_comes_back(look: Any) -> Any:
        monkeypatch.setattr(sizes, "in_thread", really)
        found = await really(look)
        await lab.kept.undelete(ANN, gone.id)
        return found

    monkeypatch.setattr(sizes, "in_thread", look_then_it_comes_back)
    await lab.projects.sizes.round({}, ())
    [project] = await lab.kept.projects(ANN)
    assert project.size_bytes == gone.size_bytes


async def test_the_limit_warns_then_refuses_and_deletes_nothing(lab: Lab) -> None:
    row = lab.keep("ann", "p", 600_000)
    await lab.upkeep.round()
    assert (await lab.kept.storage(ANN)).state == "warn"
    await lab.projects.sizes.check_room("ann")
    (Path(row.path) / "more").write_bytes(os.urandom(500_000))
    lab.give(Path(row.path))
    await lab.store.set_size(
        SizeRow(row.path, "ann", 1_100_000, 2, True, 0.1, "2026-01-01T00:00:00.000+00:00")
    )
    with pytest.raises(StorageFull, match="You keep 1") as caught:
        await lab.projects.sizes.check_room("ann")
    assert "ephemeral" in caught.value.next_step
    assert (Path(row.path) / "more").exists()
    await lab.projects.sizes.check_room("bob")


async def test_whoever_cleaned_up_is_not_refused_by_old_figures(lab: Lab) -> None:
    row = lab.keep("ann", "p", 1000)
    await lab.store.set_size(
        SizeRow(row.path, "ann", 9_000_000, 2, True, 0.1, "2026-01-01T00:00:00.000+00:00")
    )
    assert (await lab.kept.storage(ANN)).state == "full"
    await lab.projects.sizes.check_room("ann")
    assert (await lab.kept.storage(ANN)).state == "fine"


async def test_a_start_that_keeps_files_is_refused_before_anything_is_made(lab: Lab) -> None:
    lab.keep("ann", "p", 1_200_000)
    await lab.upkeep.round()
    with pytest.raises(StorageFull):
        await lab.projects.prepare(ANN, request(), image("sha256:1"), "base")


def test_what_changes_is_measured_soon_and_the_rest_daily() -> None:
    now = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)

    def due(
        age_s: float, *, took: float = 0.1, kind: Any = "project", used: str = "", in_use: bool = False
    ) -> bool:
        measured = (now - timedelta(seconds=age_s)).isoformat(timespec="milliseconds")
        size = SizeRow("/p", "ann", 1, 1, True, took, measured)
        return is_due(Kept("ann", "/p", kind), size, used_until=used, in_use=in_use, every_s=300, now=now)

    assert not due(3600)
    assert due(25 * 3600)
    assert due(301, in_use=True)
    assert not due(299, in_use=True)
    assert not due(1000, in_use=True, took=60)
    assert due(1201, in_use=True, took=60)
    assert due(301, used="2026-11-21T11:59:00.000+00:00")
    assert not due(30 * 24 * 3600, kind="deleted")
    assert is_due(Kept("ann", "/p", "deleted"), None, used_until="", in_use=False, every_s=300, now=now)


# -- the root ----------------------------------------------------------------------------------------------


async def test_without_the_disk_nothing_starts_and_nothing_is_touched(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.keep("ann", "p", 1000)
    assert await lab.projects.list(ANN)
    await lab.upkeep.round()
    gone = await lab.kept.delete(ANN, "p")
    root = lab.settings.storage_root
    root.rename(root.with_name("unmounted"))
    root.mkdir(mode=0o700)
    with pytest.raises(StorageMissing):
        await lab.projects.prepare(ANN, request(), image("sha256:1"), "base")
    with pytest.raises(StorageMissing):
        await lab.kept.undelete(ANN, gone.id)
    assert (await lab.kept.storage(ANN)).problem
    for _ in range(2):
        await lab.upkeep.round()
    assert caplog.text.count("its marker `.littlest-binder-storage` is missing") == 1
    assert list(root.iterdir()) == []
    assert len(await lab.store.sizes()) == 1
    root.rmdir()
    root.with_name("unmounted").rename(root)
    assert (await lab.kept.storage(ANN)).problem is None
    assert (await lab.kept.undelete(ANN, gone.id)).id == "p"


async def test_a_new_disk_is_adopted_and_told_to_the_audit_log(lab: Lab) -> None:
    root = lab.settings.storage_root
    root.rename(root.with_name("unmounted"))
    root.mkdir(mode=0o700)
    assert (await lab.kept.storage(ANN)).problem
    adopted = await lab.kept.adopt(Person(name="root", admin=True))
    assert (adopted.problem, adopted.root) == (None, str(root))
    assert (await lab.audit())[-1] == ("root", "storage.adopt", "done")


# -- one image for the servers of a project ----------------------------------------------------------------


def image(identifier: str) -> ImageFacts:
    return ImageFacts(identifier, (), {}, 0, "", {}, "", "", (), (), (), "amd64")


def request(server: str = "second") -> PrepareRequest:
    return PrepareRequest(
        server=server,
        image_id="sha256:1",
        repository="https://github.com/owner/repo",
        spec="gh/owner/repo/main",
        commit="a" * 40,
    )


async def test_two_servers_share_a_project_only_with_the_same_image(lab: Lab) -> None:
    row = lab.keep("ann", "p")
    lab.docker.serve(row.path, "first", "sha256:1")
    view, path = await lab.projects.prepare(ANN, request(), image("sha256:1"), "base")
    assert (view.id, str(path)) == ("p", row.path)
    with pytest.raises(ProjectInUse, match="open in first with another image") as caught:
        await lab.projects.prepare(ANN, request(), image("sha256:2"), "base")
    assert "Stop first" in caught.value.next_step
    # The server itself, started again with a newer image, is no other one.
    await lab.projects.prepare(ANN, request("first"), image("sha256:2"), "base")


async def test_a_start_in_progress_counts_as_a_server(lab: Lab) -> None:
    lab.keep("ann", "p")
    lease = await lab.store.add_lease("sha256:1", lab.later(hours=1).isoformat(), "ann/first")
    await lab.projects.prepare(ANN, request("first"), image("sha256:1"), "base", lease=lease.id)
    with pytest.raises(ProjectInUse, match="first"):
        await lab.projects.prepare(ANN, request("second"), image("sha256:2"), "base")
    with pytest.raises(ProjectInUse):
        await lab.kept.delete(ANN, "p")


async def test_a_server_that_comes_up_at_the_same_moment_gets_no_other_image_beside_it(lab: Lab) -> None:
    await comes_up_while_docker_answers(lab, lab.keep("ann", "p"))
    with pytest.raises(ProjectInUse, match="first"):
        await lab.projects.prepare(ANN, request("second"), image("sha256:2"), "base")


async def test_a_start_given_up_before_the_copy_leaves_no_folder(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    really = lab.projects._make_folder

    def slowly(*given: Any) -> Path:
        made = really(*given)
        begun.set()
        go.wait(30)
        return made

    monkeypatch.setattr(lab.projects, "_make_folder", slowly)
    start = asyncio.ensure_future(lab.projects.prepare(ANN, request(), image("sha256:1"), "base"))
    await until(begun.is_set)
    start.cancel()
    go.set()
    await asyncio.wait({start})
    assert start.cancelled()
    assert not list(lab.settings.storage_root.glob("*/owner-repo*"))


async def test_what_came_back_in_the_moment_of_a_fill_stays_what_it_was(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = project_id(request().repository)
    lab.keep("ann", name)
    await lab.kept.rename(ANN, name, "Thesis")
    await lab.kept.delete(ANN, name)
    really = lab.projects._make_folder

    def while_it_comes_back(*given: Any) -> Path:
        folder = really(*given)
        [deleted] = read_deleted(folder.parent, "ann")
        deleted.folder.rename(folder)  # who brings it back has looked before the folder was made
        return folder

    async def filled(*_: Any, **__: Any) -> Filled:
        return Filled(0, 0, 0, [])

    monkeypatch.setattr(lab.projects, "_make_folder", while_it_comes_back)
    monkeypatch.setattr(prepare, "fill", filled)
    with pytest.raises(ProjectFailed, match="came into being meanwhile"):
        await lab.projects.prepare(ANN, request(), image("sha256:1"), "base")
    assert [(each.id, each.title) for each in await lab.projects.list(ANN)] == [(name, "Thesis")]


# -- titles ------------------------------------------------------------------------------------------------


async def test_a_title_stays_with_its_project(lab: Lab) -> None:
    lab.keep("ann", "p")
    assert (await lab.kept.rename(ANN, "p", " My \n thesis ")).title == "My thesis"
    assert [each.title for each in await lab.projects.list(ANN)] == ["My thesis"]
    assert (await lab.kept.rename(ANN, "p", "")).title == ""
    with pytest.raises(NotFound):
        await lab.kept.rename(BOB, "p", "mine")


@pytest.mark.parametrize("text", ["x" * 101, "a\x00b", "a\u202eb", "\ud800"])
def test_a_title_that_could_mislead_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_title(text)
