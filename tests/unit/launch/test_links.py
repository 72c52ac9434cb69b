"""Links in a home, made by a real shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tljh_plugin.launch.links import linking

COMMAND = ("printf", "%s|", "it runs", "--", "$HOME", "a b")


def run(home: Path, *links: tuple[str, str]) -> str:
    """Start with these links; what was said about them."""
    done = subprocess.run(
        linking(COMMAND, str(home), links), capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout == "it runs|--|$HOME|a b|"
    return done.stderr


def test_without_links_the_command_is_as_it_was() -> None:
    assert linking(COMMAND, "/home/jovyan", []) == COMMAND


def test_each_mount_is_linked_once(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(tmp_path, ("lab", "/data/lab"), ("my-files", "/my-files")) == ""
        assert {each.name: str(each.readlink()) for each in tmp_path.iterdir()} == {
            "lab": "/data/lab",
            "my-files": "/my-files",
        }


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_what_is_there_stays_and_the_link_gets_another_name(tmp_path: Path, kind: str) -> None:
    mine = tmp_path / "lab"
    if kind == "file":
        mine.write_text("mine")
    elif kind == "folder":
        mine.mkdir()
    else:
        mine.symlink_to("/etc" if kind == "link" else "/nowhere")
    before = mine.lstat()
    for _ in range(2):
        said = run(tmp_path, ("lab", "/data/lab"))
        assert f"since {mine} is yours" in said
    assert mine.lstat().st_ino == before.st_ino
    assert list(mine.iterdir()) == [] if kind == "folder" else True
    assert str((tmp_path / "lab-mount").readlink()) == "/data/lab"


def test_where_no_name_is_free_the_log_says_so_and_the_server_starts(tmp_path: Path) -> None:
    for name in ("lab", "lab-mount", "lab-mount-2", "lab-mount-3"):
        (tmp_path / name).touch()
    assert "/data/lab has no link" in run(tmp_path, ("lab", "/data/lab"))


def test_a_home_that_cannot_be_written_stops_no_start(tmp_path: Path) -> None:
    assert "has no link" in run(tmp_path / "gone", ("lab", "/data/lab"))
