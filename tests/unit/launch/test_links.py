"""Links in a home, made by a real shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tljh_plugin.launch import links
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


def test_what_the_log_says_of_links_is_told(tmp_path: Path) -> None:
    (tmp_path / "lab").touch()
    for name in ("full", "full-mount", "full-mount-2", "full-mount-3"):
        (tmp_path / name).touch()
    asked = [("lab", "/data/lab"), ("full", "/data/full"), ("free", "/data/free")]
    said = run(tmp_path, *asked)
    assert links.told(said, str(tmp_path), asked) == [
        "~/lab is yours already, so that /data/lab is linked as ~/lab-mount.",
        "/data/full has no link: ~/full and the like are yours already.",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "[binder] /data/lab is linked as /etc/passwd, since /home/ada/lab is yours",
        "[binder] /data/other is linked as /home/ada/lab-mount, since /home/ada/lab is yours",
        "[binder] <b>anything</b>",
        "",
    ],
)
def test_what_cannot_be_true_is_not_told(line: str) -> None:
    """A server's programs write to its log, too."""
    assert links.told(f"x\n{line}\ny", "/home/ada", [("lab", "/data/lab")]) == []
