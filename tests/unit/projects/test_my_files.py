"""A person's own folder: theirs alone, made once, never made over something else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tljh_plugin.engine import Limits
from tljh_plugin.errors import ProjectFailed
from tljh_plugin.projects.my_files import ensure_my_files
from tljh_plugin.projects.people import person_folder

UID = 4321 if os.geteuid() == 0 else os.geteuid()
LIMITS = Limits(UID, UID, (), 1 << 30, 1, 256, 1 << 20, 1 << 20)


def test_it_is_made_once_for_the_servers_user_in_a_folder_that_is_ours_alone(tmp_path: Path) -> None:
    folder = ensure_my_files(tmp_path, "ann", LIMITS)
    (folder / "kept").touch()
    assert ensure_my_files(tmp_path, "ann", LIMITS) == folder
    assert (folder / "kept").exists()
    facts, around = folder.stat(), folder.parent.stat()
    assert (facts.st_uid, stat.S_IMODE(facts.st_mode)) == (UID, 0o700)
    assert (around.st_uid, stat.S_IMODE(around.st_mode)) == (os.geteuid(), 0o700)
    assert folder == person_folder(tmp_path, "ann") / "my-files"
    assert ensure_my_files(tmp_path, "Ann", LIMITS) != folder


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to others")
def test_one_of_a_start_that_was_broken_off_is_finished(tmp_path: Path) -> None:
    folder = ensure_my_files(tmp_path, "ann", LIMITS)
    os.chown(folder, 0, 0)
    assert ensure_my_files(tmp_path, "ann", LIMITS).stat().st_uid == UID


def test_what_stands_in_its_place_is_refused_and_stays(tmp_path: Path) -> None:
    folder = ensure_my_files(tmp_path, "ann", LIMITS)
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProjectFailed, match="is not a folder of user"):
        ensure_my_files(tmp_path, "ann", LIMITS)
    assert folder.is_symlink()
    assert folder.lstat().st_uid == os.geteuid()
    assert (tmp_path / "elsewhere").stat().st_uid == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to others")
def test_another_servers_user_does_not_get_the_files(tmp_path: Path) -> None:
    ensure_my_files(tmp_path, "ann", LIMITS)
    other = Limits(5432, 5432, (), 1 << 30, 1, 256, 1 << 20, 1 << 20)
    with pytest.raises(ProjectFailed, match=r"servers\.uid"):
        ensure_my_files(tmp_path, "ann", other)
