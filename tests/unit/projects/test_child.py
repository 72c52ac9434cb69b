"""Measuring and removing people's files in a child that has no rights of ours, whatever the files are."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tljh_plugin.errors import ProjectFailed
from tljh_plugin.projects import child
from tljh_plugin.projects.child import run_as_owner

UID = 4321


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home below a folder into which its user cannot look."""
    made = tmp_path / "ours" / "home"
    made.mkdir(parents=True)
    (tmp_path / "ours").chmod(0o700)
    return made


def give(home: Path) -> None:
    """Let all of it belong to the servers' user, if we are root."""
    if os.geteuid() == 0:
        for folder, folders, files in os.walk(home):
            for name in [".", *folders, *files]:
                os.chown(Path(folder) / name, UID, UID, follow_symlinks=False)


def run(home: Path, program: str, timeout_s: float = 60) -> dict[str, Any]:
    return asyncio.run(run_as_owner(home, program, timeout_s))


def measured(home: Path) -> dict[str, Any]:
    return run(home, "measure.py")


def test_the_figure_is_what_du_says(home: Path) -> None:
    (home / "a" / "b").mkdir(parents=True)
    (home / "a" / "data").write_bytes(os.urandom(300_000))
    (home / "a" / "b" / "small").write_text("x")
    os.link(home / "a" / "data", home / "a" / "b" / "same")
    with (home / "sparse").open("wb") as file:
        file.truncate(10 * 2**30)
    (home / "link").symlink_to("/usr")
    give(home)
    said = measured(home)
    du = subprocess.run(["du", "-s", "-B1", home], capture_output=True, text=True, check=True)
    assert said["bytes"] == int(du.stdout.split()[0])
    assert said["entries"] == 7
    assert said["whole"] is True


def test_links_out_of_it_count_nothing(home: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(1_000_000))
    (home / "file").symlink_to(tmp_path / "big")
    (home / "folder").symlink_to(tmp_path)
    give(home)
    assert (measured(home))["bytes"] < 100_000


def test_what_cannot_be_looked_at_makes_it_a_lower_bound(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a second user")
    (home / "locked").mkdir()
    (home / "locked" / "data").write_bytes(os.urandom(500_000))
    give(home)
    (home / "locked").chmod(0)
    said = measured(home)
    assert said["whole"] is False
    assert said["bytes"] < 500_000
    home.chmod(0)
    assert (measured(home))["whole"] is False


def test_very_deep_folders_are_measured_in_part_and_removed_whole(home: Path) -> None:
    folder = os.open(home, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", 0o700, dir_fd=folder)
        if os.geteuid() == 0:
            os.chown("deeper", UID, UID, dir_fd=folder)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    if os.geteuid() == 0:
        os.chown(home, UID, UID)
    said = measured(home)
    assert said["whole"] is False
    assert said["entries"] >= 400
    assert (run(home, "remove.py"))["removed"] == 3000
    assert list(home.iterdir()) == []


def test_removing_leaves_what_links_lead_to(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (home / "a" / "b").mkdir(parents=True)
    (home / "a" / "to-file").symlink_to(outside / "kept")
    (home / "a" / "b" / "to-folder").symlink_to(outside)
    os.mkfifo(home / "a" / "fifo")
    (home / "a" / "b" / "read-only").write_text("x")
    (home / ".littlest-binder-removing-1").mkdir()
    give(home)
    (home / "a" / "b").chmod(0o000)
    (home / "a").chmod(0o500)
    home.chmod(0o000)
    assert (run(home, "remove.py"))["removed"] == 7
    assert list(home.iterdir()) == []
    assert (outside / "kept").read_text() == "kept"


def test_roots_own_files_are_not_worked_on(home: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with pytest.raises(ProjectFailed, match="belongs to root"):
        measured(home)
    give(home)
    (home / "theirs").mkdir()
    (home / "theirs" / "file").write_text("root's")
    (home / "theirs" / "file").parent.chmod(0o700)
    with pytest.raises(ProjectFailed, match="exit code 1"):
        run(home, "remove.py")
    assert (home / "theirs" / "file").exists()


def test_the_child_has_no_rights_and_no_environment_of_ours(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the service")
    ask = "import json, os; print(json.dumps({'said': [os.getresuid(), os.getgroups(), list(os.environ)]}))"
    monkeypatch.setattr(child, "script", lambda name: ask)
    give(home)
    said = (run(home, "any"))["said"]
    uid = UID if os.geteuid() == 0 else os.geteuid()
    assert said[0] == [uid, uid, uid]
    assert "SECRET" not in said[2]
    if os.geteuid() == 0:
        assert said[1] == []


def test_a_link_in_place_of_the_folder_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(ProjectFailed):
        measured(tmp_path / "link")


def test_what_takes_too_long_is_ended(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "script", lambda name: "import time; time.sleep(60)")
    give(home)
    with pytest.raises(ProjectFailed, match="longer than"):
        run(home, "any", 0.2)
