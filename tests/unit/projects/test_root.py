"""The root of people's files: made once, recognised afterwards, never mistaken for another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import ProjectFailed, StorageMissing
from tljh_plugin.projects import root as root_module
from tljh_plugin.projects.root import RECORD, ROOT_MARKER, Found, StorageRoot
from tljh_plugin.settings import from_mapping


@pytest.fixture
def state(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    return made


def root(state: Path, path: Path | None = None, instance: str = "ours") -> StorageRoot:
    section: dict[str, Any] = {"storage": {"root": str(path)}} if path else {}
    return StorageRoot(from_mapping(section, platform="jupyterhub", state_dir=state), instance)


def listing(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


@pytest.mark.parametrize("is_default", [True, False])
def test_the_first_root_is_made_with_its_marker(state: Path, tmp_path: Path, is_default: bool) -> None:
    ours = root(state, None if is_default else tmp_path / "disk")
    assert not ours.ready
    assert ours.problem(has_projects=False) is None
    assert listing(state) == []
    path = ours.ensure(has_projects=False)
    assert path == (state / "projects" if is_default else tmp_path / "disk")
    assert path.stat().st_mode & 0o777 == 0o700
    assert json.loads((path / ROOT_MARKER).read_text())["installation"] == "ours"
    assert ours.ready
    assert ours.ensure(has_projects=True) == path


@pytest.mark.parametrize("is_default", [True, False])
@pytest.mark.parametrize("asked", [StorageRoot.ensure, StorageRoot.problem])
def test_one_that_somebody_makes_at_the_same_moment_is_not_a_missing_disk(
    state: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_default: bool,
    asked: Callable[[StorageRoot, bool], object],
) -> None:
    ours = root(state, None if is_default else tmp_path / "disk")
    look = root_module._look

    def look_first(path: Path) -> Found:
        monkeypatch.setattr(root_module, "_look", look)
        found = look(path)
        ours.ensure(has_projects=False)
        return found

    monkeypatch.setattr(root_module, "_look", look_first)
    assert asked(ours, False) in (ours.path, None)
    assert ours.ready
    assert ours.ensure(has_projects=True) == ours.path
    assert sorted(each.name for each in ours.path.iterdir()) == [ROOT_MARKER]


@pytest.mark.parametrize("has_projects", [True, False])
def test_a_disk_that_is_not_mounted_is_no_empty_one(state: Path, tmp_path: Path, has_projects: bool) -> None:
    disk = tmp_path / "disk"
    ours = root(state, disk)
    ours.ensure(has_projects=False)
    disk.rename(tmp_path / "unmounted")
    disk.mkdir()
    with pytest.raises(StorageMissing, match="marker") as caught:
        ours.ensure(has_projects)
    assert "mount it" in caught.value.next_step
    assert "storage adopt" in caught.value.next_step
    assert listing(disk) == []
    disk.rmdir()
    with pytest.raises(StorageMissing):
        ours.ensure(has_projects)
    assert not disk.exists()
    (tmp_path / "unmounted").rename(disk)
    assert ours.ensure(has_projects) == disk


def test_what_the_store_knows_is_enough(state: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with pytest.raises(StorageMissing):
        root(state, tmp_path / "disk").ensure(has_projects=True)
    with pytest.raises(StorageMissing):
        root(state).ensure(has_projects=True)
    assert listing(tmp_path / "disk") == []
    assert not (state / "projects").exists()


def test_files_from_before_there_were_markers_are_taken(state: Path) -> None:
    marker = state / "projects" / "ann-1" / "p-1" / "project.json"
    marker.parent.mkdir(parents=True)
    marker.write_text("{}")
    (state / "projects").chmod(0o700)
    assert root(state).ensure(has_projects=True) == state / "projects"
    assert root(state).ready


def test_a_root_elsewhere_is_not_begun_by_a_changed_setting(state: Path, tmp_path: Path) -> None:
    root(state).ensure(has_projects=False)
    with pytest.raises(StorageMissing, match=str(state / "projects")):
        root(state, tmp_path / "disk").ensure(has_projects=True)
    (state / "projects").rename(tmp_path / "disk")
    assert root(state, tmp_path / "disk").ensure(has_projects=True) == tmp_path / "disk"
    assert json.loads((state / RECORD).read_text())["root"] == str(tmp_path / "disk")


def test_another_installations_root_is_left_alone(state: Path, tmp_path: Path) -> None:
    theirs = root(tmp_path / "other", tmp_path / "disk", "theirs")
    theirs.ensure(has_projects=False)
    ours = root(state, tmp_path / "disk")
    assert ours.strange
    with pytest.raises(StorageMissing, match="theirs"):
        ours.ensure(has_projects=False)
    assert theirs.ready


def test_an_administrator_says_that_a_disk_is_new(state: Path, tmp_path: Path) -> None:
    ours = root(state, tmp_path / "disk")
    ours.ensure(has_projects=False)
    (tmp_path / "disk").rename(tmp_path / "old")
    (tmp_path / "disk").mkdir(mode=0o755)
    (tmp_path / "disk" / "lost+found").mkdir()
    ours.adopt()
    assert ours.ensure(has_projects=True) == tmp_path / "disk"
    assert listing(tmp_path / "disk") == [ROOT_MARKER, "lost+found"]


def test_a_place_that_does_not_exist_is_not_made_up(state: Path, tmp_path: Path) -> None:
    ours = root(state, tmp_path / "mnt" / "data" / "projects")
    for attempt in (lambda: ours.ensure(has_projects=False), ours.adopt):
        with pytest.raises(StorageMissing, match="does not exist"):
            attempt()
    assert not (tmp_path / "mnt").exists()


def test_a_folder_that_others_can_write_is_refused(state: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk").chmod(0o777)
    with pytest.raises(ProjectFailed, match="written by others"):
        root(state, tmp_path / "disk").ensure(has_projects=False)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"installation": 5}'])
def test_a_broken_marker_is_no_marker(state: Path, text: str) -> None:
    ours = root(state)
    (ours.ensure(has_projects=False) / ROOT_MARKER).write_text(text)
    with pytest.raises(StorageMissing):
        ours.ensure(has_projects=False)
