"""Each person's folder is theirs, whatever their names are and however alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from unit.projects.test_marker import make

from tljh_plugin.errors import ProjectFailed
from tljh_plugin.projects import people
from tljh_plugin.projects.people import PERSON_MARKER, ensure_person_folder, person_folder

ODD = [
    "ann",
    "Ann",
    "ANN",
    "a.n.n",
    "ann@uni.example",
    "ann@uni-example",
    "ånn",
    "安",
    "..",
    "-",
    "ann ",
    "A" * 300,
]


def test_odd_names_have_folders_of_their_own(tmp_path: Path) -> None:
    found = {name: ensure_person_folder(tmp_path, name) for name in ODD}
    assert len(set(found.values())) == len(ODD)
    assert {path.parent for path in found.values()} == {tmp_path}
    assert all(len(path.name) < 60 and path.stat().st_mode & 0o777 == 0o700 for path in found.values())
    assert {name: ensure_person_folder(tmp_path, name) for name in ODD} == found
    assert dict(people.people(tmp_path)) == found


def test_names_whose_hash_is_the_same_share_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "person_slug", lambda name: "ann-00000000")
    one, other = ensure_person_folder(tmp_path, "ann"), ensure_person_folder(tmp_path, "Ann")
    assert (one.name, other.name) == ("ann-00000000", "ann-00000000-2")
    assert person_folder(tmp_path, "ann") == one
    assert person_folder(tmp_path, "Ann") == other


def test_a_folder_from_before_belongs_to_whom_its_projects_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "person_slug", lambda name: "ann-00000000")
    make(tmp_path / "ann-00000000" / "p", owner="ann")
    assert person_folder(tmp_path, "mallory").name == "ann-00000000-2"
    assert ensure_person_folder(tmp_path, "ann").name == "ann-00000000"
    assert json.loads((tmp_path / "ann-00000000" / PERSON_MARKER).read_text())["name"] == "ann"


def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    person_folder(tmp_path, "ann").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProjectFailed, match="not a folder"):
        ensure_person_folder(tmp_path, "ann")
    assert list((tmp_path / "elsewhere").iterdir()) == []
