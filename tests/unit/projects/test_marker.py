"""What counts as a finished project on the disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tljh_plugin.projects.marker import MARKER, read_project, read_projects, write_marker
from tljh_plugin.store import ProjectRow


def make(folder: Path, owner: str = "ann", *, home: bool = True) -> ProjectRow:
    folder.mkdir(parents=True)
    project = ProjectRow(
        id=folder.name,
        owner=owner,
        repository="https://github.com/owner/repo",
        spec="gh/owner/repo/main",
        commit="a" * 40,
        subdir="",
        image_id="sha256:1",
        path=str(folder / "home"),
        created="2026-01-01",
    )
    write_marker(folder, project, "littlest-binder/x:1", ["a: b"])
    if home:
        (folder / "home").mkdir()
    return project


def test_what_was_written_is_read(tmp_path: Path) -> None:
    project = make(tmp_path / "p")
    assert read_project(tmp_path / "p") == project
    assert [path.name for path in sorted((tmp_path / "p").iterdir())] == ["home", MARKER]
    assert (tmp_path / "p" / MARKER).stat().st_mode & 0o777 == 0o600


def test_without_home_it_is_not_finished(tmp_path: Path) -> None:
    make(tmp_path / "p", home=False)
    assert read_project(tmp_path / "p") is None


def test_without_a_marker_it_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "p" / "home").mkdir(parents=True)
    assert read_project(tmp_path / "p") is None


def test_a_home_that_is_a_link_is_none(tmp_path: Path) -> None:
    make(tmp_path / "p", home=False)
    (tmp_path / "p" / "home").symlink_to("/etc")
    assert read_project(tmp_path / "p") is None


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"id": 1}', "{" * 2000, "\udcff"])
def test_a_broken_marker_is_none(tmp_path: Path, text: str) -> None:
    make(tmp_path / "p")
    (tmp_path / "p" / MARKER).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_project(tmp_path / "p") is None


def test_a_marker_of_another_folder_is_none(tmp_path: Path) -> None:
    make(tmp_path / "p")
    (tmp_path / "p").rename(tmp_path / "q")
    assert read_project(tmp_path / "q") is None


def test_a_value_that_is_no_text_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "p")
    content = json.loads((tmp_path / "p" / MARKER).read_text())
    (tmp_path / "p" / MARKER).write_text(json.dumps({**content, "commit": 5}))
    assert read_project(tmp_path / "p") is None


def test_a_person_sees_only_what_is_theirs(tmp_path: Path) -> None:
    mine, theirs = make(tmp_path / "a"), make(tmp_path / "b", owner="bob")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "stray").write_text("")
    assert read_projects(tmp_path, "ann") == [mine]
    assert read_projects(tmp_path, "bob") == [replace(theirs, owner="bob")]
    assert read_projects(tmp_path / "none", "ann") == []
